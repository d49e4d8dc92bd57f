"""Which names an option may give: families and variants of the profiles that are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.models.families import FAMILIES
from harness.profile import BREADTH
from harness.selection import check_names

if TYPE_CHECKING:
    from harness.selection import Selection


def check(selection: Selection) -> None:
    """Refuse every name that is not in the matrix.

    A checkpoint of the user's may be of any architecture: its family is its model type.

    Raises:
        SelectionError: an unknown name; says the nearest and lists all.
    """
    families = list(FAMILIES)
    variants = {name for record in FAMILIES.values() for name in record.variant_names}
    if BREADTH.name in selection.profiles:
        from harness.models.architectures import architectures  # noqa: PLC0415 - takes seconds

        found = architectures()
        families += [each.model_type for each in found]
        variants |= {name for each in found for name in each.variants}
    if any(name.startswith(("folder", "hub")) for name in selection.checkpoint):
        families += selection.family
    check_names(selection, families=families, variants=variants)
