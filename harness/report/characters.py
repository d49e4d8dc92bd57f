"""Characters that an XML file may hold: what a library said may have others, such as colours."""

from __future__ import annotations

import re
from typing import Final

# Source: XML 1.0, section 2.2, the production Char.
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(text: str) -> str:
    """Give a text in which a mark stands for each character that XML forbids."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
