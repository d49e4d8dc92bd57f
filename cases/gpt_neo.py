"""GPT-Neo: global and windowed attention in turn, without biases on queries, keys and values."""

from cases.limitations import PATTERN_AS_SCORES, REFACTOR_NEEDS_QUERY_BIASES
from harness.models.families import every_variant

CASES = every_variant("gpt_neo", PATTERN_AS_SCORES, REFACTOR_NEEDS_QUERY_BIASES)
