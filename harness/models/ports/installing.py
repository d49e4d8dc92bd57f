"""Keeps a port from installing packages into the environment that is being measured.

TransformerBridge (4.3.0) asks pip for torchvision where a multimodal model has no processor, and
pip puts the torch that this torchvision wants in the place of the one in use (seen: 2.13.0+cpu
became 2.14.1 for CUDA). Source: `_ensure_torchvision` of `transformer_lens.model_bridge`.
"""

from __future__ import annotations

import contextlib
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_WORK: ContextVar[bool] = ContextVar("a port is at work", default=False)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse to start a command that installs packages: an audit hook, which nothing passes by."""
    if event != "subprocess.Popen" or not _AT_WORK.get():
        return
    command = arguments[1]
    said = " ".join(map(str, command)) if isinstance(command, (list, tuple)) else str(command)
    words = said.split()
    if "install" in words and any("pip" in word for word in words):
        message = f"a port may not install packages while it is measured: {said}"
        raise PermissionError(message)


sys.addaudithook(_refuse)


@contextlib.contextmanager
def nothing_installed() -> Iterator[None]:
    """Refuse whatever would install a package, while a port is loaded."""
    token = _AT_WORK.set(True)
    try:
        yield
    finally:
        _AT_WORK.reset(token)
