"""BLOOM: ALiBi, and in one variant a residual stream that leaves from the norms."""

from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    in_what_follows,
    refactor_cannot_read_biases,
    resid_mid_misses,
)
from harness.case import Limitation
from harness.models.families import every_variant

RESIDUAL_FOLDED = Limitation(
    outcome="differs",
    sites=("blocks.0.resid_mid",),
    reason="fold_ln takes the gain off a norm whose output is also the residual",
    link="docs/findings/bloom-residual-after-norm-folded.md",
    until=AFTER_TRANSFORMER_LENS,
    variants=("residual_after_norm",),
    loading_modes=("bridge_fold_ln", "bridge_compat"),
)

CASES = every_variant(
    "bloom",
    resid_mid_misses("default", "odd_heads", "off_default"),
    RESIDUAL_FOLDED,
    in_what_follows(RESIDUAL_FOLDED),
    refactor_cannot_read_biases(),
)
