"""Taps that many families share: how Hugging Face lays out attention projections and blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.models.family import Tap, View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor
    from transformers import PretrainedConfig


def n_heads(config: PretrainedConfig) -> int:
    """Give the number of query heads, by whatever name the config has it."""
    return int(config.num_attention_heads)


def n_kv_heads(config: PretrainedConfig) -> int:
    """Give the number of key and value heads; query heads where the config has none.

    Falcon spells it `num_kv_heads`, and ignores it or `multi_query` by its architecture.
    """
    if getattr(config, "multi_query", False) and not getattr(
        config, "new_decoder_architecture", False
    ):
        return 1
    named = (getattr(config, name, None) for name in ("num_key_value_heads", "num_kv_heads"))
    return int(next(filter(None, named), n_heads(config)))


def _split(tensor: Tensor, *sizes: int) -> Tensor:
    """Split the last axis into axes of these sizes."""
    split: Tensor = tensor.unflatten(-1, sizes)
    return split


def heads(tensor: Tensor, config: PretrainedConfig) -> Tensor:
    """View [batch, pos, head * d_head] as [batch, pos, head, d_head], query heads."""
    return _split(tensor, n_heads(config), -1)


def kv_heads(tensor: Tensor, config: PretrainedConfig) -> Tensor:
    """View [batch, pos, kv_head * d_head] as [batch, pos, kv_head, d_head]."""
    return _split(tensor, n_kv_heads(config), -1)


def third(index: int) -> View:
    """View the given third of a fused [q | k | v] projection, split into heads (GPT-2)."""

    def view(tensor: Tensor, config: PretrainedConfig) -> Tensor:
        return heads(tensor.chunk(3, dim=-1)[index], config)

    return view


def interleaved(index: int) -> View:
    """View q, k or v of a projection fused per head, [head, (q|k|v), d_head] (BLOOM, NeoX)."""

    def view(tensor: Tensor, config: PretrainedConfig) -> Tensor:
        return _split(tensor, n_heads(config), 3, -1)[..., index, :]

    return view


def grouped(index: int) -> View:
    """View q, k or v of a fused [q | k | v] projection with fewer key-value heads (Phi-3)."""

    def view(tensor: Tensor, config: PretrainedConfig) -> Tensor:
        queries, keys = n_heads(config), n_kv_heads(config)
        fused = tensor.unflatten(-1, (queries + 2 * keys, -1))
        part: Tensor = fused.split([queries, keys, keys], dim=-2)[index]
        return part

    return view


def by_group(index: int) -> View:
    """View q, k or v of a projection fused per key-value head, [q, …, q, k, v] (Falcon)."""
    part = (slice(None, -2), slice(-2, -1), slice(-1, None))[index]

    def view(tensor: Tensor, config: PretrainedConfig) -> Tensor:
        keys = n_kv_heads(config)
        split = _split(tensor, keys, n_heads(config) // keys + 2, -1)
        return split[..., part, :].flatten(-3, -2)

    return view


@dataclass(frozen=True, slots=True)
class Scaled:
    """A view of what enters the residual stream: the output times a number in the config."""

    attribute: str

    def __call__(self, tensor: Tensor, config: PretrainedConfig) -> Tensor:
        """Give the tensor times the number."""
        return tensor * float(getattr(config, self.attribute))

    def undone(self, tensor: Tensor, config: PretrainedConfig) -> Tensor:
        """Give the module's own tensor, of which the given one would be the view."""
        return tensor / float(getattr(config, self.attribute))


@dataclass(frozen=True, slots=True)
class Times:
    """A view of what enters the residual stream: the output times a number that was found."""

    factor: float

    def __call__(self, tensor: Tensor, config: PretrainedConfig) -> Tensor:  # noqa: ARG002 - a View's signature
        """Give the tensor times the number."""
        return tensor * self.factor

    def undone(self, tensor: Tensor, config: PretrainedConfig) -> Tensor:  # noqa: ARG002 - the same
        """Give the module's own tensor, of which the given one would be the view."""
        return tensor / self.factor


def one_row(tensor: Tensor, config: PretrainedConfig) -> Tensor:  # noqa: ARG001 - a View's signature
    """View [pos, d_model] as [1, pos, d_model]: the same for every row of a batch."""
    return tensor.unsqueeze(0)


def scaled(attribute: str) -> Scaled:
    """View what enters the residual stream: the output times a number in the config (Granite)."""
    return Scaled(attribute)


def layers_where(
    condition: Callable[[PretrainedConfig], bool],
) -> Callable[[PretrainedConfig], int]:
    """Count a stack's layers as all or none: so variants with other module trees are told apart."""

    def count(config: PretrainedConfig) -> int:
        return int(config.num_hidden_layers) if condition(config) else 0

    return count


def half(index: int) -> View:
    """View the given half of a fused [gate | up] projection (Phi-3)."""

    def view(tensor: Tensor, config: PretrainedConfig) -> Tensor:  # noqa: ARG001 - a View's signature
        return tensor.chunk(2, dim=-1)[index]

    return view


def separate_qkv(attention: str, *, output: str = "o_proj") -> Mapping[str, Tap]:
    """Give taps for an attention with q_proj, k_proj, v_proj and an output projection."""
    return {
        "attn.q": Tap(module=f"{attention}.q_proj", view=heads),
        "attn.k": Tap(module=f"{attention}.k_proj", view=kv_heads),
        "attn.v": Tap(module=f"{attention}.v_proj", view=kv_heads),
        "attn.z": Tap(module=f"{attention}.{output}", side="in", view=heads),
    }


def gated_mlp(mlp: str) -> Mapping[str, Tap]:
    """Give taps for an MLP with gate_proj, up_proj and down_proj."""
    return {
        "mlp.pre": Tap(module=f"{mlp}.gate_proj"),
        "mlp.pre_linear": Tap(module=f"{mlp}.up_proj"),
        "mlp.post": Tap(module=f"{mlp}.down_proj", side="in"),
    }


def plain_mlp(mlp: str, *, into: str, out: str) -> Mapping[str, Tap]:
    """Give taps for an MLP of two linear maps."""
    return {
        "mlp.pre": Tap(module=f"{mlp}.{into}"),
        "mlp.post": Tap(module=f"{mlp}.{out}", side="in"),
    }


def block(path: str) -> Mapping[str, Tap]:
    """Give taps for what enters and leaves a block."""
    return {
        "resid_pre": Tap(module=path, side="in"),
        "resid_post": Tap(module=path),
    }
