"""Every text architecture that the installed transformers has, as tiny checkpoints.

Nothing is listed here but what is known to differ: the architectures are asked of the library.
"""

from cases.breadth_limitations import LIMITATIONS
from harness.case import OFF_DEFAULT, SHRUNK, Case


def cases():
    """Give two cases for each architecture, with the limitations that are known of each.

    What is known of the default is not known of `off_default`, whose fields are others.
    """
    from harness.models.architectures import architectures  # noqa: PLC0415 - it takes seconds

    return tuple(
        Case(
            family=each.model_type,
            variant=variant,
            checkpoint=SHRUNK,
            limitations=LIMITATIONS.get((each.model_type, kind), ()),
        )
        for each in architectures()
        for variant, kind in (
            (each.variant, each.kind),
            (each.off_default, f"{each.kind}_{OFF_DEFAULT}"),
        )
    )
