"""Ctrl-C: once, and the cells at hand are finished and written; twice, and all stops at once."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STOPPED: Final = "Ctrl-C: stopped after the cells at hand"
_TOLD: Final = b"\nCtrl-C: the cells at hand are finished and written; once more stops at once\n"


@contextlib.contextmanager
def stopping(
    *, soon: Callable[[], bool], now: Callable[[], object], told: int = 2
) -> Iterator[None]:
    """Do `soon` at the first Ctrl-C, and `now` at the second, before the usual interrupt.

    Where `soon` is False there is nothing to finish, and the first is as the second. `told` is the
    file descriptor of who pressed it.
    """
    times = 0

    def stop(number: int, frame: Any) -> None:  # noqa: ANN401 - as the signal module has it
        nonlocal times
        times += 1
        if times == 1 and soon():
            with contextlib.suppress(OSError):
                os.write(told, _TOLD)  # a stream may not be entered twice, as by a handler
            return
        now()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def left_to_child() -> Iterator[None]:
    """Leave Ctrl-C to the child that this process waits for: a terminal tells it, too."""
    # A function, since a child inherits SIG_IGN.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def obey(soon: Callable[[], object]) -> None:
    """Have a worker do `soon` when its controller says so, and leave Ctrl-C to the controller."""
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGUSR1, lambda *_: soon())


def tell_to_stop(worker: int) -> None:
    """Tell a worker that obeys to stop after its cell."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGUSR1)
