"""ChatGLM3 by its authors' own module: the reference that its converted ports are held against.

The module comes with diffusers, which takes it from the authors, or, where a case names it, from a
checkpoint's own Python files (`harness/models/remote_code.py`).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import load_file
from torch import nn

from harness.errors import CheckpointError, Unavailable
from harness.models.families import FAMILIES
from harness.models.ports.huggingface import TransformersRunner
from harness.models.ports.lens import quiet
from harness.models.ports.loading import TORCH_DTYPES
from harness.models.remote_code import class_named

if TYPE_CHECKING:
    from torch import Tensor

    from harness.case import Cell
    from harness.models.checkpoints import Checkpoint

_COMPUTED: Final = "rotary_pos_emb.inv_freq"
"""A buffer that some files carry and the module computes itself, and never reads but its dtype."""


def load(cell: Cell, checkpoint: Checkpoint) -> TransformersRunner:
    """Load the authors' module with a checkpoint's weights, each of which it must take.

    Raises:
        Unavailable: diffusers is not installed.
        CheckpointError: weights and config do not fit.
    """
    with quiet():
        config_class, model_class = _classes(checkpoint)
        config = config_class(**checkpoint.config)
        made = model_class(config, empty_init=False)
        # The hub's class for generation has the module inside.
        model = ChatGLM(config, getattr(made, "transformer", made))
    weights: dict[str, Tensor] = {}
    for file in sorted(checkpoint.path.glob("*.safetensors")):
        weights |= load_file(file)
    weights = {name: value for name, value in weights.items() if not name.endswith(_COMPUTED)}
    dtype = TORCH_DTYPES[cell.dtype]
    # The module knows its dtype by this buffer: it rounds the rotary table to it.
    model = model.to(dtype)
    lost = sorted(
        name for name in model.state_dict() if name not in weights and not name.endswith(_COMPUTED)
    )
    extra = sorted(set(weights) - set(model.state_dict()))
    if lost or extra:
        found = f"missing: {', '.join(lost) or 'none'}; extra: {', '.join(extra) or 'none'}"
        message = (
            f"{checkpoint.path}: weights and config do not fit\n"
            f"  found:   {found}\n"
            "  allowed: none missing, none extra\n"
            "  next:    compare the names in *.safetensors with what config.json builds"
        )
        raise CheckpointError(message)
    try:
        model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        message = f"{checkpoint.path}: weights and config do not fit ({error})"
        raise CheckpointError(message) from error
    family = FAMILIES[cell.case.family]
    runner = TransformersRunner(
        family, model.eval().to(cell.device), norms={}, traces=("rot_q", "rot_k")
    )
    runner.is_of_reference = True
    return runner


def _classes(checkpoint: Checkpoint) -> tuple[Any, Any]:
    if checkpoint.code:
        return class_named(checkpoint, "AutoConfig"), class_named(checkpoint, "AutoModel")
    try:
        from diffusers.pipelines.kolors.text_encoder import (  # noqa: PLC0415 - an extra
            ChatGLMConfig,
            ChatGLMModel,
        )
    except ImportError as error:
        message = (
            f"ChatGLM's authors' module is not installed ({error}); "
            "next: pip install 'model-port-harness[chatglm]'"
        )
        raise Unavailable(message) from error
    return ChatGLMConfig, ChatGLMModel


class ChatGLM(nn.Module):
    """The authors' module with logits [batch, pos, vocab] beside its hidden states.

    They make logits as `ChatGLMForConditionalGeneration` on the hub does: the output layer on the
    finished state [pos, batch, d_model], and then the layout turned.
    """

    def __init__(self, config: Any, transformer: nn.Module) -> None:
        """Take the module; its config gets the names by which sizes are known elsewhere."""
        super().__init__()
        self.config = config
        self.transformer = transformer
        config.num_hidden_layers = config.num_layers
        config.num_key_value_heads = (
            config.multi_query_group_num
            if config.multi_query_attention
            else config.num_attention_heads
        )
        config.is_encoder_decoder = False

    @property
    def device(self) -> torch.device:
        """Give the device of the weights."""
        return next(self.parameters()).device

    def get_output_embeddings(self) -> nn.Module:
        """Give the layer that makes logits."""
        return self.transformer.get_submodule("output_layer")

    def get_input_embeddings(self) -> nn.Module:
        """Give the embedding of tokens."""
        return self.transformer.get_input_embeddings()  # type: ignore[no-any-return, operator]

    def forward(  # noqa: PLR0917 - transformers' signature
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,  # noqa: FBT001 - transformers' signature
        output_hidden_states: bool | None = None,  # noqa: FBT001 - the same
        output_attentions: bool | None = None,  # noqa: ARG002, FBT001 - taken, and given none
    ) -> Any:
        """Run, and give logits, cache and hidden states by the names that transformers has."""
        output = self.transformer(
            input_ids,
            position_ids=position_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            use_cache=True if use_cache is None else use_cache,
            output_hidden_states=bool(output_hidden_states),
            return_dict=True,
        )
        logits = self.get_output_embeddings()(output.last_hidden_state)
        return SimpleNamespace(
            logits=logits.transpose(0, 1).contiguous(),
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
        )
