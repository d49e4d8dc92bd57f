"""OPT: norms before the branches, or behind them as in OPT-350m."""

from cases.limitations import PATTERN_AS_SCORES, post_norm_alias, refactor_cannot_read_biases
from harness.models.families import every_variant

CASES = every_variant(
    "opt",
    PATTERN_AS_SCORES,
    post_norm_alias("resid_mid", "post_norm"),
    refactor_cannot_read_biases(),
)
