"""Qwen2-MoE, its experts beside a shared one."""

from harness.models.families import every_variant

CASES = every_variant("qwen2_moe")
