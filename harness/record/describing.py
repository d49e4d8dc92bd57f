"""What a run says of itself in run.json: its schema version, its releases, what it was asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from harness.case import BY_PROCESSING
from harness.errors import RunFolderError
from harness.record.columns import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_run(path: str | Path) -> dict[str, Any]:
    """Read run.json of a run.

    Raises:
        RunFolderError: the folder is not a run, or of another schema version.
    """
    file = Path(path) / "run.json"
    try:
        described = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        message = f"{path} is not a run: {error}; give a folder below reports/runs"
        raise RunFolderError(message) from error
    if not isinstance(described, dict):
        message = f"{path} is not a run: {file.name} is no table; give a folder below reports/runs"
        raise RunFolderError(message)
    if described.get("schema_version") != SCHEMA_VERSION:
        found = described.get("schema_version")
        message = (
            f"{path}: schema_version={found}, but should be {SCHEMA_VERSION}; "
            "read it with the release of the harness that wrote it"
        )
        raise RunFolderError(message)
    return described


def read_versions(path: str | Path) -> dict[str, Version]:
    """Read the versions of the packages that a run was measured with, to be compared as such.

    Raises:
        RunFolderError: the folder is not a run, or of another schema version.
    """
    packages = read_run(path).get("packages", {})
    return {name: Version(version) for name, version in packages.items() if version}


def asked_relation(described: Mapping[str, Any]) -> str:
    """Give the relation that a run's comparisons were forced to; `processing` where none was.

    Args:
        described: What run.json says.
    """
    return str(described.get("plan", {}).get("relation", BY_PROCESSING))
