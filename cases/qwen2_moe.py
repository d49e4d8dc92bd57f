"""Qwen2-MoE, its experts beside a shared one."""

from cases.limitations import RESID_MID_MISSES
from harness.models.families import every_variant

CASES = every_variant("qwen2_moe", RESID_MID_MISSES)
