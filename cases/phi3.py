"""Phi-3."""

from cases.limitations import silent_rotary_hooks
from harness.models.families import every_variant

CASES = every_variant("phi3", silent_rotary_hooks())
