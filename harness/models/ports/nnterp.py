"""nnterp's `StandardizedTransformer`: one set of names for all models, which nnsight reads.

A plugged port like any other package's: pyproject.toml names `load` in `harness.ports`.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import transformers

from harness.errors import Refused, Unavailable
from harness.models.families import FAMILIES
from harness.models.ports.lens import quiet
from harness.models.ports.loading import TORCH_DTYPES, spelled_for_this_release
from harness.models.sites import LOGITS, layer_of, within_block

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

INSTALL: Final = "pip install 'model-port-harness[nnterp]'"

_PATTERN: Final = "attn.pattern"
_IN_BLOCK: Final = {
    "resid_pre": "layers_input",
    _PATTERN: "attention_probabilities",
    "attn_out": "attentions_output",
    "mlp_out": "mlps_output",
    "resid_post": "layers_output",
}
"""Where nnterp has a site of a block, in the order in which a trace may read them."""

_ADDED: Final = ("attn_out", "mlp_out")
_OF_ANOTHER_MEANING: Final[dict[str, tuple[str, ...]]] = {
    # A norm stands between what nnterp calls the output of a branch and the stream.
    **dict.fromkeys(("gemma2", "gemma3", "olmo2", "olmo3"), _ADDED),
    # These modules add the stream to what they give.
    "bloom": _ADDED,
    "mpt": ("mlp_out",),
    # A multiplier stands behind them.
    "granite": ("embed", *_ADDED),
}
"""Sites that nnterp's name for a module's output does not mean, by family: not given. Measured: in
exact mode these differ, and all others agree."""


def load(folder: Path, *, family: str, dtype: torch.dtype, device: str) -> NnterpPort:
    """Load a checkpoint as nnterp does, with attention's probabilities where it finds them.

    Raises:
        Unavailable: nnterp is not installed, or does not import beside the nnsight that is.
        Refused: nnterp does not find its names in the model.
    """
    standardized, renaming_error = _imported()
    record = FAMILIES[family]
    if record.auto_class != "AutoModelForCausalLM":
        message = f"nnterp names the parts of causal language models, and {family} is none"
        raise Refused(message)

    if not record.is_native:
        message = f"nnterp loads classes of transformers, which has none for {family}"
        raise Refused(message)
    config = transformers.AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    names = {each: name for name, each in TORCH_DTYPES.items()}
    spelled = spelled_for_this_release(names[dtype], config)

    def loaded(*, with_probabilities: bool) -> Any:
        return standardized(
            str(folder),
            enable_attention_probs=with_probabilities,
            device_map=device,
            dispatch=True,
            **spelled,
        )

    with quiet():
        try:
            model = loaded(with_probabilities=True)
        except (AttributeError, renaming_error):  # nnsight finds no such line in the source
            try:
                model = loaded(with_probabilities=False)
            except renaming_error as error:
                message = f"nnterp {version('nnterp')}: {_first_line(error)}"
                raise Refused(message) from error
    left_out = _OF_ANOTHER_MEANING.get(family, ())
    return NnterpPort(model, takes_positions=record.takes_position_ids, left_out=left_out)


class NnterpPort:
    """A standardised transformer whose names are read in one trace."""

    def __init__(self, model: Any, *, takes_positions: bool, left_out: Sequence[str]) -> None:
        """Find out which of its names the model has."""
        self.model = model
        self._takes_positions = takes_positions
        absent = {*left_out} if model.attn_probs_available else {*left_out, _PATTERN}
        if not hasattr(model.layers[0], "mlp"):  # OPT's is in no module of its own
            absent.add("mlp_out")
        inside = [name for name in _IN_BLOCK if name not in absent]
        blocks = (f"blocks.{layer}.{name}" for layer in range(model.num_layers) for name in inside)
        named = ("embed", *blocks, "ln_final.out", LOGITS)
        self.sites = tuple(site for site in named if site not in absent)

    def run(
        self, tokens: Tensor, attention_mask: Tensor | None, sites: Sequence[str]
    ) -> dict[str, Tensor]:
        """Run once in a trace and give the tensors at the sites.

        nnterp makes no position ids. Beside a mask a careful user gives them, as ours does.
        """
        inputs = {"input_ids": tokens}
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask
            if self._takes_positions:
                inputs["position_ids"] = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        taken: dict[str, Tensor] = {}
        wanted = [site for site in self.sites if site in sites]
        with quiet(), self.model.trace(inputs):
            for site in wanted:  # in the order of the forward pass: a trace waits for each
                taken[site] = _read(self.model, site).detach().clone()
        return taken


def _read(model: Any, site: str) -> Any:
    if site == "embed":
        return model.token_embeddings
    if site == "ln_final.out":
        return model.ln_final.output
    if site == LOGITS:
        return model.logits
    return getattr(model, _IN_BLOCK[within_block(site)])[layer_of(site)]


def _imported() -> tuple[Callable[..., Any], type[Exception]]:
    try:
        installed = f"nnterp {version('nnterp')}"
    except PackageNotFoundError:
        message = f"nnterp is not installed in this environment; next: {INSTALL}"
        raise Unavailable(message) from None
    try:
        from nnterp import StandardizedTransformer  # noqa: PLC0415 - an extra, and takes seconds
        from nnterp.rename_utils import RenamingError  # noqa: PLC0415 - the same
    except ImportError as error:
        message = (
            f"{installed} does not import beside nnsight {version('nnsight')}: {error}; "
            f"next: {INSTALL}"
        )
        raise Unavailable(message) from error
    return StandardizedTransformer, RenamingError


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
