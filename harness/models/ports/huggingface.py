"""Hugging Face `transformers`: the reference with eager attention, and the port `hf_sdpa`."""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

import torch

from harness.errors import CaptureError, Refused
from harness.models import discovery  # asked when it runs: it reads what ports read with
from harness.models.architectures import record_of
from harness.models.layouts import Scaled, Times, n_heads
from harness.models.ports.asking import PLAIN, chunk_inputs, logits_of, model_inputs
from harness.models.ports.attention_trace import AttentionTrace
from harness.models.ports.loading import load_model
from harness.models.ports.routers import routed_by
from harness.models.sites import LOGITS, ROUTER, at_layer, layer_of, order, within_block
from harness.models.text_config import text_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from harness.case import Cell, Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.family import Family, Tap
    from harness.models.ports.asking import Asking, Edit, Taken

_NO_ACTIVATIONS = "transformers has no run_with_cache"
_NO_TOKENIZER = "a model of transformers has no tokenizer"
_ROTARY = ("rot_q", "rot_k")
_TRACED = ("attn_scores", "pattern", *_ROTARY)


def load(
    cell: Cell,
    checkpoint: Checkpoint,
    *,
    attention: Literal["eager", "sdpa"],
    traces: Sequence[str] = (),
) -> TransformersRunner:
    """Load the reference (eager, whose scores and patterns can be read) or the port `hf_sdpa`.

    `traces` are what is read inside the fused attention.

    Raises:
        Refused: this release lacks the architecture, or the model such an attention.
        CheckpointError: the weights do not fit the config.
    """
    family = record_of(cell.case, checkpoint)
    model = load_model(
        family, checkpoint, dtype=cell.dtype, device=cell.device, attention=attention
    )
    if family.automatic:
        family = found_in(checkpoint, family, model if attention == "eager" else None)
    norms = family.folded_norms(cell.case.variant)
    traces = _TRACED if attention == "eager" else traces
    return TransformersRunner(family, model, norms=norms, traces=traces)


_FOUND: Final[dict[str, Family]] = {}
"""The completed record of the checkpoint at hand, by its digest."""


def found_in(checkpoint: Checkpoint, family: Family, model: Any) -> Family:
    """Complete an automatic record with what is found in the checkpoint's model.

    Sites are looked for once per checkpoint, in a model that attends eagerly: a fused kernel shows
    no softmax. `model` is such a one, None if it is to be loaded. What is found is the same in
    every dtype, and for the reference and all its ports.
    """
    if checkpoint.digest not in _FOUND:
        if model is None:
            model = load_model(family, checkpoint, dtype="float32", device="cpu", attention="eager")
        found = discovery.discovered(model, family)
        _FOUND.clear()
        _FOUND[checkpoint.digest] = found
    return _FOUND[checkpoint.digest]


class TransformersRunner:
    """A `transformers` model whose sites are read by hooks that are always removed."""

    def __init__(
        self,
        family: Family,
        model: Any,
        *,
        norms: Mapping[str, str],
        traces: Sequence[str] = _TRACED,
    ) -> None:
        """Work out which sites the model has from its family's record.

        `traces` are those inside attention that can be read: of a fused one, rotated queries and
        keys at most.
        """
        self.family = family
        self.norms = norms
        self.model = model
        self._config = text_part(model.config)
        self._traces = traces
        self.is_of_reference = True
        self._taps = dict(family.taps)
        self._attention = dict(family.attention)
        self._post_norm = family.post_norm
        for stack in family.stacks:
            self._post_norm |= stack.post_norm and stack.n_layers(self._config) > 0
            for layer in range(stack.n_layers(self._config)):
                prefix = f"{stack.prefix}.{layer}"
                for site, tap in stack.taps.items():
                    self._taps[f"{prefix}.{site}"] = _tap_at(tap, layer)
                for name, module in stack.attention.items():
                    self._attention[f"{prefix}.{name}"] = at_layer(module, layer)
        present = {name for name, _ in model.named_modules()}
        self._taps = {
            site: replace(tap, module=path)
            for site, tap in self._taps.items()
            for path in (tap.module, tap.formerly)
            if path in present and path
        }
        self._sites = self._in_order()

    @property
    def sites(self) -> tuple[str, ...]:
        """Name the sites it can give, in the order of the forward pass."""
        return self._sites

    @property
    def taps(self) -> Mapping[str, Tap]:
        """Give where each site outside of attention's own computation is read."""
        return self._taps

    @property
    def attention(self) -> Mapping[str, str]:
        """Give the path of each attention, by the prefix of its sites."""
        return self._attention

    @property
    def text_config(self) -> Any:
        """Give the config of the model, or of its text part."""
        return self._config

    def _in_order(self) -> tuple[str, ...]:
        attention = [
            f"{prefix}.{name}"
            for prefix in self._attention
            for name in self._traces
            if name not in _ROTARY or self._turns(prefix)
        ]
        key = functools.partial(order, post_norm=self._post_norm)
        return tuple(sorted((*self._taps, *attention, LOGITS), key=key))

    def _turns(self, prefix: str) -> bool:
        """Say whether an attention turns its queries and keys by their position."""
        if self.family.automatic:
            return prefix in self.family.turned
        return self.family.rotary and not getattr(self._config, "alibi", False)

    def run(
        self, prompt: Prompt, sites: Sequence[str], asking: Asking = PLAIN
    ) -> dict[str, Tensor]:
        """Run once and give the tensors at the sites, in TransformerLens' layouts."""
        inputs = self.inputs(prompt, asking)
        taken, _ = self._forward(inputs, sites, asking, **asking.output_arguments())
        return taken

    def decode(
        self, prompt: Prompt, chunks: Sequence[int], sites: Sequence[str], asking: Asking = PLAIN
    ) -> list[dict[str, Tensor]]:
        """Run a prompt in chunks of these lengths with the model's own cache; give each's sites.

        Raises:
            Refused: the model keeps no cache.
        """
        found: list[dict[str, Tensor]] = []
        config = self.model.config
        more: dict[str, Any] = {}
        for inputs in chunk_inputs(
            self.inputs(prompt, asking), chunks, decoder=bool(config.is_encoder_decoder)
        ):
            taken, output = self._forward({**inputs, **more}, sites, asking, use_cache=True)
            cache = getattr(output, "past_key_values", None)
            if cache is None:
                message = f"{type(self.model).__name__} keeps no cache"
                raise Refused(message)
            more["past_key_values"] = cache
            found.append(taken)
        return found

    def last_hidden(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """Give `hidden_states[-1]` as the model gives it, and its logits [batch, pos, vocab]."""
        with torch.no_grad():
            output = self.model(**self.inputs(prompt), output_hidden_states=True)
        return getattr(output, self.family.head.output)[-1], logits_of(output)

    def run_with_cache(
        self,
        prompt: Prompt,  # noqa: ARG002 - a Runner's signature
        sites: Sequence[str],  # noqa: ARG002 - a Runner's signature
    ) -> dict[str, Tensor | None]:
        """Refuse: `transformers` keeps no activations.

        Raises:
            Refused: always.
        """
        raise Refused(_NO_ACTIVATIONS)

    def to_tokens(
        self,
        texts: Sequence[str],  # noqa: ARG002 - a Runner's signature
        *,
        bos: bool | None = None,  # noqa: ARG002 - a Runner's signature
    ) -> list[list[int]]:
        """Refuse: a model of `transformers` has no tokenizer.

        Raises:
            Refused: always.
        """
        raise Refused(_NO_TOKENIZER)

    @property
    def begins_with_bos(self) -> bool:
        """Refuse: a model of `transformers` has no tokenizer.

        Raises:
            Refused: always.
        """
        raise Refused(_NO_TOKENIZER)

    def inputs(self, prompt: Prompt, asking: Asking = PLAIN) -> dict[str, Tensor]:
        """Give the model's arguments for a prompt; positions count real tokens only."""
        return model_inputs(self.family, self.model.config, prompt, self.model.device, asking)

    def _forward(
        self, inputs: Mapping[str, Any], sites: Sequence[str], asking: Asking, **more: bool
    ) -> tuple[dict[str, Tensor], Any]:
        taken, edits = asking.taken(sites), asking.edits
        with ExitStack() as stack, torch.set_grad_enabled(asking.gradients):
            for site in dict.fromkeys((*edits, *sites)):
                if site in self._taps:
                    stack.enter_context(self._tapped(site, taken, edits.get(site)))
            if any(site not in self._taps and site != LOGITS for site in (*edits, *sites)):
                stack.enter_context(self._traced(edits, taken))
            output = self.model(**inputs, **more)
        taken.keep(LOGITS, logits_of(output))
        return taken.at(sites), output

    def passed_through(self) -> frozenset[str]:
        """Name the sites outside the fused attention: the same code as the reference's.

        None, where the reference is another library's.
        """
        if not self.is_of_reference:
            return frozenset()
        return frozenset(site for site in self.sites if within_block(site) != "attn.z")

    def owner(self, site: str) -> tuple[str, str]:
        """Give the module that a site is read at, and the one whose code computed it.

        The second is the innermost module, of a class that is none of torch's own, in which the
        operation stands: the module itself, or the one that calls it.
        """
        if site in self._attention_sites():
            module = self._attention[site.rsplit(".", 1)[0]]
            return module, module
        if site == LOGITS:
            return "", ""
        tap = self._taps[site]
        owner = tap.module if tap.side == "out" else _parent(tap.module)
        while type(self.model.get_submodule(owner)).__module__.startswith("torch."):
            owner = _parent(owner)
        return (tap.module if tap.side == "out" else owner), owner

    def affine_of(self, site: str) -> tuple[Tensor, Tensor]:
        """Give gain and bias of the norm at a site, each [d_model], as float64."""
        path = at_layer(self.norms[within_block(site)], layer_of(site) or 0)
        norm = self.model.get_submodule(path)
        weight = getattr(norm, "weight", None)
        bias = getattr(norm, "bias", None)
        if weight is None:
            weight = torch.ones(self._config.hidden_size)
        gain = weight.detach().double() + (1.0 if self.family.norm_offset else 0.0)
        return gain, torch.zeros_like(gain) if bias is None else bias.detach().double()

    def project(self, site: str, value: Tensor) -> Tensor:
        """Run one vector [d_model] through the projection at a site; give [head, d_head]."""
        tap = self._taps[site]
        module = self.model.get_submodule(tap.module)
        device = next(module.parameters()).device
        if device.type != "meta":  # where weights are borrowed they come to the vector
            value = value.to(device)
        found = module(value.view(1, 1, -1))
        view = found if tap.view is None else tap.view(found, self._config)
        return view[0, 0].detach()

    @property
    def n_heads(self) -> int:
        """Give the number of query heads."""
        return n_heads(self._config)

    def _attention_sites(self) -> frozenset[str]:
        return frozenset(site for site in self.sites if site not in self._taps and site != LOGITS)

    @contextmanager
    def _tapped(self, site: str, taken: Taken, edit: Edit | None) -> Iterator[None]:
        tap = self._taps[site]
        config = self._config
        is_router = within_block(site) == ROUTER

        def keep(value: Any) -> Any:
            tensor = value[0] if isinstance(value, tuple) else value
            if edit is not None:
                tensor = _edited(tensor, edit, tap, config)
                value = (tensor, *value[1:]) if isinstance(value, tuple) else tensor
            view = tensor if tap.view is None else tap.view(tensor, config)
            taken.take(site, view)
            return value

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                return (keep(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": keep(kwargs["hidden_states"])}

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            if is_router:
                keep(routed_by(module, args[0], output))
                return output
            return keep(output)

        module = self.model.get_submodule(tap.module)
        if tap.side == "in":
            handle = module.register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = module.register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _traced(self, edits: Mapping[str, Edit], taken: Taken) -> Iterator[AttentionTrace]:
        trace = AttentionTrace(config=self._config, edits=edits, into=taken)
        with ExitStack() as stack:
            for prefix, path in self._attention.items():
                stack.enter_context(trace.watching(self.model.get_submodule(path), prefix))
            stack.enter_context(trace)
            yield trace


def _edited(tensor: Tensor, edit: Edit, tap: Tap, config: Any) -> Tensor:
    """Write an edit of a site's view back into its module's tensor.

    Raises:
        CaptureError: the site is computed from the tensor, not a part of it.
    """
    if tap.view is None:
        return edit(tensor)
    if isinstance(tap.view, Scaled | Times):
        return tap.view.undone(edit(tap.view(tensor, config)), config)
    whole = tensor.clone()
    part = tap.view(whole, config)
    if part.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
        message = f"{tap.module}: its site is computed from its tensor and cannot be written to"
        raise CaptureError(message)
    part.copy_(edit(part.clone()))
    return whole


def _tap_at(tap: Tap, layer: int) -> Tap:
    module, formerly = (at_layer(path, layer) for path in (tap.module, tap.formerly))
    return replace(tap, module=module, formerly=formerly)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
