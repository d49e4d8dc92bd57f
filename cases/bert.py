"""BERT: an encoder with its norms behind the branches."""

from cases.limitations import PATTERN_AS_SCORES, post_norm_alias
from harness.models.families import every_variant

CASES = every_variant(
    "bert",
    PATTERN_AS_SCORES,
    post_norm_alias("attn_out"),
    post_norm_alias("resid_mid"),
)
