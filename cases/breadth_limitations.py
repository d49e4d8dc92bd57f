"""What is known to differ of architectures measured as tiny checkpoints, by type and kind.

Of a kind with flipped fields, the kind is called `causal_off_default` or the like.
"""

from cases import ALL
from harness.case import Limitation

_KINDS = {"bert": "masked", "t5": "seq2seq"}

# What is known of a family with cases of its own holds for its shrunk checkpoint too.
LIMITATIONS: dict[tuple[str, str], tuple[Limitation, ...]] = {
    (case.family, _KINDS.get(case.family, "causal")): case.limitations
    for case in ALL
    if (case.variant, case.checkpoint) == ("default", "synthetic")
}
