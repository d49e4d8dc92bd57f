"""The releases of a package on pip's indexes and in its find-links, oldest first."""

from __future__ import annotations

import base64
import json
import platform
import ssl
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from harness.errors import EnvironmentUnavailable, RequirementError
from harness.versions.installer import PipSettings, local_path, pip_settings

if TYPE_CHECKING:
    from pathlib import Path

# PEP 691: JSON where the index has it, PEP 503's HTML elsewhere.
_JSON: Final = "application/vnd.pypi.simple.v1+json"
_ACCEPT: Final = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_TIMEOUT: Final = 15.0  # seconds: pip's own default
_NOT_FOUND: Final = (403, 404)  # some private indexes answer 403 for a package that they lack


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file of some release: a wheel or a source archive."""

    name: str
    requires_python: str
    yanked: bool


def releases_of(
    package: str, *, pre: bool = False, yanked: bool = False, python: str | None = None
) -> tuple[Version, ...]:
    """Give the releases of a package that have a file for this Python, oldest first.

    Pre-releases and releases of which every file is yanked are left out unless asked for.

    Raises:
        RequirementError: no index knows the package.
        EnvironmentUnavailable: an index cannot be read.
    """
    settings = pip_settings()
    name = str(canonicalize_name(package))
    pages = [_index_page(index, name, settings) for index in settings.indexes]
    files = [file for page in pages for file in page]
    files += [file for source in settings.find_links for file in _links_page(source, settings)]
    running = python or platform.python_version()
    found = {
        version
        for file in files
        if (version := _version(file.name, name)) is not None
        and (yanked or not file.yanked)
        and (pre or not version.is_prerelease)
        and _admits(file.requires_python, running)
    }
    if not any(_version(file.name, name) for file in files):
        message = (
            f"{package}: no such package\n"
            f"  found:   none on {', '.join(map(_shown, settings.indexes)) or 'no index'}\n"
            "  next:    check its name, or name its index in PIP_EXTRA_INDEX_URL"
        )
        raise RequirementError(message)
    return tuple(sorted(found))


def _index_page(index: str, name: str, settings: PipSettings) -> list[_File]:
    folder = local_path(index) if index.startswith("file:") else None
    if folder is not None:
        page = folder / name / "index.html"
        return _html(page.read_text(encoding="utf-8")) if page.is_file() else []
    return _fetched(f"{index.rstrip('/')}/{name}/", settings)


def _links_page(source: str, settings: PipSettings) -> list[_File]:
    path: Path | None = local_path(source)
    if path is None:
        return _fetched(source, settings)
    if path.is_file():
        return _html(path.read_text(encoding="utf-8"))
    return [_File(name=file.name, requires_python="", yanked=False) for file in path.iterdir()]


def _fetched(url: str, settings: PipSettings) -> list[_File]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    headers = {"Accept": _ACCEPT}
    if parts.username:
        word = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(word.encode()).decode()}"
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    context = ssl.create_default_context(cafile=settings.cert or None)
    if host in settings.trusted_hosts:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        request = Request(urlunsplit(parts), headers=headers)  # noqa: S310 - an index of pip's
        timeout = float(settings.timeout or _TIMEOUT)
        with urlopen(request, timeout=timeout, context=context) as answer:  # noqa: S310 - the same
            text = answer.read().decode()
            is_json = answer.headers.get_content_type() == _JSON
    except (URLError, OSError, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
            if error.code in _NOT_FOUND:
                return []
        message = (
            f"{_shown(url)} cannot be read\n  found:   {error}\n"
            "  next:    see that pip's index can be reached from here, then run again"
        )
        raise EnvironmentUnavailable(message) from error
    return _json(text) if is_json else _html(text)


def _json(text: str) -> list[_File]:
    return [
        _File(
            name=file["filename"],
            requires_python=file.get("requires-python") or "",
            yanked=bool(file.get("yanked")),
        )
        for file in json.loads(text)["files"]
    ]


class _Anchors(HTMLParser):
    """Collects the files that the anchors of a page lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[_File] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an anchor's file, with what PEP 503 and PEP 592 say of it."""
        said = dict(attrs)
        if tag == "a" and (href := said.get("href")):
            name = unquote(urlsplit(href).path.rpartition("/")[2])
            python = said.get("data-requires-python") or ""
            self.files.append(
                _File(name=name, requires_python=python, yanked="data-yanked" in said)
            )


def _html(text: str) -> list[_File]:
    anchors = _Anchors()
    anchors.feed(text)
    return anchors.files


def _version(file: str, package: str) -> Version | None:
    # A page of links holds other packages too, and old indexes files that no tool installs.
    try:
        if file.endswith(".whl"):
            name, version, *_ = parse_wheel_filename(file)
        else:
            name, version = parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None
    return version if name == package else None


def _admits(requires_python: str, running: str) -> bool:
    try:
        return SpecifierSet(requires_python).contains(running, prereleases=True)
    except InvalidSpecifier:
        return True  # as pip does: a specifier that cannot be read excludes nothing


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
