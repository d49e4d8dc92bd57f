"""GPT-2, tiny and in the real shape of gpt2-small."""

from cases.limitations import scale_ignored
from harness.case import Case
from harness.models.families import every_variant

CASES = (
    *every_variant("gpt2", scale_ignored("unscaled")),
    Case(family="gpt2", checkpoint="synthetic:gpt2-small"),
)
