"""What is known to differ of architectures that are measured as tiny checkpoints, by type and kind."""

from cases import ALL
from harness.case import Limitation

# What is known of a family with cases of its own holds for its shrunk checkpoint too.
_OF_FAMILIES = {
    (case.family, "masked" if case.family == "bert" else "seq2seq" if case.family == "t5" else "causal"): case.limitations
    for case in ALL
    if (case.variant, case.checkpoint) == ("default", "synthetic")
}

LIMITATIONS: dict[tuple[str, str], tuple[Limitation, ...]] = {**_OF_FAMILIES}
