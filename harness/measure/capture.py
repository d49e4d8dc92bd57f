"""Run once, return {site: tensor}: what was asked for is what is got, or it is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from harness.case import Prompt
    from harness.models.ports import Runner
    from harness.models.ports.asking import Asking


def capture(
    runner: Runner, prompt: Prompt, sites: Sequence[str], asking: Asking | None = None
) -> dict[str, Tensor]:
    """Run a prompt, as asked, and give the tensors at the sites, in the order asked for.

    Raises:
        CaptureError: no site was asked for, or a site asked for was not given.
    """
    if not sites:
        message = "no sites asked for: there would be nothing to compare"
        raise CaptureError(message)
    taken = runner.run(prompt, sites) if asking is None else runner.run(prompt, sites, asking)
    if lost := [site for site in sites if site not in taken]:
        message = (
            f"asked for {len(sites)} sites, {len(lost)} did not fire: {', '.join(lost)}; "
            "next: see whether the library still has the hook or module (harness/models)"
        )
        raise CaptureError(message)
    return {site: by_row(taken[site], prompt) for site in sites}


def by_row(tensor: Tensor, prompt: Prompt, *, length: int | None = None) -> Tensor:
    """Give [batch, pos, …] where a model has flattened tokens into one axis, as OPT does.

    `length` is that of a part of the prompt, where the model ran only a part.
    """
    n_rows, length = len(prompt.tokens), length or len(prompt.tokens[0])
    if tensor.ndim == 2 and tensor.shape[0] == n_rows * length:  # noqa: PLR2004 - [token, d]
        return tensor.reshape(n_rows, length, -1)
    return tensor
