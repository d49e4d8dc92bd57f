"""Llama, synthetic in every variant, and one with trained weights."""

from cases.limitations import RESID_MID_MISSES
from harness.case import Case
from harness.models.families import every_variant

CASES = (
    *every_variant("llama", RESID_MID_MISSES),
    Case(
        family="llama",
        checkpoint="packaged:smollm2-135m-instruct",
        limitations=(RESID_MID_MISSES,),
    ),
)
