"""The index of stubs, as the only one that pip and uv know."""

from importlib.metadata import version
from pathlib import Path

import pytest
from stub_index import NEEDED, Index, tell

from harness.versions.installer import PipSettings


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Give an index that holds stubs of what a measuring worker needs, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    made = Index(folder=folder)
    made.add("torch", version("torch"))
    for name, release in NEEDED.items():
        made.add(name, release)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))  # the stubs are not for the real one
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")  # these three for processes of their own
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    tell(monkeypatch, PipSettings(find_links=(str(folder),), no_index=True))
    return made
