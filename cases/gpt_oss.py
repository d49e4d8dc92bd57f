"""GPT-OSS, its experts dense: attention with a sink beside the keys."""

from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    RESID_MID_MISSES,
    in_what_follows,
    value_bias_of_groups,
)
from harness.case import Limitation
from harness.models.families import every_variant

BIASED = ("default", "swiglu_limit", "truncated_yarn")

SINKS_FORGOTTEN = Limitation(
    outcome="differs",
    sites=("blocks.0.attn.z",),
    reason="fold_value_biases takes rows of the pattern to sum to 1; beside a sink they do not",
    link="docs/findings/gpt-oss-value-bias-folded-past-sinks.md",
    until=AFTER_TRANSFORMER_LENS,
    variants=BIASED,
    loading_modes=("bridge_compat",),
)

CASES = every_variant(
    "gpt_oss",
    RESID_MID_MISSES,
    SINKS_FORGOTTEN,
    in_what_follows(SINKS_FORGOTTEN),
    value_bias_of_groups(*BIASED),
)
