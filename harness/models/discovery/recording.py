"""Records one forward pass: each operation on tensors, and what enters and leaves each module.

Values are numbered in the order in which they arise, so that an operation's inputs have smaller
numbers than its outputs. What is later read from the recording is which value was made of which:
the same in every dtype, where sums and products are not.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Value:
    """Stands for a tensor in the arguments of a recorded operation."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of one of torch's own functions; `args` and `kwargs` hold a Value per tensor.

    `writes`: it changes its first argument, whose new value is then its first output; the others
    are those of tensors that share its memory, whose old values are in `shared`.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    writes: bool
    shared: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True)
class Call:
    """One run of a module's forward: the operations from `start` on and before `end`.

    `taken` is the value that a tap reads on its input, `given` on its output; None, where no tap
    can be set. `arguments` are all values that it was given; `gives_several`: a tuple leaves it.
    """

    path: str
    module: Any
    start: int
    taken: int | None
    arguments: tuple[int, ...]
    end: int = -1
    given: int | None = None
    gives_several: bool = False


@dataclass(slots=True, kw_only=True)
class Recording:
    """Operations, values and calls of one forward pass."""

    operations: list[Operation] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    producer: dict[int, int] = field(default_factory=dict)
    consumers: dict[int, list[int]] = field(default_factory=dict)
    output: Any = None


class _Recorder(TorchDispatchMode):
    """Writes down each operation; tensors are kept alive, so that each has an id of its own."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recording = recording
        self._alive: list[Tensor] = []
        self._numbers: dict[int, int] = {}
        self._sharing: dict[int, dict[int, Tensor]] = {}

    def number(self, tensor: Tensor) -> int:
        """Give the number of the value that a tensor holds now."""
        known = self._numbers.get(id(tensor))
        return self._new(tensor) if known is None else known

    def _new(self, tensor: Tensor) -> int:
        number = len(self._recording.tensors)
        self._recording.tensors.append(tensor)
        if id(tensor) not in self._numbers:
            self._alive.append(tensor)
            self._sharing.setdefault(_storage(tensor), {})[id(tensor)] = tensor
        self._numbers[id(tensor)] = number
        return number

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operation and write it down."""
        kwargs = kwargs or {}
        inputs = [self.number(leaf) for leaf in _tensors((args, kwargs))]
        held = tree_map_only(torch.Tensor, lambda leaf: Value(self.number(leaf)), (args, kwargs))
        written = [args[0]] if func._schema.is_mutable and args else []  # noqa: SLF001 - its only place
        written = [leaf for leaf in _tensors(written) if _storage(leaf)]
        changed = [sharer for leaf in written for sharer in self._sharers(leaf)]
        shared = [self.number(tensor) for tensor in changed]
        for number in shared:
            self._recording.tensors[number] = self._recording.tensors[number].clone()
        result = func(*args, **kwargs)
        outputs = [self._new(tensor) for tensor in changed]
        outputs += [self.number(leaf) for leaf in _tensors(result)]
        self._write_down(func, held, inputs, outputs, shared)
        return result

    def _sharers(self, tensor: Tensor) -> list[Tensor]:
        """Give the tensors whose numbers a change of this one changes, itself first."""
        others = dict(self._sharing.get(_storage(tensor), {}))
        others.pop(id(tensor), None)
        return [tensor, *others.values()]

    def _write_down(
        self, func: Any, held: Any, inputs: list[int], outputs: list[int], shared: list[int]
    ) -> None:
        recording = self._recording
        index = len(recording.operations)
        old, new = tuple(dict.fromkeys(inputs)), tuple(dict.fromkeys(outputs))
        new = tuple(number for number in new if number not in old)  # what is given back as it was
        recording.operations.append(
            Operation(
                name=func.overloadpacket.__name__,
                function=func,
                args=held[0],
                kwargs=held[1],
                inputs=old,
                outputs=new,
                writes=bool(shared),
                shared=tuple(shared),
            )
        )
        for number in new:
            recording.producer[number] = index
        for number in dict.fromkeys((*old, *shared)):
            recording.consumers.setdefault(number, []).append(index)


def recorded(model: Any, inputs: Mapping[str, Any]) -> Recording:
    """Run a model once without gradients, and give the recording of it."""
    recording = Recording()
    recorder = _Recorder(recording)
    with ExitStack() as stack:
        for path, module in model.named_modules():
            for handle in _watch(recording, recorder, path, module):
                stack.callback(handle.remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(recorder)
        recording.output = model(**inputs)
    return recording


def _watch(recording: Recording, recorder: _Recorder, path: str, module: nn.Module) -> Any:
    running: list[Call] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        taken = tap_input(args, kwargs)
        call = Call(
            path=path,
            module=module,
            start=len(recording.operations),
            taken=recorder.number(taken) if isinstance(taken, torch.Tensor) else None,
            arguments=tuple(recorder.number(leaf) for leaf in _tensors((args, kwargs))),
        )
        running.append(call)
        recording.calls.append(call)

    def after(_: nn.Module, __: object, output: Any) -> None:
        call = running.pop()
        call.end = len(recording.operations)
        call.gives_several = isinstance(output, tuple)
        given = output[0] if isinstance(output, tuple) and output else output
        call.given = recorder.number(given) if isinstance(given, torch.Tensor) else None

    return (
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after),
    )


def tap_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Give what a tap reads on a module's input."""
    return args[0] if args else kwargs.get("hidden_states")


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0
