"""Phi (1, 1.5, 2). The bridge refuses the variant with norms on queries and keys."""

from cases.limitations import AFTER_TRANSFORMER_LENS
from harness.case import Limitation
from harness.models.families import every_variant

GROUPS_SPLIT_WRONG = Limitation(
    outcome="raises",
    words='Error while processing rearrange-reduction pattern "(n h)',
    reason="folding splits keys and values into as many heads as there are queries",
    link="docs/findings/phi-grouped-heads-not-folded.md",
    until=AFTER_TRANSFORMER_LENS,
    variants=("gqa",),
    loading_modes=("bridge_fold_ln", "bridge_fold_value_biases", "bridge_compat"),
)

CASES = every_variant("phi", GROUPS_SPLIT_WRONG)
