"""One file per port. A port loads a case and gives something that runs and returns its sites."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from harness.models.conversion import as_glm
from harness.models.families import is_native
from harness.models.ports import bridge, chatglm, hooked, huggingface, plugged
from harness.models.ports.installing import nothing_installed
from harness.models.remote_code import no_code_but_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from harness.case import Cell, Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports.asking import Asking

__all__ = ["Runner", "load_port", "load_reference"]


class Runner(Protocol):
    """A loaded model that runs a prompt and gives the tensors at its sites."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Name the sites it can give, in the order of the forward pass, `logits` last."""

    def run(self, prompt: Prompt, sites: Sequence[str], asking: Asking = ...) -> dict[str, Tensor]:
        """Run once and give exactly the sites asked for, in TransformerLens' layouts."""

    def decode(
        self, prompt: Prompt, chunks: Sequence[int], sites: Sequence[str], asking: Asking = ...
    ) -> list[dict[str, Tensor]]:
        """Run the prompt in chunks of these lengths with the model's own key-value cache."""

    def run_with_cache(self, prompt: Prompt, sites: Sequence[str]) -> dict[str, Tensor | None]:
        """Run once with TransformerLens' own cache of activations; of its ports alone.

        None stands for a site that has a hook, and that the cache does not hold.
        """

    def to_tokens(self, texts: Sequence[str], *, bos: bool | None = None) -> list[list[int]]:
        """Give the token ids of texts as the port makes them; of TransformerLens' ports alone.

        `bos` says whether BOS stands before them; None leaves it to the port.
        """

    @property
    def begins_with_bos(self) -> bool:
        """Say whether the port puts BOS before a text without a word; of TransformerLens' alone."""

    def passed_through(self) -> frozenset[str]:
        """Name the sites whose tensor the reference's own code computed, after a run."""


def load_port(cell: Cell, checkpoint: Checkpoint) -> Runner:
    """Load the port of a cell's loading mode.

    Raises:
        Refused: the port says itself that it does not support the model or the mode.
        Unavailable: no installed package brings the port.
        PortError: a plugged port does not keep the interface.
        CheckpointError: the weights do not fit the config.
    """
    with nothing_installed(), no_code_but_of(checkpoint):
        return _load_port(cell, checkpoint)


def _load_port(cell: Cell, checkpoint: Checkpoint) -> Runner:
    if cell.mode.is_plugged:
        return plugged.load(cell, checkpoint)
    if not is_native(cell.case.family):
        return _load_converted(cell, checkpoint)
    if cell.mode.port == "bridge":
        return bridge.load(cell, checkpoint)
    if cell.mode.port == "hooked":
        return hooked.load(cell, checkpoint)
    if cell.loading_mode == "hf_sdpa":
        return huggingface.load(cell, checkpoint, attention="sdpa")
    return huggingface.load(cell, checkpoint, attention="eager")


def _load_converted(cell: Cell, checkpoint: Checkpoint) -> Runner:
    """Load a port of ChatGLM: GLM, of which nothing is the authors' own code."""
    if cell.loading_mode == "hf_eager":
        return chatglm.load(cell, checkpoint)
    if checkpoint.config["model_type"] == cell.case.family:  # else it was converted and saved
        checkpoint = as_glm(checkpoint)
    glm = replace(cell, case=replace(cell.case, family="glm", variant="default"))
    if cell.mode.port == "bridge":
        bridged = bridge.load(glm, checkpoint)
        bridged.is_of_reference = False
        return bridged
    if cell.mode.port == "hooked":
        return hooked.load(glm, checkpoint)
    runner = huggingface.load(glm, checkpoint, attention="sdpa", traces=("rot_q", "rot_k"))
    runner.is_of_reference = False
    return runner


def load_reference(cell: Cell, checkpoint: Checkpoint) -> huggingface.TransformersRunner:
    """Load Hugging Face `transformers` with eager attention, apart from any port.

    Of ChatGLM, its authors' own module.

    Raises:
        CheckpointError: the weights do not fit the config.
    """
    with no_code_but_of(checkpoint):
        if not is_native(cell.case.family):
            return chatglm.load(cell, checkpoint)
        return huggingface.load(cell, checkpoint, attention="eager")
