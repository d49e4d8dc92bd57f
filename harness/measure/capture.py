"""Run once, return {site: tensor}: what was asked for is what is got, or it is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.errors import CaptureError
from harness.models.ports.asking import Asking

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from torch import Tensor

    from harness.case import Prompt
    from harness.models.ports import Runner


def capture(
    runner: Runner, prompt: Prompt, sites: Sequence[str], asking: Asking | None = None
) -> dict[str, Tensor]:
    """Run a prompt, as asked, and give the tensors at the sites, in the order asked for.

    Raises:
        CaptureError: no site was asked for, or a site asked for was not given.
    """
    if not sites:
        raise CaptureError(_NONE_ASKED)
    taken = runner.run(prompt, sites) if asking is None else runner.run(prompt, sites, asking)
    _check_all_fired(sites, taken)
    return {site: by_row(taken[site], prompt) for site in sites}


_NONE_ASKED: Final = "no sites asked for: there would be nothing to compare"


def _check_all_fired(sites: Sequence[str], fired: Collection[str]) -> None:
    if lost := [site for site in sites if site not in fired]:
        message = (
            f"asked for {len(sites)} sites, {len(lost)} did not fire: {', '.join(lost)}; "
            "next: see whether the library still has the hook or module (harness/models)"
        )
        raise CaptureError(message)


def capture_each(
    runner: Runner, prompt: Prompt, sites: Sequence[str], take: Callable[[str, Tensor], None]
) -> None:
    """Run a prompt and hand each site's tensor over as it fires; it is not to be kept.

    Raises:
        CaptureError: no site was asked for, or a site asked for was not given.
    """
    fired: set[str] = set()

    def hand(site: str, tensor: Tensor) -> None:
        fired.add(site)
        take(site, by_row(tensor, prompt))

    if not sites:
        raise CaptureError(_NONE_ASKED)
    for site, tensor in runner.run(prompt, sites, Asking(hand=hand)).items():
        hand(site, tensor)  # by a port that keeps what it took
    _check_all_fired(sites, fired)


def by_row(tensor: Tensor, prompt: Prompt, *, length: int | None = None) -> Tensor:
    """Give [batch, pos, …] where a model has flattened tokens into one axis, as OPT does.

    `length` is that of a part of the prompt, where the model ran only a part.
    """
    n_rows, length = len(prompt.tokens), length or len(prompt.tokens[0])
    if tensor.ndim == 2 and tensor.shape[0] == n_rows * length:  # noqa: PLR2004 - [token, d]
        return tensor.reshape(n_rows, length, -1)
    return tensor
