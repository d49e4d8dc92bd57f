"""OPT: norms before the branches, or behind them as in OPT-350m."""

from dataclasses import replace

from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    BRIDGE,
    PATTERN_AS_SCORES,
    PATTERN_DISCARDED,
    REFACTOR_NEEDS_QUERY_BIASES,
    post_norm_alias,
    post_norm_branches,
    refactor_cannot_read_biases,
    resid_mid_misses,
)
from harness.case import Limitation
from harness.models.families import every_variant

NO_FINAL_NORM = Limitation(
    outcome="raises",
    words="Original component not set for model.decoder.final_layer_norm",
    reason="the bridge expects a final norm wherever the embedding is as wide as the stream",
    link="docs/findings/opt-without-final-norm-does-not-run.md",
    until=AFTER_TRANSFORMER_LENS,
    variants=("no_final_norm",),
    loading_modes=BRIDGE,
)
CACHE_RAISES = Limitation(
    outcome="raises",
    words="not enough values to unpack (expected 3, got 2)",
    probes=("observer",),
    reason="run_with_cache leaves the output of a block flattened",
    link="docs/findings/opt-post-norm-run-with-cache-raises.md",
    until=AFTER_TRANSFORMER_LENS,
    variants=("post_norm",),
    loading_modes=BRIDGE,
)

CASES = every_variant(
    "opt",
    PATTERN_AS_SCORES,
    PATTERN_DISCARDED,
    resid_mid_misses("default", "off_default", "bare"),
    NO_FINAL_NORM,
    CACHE_RAISES,
    post_norm_alias("resid_mid", "post_norm"),
    post_norm_branches("post_norm"),
    replace(REFACTOR_NEEDS_QUERY_BIASES, variants=("bare",)),
    refactor_cannot_read_biases("default", "post_norm", "off_default", "no_final_norm"),
)
