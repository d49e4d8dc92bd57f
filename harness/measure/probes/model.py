"""What a probe asks: one loaded model; and what it gives: tensors that it owes to be the same."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from harness.case import Prompt
from harness.measure.capture import by_row, capture
from harness.measure.prompts import Vocabulary
from harness.measure.references import numerics_of
from harness.models.ports.asking import PLAIN, Asking
from harness.models.sites import LOGITS, at_layer, layer_of
from harness.models.windows import window_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from jaxtyping import Bool
    from torch import Tensor

    from harness.case import Cell
    from harness.measure.references import Reference
    from harness.measure.relations import Relation
    from harness.models.family import Family
    from harness.models.ports import Runner

_OF_ENCODER: Final = ("encoder_", "embed", "pos_embed")
"""How sites begin that are in an encoder, or before it."""

Activations = dict[str, "Tensor"]

_PLAIN: Final[WeakKeyDictionary[Runner, dict[str, Activations]]] = WeakKeyDictionary()
"""What a runner gave when asked plainly, by prompt, for as long as it is at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """Two sets of activations that a model owes to be the same, in the order of the forward pass.

    `check` names what was asked, of several that the probe asks. `counts` are the positions that
    count (all, without a word). `bitwise`: not even rounding may differ. `relations` gives, by
    site, the sense in which they must agree, where they need not be equal. `texts` are token ids of
    texts, which are kept among the run's prompts. `power` is how far off the nearest mistake would
    be, where the check knows it; `because` says why the two differ, if they do.
    """

    check: str
    actual: Mapping[str, Tensor]
    expected: Mapping[str, Tensor]
    counts: Bool[Tensor, "batch pos"] | None = None
    bitwise: bool = False
    relations: Mapping[str, Relation] = field(default_factory=dict)
    texts: tuple[Prompt, ...] = ()
    power: float | None = None
    because: str = ""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One loaded model under question: its runner, its cell, and the case's reference.

    `exchange` is the folder in which the sides of a gate leave what they save for each other.
    `naive`: port and reference are held together before or behind a norm, as each gives it.
    """

    cell: Cell
    runner: Runner
    reference: Reference
    exchange: Path | None = None
    naive: bool = False

    @functools.cached_property
    def sites(self) -> tuple[str, ...]:
        """Name the sites that fire, in the order of the forward pass.

        A hook that is there and never fires is for the comparison with the reference to judge.
        """
        kept = _PLAIN.setdefault(self.runner, {})
        if not kept:
            short = Prompt.unpadded(((1, 2, 3),), origin="bank:three_tokens")
            with numerics_of(self.cell.dtype):
                kept[short.prompt_id] = self.runner.run(short, self.runner.sites)
        fired = next(iter(kept.values()))
        return tuple(site for site in self.runner.sites if site in fired)

    @property
    def family(self) -> Family:
        """Give the record of the model's family."""
        return self.reference.runner.family

    @property
    def config(self) -> Mapping[str, Any]:
        """Give what the checkpoint's config.json says of text."""
        return self.reference.config

    @property
    def vocabulary(self) -> Vocabulary:
        """Give what the config says about prompts."""
        return Vocabulary.of(dict(self.config), padding=True)

    @property
    def pad(self) -> int:
        """Give a token to pad with: the config's, or the first."""
        return int(self.config.get("pad_token_id") or 0)

    @property
    def is_encoder_decoder(self) -> bool:
        """Say whether a decoder reads an encoder: by the config that the model was built with.

        A config.json says it of its nested decoder too, and of a type whose decoder runs alone.
        """
        return bool(self.reference.runner.model.config.is_encoder_decoder)

    @property
    def takes_positions(self) -> bool:
        """Say whether the model can be given position ids."""
        return self.family.takes_position_ids and self.cell.mode.port in {"transformers", "bridge"}

    def is_of_decoder(self, site: str) -> bool:
        """Say whether a site is in the decoder of an encoder-decoder, or behind it."""
        return self.is_encoder_decoder and not self.is_of_encoder(site)

    def is_of_encoder(self, site: str) -> bool:
        """Say whether a site is in the encoder of an encoder-decoder, or before it."""
        return self.is_encoder_decoder and site.startswith(_OF_ENCODER)

    def decoder_only(self, taken: Mapping[str, Tensor]) -> Activations:
        """Leave out what is not the decoder's."""
        return {site: tensor for site, tensor in taken.items() if self.is_of_decoder(site)}

    def window_of(self, layer: int) -> int | None:
        """Give how many keys a layer's queries see, themselves included; None for all."""
        return window_of(self.config, layer)

    @property
    def is_post_norm(self) -> bool:
        """Say whether the norms stand behind the sums."""
        layers = self.reference.runner.model.config
        return any(each.post_norm and each.n_layers(layers) for each in self.family.stacks)

    @property
    def adds_to_normed(self) -> bool:
        """Say whether a branch is added to its normed input instead of the stream (BLOOM)."""
        return bool(self.config.get("apply_residual_connection_post_layernorm"))

    def residual_gains(self, start: str) -> dict[str, Tensor]:
        """Give what multiplies the stream beside each branch of a block, where anything does."""
        model = self.reference.runner.model
        return {
            branch: model.get_parameter(at_layer(path, layer_of(start) or 0)).detach()
            for branch, path in self.family.residual_gains.items()
        }

    @property
    def is_the_reference(self) -> bool:
        """Say whether the model is the reference itself, loaded once more."""
        return self.cell.loading_mode == "hf_eager"

    @property
    def is_reference_library(self) -> bool:
        """Say whether the model is `transformers`' own, by whatever path."""
        return self.cell.mode.port == "transformers"

    def run(
        self, prompt: Prompt, asking: Asking = PLAIN, *, sites: Sequence[str] | None = None
    ) -> Activations:
        """Run once and give the tensors at the sites; at all, without a word."""
        with numerics_of(self.cell.dtype):
            return capture(self.runner, prompt, sites or self.sites, asking)

    def plain(self, prompt: Prompt) -> Activations:
        """Give the tensors at all sites of a plain run, made once for all probes of the runner."""
        kept = _PLAIN.setdefault(self.runner, {})
        if prompt.prompt_id not in kept:
            kept[prompt.prompt_id] = self.run(prompt)
        return kept[prompt.prompt_id]

    def logits(self, prompt: Prompt, asking: Asking = PLAIN) -> Tensor:
        """Run once without any hook and give the logits [batch, pos, vocab]."""
        return self.run(prompt, asking, sites=(LOGITS,))[LOGITS]

    def run_with_cache(self, prompt: Prompt) -> tuple[Activations, tuple[str, ...]]:
        """Run once with TransformerLens' own cache; give what it holds, and what it lacks.

        It lacks sites that have a hook. Others, which a port computes beside it, are no matter.
        """
        with numerics_of(self.cell.dtype):
            taken = self.runner.run_with_cache(prompt, self.sites)
        held = {
            site: by_row(tensor, prompt)
            for site in self.sites
            if (tensor := taken.get(site)) is not None
        }
        return held, tuple(site for site, tensor in taken.items() if tensor is None)

    def decode(
        self, prompt: Prompt, chunks: Sequence[int], asking: Asking = PLAIN
    ) -> list[Activations]:
        """Run in chunks of these lengths with the model's own cache; give each's activations."""
        with numerics_of(self.cell.dtype):
            parts = self.runner.decode(prompt, chunks, self.sites, asking)
        return [
            {site: by_row(tensor, prompt, length=length) for site, tensor in part.items()}
            for part, length in zip(parts, chunks, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A question about one model: `ask` puts it on a prompt, `prompts` chooses those to ask on."""

    ask: Callable[[Model, Prompt], Iterator[Owed]]
    prompts: Callable[[Sequence[Prompt]], Sequence[Prompt]]


def longest(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Choose the longest prompt alone, for what takes long to ask."""
    return telling(prompts)[-1:]


def telling(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Choose the longest prompt, and one drawn at random or else the largest batch; none padded.

    The shorter comes first: what a model keeps of a longer one would show in it afterwards.
    """
    whole = [prompt for prompt in prompts if not prompt.padded and len(prompt.tokens[0]) > 1]
    drawn = [prompt for prompt in whole if not prompt.origin.startswith("bank:")]
    in_bank = [prompt for prompt in whole if prompt not in drawn]
    by_length = max(whole, key=lambda prompt: len(prompt.tokens[0]), default=None)
    by_batch = max(in_bank, key=lambda prompt: len(prompt.tokens), default=None)
    second = drawn[0] if drawn else by_batch
    found = [each for each in (by_length, second) if each is not None]
    found.sort(key=lambda each: len(each.tokens[0]))
    return list({each.prompt_id: each for each in found}.values())
