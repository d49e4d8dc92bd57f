"""uv, told where pip has been told to look.

uv reads none of pip's settings by itself. On a machine where pip finds torch in a folder of its
own, it would fetch another build of several GB from the public index instead.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from uv import find_uv_bin

from harness.errors import EnvironmentUnavailable
from harness.surroundings import INDEX, child_environment, without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PUBLIC_INDEX: Final = "https://pypi.org/simple"  # pip's own default
# The sections of pip's configuration that `pip install` obeys; a later one overrides an earlier.
_SECTIONS: Final = ("global", "install", ":env:")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipSettings:
    """What pip is told about where packages come from; local folders that are there, absolute."""

    index_url: str = PUBLIC_INDEX
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    cert: str = ""
    trusted_hosts: tuple[str, ...] = ()
    timeout: str = ""

    @property
    def indexes(self) -> tuple[str, ...]:
        """Give all indexes, which pip merges; none where pip is told to use none."""
        return () if self.no_index else (self.index_url, *self.extra_index_urls)


def local_path(source: str) -> Path | None:
    """Give the path that an index or a find-links entry names; None for one on the network."""
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if "://" in source else Path(source).absolute()


@cache
def pip_settings() -> PipSettings:
    """Give what pip is told on this machine: read once in a process, with `pip config list`.

    Where the running interpreter has no pip, its environment variables alone.

    Raises:
        EnvironmentUnavailable: pip cannot read its own configuration.
    """
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
        env={**child_environment(keep=INDEX), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    if asked.returncode == 0:
        return settings_in(asked.stdout)
    if "No module named pip" in asked.stderr:
        names = [name for name in os.environ if name.startswith("PIP_")]
        lines = (
            f":env:.{name[4:].lower().replace('_', '-')}={os.environ[name]!r}" for name in names
        )
        return settings_in("\n".join(lines))
    message = (
        f"pip's configuration cannot be read\n  found:   {without_secrets(asked.stderr.strip())}\n"
        "  next:    mend the file that it names, then run again"
    )
    raise EnvironmentUnavailable(message)


def settings_in(listing: str) -> PipSettings:
    """Give what a listing of `pip config list` says: one `section.name='value'` a line."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        key, equals, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if equals and section in found:
            found[section][name] = str(ast.literal_eval(value))
    said = {name: value for section in _SECTIONS for name, value in found[section].items()}
    return PipSettings(
        index_url=said.get("index-url", PUBLIC_INDEX).strip(),
        extra_index_urls=_present(said.get("extra-index-url", "").split()),
        find_links=_present(said.get("find-links", "").split()),
        no_index=said.get("no-index", "").lower() in {"1", "true", "yes", "on"},
        cert=said.get("cert", ""),
        trusted_hosts=tuple(said.get("trusted-host", "").split()),
        timeout=said.get("timeout", said.get("default-timeout", "")),
    )


def uv_variables(settings: PipSettings) -> dict[str, str]:
    """Give the environment variables that tell uv the same; one that is set already stands."""
    told = {
        "UV_DEFAULT_INDEX": "" if settings.index_url == PUBLIC_INDEX else settings.index_url,
        "UV_INDEX": " ".join(settings.extra_index_urls),
        "UV_FIND_LINKS": ",".join(settings.find_links),
        "UV_INSECURE_HOST": " ".join(settings.trusted_hosts),
        "UV_HTTP_TIMEOUT": settings.timeout,
        "SSL_CERT_FILE": settings.cert,
        "UV_INDEX_STRATEGY": "unsafe-best-match",  # pip merges its indexes, uv takes the first
        "UV_PYTHON_DOWNLOADS": "never",
    }
    return {name: value for name, value in told.items() if value and name not in os.environ}


def run_uv(
    arguments: Sequence[str], *, cwd: Path, settings: PipSettings
) -> subprocess.CompletedProcess[str]:
    """Run uv to its end, with pip's settings, in a folder where no project's settings are found.

    Raises:
        EnvironmentUnavailable: uv is not installed.
    """
    try:
        binary = find_uv_bin()
    except FileNotFoundError as error:
        message = f"uv is not there ({error}); next: pip install uv, in the harness' environment"
        raise EnvironmentUnavailable(message) from error
    alone = ["--no-index"] if settings.no_index else []  # uv has no variable for it
    done = subprocess.run(
        [binary, *arguments, *alone, "--color", "never", "--no-progress"],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=_surroundings(uv_variables(settings)),
    )
    done.stderr = without_secrets(done.stderr)  # of an index' URL; its words stand in messages
    return done


def _surroundings(told: Mapping[str, str]) -> dict[str, str]:
    # An active environment, or one's PYTHON* settings, must not reach what is built or asked.
    kept = {
        name: value
        for name, value in child_environment(keep=INDEX).items()
        if not name.startswith("PYTHON") and name not in {"VIRTUAL_ENV", "CONDA_PREFIX"}
    }
    return {**kept, **told}


def _present(sources: Sequence[str]) -> tuple[str, ...]:
    # pip goes around a folder that is not there, uv stops at it.
    kept = []
    for source in sources:
        path = local_path(source)
        if path is None or (source.startswith("file:") and path.exists()):
            kept.append(source)
        elif path.exists():
            kept.append(str(path))
    return tuple(kept)
