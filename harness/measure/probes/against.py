"""What a port owes the reference: the sense in which the two agree at a site."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measure.relations import EQUAL, relation_for

if TYPE_CHECKING:
    from harness.measure.probes.model import Model
    from harness.measure.relations import Relation


def relation_at(model: Model, site: str) -> Relation:
    """Give the sense in which port and reference agree at a site, by the mode's processing."""
    found = relation_for(
        site,
        port=model.cell.mode.port,
        processing=model.cell.mode.processing,
        family=model.family,
        norms=model.reference.runner.norms,
        softcapped=bool(model.config.get("final_logit_softcapping")),
        folded=model.reference.oracle,
    )
    return EQUAL if found is None else found
