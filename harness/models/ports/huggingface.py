"""Hugging Face `transformers`: the reference with eager attention, and the port `hf_sdpa`."""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import transformers
from packaging.version import Version

from harness.models.families import FAMILIES
from harness.models.layouts import n_heads
from harness.models.ports.attention_trace import AttentionTrace
from harness.models.ports.loading import TORCH_DTYPES, load_model
from harness.models.sites import LOGITS, ROUTER, at_layer, layer_of, order, within_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from harness.case import Cell, Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.family import Family, Tap

__all__ = [
    "TORCH_DTYPES",
    "TransformersRunner",
    "load",
    "load_model",
    "logits_of",
    "model_inputs",
    "routed_by",
    "routers_give_logits",
]

_TRACED = ("attn_scores", "pattern")
_TRACED_ROTARY = ("rot_q", "rot_k")


def load(
    cell: Cell, checkpoint: Checkpoint, *, attention: Literal["eager", "sdpa"]
) -> TransformersRunner:
    """Load the reference (eager, whose scores and patterns can be read) or the port `hf_sdpa`.

    Raises:
        Refused: this release lacks the architecture, or the model such an attention.
        CheckpointError: the weights do not fit the config.
    """
    family = FAMILIES[cell.case.family]
    model = load_model(
        family, checkpoint, dtype=cell.dtype, device=cell.device, attention=attention
    )
    norms = family.folded_norms(cell.case.variant)
    return TransformersRunner(family, model, norms=norms, traces_attention=attention == "eager")


class TransformersRunner:
    """A `transformers` model whose sites are read by hooks that are always removed."""

    def __init__(
        self, family: Family, model: Any, *, norms: Mapping[str, str], traces_attention: bool
    ) -> None:
        """Work out which sites the model has from its family's record."""
        self.family = family
        self.norms = norms
        self.model = model
        self._traces_attention = traces_attention
        self._taps = dict(family.taps)
        self._attention: dict[str, str] = {}
        self._post_norm = False
        for stack in family.stacks:
            self._post_norm |= stack.post_norm and stack.n_layers(model.config) > 0
            for layer in range(stack.n_layers(model.config)):
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

    @property
    def sites(self) -> tuple[str, ...]:
        """Name the sites it can give, in the order of the forward pass."""
        rotary = self.family.rotary and not getattr(self.model.config, "alibi", False)
        traced = (*_TRACED, *(_TRACED_ROTARY if rotary else ()))
        attention = [f"{prefix}.{name}" for prefix in self._attention for name in traced]
        if not self._traces_attention:
            attention = []
        key = functools.partial(order, post_norm=self._post_norm)
        return tuple(sorted((*self._taps, *attention, LOGITS), key=key))

    def run(self, prompt: Prompt, sites: Sequence[str]) -> dict[str, Tensor]:
        """Run once and give the tensors at the sites, in TransformerLens' layouts."""
        taken: dict[str, Tensor] = {}
        with ExitStack() as stack, torch.no_grad():
            for site in sites:
                if site in self._taps:
                    stack.enter_context(self._tapped(site, taken))
            if any(site not in self._taps and site != LOGITS for site in sites):
                trace = stack.enter_context(self._traced())
            else:
                trace = None
            output = self.model(**self.inputs(prompt))
        if trace is not None:
            taken.update({site: trace.taken[site] for site in sites if site in trace.taken})
        if LOGITS in sites:
            taken[LOGITS] = logits_of(output)
        return taken

    def inputs(self, prompt: Prompt) -> dict[str, Tensor]:
        """Give the model's arguments for a prompt; positions count real tokens only."""
        return model_inputs(self.family, self.model.config, prompt, self.model.device)

    def passed_through(self) -> frozenset[str]:
        """Name the sites outside the fused attention: the same code as the reference's."""
        return frozenset(site for site in self.sites if within_block(site) != "attn.z")

    def owner(self, site: str) -> tuple[str, str]:
        """Give the module that a site is read at, and the one whose code computed it.

        The second is the innermost module of a `transformers` class in which the operation
        stands: the module itself, or the one that calls it.
        """
        if site in self._attention_sites():
            module = self._attention[site.rsplit(".", 1)[0]]
            return module, module
        if site == LOGITS:
            return "", ""
        tap = self._taps[site]
        owner = tap.module if tap.side == "out" else _parent(tap.module)
        while not type(self.model.get_submodule(owner)).__module__.startswith("transformers."):
            owner = _parent(owner)
        return (tap.module if tap.side == "out" else owner), owner

    def affine_of(self, site: str) -> tuple[Tensor, Tensor]:
        """Give gain and bias of the norm at a site, each [d_model], as float64."""
        path = at_layer(self.norms[within_block(site)], layer_of(site) or 0)
        norm = self.model.get_submodule(path)
        weight = getattr(norm, "weight", None)
        bias = getattr(norm, "bias", None)
        if weight is None:
            weight = torch.ones(self.model.config.hidden_size)
        gain = weight.detach().double() + (1.0 if self.family.norm_offset else 0.0)
        return gain, torch.zeros_like(gain) if bias is None else bias.detach().double()

    def project(self, site: str, value: Tensor) -> Tensor:
        """Run one vector [d_model] through the projection at a site; give [head, d_head]."""
        tap = self._taps[site]
        found = self.model.get_submodule(tap.module)(value.view(1, 1, -1))
        view = found if tap.view is None else tap.view(found, self.model.config)
        return view[0, 0].detach()

    @property
    def n_heads(self) -> int:
        """Give the number of query heads."""
        return n_heads(self.model.config)

    def _attention_sites(self) -> frozenset[str]:
        return frozenset(site for site in self.sites if site not in self._taps and site != LOGITS)

    @contextmanager
    def _tapped(self, site: str, taken: dict[str, Tensor]) -> Iterator[None]:
        tap = self._taps[site]
        config = self.model.config
        is_router = within_block(site) == ROUTER

        def keep(value: Any) -> None:
            tensor = value[0] if isinstance(value, tuple) else value
            view = tensor if tap.view is None else tap.view(tensor, config)
            taken[site] = view.detach().clone()

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            keep(args[0] if args else kwargs["hidden_states"])

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            keep(routed_by(module, args[0], output) if is_router else output)

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
    def _traced(self) -> Iterator[AttentionTrace]:
        trace = AttentionTrace(config=self.model.config)
        with ExitStack() as stack:
            for prefix, path in self._attention.items():
                stack.enter_context(trace.watching(self.model.get_submodule(path), prefix))
            stack.enter_context(trace)
            yield trace


def model_inputs(
    family: Family, config: Any, prompt: Prompt, device: torch.device
) -> dict[str, Tensor]:
    """Give a `transformers` model's arguments for a prompt.

    The mask is passed only where something is padded. Positions then count real tokens only,
    for families that take position ids; the others work them out from the mask themselves. An
    encoder-decoder's decoder reads the same tokens, shifted right behind the start token.
    """
    tokens = torch.tensor(prompt.tokens, device=device)
    inputs = {"input_ids": tokens}
    if prompt.padded:
        mask = torch.tensor(prompt.attention_mask, device=device)
        inputs["attention_mask"] = mask
        if family.takes_position_ids:
            inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    if getattr(config, "is_encoder_decoder", False):
        start = torch.full_like(tokens[:, :1], config.decoder_start_token_id)
        inputs["decoder_input_ids"] = torch.cat([start, tokens[:, :-1]], dim=1)
    return inputs


def logits_of(output: Any) -> Tensor:
    """Give the logits [batch, pos, vocab] of a model's output (BERT calls them otherwise)."""
    logits = getattr(output, "logits", None)
    found: Tensor = output.prediction_logits if logits is None else logits
    return found.detach()


def routers_give_logits() -> bool:
    """Say whether routers that are modules of their own give their logits back, first of all.

    Those of transformers 5.0 to 5.5 give probabilities by that name, and gpt_oss's of
    transformers 4 scores and indices only.
    """
    return Version(transformers.__version__) >= Version("5.6.0")


def routed_by(router: nn.Module, hidden: Tensor, output: Any) -> Tensor:
    """Give the logits [token, expert] by which a router chose, from its input and its output.

    A router that does not give them back is a linear map, whose product is made once more.
    """
    logits: Tensor = output[0] if isinstance(output, tuple) else output
    if isinstance(output, tuple) and not routers_give_logits():
        parameters = dict(router.named_parameters(recurse=False))
        flat = hidden.reshape(-1, hidden.shape[-1])
        return torch.nn.functional.linear(flat, parameters["weight"], parameters.get("bias"))
    return logits


def _tap_at(tap: Tap, layer: int) -> Tap:
    module, formerly = (at_layer(path, layer) for path in (tap.module, tap.formerly))
    return replace(tap, module=module, formerly=formerly)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
