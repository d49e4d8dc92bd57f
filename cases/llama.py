"""Llama, synthetic in every variant, and one with trained weights."""

from harness.case import Case
from harness.models.families import every_variant

CASES = (
    *every_variant("llama"),
    Case(family="llama", checkpoint="packaged:smollm2-135m-instruct"),
)
