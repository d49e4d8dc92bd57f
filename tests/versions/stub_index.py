"""A small index of wheels made on the spot."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.versions.installer import PipSettings

TAG = "py3-none-any"
# What a measuring worker needs besides torch, in the stubs' versions.
NEEDED = {
    "transformers": "1.0",
    "pyarrow": "1.0",
    "threadpoolctl": "1.0",
    "xxhash": "1.0",
    "psutil": "1.0",
    "safetensors": "1.0",
    "filelock": "1.0",
    "packaging": "1.0",
    "numpy": "2.0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A folder of wheels, named to pip by its find-links."""

    folder: Path

    def add(self, name: str, release: str, *needs: str) -> None:
        """Write a wheel with one module of the package's name."""
        write_wheel(self.folder, name, release, needs)


def write_wheel(folder: Path, name: str, release: str, needs: Sequence[str] = ()) -> Path:
    """Give a wheel with one module, which says its version."""
    module = name.replace("-", "_")
    info = f"{module}-{release}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n"
    files = {
        f"{module}/__init__.py": f"VERSION = {release!r}\n",
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {need}\n" for need in needs),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {TAG}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    wheel = folder / f"{module}-{release}-{TAG}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return wheel


def tell(monkeypatch: pytest.MonkeyPatch, settings: PipSettings) -> None:
    """Tell every room of versions these settings of pip's."""
    for room in ("resolving", "environments", "releases"):
        monkeypatch.setattr(f"harness.versions.{room}.pip_settings", lambda: settings)
