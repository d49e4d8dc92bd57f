"""Hub checkpoints: an id and a full commit hash, fetched by the hub's own client and its cache."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import huggingface_hub
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is not re-exported
    HFValidationError,
    HTTPError,  # of httpx or httpx2, whichever this release of the client is built on
    XetDownloadError,
)

from harness.errors import Unavailable, UsageError
from harness.models.checkpoints.folder import Checkpoint, open_folder
from harness.surroundings import without_secrets

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")

_WANTED: Final = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
"""Config, weights, tokenizer. No *.bin or *.pt (a pickle runs code) and no *.py (so does it)."""

_UNWANTED: Final = ("*/*", "consolidated*")
"""The same weights once more in other layouts: onnx/, original/, Mistral's own single file."""

_UNREACHED: Final = (OSError, HTTPError, XetDownloadError)
"""What the client raises when it cannot fetch: most are OSErrors, a refused connection is not."""


def fetch(name: str, *, with_code: bool = False) -> Checkpoint:
    """Give the folder of a hub checkpoint, `<id>@<commit>`, in the hub client's own cache.

    Its Python files come along only if they may be run.

    Raises:
        UsageError: the name has no full commit hash, or the id is none.
        Unavailable: the hub cannot be reached, or does not serve it.
        CheckpointError: what arrived lacks the config or a shard, or a file is truncated.
    """
    repo_id, _, commit = name.partition("@")
    if not _COMMIT.fullmatch(commit):
        raise UsageError(_no_commit(name, commit, repo_id))
    try:
        folder = huggingface_hub.snapshot_download(
            repo_id,
            revision=commit,
            allow_patterns=[*_WANTED, *(["*.py"] if with_code else [])],
            ignore_patterns=list(_UNWANTED),
            endpoint=_endpoint(),
        )
    except HFValidationError as error:
        raise UsageError(_no_id(repo_id, error)) from error
    except _UNREACHED as error:
        raise Unavailable(_unreached(f"hub:{name}", error)) from error
    return open_folder(folder, with_code=with_code)


def fetch_config(name: str) -> tuple[Path, str]:
    """Give the config.json alone of `<id>` or `<id>@<commit>`, and the commit that it is of.

    Raises:
        UsageError: the id is none, or what follows it is no full commit hash.
        Unavailable: the hub cannot be reached, or does not serve it.
    """
    repo_id, at, commit = name.partition("@")
    if at and not _COMMIT.fullmatch(commit):
        raise UsageError(_no_commit(name, commit, repo_id))
    try:
        file = huggingface_hub.hf_hub_download(
            repo_id, "config.json", revision=commit or None, endpoint=_endpoint()
        )
    except HFValidationError as error:
        raise UsageError(_no_id(repo_id, error)) from error
    except _UNREACHED as error:
        raise Unavailable(_unreached(f"hub:{name}", error)) from error
    return Path(file), Path(file).parent.name  # the client's cache has a folder for each commit


def pin(repo_id: str) -> str:
    """Give the line that names today's commit of a hub checkpoint's default branch.

    Raises:
        UsageError: the id is none.
        Unavailable: the hub cannot be reached, or does not serve it.
    """
    try:
        found = huggingface_hub.HfApi(endpoint=_endpoint()).model_info(repo_id)
    except HFValidationError as error:
        raise UsageError(_no_id(repo_id, error)) from error
    except _UNREACHED as error:
        raise Unavailable(_unreached(f"hub:{repo_id}", error)) from error
    if not found.sha:
        raise Unavailable(f"hub:{repo_id}: the hub names no commit; look it up on the model's page")
    family = (found.config or {}).get("model_type", "…")
    return f'Case(family="{family}", checkpoint="hub:{repo_id}@{found.sha}")'


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _no_commit(name: str, commit: str, repo_id: str) -> str:
    return (
        f"hub:{name}: no full commit hash\n"
        f"  found:   {commit!r}\n"
        "  allowed: hub:<id>@<40 hex digits> (a branch moves, and the weights with it)\n"
        f"  next:    harness pin {repo_id or 'ID'}"
    )


def _no_id(repo_id: str, error: Exception) -> str:
    return (
        f"hub:{repo_id}: not an id of the hub ({error}); write <owner>/<model>, as in its address"
    )


def _unreached(what: str, error: Exception) -> str:
    reason = next((line for line in str(error).splitlines() if line), type(error).__name__)
    reason = without_secrets(reason)
    return (
        f"{what}: the hub does not give it ({reason}); check the id, the network, HF_ENDPOINT and, "
        "for a gated model, `hf auth login`"
    )
