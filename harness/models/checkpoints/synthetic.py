"""Synthetic checkpoints: tiny, every parameter randomised, the same file for every library.

Each tensor is drawn from a seed that is the hash of its *name in the hub's layout*, so that a
library that renames or fuses parameters in memory changes nothing. Every value is one that
bfloat16 and float16 represent exactly: loading in a lower dtype loses nothing, one float64 oracle
serves all dtypes, and the error that is measured is the computation's alone.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from harness.errors import CheckpointError, SelectionError
from harness.models.checkpoints.folder import Checkpoint, cached
from harness.models.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.models.family import Family

GENERATOR_VERSION: Final = 3
"""Raised by whoever changes what this file writes, so that old caches are left alone."""

SIZES: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "tiny": {},
    # The published shape of GPT-2 small (124M parameters).
    "gpt2-small": {
        "gpt2": {
            "vocab_size": 50257,
            "n_positions": 1024,
            "n_ctx": 1024,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_inner": None,
        },
    },
}

_SPECIAL_TOKENS: Final = {"unk_token": 0, "bos_token": 1, "eos_token": 2, "pad_token": 3}


def build(family_name: str, variant: str, *, size: str) -> Checkpoint:
    """Give the cached synthetic checkpoint of a family's variant, made the first time.

    Raises:
        SelectionError: there is no such size for the family.
    """
    family = FAMILIES[family_name]
    if size != "tiny" and family_name not in SIZES.get(size, {}):
        message = f"no synthetic size {size!r} for {family_name}; sizes: {', '.join(SIZES)}"
        raise SelectionError(message)
    config = {**family.variant_config(variant), **SIZES[size].get(family_name, {})}
    content = json.dumps([GENERATOR_VERSION, family.norm_offset, config], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    name = f"{family_name}-{variant}-{size}-{digest}"
    return cached(name, lambda folder: _write(folder, family, config))


def _write(folder: Path, family: Family, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    write_tokenizer(folder, int(config["vocab_size"]))
    tensors = {
        name: draw(name, shape, norm_offset=family.norm_offset)
        for name, shape in _hub_layout(folder, family).items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _hub_layout(folder: Path, family: Family) -> dict[str, tuple[int, ...]]:
    """Ask transformers for the names and shapes under which it saves the model on the hub."""
    if family.shapes is not None:
        return dict(family.shapes(json.loads((folder / "config.json").read_text())))
    import transformers  # noqa: PLC0415 - seconds to import, needed only to make a checkpoint

    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, family.auto_class).from_config(config)
    if json.loads((folder / "config.json").read_text()).get("tie_word_embeddings") is False:
        # T5 ties its head in memory whatever the config says; the hub's T5 1.1 has one of its own.
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    return {name: tuple(tensor.shape) for name, tensor in as_saved(model)}


def as_saved(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Give a model's tensors as transformers saves them on the hub: names, shapes and values."""
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        for file in sorted(Path(scratch).glob("*.safetensors")):
            with safe_open(file, framework="pt") as tensors:
                for name in sorted(tensors.keys()):
                    yield name, tensors.get_tensor(name)


def draw(name: str, shape: tuple[int, ...], *, norm_offset: bool) -> torch.Tensor:
    """Draw a parameter from its name: float32 values that bfloat16 and float16 hold exactly.

    Matrices have a spread of 1/sqrt(fan-in) and embeddings of about 1, so that activations stay
    near 1 through the layers; norm gains lie around 1 (or around 0 where the norm multiplies by
    1 + weight), biases and everything else with one axis around 0, all well away from defaults.

    Raises:
        CheckpointError: exact mode is on, in which other numbers would be drawn for the same name.
    """
    noise = noise_of(name, shape)
    is_norm = "norm" in name or "ln_" in name or "layernorm" in name.lower()
    if is_norm and name.endswith("weight"):
        values = 0.3 * noise + (0.0 if norm_offset else 1.0)
    elif len(shape) == 1 or name.endswith("bias"):
        values = 0.3 * noise
    elif "embed" in name or "wte" in name or "wpe" in name or "shared" in name:
        values = 0.7 * noise
    else:
        values = noise * max(shape[-2:]) ** -0.5
    return values.bfloat16().half().float()


def noise_of(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Give standard normal numbers in float32, the same for the same name on every machine.

    Raises:
        CheckpointError: exact mode is on, in which other numbers would be drawn for the same name.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 2**63
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if noise.dtype != torch.float32:
        message = (
            f"{name}: a checkpoint is made in exact mode, which would draw other numbers; "
            "next: make it before, by checkpoint_of"
        )
        raise CheckpointError(message)
    return noise


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """Write a tokenizer of one word per token, `t0 t1 t2 …`, with the special tokens first."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - only when made

    words = {f"t{index}": index for index in range(vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {name: f"t{index}" for name, index in _SPECIAL_TOKENS.items()}
    described = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(described, indent=2))
