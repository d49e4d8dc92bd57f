"""Which flips of a small config change its logits, and how many of them stand together.

Each field is flipped alone, in true float64 and with the same weights; then those that change the
logits are joined, in order, each only if the logits still change by it. Equal to the last bits is
no change: a flag that chooses between two ways to one number is none.
"""

from __future__ import annotations

import copy
import itertools
import time
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from harness.bounds import EXACT_BOUND
from harness.coverage import Flip, Flips
from harness.errors import Unavailable
from harness.exact import true_float64
from harness.models.ports.loading import spelled_for_this_release
from harness.models.shrinking.flips import candidates_of, flipped, without_derived
from harness.models.shrinking.running import parameters_of, quiet, run_once, seeded
from harness.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from harness.models.shrinking.building import Tiny
    from harness.models.shrinking.flips import Candidate

    # Gives a parameter's values, by its name and what it starts with.
    Draw = Callable[[str, Tensor], Tensor]

SECONDS: Final = 30.0
"""CPU time after which no further flip is begun; most architectures take two."""
_WORDS: Final = 140  # characters of an error
_NOTHING: Final = "it changes nothing beside the others"
_LATE: Final = "the time was up"


class _Trial:
    """One architecture's small model, built and run with one config after another."""

    def __init__(self, auto_class: str, draw: Draw) -> None:
        self._auto_class = auto_class
        self._draw = draw
        self._weights: dict[tuple[str, torch.Size], Tensor] = {}
        self._end = time.process_time() + SECONDS

    @property
    def is_over(self) -> bool:
        """Say whether the time is up."""
        return time.process_time() > self._end

    def logits(self, config: Mapping[str, Any]) -> Tensor:
        """Give a config's logits [batch, pos, vocab]; parameters of one name and shape are equal.

        Raises:
            Exception: whatever its class says of a config that it cannot build or run.
        """
        with quiet():
            loaded = CONFIG_MAPPING[config["model_type"]].from_dict(copy.deepcopy(dict(config)))
            parameters_of(loaded, self._auto_class)
            arguments = spelled_for_this_release("exact", loaded)
            with seeded(), true_float64():
                model = getattr(transformers, self._auto_class).from_config(
                    loaded, attn_implementation="eager", **arguments
                )
            self._fill(model.eval())  # drawn outside of exact mode, which would draw other numbers
            with true_float64():
                return run_once(model)

    def change(self, config: Mapping[str, Any], since: Tensor) -> tuple[float, Tensor]:
        """Give how far a config's logits are from earlier ones, relative to these, and them.

        Raises:
            Exception: as `logits`, or a ValueError if they are of another shape.
        """
        logits = self.logits(config)
        if logits.shape != since.shape:
            raise ValueError(f"logits {tuple(logits.shape)} instead of {tuple(since.shape)}")
        return float((logits - since).norm() / since.norm()), logits

    @torch.no_grad()
    def _fill(self, model: Any) -> None:
        for name, tensor in _saved(model):
            key = (name, tensor.shape)
            if key not in self._weights:
                self._weights[key] = self._draw(name, tensor)
            tensor.copy_(self._weights[key])


def _saved(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Give what a checkpoint would hold: parameters, tied ones once, and persistent buffers."""
    kept = set(model.state_dict())
    buffers = (each for each in model.named_buffers() if each[0] in kept)
    yield from itertools.chain(model.named_parameters(), buffers)


def experiment(tiny: Tiny, auto_class: str, *, draw: Draw) -> tuple[Flips, dict[str, Any]]:
    """Flip each field of a small config alone, then join what changes its logits.

    Returns:
        What was found, and the config in which the joined flips are applied.

    Raises:
        Unavailable: the small config itself does not run in true float64.
    """
    one_thread()  # as a run does
    trial = _Trial(auto_class, draw)
    config = without_derived(tiny.config)
    try:
        start = trial.logits(config)
    except Exception as error:  # each class has errors of its own
        message = f"{config['model_type']}: its small config does not run in exact mode"
        raise Unavailable(f"{message} ({_said(error)})") from error
    changing: list[tuple[Candidate, Flip]] = []
    idle: list[str] = []
    failing: dict[str, str] = {}
    untried: list[str] = []
    for candidate in candidates_of(config):
        if trial.is_over:
            untried.append(candidate.name)
            continue
        found = _flip(trial, candidate, config, start)
        if isinstance(found, Flip):
            changing.append((candidate, found))
        elif found:
            failing[candidate.name] = found
        else:
            idle.append(candidate.name)
    joined, apart, whole = _joined(trial, changing, config, start)
    flips = Flips(
        changing=tuple(flip for _, flip in changing),
        idle=tuple(idle),
        failing=failing,
        untried=tuple(untried),
        joined=joined,
        apart=apart,
    )
    return flips, whole


def _flip(
    trial: _Trial, candidate: Candidate, config: Mapping[str, Any], start: Tensor
) -> Flip | str:
    """Give the first flip of a field that changes the logits; else why it fails, "" for idle."""
    reasons = []
    for value in candidate.others:
        try:
            change, _ = trial.change(flipped(config, candidate.path, value), start)
        except Exception as error:  # noqa: BLE001 - each class has errors of its own
            reasons.append(_said(error))
            continue
        if change > EXACT_BOUND:
            name, before = candidate.name, candidate.before
            return Flip(name=name, before=before, after=value, change=change)
        reasons.append("")
    return "" if "" in reasons else reasons[0]


def _joined(
    trial: _Trial,
    changing: list[tuple[Candidate, Flip]],
    config: dict[str, Any],
    logits: Tensor,
) -> tuple[tuple[str, ...], dict[str, str], dict[str, Any]]:
    """Apply flips one after another, each if the logits still change; say why others are apart."""
    joined: list[str] = []
    apart: dict[str, str] = {}
    for candidate, flip in changing:
        if trial.is_over:
            apart[flip.name] = _LATE
            continue
        further = flipped(config, candidate.path, flip.after)
        try:
            change, changed = trial.change(further, logits)
        except Exception as error:  # noqa: BLE001 - each class has errors of its own
            apart[flip.name] = _said(error)
            continue
        if change > EXACT_BOUND:
            joined.append(flip.name)
            config, logits = further, changed
        else:
            apart[flip.name] = _NOTHING
    return tuple(joined), apart, config


def _said(error: Exception) -> str:
    words = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return words if len(words) <= _WORDS else f"{words[:_WORDS]}…"
