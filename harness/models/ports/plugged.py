"""A port that another package brings: loaded by its entry point, and held to the interface.

docs/ports.md is written for who brings one, with an example.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, runtime_checkable

import torch
from torch import nn

from harness.errors import HarnessError, PortError, Refused, Unavailable
from harness.models.ports.asking import PLAIN
from harness.models.ports.loading import TORCH_DTYPES
from harness.models.sites import LOGITS, is_attention_matrix, order
from harness.plugged import GROUP, PAGE, plugged_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from harness.case import Cell, Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports.asking import Asking
    from harness.plugged import PluggedPort

_MEMBERS: Final = ("sites", "run")
_LEAST_AXES: Final = 3
_OF_REFERENCES: Final = ("transformers.", "diffusers.")  # the second carries ChatGLM's module
_KEYS_OF_LOAD: Final = {"family": "", "dtype": torch.float32, "device": "cpu"}


@runtime_checkable
class Port(Protocol):
    """What the function behind an entry point of `harness.ports` gives.

    That function is called as `load(folder, family=, dtype=, device=)`: the checkpoint's folder as
    the hub serves it, the name of the family, the torch dtype (float64 in exact mode), the device.
    It raises `harness.errors.Refused` for what the port does not do.
    """

    @property
    def sites(self) -> Sequence[str]:
        """Name the sites it can give, `logits` among them."""

    def run(
        self, tokens: Tensor, attention_mask: Tensor | None, sites: Sequence[str]
    ) -> Mapping[str, Tensor]:
        """Run once and give at least the sites asked for, in TransformerLens' layouts.

        `tokens` and the mask are [batch, pos]; positions count real tokens only. Without a mask
        every token is real.
        """


def load(cell: Cell, checkpoint: Checkpoint) -> PluggedRunner:
    """Load the plugged port of a cell's loading mode.

    Raises:
        Unavailable: no installed package brings it.
        Refused: it says itself that it does not do the model, the dtype or the device.
        PortError: it cannot be imported, or does not keep the interface.
    """
    brought = plugged_ports().get(cell.mode.port)
    if brought is None:
        message = (
            f"no package in this environment brings the port {cell.mode.port!r} by an entry point "
            f"of {GROUP!r}; next: pip install the one that does"
        )
        raise Unavailable(message)
    function = _function_of(brought)
    port = function(
        checkpoint.path,
        family=cell.case.family,
        dtype=TORCH_DTYPES[cell.dtype],
        device=cell.device,
    )
    encodes = bool(checkpoint.config.get("is_encoder_decoder"))
    return PluggedRunner(port, brought=brought, device=cell.device, encodes=encodes)


class PluggedRunner:
    """A plugged port as a runner: what it can be asked is a plain run, with a mask or without.

    Whether it runs code of its own is not for it to say: if any module of a reference's library
    runs while it does, all its sites count as passed through.
    """

    def __init__(self, port: Port, *, brought: PluggedPort, device: str, encodes: bool) -> None:
        """Hold the port to its members and to the names of its sites; `encodes` if it is a T5."""
        self.port = port
        self._brought = brought
        self._device = device
        self._encodes = encodes
        self._borrows = False
        if lacking := [name for name in _MEMBERS if not hasattr(port, name)]:
            _broken(
                brought,
                found=f"load gave a {type(port).__name__} without {' and '.join(lacking)}",
                allowed="an object with sites and run",
            )
        self.sites = _in_order(port.sites, brought)

    def run(
        self, prompt: Prompt, sites: Sequence[str], asking: Asking = PLAIN
    ) -> dict[str, Tensor]:
        """Run once and give the tensors at the sites.

        Raises:
            Refused: it is asked for more than a plain run.
            PortError: what comes back is no tensor of a site's layout.
        """
        self._refuse_more_than_plain(asking)
        tokens = torch.tensor(prompt.tokens, device=self._device)
        mask = torch.tensor(prompt.attention_mask, device=self._device)
        given = prompt.padded if asking.mask is None else asking.mask
        with torch.no_grad(), self._watched():
            taken = self.port.run(tokens, mask if given else None, tuple(sites))
        if not hasattr(taken, "keys"):
            _broken(
                self._brought,
                found=f"run gave a {type(taken).__name__}",
                allowed="a mapping from site to tensor",
            )
        there = [site for site in sites if site in taken]
        for site in there:
            self._check(site, taken[site], tokens)
        # Of its own, since a port may give views of memory that its next run writes to.
        return {site: taken[site].detach().clone() for site in there}

    def decode(
        self,
        prompt: Prompt,  # noqa: ARG002 - a Runner's signature
        chunks: Sequence[int],  # noqa: ARG002 - a Runner's signature
        sites: Sequence[str],  # noqa: ARG002 - a Runner's signature
        asking: Asking = PLAIN,  # noqa: ARG002 - a Runner's signature
    ) -> list[dict[str, Tensor]]:
        """Refuse: it has no cache to be handed on.

        Raises:
            Refused: always.
        """
        self._refuse("decoding with a cache of keys and values")

    def run_with_cache(
        self,
        prompt: Prompt,  # noqa: ARG002 - a Runner's signature
        sites: Sequence[str],  # noqa: ARG002 - a Runner's signature
    ) -> dict[str, Tensor | None]:
        """Refuse: it keeps no activations.

        Raises:
            Refused: always.
        """
        self._refuse("run_with_cache")

    def to_tokens(
        self,
        texts: Sequence[str],  # noqa: ARG002 - a Runner's signature
        *,
        bos: bool | None = None,  # noqa: ARG002 - a Runner's signature
    ) -> list[list[int]]:
        """Refuse: it is given token ids.

        Raises:
            Refused: always.
        """
        self._refuse("making tokens of texts")

    @property
    def begins_with_bos(self) -> bool:
        """Refuse: it is given token ids.

        Raises:
            Refused: always.
        """
        self._refuse("making tokens of texts")

    def passed_through(self) -> frozenset[str]:
        """Name all sites if modules of `transformers` ran inside the port, or else none."""
        return frozenset(self.sites if self._borrows else ())

    def _refuse_more_than_plain(self, asking: Asking) -> None:
        asked = {
            "position ids": bool(asking.positions),
            "a cache of keys and values": asking.cache is not None,
            "more outputs than its sites": bool(asking.outputs),
            "writing to a site": bool(asking.edits),
            "gradients": asking.gradients,
            "a prompt for the decoder alone": self._encodes and asking.decoder is not None,
        }
        if words := [name for name, wanted in asked.items() if wanted]:
            self._refuse(" and ".join(words))

    def _refuse(self, what: str) -> NoReturn:
        message = (
            f"{self._brought.name} is a plugged port, whose interface has no word for {what} "
            f"({PAGE})"
        )
        raise Refused(message)

    def _check(self, site: str, tensor: object, tokens: Tensor) -> None:
        n_rows, length = tokens.shape
        layout = "[batch, head, query, key]" if is_attention_matrix(site) else "[batch, pos, …]"
        if not isinstance(tensor, torch.Tensor):
            found = f"a {type(tensor).__name__} at {site}"
        elif not tensor.is_floating_point():
            found = f"a tensor of {tensor.dtype} at {site}"
        elif tensor.ndim < _LEAST_AXES or not _fits(site, tensor, n_rows, length):
            found = f"{list(tensor.shape)} at {site} for {n_rows} × {length} tokens"
        else:
            return
        _broken(self._brought, found=f"run gave {found}", allowed=f"a tensor of floats {layout}")

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Note whether a module of `transformers` runs."""

        def note(module: nn.Module, _: object) -> None:
            self._borrows |= type(module).__module__.startswith(_OF_REFERENCES)

        handle = nn.modules.module.register_module_forward_pre_hook(note)
        try:
            yield
        finally:
            handle.remove()


def _function_of(brought: PluggedPort) -> Callable[..., Port]:
    """Import the function behind an entry point.

    Raises:
        PortError: it cannot be imported, or cannot be called as the interface says.
    """
    try:
        found = brought.entry.load()
    except HarnessError:
        raise
    except Exception as error:  # whatever the import of another package raises
        last = (str(error).strip().splitlines() or [""])[-1]
        message = (
            f"{brought.package} brings the port {brought.name!r}, which cannot be imported\n"
            f"  found:   {type(error).__name__}: {last} [{brought.entry.value}]\n"
            f"  next:    python -c 'import {brought.entry.module}', and mend or uninstall "
            f"{brought.distribution}"
        )
        raise PortError(message) from error
    try:
        inspect.signature(found).bind(Path(), **_KEYS_OF_LOAD)
    except (TypeError, ValueError) as error:
        _broken(
            brought,
            found=f"{brought.entry.value} cannot be called so: {error}",
            allowed="load(folder, *, family, dtype, device)",
        )
    function: Callable[..., Port] = found
    return function


def _in_order(sites: object, brought: PluggedPort) -> tuple[str, ...]:
    if isinstance(sites, str) or not hasattr(sites, "__iter__"):
        _broken(brought, found=f"sites={sites!r}", allowed="a tuple of names of sites")
    names = tuple(dict.fromkeys(sites))
    if LOGITS not in names:
        _broken(brought, found=f"no {LOGITS!r} among its {len(names)} sites", allowed="it is")
    try:
        return tuple(sorted(names, key=order))
    except (ValueError, TypeError) as error:
        _broken(brought, found=f"in its sites: {error}", allowed="names of harness/models/sites.py")


def _fits(site: str, tensor: Tensor, n_rows: int, length: int) -> bool:
    if is_attention_matrix(site):
        return tensor.ndim == 4 and tensor.shape[0] == n_rows  # noqa: PLR2004 - its layout
    return tuple(tensor.shape[:2]) == (n_rows, length)


def _broken(brought: PluggedPort, *, found: str, allowed: str) -> NoReturn:
    message = (
        f"{brought.package}: its port {brought.name!r} does not keep the interface\n"
        f"  found:   {found}\n"
        f"  allowed: {allowed} ({PAGE})\n"
        f"  next:    mend {brought.entry.value}, or report it to the authors of "
        f"{brought.distribution}"
    )
    raise PortError(message)
