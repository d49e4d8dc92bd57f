"""Ray, the engine that schedules: it is reached, given pieces, and asked for their answers."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from harness.cluster.node import Answer, measure
from harness.errors import UsageError

try:
    import ray
except ImportError as error:
    message = (
        f"--executor ray: Ray is not installed here ({error})\n"
        "  next:    pip install 'model-port-harness[ray]' on all nodes, or leave --executor out"
    )
    raise UsageError(message) from error

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from harness.cluster.piece import Piece

HERE: Final = "local"
"""The address that starts a small cluster in place of reaching one."""

_HOST: Final = re.compile(r"(?:ray://)?(?P<host>[^/:]+|\[[^\]]+\]):(?P<port>\d+)")
_REACH_SECONDS: Final = 5.0
"""How long an address has to answer: Ray itself would try for minutes, and then end the process.

A handshake within one data centre takes milliseconds.
"""
_RETRIES: Final = 3
"""How often a piece is given to another node when its node is lost. Source: Ray's own default."""
_ASK_SECONDS: Final = 5.0


@contextlib.contextmanager
def reached(address: str) -> Iterator[Engine]:
    """Reach a cluster, and let it go at the end; what was given to it by then ends.

    Raises:
        UsageError: there is none, or it does not answer, or it has no CPU to give.
    """
    # A run of the harness tells nobody that it took place.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    found = _HOST.fullmatch(address)
    if found is not None:
        _check_answers(address, found["host"].strip("[]"), int(found["port"]))
    alone: dict[str, Any] = {"include_dashboard": False} if address == HERE else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **alone)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(_unreachable(address, error)) from error
    try:
        if _total("CPU") < 1:
            raise UsageError(_unreachable(address, "it has no node with a CPU to give"))
        yield Engine()
    finally:
        ray.shutdown()


class Engine:
    """A Ray cluster that is reached: gives pieces to its nodes."""

    @property
    def nodes(self) -> int:
        """Count the nodes that are there now."""
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        return sum(bool(node["Alive"]) for node in nodes)

    def answers(
        self, pieces: Sequence[Piece], *, patience: float
    ) -> Generator[tuple[Piece, Answer | str]]:
        """Give each piece's answer as it comes, or in words why there is none.

        Pieces wait for a node that is free; if there is none at all for `patience` seconds, they
        are given up. A piece whose device no node has is sent anywhere, and says so itself.
        """
        gpus = _total("GPU")
        waiting = {
            ray.remote(measure)
            .options(
                num_cpus=1,
                num_gpus=min(piece.gpus, gpus),
                max_retries=_RETRIES,
                scheduling_strategy="SPREAD",
                name=f"harness {piece.cells[0]}",
            )
            .remote(piece): piece
            for piece in pieces
        }
        seen = time.monotonic()
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting), timeout=_ASK_SECONDS)
                for task in ready:
                    yield waiting.pop(task), _answer(task)
                if _total("CPU") >= 1:
                    seen = time.monotonic()
                elif time.monotonic() - seen > patience:
                    for piece in waiting.values():
                        yield piece, f"no node was left for {patience:g} s"
                    return
        finally:  # also where nobody asks for the rest
            for task in waiting:
                ray.cancel(task, force=True)


def _total(resource: str) -> int:
    """Count what all nodes that are there have of a resource, whoever uses it now."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return int(found.get(resource, 0))


def _answer(task: Any) -> Answer | str:  # noqa: ANN401 - Ray's references have no type of their own
    try:
        found: Answer = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        return f"its task raised {error.cause!r}"
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()
        return f"its node was lost {_RETRIES + 1} times: {first[0] if first else error!r}"
    return found


def _check_answers(address: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=_REACH_SECONDS).close()
    except OSError as error:
        raise UsageError(_unreachable(address, error)) from error


def _unreachable(address: str, found: object) -> str:
    first = str(found).strip().splitlines()
    return (
        f"--address {address}: no Ray cluster can be reached there\n"
        f"  found:   {first[0] if first else found!r}\n"
        "  allowed: auto (the cluster that this machine is part of), host:port, ray://host:port, "
        f"or {HERE} for a small one of this machine\n"
        "  next:    ray start --head, and ray start --address HOST:6379 on each further node"
    )
