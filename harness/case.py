"""What is compared: cases, loading modes, dtypes, devices, limitations and prompts. Data only."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal

from harness.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """The weight processing that a TransformerLens loading mode asks for.

    Source: `TransformerBridge.enable_compatibility_mode` and `HookedTransformer.from_pretrained`.
    """

    fold_ln: bool = False
    center_writing_weights: bool = False
    center_unembed: bool = False
    fold_value_biases: bool = False
    refactor_factored_attn_matrices: bool = False

    def flags(self) -> dict[str, bool]:
        """Give the five flags by the names of TransformerLens' own arguments."""
        return {name: getattr(self, name) for name in self.__slots__}


PROCESSING_FLAGS: Final = tuple(Processing().flags())


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadingMode:
    """How a port is loaded: which port, in compatibility mode or not, with what processing."""

    name: str
    port: str
    compatibility: bool = False
    processing: Processing = Processing()

    @property
    def is_plugged(self) -> bool:
        """Say whether another package brings the port, by an entry point."""
        return self.port not in BUILT_IN_PORTS


_FROM_PRETRAINED: Final = Processing(
    fold_ln=True, center_writing_weights=True, center_unembed=True, fold_value_biases=True
)
"""What `HookedTransformer.from_pretrained` and compatibility mode do unless told otherwise."""

LOADING_MODES: Final[dict[str, LoadingMode]] = {
    mode.name: mode
    for mode in (
        LoadingMode(name="bridge", port="bridge"),
        LoadingMode(
            name="bridge_compat", port="bridge", compatibility=True, processing=_FROM_PRETRAINED
        ),
        LoadingMode(name="bridge_compat_no_processing", port="bridge", compatibility=True),
        *(
            LoadingMode(
                name=f"bridge_{flag}",
                port="bridge",
                compatibility=True,
                processing=Processing(**{flag: True}),
            )
            for flag in PROCESSING_FLAGS
        ),
        LoadingMode(name="hooked", port="hooked", processing=_FROM_PRETRAINED),
        LoadingMode(name="hooked_no_processing", port="hooked"),
        *(
            LoadingMode(name=f"hooked_{flag}", port="hooked", processing=Processing(**{flag: True}))
            for flag in PROCESSING_FLAGS
        ),
        LoadingMode(name="hf_eager", port="transformers"),
        LoadingMode(name="hf_sdpa", port="transformers"),
    )
}

BUILT_IN_PORTS: Final = ("bridge", "hooked", "transformers")
"""The ports that this package knows by itself. All others are plugged in by their own packages."""


def mode_named(name: str) -> LoadingMode:
    """Give a loading mode: one of LOADING_MODES, or that of a plugged port, which has its name.

    Whether some package brings it is asked where a name is checked and where a port is loaded: a
    run that was measured with it can be read without it.
    """
    return LOADING_MODES.get(name) or LoadingMode(name=name, port=name)


DEFAULT_MODES: Final = tuple(
    name for name, mode in LOADING_MODES.items() if mode.port == "bridge" or name == "hf_sdpa"
)
"""The modes of the default matrix. `hooked` modes need TransformerLens before 4, which lives in
environments of its own; `hf_eager` is the reference loaded once more: what a gate measures where
there is no port, and a control that the reference repeats itself."""

EXACT: Final = "exact"
DTYPES: Final = (EXACT, "float32", "bfloat16", "float16")
DEFAULT_DTYPES: Final = (EXACT, "float32", "bfloat16")
DEVICES: Final = ("cpu", "cuda", "mps")

BY_PROCESSING: Final = "processing"
ASKED_RELATIONS: Final = (BY_PROCESSING, "equal")
"""In which sense comparisons are made: what the loading mode's processing leaves of the reference,
or `equal`, which forces each site to be the reference's and shows what the processing does."""

PROBES: Final = (
    "repeatability",  # first, while the model has seen nothing that it could keep
    "causality",
    "observer",
    "batch",
    "padding",
    "cached_decoding",
    "residual",
    "pattern",
    "backends",
    "save_load",
    "gradients",
    "hook_semantics",
    "tokens",
    "hidden_to_logits",
)
"""What one model owes itself. Each is a function in harness/measure/probes/ that says why."""

PROBE_MODES: Final = ("hf_eager", "hf_sdpa", "bridge", "bridge_compat")
HOOKED_PROBE_MODES: Final = ("hooked", "hooked_no_processing")
PROBE_DTYPES: Final = (EXACT, "float32")
"""The modes and dtypes in which probes are asked by default: meaning, and the kernels in use. What
a probe asks of the bridge's other modes can only differ by their folding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limitation:
    """A known difference: what, why, where it is written down, which cells, and when it ends.

    `outcome` is one of

    - `differs`: first at a site of `sites`; what comes after it may differ too;
    - `local`: at `sites` and nowhere else, as where a hook gives another tensor than it names;
    - `silent`: the port has hooks for `sites` that never fire; the other sites are compared;
    - `raises`: with `words` in the error.

    Sites may leave their layer out: `attn.rot_q`. An axis takes patterns (`bridge*`); an empty
    tuple covers the whole axis, but for `probes`: without a word there it speaks of comparisons
    alone, or, if it `raises`, of probes too where they raise. `checks` are those of a probe's
    checks that it speaks of. `until` is a requirement such as `transformer-lens>4.3.0`: once it is
    installed the limitation is over and the cell is judged without it. A limitation that is not
    over and no longer true makes its cell `stale`.
    """

    outcome: Literal["differs", "local", "silent", "raises"]
    reason: str
    link: str
    until: str
    sites: tuple[str, ...] = ()
    words: str = ""
    variants: tuple[str, ...] = ()
    loading_modes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()

    def covers(self, cell: Cell) -> bool:
        """Say whether this limitation speaks of the cell, and is not over."""
        if cell.probe is None and self.probes:
            return False
        if cell.probe is not None and not self.probes and self.outcome != "raises":
            return False
        axes = (
            (self.variants, cell.case.variant),
            (self.loading_modes, cell.loading_mode),
            (self.dtypes, cell.dtype),
            (self.probes, cell.probe or ""),
        )
        return not self.over and all(_allowed(patterns, value) for patterns, value in axes)

    def speaks_of(self, check: str) -> bool:
        """Say whether this limitation speaks of one of its probe's checks."""
        return _allowed(self.checks, check)

    @property
    def over(self) -> bool:
        """Say whether the release that ends it is installed."""
        return _is_installed(self.until)

    def names(self, site: str) -> bool:
        """Say whether the site is one of `sites`, with its layer or without."""
        return any(site == name or site.endswith(f".{name}") for name in self.sites)


@functools.cache
def _is_installed(requirement: str) -> bool:
    """Say whether a requirement is met here; asked for every cell and row, answered once."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - few cases have a limitation

    parsed = Requirement(requirement)
    try:
        installed = version(parsed.name)
    except PackageNotFoundError:
        return False
    return parsed.specifier.contains(installed, prereleases=True)


def _allowed(patterns: tuple[str, ...], value: str) -> bool:
    return not patterns or any(fnmatchcase(value, pattern) for pattern in patterns)


_NAME: Final = re.compile(r"(?:\w[\w.+-]*)?")
"""What may name a case or a cell: its names become those of files, and stand in tables."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def _check_names(names: dict[str, str]) -> None:
    for axis, name in names.items():
        if not _NAME.fullmatch(name):
            message = (
                f"{axis}={name!r} is no name: letters, digits, _, ., + and - are taken, the first "
                "a letter, a digit or _, so that it can name a file; write it so"
            )
            raise UsageError(message)


SYNTHETIC: Final = "synthetic"
SHRUNK: Final = "shrunk"
OFF_DEFAULT: Final = "off_default"
"""The variant, or the end of its name, in which many fields are away from their default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model to compare: a family's variant and the checkpoint that carries its weights.

    `checkpoint` is `synthetic`, `synthetic:<size>`, `shrunk`, `packaged:<name>`,
    `hub:<id>@<commit>` or `folder:<path>`; `hub+code:` and `folder+code:` run the checkpoint's own
    Python files, once `--trust-remote-code` names the case.
    """

    family: str
    variant: str = "default"
    checkpoint: str = SYNTHETIC
    limitations: tuple[Limitation, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would be another file's name, or none: names come from configs and rows."""
        _check_names({"family": self.family, "variant": self.variant})
        if _CONTROL.search(self.checkpoint):
            message = f"checkpoint={self.checkpoint!r} has a control character; write it without"
            raise UsageError(message)

    @property
    def id(self) -> str:
        """Name the case in ids and paths, e.g. `llama-gqa` or `llama-default@smollm2-135m`."""
        name = f"{self.family}-{self.variant}"
        if self.checkpoint == SYNTHETIC:
            return name
        return f"{name}@{self.checkpoint.split(':', 1)[-1].replace('/', '--')}"

    @property
    def is_flipped(self) -> bool:
        """Say whether it is an architecture's small config with flips that an experiment found."""
        return self.checkpoint == SHRUNK and self.variant.endswith(OFF_DEFAULT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One element of the matrix: a case in a loading mode, a dtype, on a device.

    With a `probe` the model is held against itself; without, the port against the reference.
    """

    case: Case
    loading_mode: str
    dtype: str
    device: str = "cpu"
    probe: str | None = None

    def __post_init__(self) -> None:
        """Refuse what would be another file's name, or none."""
        _check_names(
            {
                "loading_mode": self.loading_mode,
                "dtype": self.dtype,
                "device": self.device,
                "probe": self.probe or "",
            }
        )

    @property
    def id(self) -> str:
        """Name the cell: what `harness replay` and `harness explain` take."""
        return ".".join(self._parts)

    @property
    def mode(self) -> LoadingMode:
        """Look up the loading mode."""
        return mode_named(self.loading_mode)

    @property
    def limitations(self) -> tuple[Limitation, ...]:
        """Give the limitations that cover the cell."""
        return tuple(item for item in self.case.limitations if item.covers(self))

    def __str__(self) -> str:
        """Print as `llama-gqa · bridge_compat · float32`."""
        return " · ".join(self._parts)

    @property
    def _parts(self) -> tuple[str, ...]:
        """Give the axes that tell this cell from others: the CPU and a comparison need no word."""
        device = () if self.device == "cpu" else (self.device,)
        probe = () if self.probe is None else (self.probe,)
        return (self.case.id, self.loading_mode, self.dtype, *device, *probe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A batch of token ids, all rows of one length, with its attention mask.

    `tokens` and `attention_mask` are [batch, pos]; a mask of zeros and ones, ones everywhere
    where nothing is padded. `origin` says where it comes from: `bank:<name>`, `hypothesis`,
    `shrunk`.
    """

    tokens: tuple[tuple[int, ...], ...]
    attention_mask: tuple[tuple[int, ...], ...]
    origin: str
    prompt_id: str = field(init=False)

    def __post_init__(self) -> None:
        """Check the shape and name the prompt by its content."""
        lengths = {len(row) for row in (*self.tokens, *self.attention_mask)}
        if len(lengths) != 1 or 0 in lengths or len(self.tokens) != len(self.attention_mask):
            message = f"a prompt is a batch of rows of one length, found lengths {sorted(lengths)}"
            raise ValueError(message)
        content = json.dumps([self.tokens, self.attention_mask], separators=(",", ":"))
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        object.__setattr__(self, "prompt_id", digest)

    @classmethod
    def unpadded(cls, tokens: tuple[tuple[int, ...], ...], *, origin: str) -> Prompt:
        """Make a prompt in which every token is real."""
        return cls(
            tokens=tokens,
            attention_mask=tuple(tuple(1 for _ in row) for row in tokens),
            origin=origin,
        )

    @property
    def padded(self) -> bool:
        """Say whether any position is masked out."""
        return any(0 in row for row in self.attention_mask)
