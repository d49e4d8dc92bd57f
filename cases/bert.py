"""BERT: an encoder with its norms behind the branches."""

from dataclasses import replace

from cases.limitations import (
    PATTERN_AS_SCORES,
    PATTERN_DISCARDED,
    POSITIONS_NOT_COUNTED,
    post_norm_alias,
    post_norm_branches,
)
from harness.models.families import every_variant

ATTN_OUT_BEHIND_THE_NORM = replace(
    post_norm_alias("attn_out"),
    probes=("hook_semantics",),
    outcome="differs",
    checks=("write *.attn_out",),
    sites=("logits",),
)

CASES = every_variant(
    "bert",
    POSITIONS_NOT_COUNTED,
    PATTERN_AS_SCORES,
    PATTERN_DISCARDED,
    ATTN_OUT_BEHIND_THE_NORM,
    post_norm_alias("attn_out"),
    post_norm_alias("resid_mid"),
    post_norm_branches(),
)
