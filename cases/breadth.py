"""Every text architecture that the installed transformers has, as tiny checkpoints.

Nothing is listed here but what is known to differ: the architectures are asked of the library.
"""

from cases.breadth_limitations import LIMITATIONS
from harness.case import SHRUNK, Case


def cases():
    """Give a case for each architecture, with the limitations that are known of it."""
    from harness.models.architectures import architectures  # noqa: PLC0415 - it takes seconds

    return tuple(
        Case(
            family=each.model_type,
            variant=each.variant,
            checkpoint=SHRUNK,
            limitations=LIMITATIONS.get((each.model_type, each.kind), ()),
        )
        for each in architectures()
    )
