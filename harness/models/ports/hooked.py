"""TransformerLens' `HookedTransformer`, `HookedEncoder` and `HookedEncoderDecoder` (2.9 to 3.9)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.errors import Refused
from harness.models.families import FAMILIES
from harness.models.ports.asking import PLAIN, keeper, model_inputs
from harness.models.ports.hooked_loading import load_hooked
from harness.models.ports.hooked_sites import paths_of, places_of
from harness.models.ports.lens import quiet, require_release
from harness.models.sites import LOGITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from harness.case import Cell, Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports.asking import Asking, Taken
    from harness.models.ports.hooked_sites import Places

_CACHES: Final = ("TransformerLensKeyValueCache", "HookedTransformerKeyValueCache")

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

    def run(
        self, prompt: Prompt, sites: Sequence[str], asking: Asking = PLAIN
    ) -> dict[str, Tensor]:
        """Run once and give the tensors at the sites.

        Positions count real tokens only, as the model works out from the mask. Which side is
        padded is of no account: it is asked for only where text is made into tokens.

        Raises:
            Refused: it is asked for what the model has no argument for.
        """
        if asking.positions or asking.outputs:
            message = f"{type(self.model).__name__} takes no position ids and gives logits alone"
            raise Refused(message)
        return self._forward(self._arguments(prompt, asking), sites, asking)

    def decode(
        self, prompt: Prompt, chunks: Sequence[int], sites: Sequence[str], asking: Asking = PLAIN
    ) -> list[dict[str, Tensor]]:
        """Run a prompt in chunks of these lengths with the model's own cache; give each's sites.

        Raises:
            Refused: the model keeps no cache.
        """
        if self._places.model != "HookedTransformer":
            message = f"{self._places.model} keeps no cache"
            raise Refused(message)
        arguments = self._arguments(prompt, asking)
        tokens = arguments["input"]
        mask = arguments.get("attention_mask", torch.ones_like(tokens))
        cache = key_value_cache(self.model, len(prompt.tokens))
        found, end = [], 0
        for length in chunks:
            start, end = end, end + length
            part: dict[str, Any] = {"input": tokens[:, start:end], "past_kv_cache": cache}
            # Without a mask, a token that happens to be the pad token is taken for padding.
            part["attention_mask"] = mask[:, start:end]
            found.append(self._forward(part, sites, asking))
        return found

    def run_with_cache(self, prompt: Prompt, sites: Sequence[str]) -> dict[str, Tensor | None]:
        """Run once with the model's own cache of activations and give what it holds, or None."""
        with torch.no_grad(), quiet():
            logits, cache = self.model.run_with_cache(**self._arguments(prompt, PLAIN))
        names = {site: self._paths[site] for site in sites if self._paths[site]}
        found = {
            site: cache[name].detach() if name in cache else None for site, name in names.items()
        }
        return {**found, LOGITS: logits}

    def _forward(
        self, arguments: dict[str, Any], sites: Sequence[str], asking: Asking
    ) -> dict[str, Tensor]:
        taken = asking.taken(sites)
        points = self.model.hook_dict
        hooks = [
            (self._paths[site], keeper(site, taken, asking.edits.get(site)))
            for site in dict.fromkeys((*asking.edits, *sites))
            if self._paths[site] in points
        ]
        gradients = torch.set_grad_enabled(asking.gradients)
        with gradients, quiet(), self._read_modules(sites, taken):
            logits = self.model.run_with_hooks(return_type="logits", fwd_hooks=hooks, **arguments)
        taken.keep(LOGITS, logits)
        return taken.at(sites)

    def to_tokens(self, texts: Sequence[str], *, bos: bool | None = None) -> list[list[int]]:
        """Give the token ids of texts by the model's own `to_tokens`, padded to one length.

        Raises:
            Refused: the class takes no word on BOS.
        """
        if self._places.model != "HookedTransformer":
            message = f"{self._places.model} takes no word on BOS where it makes tokens"
            raise Refused(message)
        with quiet():
            tokens: Tensor = self.model.to_tokens(list(texts), prepend_bos=bos)
        return [[int(token) for token in row] for row in tokens.tolist()]

    @property
    def begins_with_bos(self) -> bool:
        """Say whether the model puts BOS before a text without a word."""
        return bool(self.model.cfg.default_prepend_bos)

    def passed_through(self) -> frozenset[str]:
        """Name no site: no code of the reference's runs in it."""
        return frozenset()

    def _arguments(self, prompt: Prompt, asking: Asking) -> dict[str, Tensor]:
        device: torch.device = next(iter(self.model.parameters())).device
        inputs = model_inputs(self._family, self._config, prompt, device, asking)
        named = {
            "input_ids": "input",
            "attention_mask": self._places.mask,
            "decoder_input_ids": "decoder_input",
        }
        return {name: inputs[given] for given, name in named.items() if given in inputs}

    @contextlib.contextmanager
    def _read_modules(self, sites: Sequence[str], taken: Taken) -> Iterator[None]:
        """Read the output of modules where there is no hook point of the site's meaning."""
        with contextlib.ExitStack() as stack:
            for site in sites:
                path = self._paths[site]
                if path and path not in self.model.hook_dict:

                    def keep(_: object, __: object, output: Tensor, site: str = site) -> None:
                        taken.take(site, output)

                    module = self.model.get_submodule(path)
                    stack.callback(module.register_forward_hook(keep).remove)
            yield


def key_value_cache(model: Any, batch: int) -> Any:
    """Give an empty cache; its class is called otherwise since TransformerLens 3."""
    import transformer_lens  # noqa: PLC0415 - takes seconds

    known = (getattr(transformer_lens, name, None) for name in _CACHES)
    return next(filter(None, known)).init_cache(model.cfg, model.cfg.device, batch)
