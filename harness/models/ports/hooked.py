"""TransformerLens' `HookedTransformer`, `HookedEncoder` and `HookedEncoderDecoder` (2.9 to 3.9)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.models.families import FAMILIES
from harness.models.ports.hooked_loading import load_hooked
from harness.models.ports.hooked_sites import paths_of, places_of
from harness.models.ports.huggingface import model_inputs
from harness.models.ports.lens import quiet, require_release
from harness.models.sites import LOGITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from harness.case import Cell, Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports.hooked_sites import Places

RELEASES: Final = "<4"
"""The releases of TransformerLens that have these classes; 3.9.0 is the last of them."""


def load(cell: Cell, checkpoint: Checkpoint) -> HookedRunner:
    """Load the class that does the family, with the processing of the mode.

    Raises:
        Unavailable: TransformerLens is not installed, or is too new to have the class.
        Refused: it does not support the architecture, or the mode for it.
        CheckpointError: the weights do not fit the config.
    """
    require_release(RELEASES, of="HookedTransformer")
    model, config = load_hooked(cell, checkpoint)
    return HookedRunner(cell, model, config=config)


class HookedRunner:
    """A hooked model whose sites are read by its own hook points, and norms at their output."""

    def __init__(self, cell: Cell, model: Any, *, config: Any) -> None:
        """Find out where the model has which sites."""
        self.model = model
        self._family = FAMILIES[cell.case.family]
        self._config = config
        self._places: Places = places_of(cell.case.family)
        self._paths = paths_of(model, self._places)

    @property
    def sites(self) -> tuple[str, ...]:
        """Name the sites it can give, in the order of the forward pass."""
        return tuple(self._paths)

    def run(self, prompt: Prompt, sites: Sequence[str]) -> dict[str, Tensor]:
        """Run once and give the tensors at the sites.

        Positions count real tokens only, as the model works out from the mask. Which side is
        padded is of no account: it is asked for only where text is made into tokens.
        """
        taken: dict[str, Tensor] = {}
        points = self.model.hook_dict
        hooks = [
            (self._paths[site], _keeper(site, taken))
            for site in sites
            if self._paths[site] in points
        ]
        with torch.no_grad(), quiet(), self._read_modules(sites, taken):
            logits = self.model.run_with_hooks(
                return_type="logits", fwd_hooks=hooks, **self._arguments(prompt)
            )
        if LOGITS in sites:
            taken[LOGITS] = logits.detach()
        return taken

    def passed_through(self) -> frozenset[str]:
        """Name no site: no code of the reference's runs in it."""
        return frozenset()

    def _arguments(self, prompt: Prompt) -> dict[str, Tensor]:
        device: torch.device = next(iter(self.model.parameters())).device
        inputs = model_inputs(self._family, self._config, prompt, device)
        named = {
            "input_ids": "input",
            "attention_mask": self._places.mask,
            "decoder_input_ids": "decoder_input",
        }
        return {name: inputs[given] for given, name in named.items() if given in inputs}

    @contextlib.contextmanager
    def _read_modules(self, sites: Sequence[str], taken: dict[str, Tensor]) -> Iterator[None]:
        """Read the output of modules where there is no hook point of the site's meaning."""
        with contextlib.ExitStack() as stack:
            for site in sites:
                path = self._paths[site]
                if path and path not in self.model.hook_dict:

                    def keep(_: object, __: object, output: Tensor, site: str = site) -> None:
                        taken[site] = output.detach().clone()

                    module = self.model.get_submodule(path)
                    stack.callback(module.register_forward_hook(keep).remove)
            yield


def _keeper(site: str, taken: dict[str, Tensor]) -> Any:
    def keep(tensor: Tensor, hook: object) -> None:  # noqa: ARG001 - TransformerLens' signature
        taken[site] = tensor.detach().clone()

    return keep
