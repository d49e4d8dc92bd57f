"""How a stored file is changed: its bytes, its JSON, or that it is there at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from harness.record.sealing import SEAL

_LONGEST: Final = 256
_FOOTER: Final = 600
"""Bytes at the end of a file of which some mutations choose: a parquet file's footer is there."""
_ODD: Final = (
    *(None, True, "", "x", [], {}, [None], {"x": None}, "\x00", -1, 0, 10**400, 1e308),
    *(float("nan"), float("inf"), [[[]]], "5", 5),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A way to change a file's bytes; None is no file.

    One `by_hand` takes the seal off, as somebody does who edits: what is answered then is his.
    """

    name: str
    change: Callable[[bytes, Random], bytes | None]
    json_alone: bool = False
    by_hand: bool = False

    def __str__(self) -> str:
        return self.name


def _place(content: bytes, drawn: Random) -> int:
    """Draw a byte; every third time of the file's last ones."""
    first = max(len(content) - _FOOTER, 0) if drawn.randrange(3) == 0 else 0
    return drawn.randrange(first, max(len(content), 1))


def _flip(content: bytes, drawn: Random, number: int) -> bytes:
    turned = bytearray(content)
    for _ in range(number):
        turned[_place(content, drawn)] ^= 1 << drawn.randrange(8)
    return bytes(turned)


def _flip_one(content: bytes, drawn: Random) -> bytes:
    return _flip(content, drawn, 1)


def _flip_some(content: bytes, drawn: Random) -> bytes:
    return _flip(content, drawn, drawn.randrange(2, 9))


def _set_byte(content: bytes, drawn: Random) -> bytes:
    place = _place(content, drawn)
    return content[:place] + drawn.randbytes(1) + content[place + 1 :]


def _truncate(content: bytes, drawn: Random) -> bytes:
    return content[: _place(content, drawn)]


def _cut_out(content: bytes, drawn: Random) -> bytes:
    start = _place(content, drawn)
    return content[:start] + content[start + drawn.randrange(1, _LONGEST) :]


def _put_in(content: bytes, drawn: Random) -> bytes:
    start = _place(content, drawn)
    return content[:start] + drawn.randbytes(drawn.randrange(1, _LONGEST)) + content[start:]


def _zero(content: bytes, drawn: Random) -> bytes:
    start = _place(content, drawn)
    length = min(drawn.randrange(1, _LONGEST), len(content) - start)
    return content[:start] + bytes(length) + content[start + length :]


def _swap_blocks(content: bytes, drawn: Random) -> bytes:
    size = drawn.randrange(1, min(_LONGEST, len(content) // 2 + 1) + 1)
    one, two = sorted((_place(content, drawn), _place(content, drawn)))
    two = max(two, one + size)
    a, b = content[one : one + size], content[two : two + size]
    return content[:one] + b + content[one + size : two] + a + content[two + size :]


def _repeat_block(content: bytes, drawn: Random) -> bytes:
    start = _place(content, drawn)
    end = start + drawn.randrange(1, _LONGEST)
    return content[:end] + content[start:end] + content[end:]


def _append(content: bytes, drawn: Random) -> bytes:
    return content + drawn.choice(
        (b"\n", b"\x00", b"PAR1", drawn.randbytes(drawn.randrange(1, 99)))
    )


def _delete(_: bytes, __: Random) -> None:
    return None


def _places_in(found: Any) -> Iterator[tuple[Any, Any]]:
    """Give each entry of a JSON value, as what holds it and under what."""
    entries = found.items() if isinstance(found, dict) else enumerate(found)
    for key, value in list(entries):
        yield found, key
        if isinstance(value, dict | list):
            yield from _places_in(value)


def _edited(content: bytes, drawn: Random, change: Callable[[Any, Any], None]) -> bytes:
    found = json.loads(content)
    if not isinstance(found, dict | list):
        return content
    if places := [each for each in _places_in(found) if each[1] != SEAL]:
        change(*drawn.choice(places))
    return json.dumps(found, indent=1).encode()


def _odd_value(content: bytes, drawn: Random) -> bytes:
    def change(owner: Any, key: Any) -> None:
        owner[key] = drawn.choice(_ODD)

    return _edited(content, drawn, change)


def _without_key(content: bytes, drawn: Random) -> bytes:
    def change(owner: Any, key: Any) -> None:
        del owner[key]

    return _edited(content, drawn, change)


def _other_key(content: bytes, drawn: Random) -> bytes:
    def change(owner: Any, key: Any) -> None:
        if isinstance(owner, dict):
            owner[f"{key}x"] = owner.pop(key)
        else:
            owner.append(owner[key])

    return _edited(content, drawn, change)


def _other_schema(content: bytes, drawn: Random) -> bytes:
    found = json.loads(content)
    if isinstance(found, dict) and "schema_version" in found:
        found["schema_version"] = drawn.choice((*range(5), 6, 99, -1, "5", None, 5.5, True, [5]))
    return json.dumps(found, indent=1).encode()


def _unsealed(change: Callable[[bytes, Random], bytes]) -> Callable[[bytes, Random], bytes]:
    """Let a change of JSON take the seal off as well."""

    def changed(content: bytes, drawn: Random) -> bytes:
        found = json.loads(change(content, drawn))
        if isinstance(found, dict):
            found.pop(SEAL, None)
        return json.dumps(found, indent=1).encode()

    return changed


_BYTES: Final = {
    "flip a bit": _flip_one,
    "flip some bits": _flip_some,
    "set a byte": _set_byte,
    "truncate": _truncate,
    "cut out": _cut_out,
    "put in": _put_in,
    "zero": _zero,
    "swap blocks": _swap_blocks,
    "repeat a block": _repeat_block,
    "append": _append,
    "delete": _delete,
}
_JSON: Final = {
    "odd value": _odd_value,
    "without a key": _without_key,
    "other key": _other_key,
    "other schema": _other_schema,
}

MUTATIONS: Final = (
    *(Mutation(name=name, change=change) for name, change in _BYTES.items()),
    *(Mutation(name=name, change=change, json_alone=True) for name, change in _JSON.items()),
    *(
        Mutation(name=f"{name}, no seal", change=_unsealed(change), json_alone=True, by_hand=True)
        for name, change in _JSON.items()
    ),
)


def mutations_of(file: str) -> tuple[Mutation, ...]:
    """Give the mutations that go with a file of that name."""
    return tuple(each for each in MUTATIONS if file.endswith(".json") or not each.json_alone)
