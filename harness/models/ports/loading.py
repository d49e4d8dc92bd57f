"""Loads a checkpoint with `transformers` 4.39 to 5.x, and checks that it took every tensor."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
import transformers
from packaging.version import Version

from harness.errors import CheckpointError, Refused
from harness.models.text_config import has_experts

if TYPE_CHECKING:
    from harness.models.checkpoints import Checkpoint
    from harness.models.family import Family

transformers.utils.logging.disable_progress_bar()  # a bar per cell would hide the run's own

TORCH_DTYPES: Final = {
    "exact": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Before, `from_pretrained` calls it `torch_dtype`, and takes `dtype` for an argument of the model.
_DTYPE_SINCE: Final = Version("4.56.0")

# The words with which transformers 4.39 to 5.23 says that it lacks a model or an attention.
_REFUSALS: Final = (
    "does not support an attention implementation",
    "does not recognize this architecture",
    "Unrecognized configuration class",
)

# Enough to see which layers and which modules; a large model has thousands of tensors.
_NAMES_SHOWN: Final = 6


def load_model(
    family: Family,
    checkpoint: Checkpoint,
    *,
    dtype: str,
    device: str,
    attention: Literal["eager", "sdpa"],
) -> Any:
    """Load a checkpoint with `from_pretrained(dtype=)`, and check that it took every tensor.

    `.to(dtype)` afterwards would also cast non-persistent rotary buffers. Experts run eagerly,
    since grouped matrix products have no float64.

    Raises:
        Refused: this release lacks the architecture, or the model such an attention.
        CheckpointError: tensors are missing, extra or of a wrong shape; each is named.
    """
    config = config_of(checkpoint, attention)
    try:
        with warnings.catch_warnings():
            # A layer without bias is given an empty one to start with (MobileBERT).
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            model, report = getattr(transformers, family.auto_class).from_pretrained(
                checkpoint.path,
                config=config,
                attn_implementation=attention,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are told by name; refused below
                **spelled_for_this_release(dtype, config),
            )
    except ValueError as error:
        if any(words in str(error) for words in _REFUSALS):
            raise Refused(_refusal(str(error), checkpoint)) from error
        raise
    # AttributeError: 4.52 initialises the bias that StableLM's norms of queries do not have.
    except (OSError, RuntimeError, AttributeError) as error:
        release = transformers.__version__
        message = f"{checkpoint.path}: transformers {release} cannot load it ({error})"
        raise CheckpointError(message) from error
    wrong = {
        kind: names
        for kind, found in report.items()
        if (names := sorted(not_loaded(model, kind, found)))
    }
    if wrong:
        found = "; ".join(f"{kind}: {_first(names)}" for kind, names in wrong.items())
        message = (
            f"{checkpoint.path}: weights and config do not fit\n"
            f"  found:   {found}\n"
            "  allowed: none missing, none extra\n"
            f"  next:    {_advice(config, checkpoint)}"
        )
        raise CheckpointError(message)
    return model.eval().to(device)


def _first(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def config_of(checkpoint: Checkpoint, attention: str) -> Any:
    """Read config.json, and tell it the attention too.

    Until 4.47 or so a model that is told "eager", of a config that was not, takes sdpa.
    """
    try:
        return transformers.AutoConfig.from_pretrained(
            checkpoint.path,
            local_files_only=True,
            trust_remote_code=False,  # unsaid, it would ask whoever sits at the keyboard
            attn_implementation=attention,
        )
    except Exception as error:  # each release has errors of its own
        if any(words in str(error) for words in _REFUSALS):
            raise Refused(_refusal(str(error), checkpoint)) from error
        release = transformers.__version__
        message = (
            f"{checkpoint.path}: transformers {release} cannot read its config.json ({error})\n"
            "  next:    see which release first reads this field, or spell it for both"
        )
        raise CheckpointError(message) from error


def _advice(config: Any, checkpoint: Checkpoint) -> str:
    """Say where to look; name the fields of config.json that this release does not know."""
    known = set(inspect.signature(type(config).__init__).parameters) | set(config.attribute_map)
    known |= set(transformers.PretrainedConfig().to_dict())
    strange = sorted(set(checkpoint.config) - known)
    if strange:
        return (
            f"{type(config).__name__} of transformers {transformers.__version__} does not know "
            f"{', '.join(strange)}"
        )
    return "compare the names in *.safetensors with what config.json builds"


def spelled_for_this_release(dtype: str, config: Any) -> dict[str, Any]:
    """Give the arguments of `from_pretrained` that releases of transformers call otherwise."""
    known = Version(transformers.__version__) >= _DTYPE_SINCE
    arguments: dict[str, Any] = {"dtype" if known else "torch_dtype": TORCH_DTYPES[dtype]}
    # transformers 4 runs experts eagerly always, and knows no such argument.
    chooses = hasattr(transformers.PreTrainedModel, "get_correct_experts_implementation")
    if chooses and has_experts(config.to_dict()):
        arguments["experts_implementation"] = "eager"
    return arguments


def _refusal(words: str, checkpoint: Checkpoint) -> str:
    if _REFUSALS[0] in words:
        return words.partition(" Please")[0]
    model_type = checkpoint.config.get("model_type")
    return f"transformers {transformers.__version__} has no {model_type}"


def not_loaded(model: Any, kind: str, found: Any) -> list[str]:
    """Give what a loading report holds against the checkpoint, in its own words.

    Some releases of transformers 4 also report buffers, which the model computes itself, and tied
    parameters, which stand in the checkpoint once. A tensor for a buffer that the model saves is
    not left over for that reason: it was not loaded.
    """
    if kind == "missing_keys":
        parameters = dict(model.named_parameters(remove_duplicate=False))
        loaded = {id(value) for name, value in parameters.items() if name not in found}
        return [name for name in found if name in parameters and id(parameters[name]) not in loaded]
    if kind == "unexpected_keys":
        computed = {name for name, _ in model.named_buffers()}.difference(model.state_dict())
        ends = {_last_two(name) for name in computed}
        return [name for name in found if _last_two(name) not in ends]
    return [str(entry) for entry in found]


def _last_two(name: str) -> str:
    """Give `rotary_emb.inv_freq` of `model.layers.3.self_attn.rotary_emb.inv_freq`."""
    return ".".join(name.split(".")[-2:])
