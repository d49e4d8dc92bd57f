"""What a child process sees of this one's environment, and what no words of ours repeat.

A secret is what stands in a variable whose name says so, or before the `@` of a URL. A child gets
those alone that its work needs; rows, pages, logs and messages get none.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

HUB: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "*_PROXY", "*_proxy")
"""What a process needs that may fetch a checkpoint from the hub."""
INDEX: Final = ("PIP_*", "UV_*", "*_PROXY", "*_proxy")
"""What pip and uv need to reach an index, whose URL may have a password in it."""

_SECRET: Final = re.compile(
    r"(?:\w*_)?(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|KEY|PAT)S?", re.IGNORECASE
)
_CLOUD: Final = "AWS_"
"""What such variables are set for is a cloud's client, and no child of ours is one."""
_IN_URL: Final = re.compile(r"(?<=://)[^\s/@'\"]+@")
_LEAST: Final = 8
"""Characters of a value that is looked for in words: the switch HF_HUB_DISABLE_IMPLICIT_TOKEN=1
names a token too, and no 1 is to be struck out of a number for it."""
_STRUCK: Final = "…"


def child_environment(*, keep: Iterable[str] = ()) -> dict[str, str]:
    """Give the variables of this process without secrets, but for those that `keep` names.

    `keep` are names or patterns such as `PIP_*`: what the child's own work needs.
    """
    kept = tuple(keep)
    return {
        name: value
        for name, value in os.environ.items()
        if any(fnmatchcase(name, pattern) for pattern in kept) or not _is_secret(name, value)
    }


def without_secrets(text: str) -> str:
    """Give words in which each secret of this process's environment, and of any URL, is struck."""
    for name, value in os.environ.items():
        if len(value) >= _LEAST and value in text and _SECRET.fullmatch(name):
            text = text.replace(value, _STRUCK)
    return _IN_URL.sub(f"{_STRUCK}@", text)


def _is_secret(name: str, value: str) -> bool:
    named = _SECRET.fullmatch(name) or name.startswith(_CLOUD)
    return bool(named or _IN_URL.search(value))
