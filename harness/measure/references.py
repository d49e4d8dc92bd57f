"""Reference and oracle: loaded once per checkpoint, run once per prompt, shared by all modes."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.case import EXACT, Cell
from harness.errors import Unavailable
from harness.exact import true_float64
from harness.measure.capture import capture
from harness.measure.compare import effective_number, relative_distance
from harness.measure.entries import entries
from harness.measure.fingerprint import Fingerprint, printed_alone, seed_of
from harness.measure.memory import VARIABLE, float64_bytes, memory_for_weights
from harness.measure.relations import EQUAL, SHIFT, layer_site, may_shift
from harness.measure.shelf import Activations, Shelf
from harness.models.checkpoints import checkpoint_of
from harness.models.ports import load_reference
from harness.models.ports.lent import lent
from harness.models.sites import LOGITS
from harness.models.text_config import text_config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from harness.case import Case, Prompt
    from harness.measure.fingerprint import Printed
    from harness.measure.relations import Relation
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports.huggingface import TransformersRunner

_COMPARED: Final = 2**20
_COLLECTED: Final = 64 * 2**20
"""Bytes of weights from which on those let go are collected at once.

Models hold themselves in cycles, and a collection goes through all that lives: tiny ones are left
to Python's own.
"""

SURELY: Final = 2**30
"""Bytes of weights that are never asked about."""

Row = dict[str, Any]


def numerics_of(dtype: str) -> AbstractContextManager[None]:
    """Give the context in which models of a dtype are built and run."""
    return true_float64() if dtype == EXACT else nullcontext()


class Reference:
    """One checkpoint's reference in one dtype, and its oracle in true float64.

    The oracle holds exactly the weights that the reference holds: where loading in the dtype
    rounds them, it has the rounded ones, so that the error measured is the computation's alone.
    """

    def __init__(self, cell: Cell, checkpoint: Checkpoint, *, exact: Reference | None) -> None:
        """Load the reference; share the exact one's oracle if no weight was rounded."""
        self.checkpoint = checkpoint
        self.dtype = cell.dtype
        with numerics_of(cell.dtype):
            self.runner: TransformersRunner = load_reference(cell, self.checkpoint)
        self.of_rounded_weights = False
        self._begin()
        self.oracle = self
        if exact is not None:
            same = _same_weights(self.runner.model, exact.runner.model)
            self.oracle = exact if same else _with_weights_of(self, cell)

    def _begin(self) -> None:
        """Keep nothing of prompts yet."""
        self._kept = Shelf()
        self._printed: dict[tuple[str, str, str], Printed] = {}
        self.errors: dict[tuple[str, str, str], float] = {}
        self.spreads: dict[tuple[str, str, str], float] = {}
        self._effective: dict[tuple[str, str], float] = {}
        self._prints: dict[tuple[str, ...], list[Row]] = {}

    def borrow_oracle(self) -> None:
        """Take as oracle the same model in float64, whose modules borrow these weights in turn."""
        oracle = object.__new__(Reference)
        oracle.checkpoint, oracle.dtype = self.checkpoint, EXACT
        oracle.runner = lent(self.runner, self.checkpoint)
        oracle.oracle = oracle
        oracle.of_rounded_weights = True
        oracle._begin()
        self.oracle = oracle

    @property
    def n_bytes(self) -> int:
        """Give the size of its weights."""
        return sum(weight.nbytes for weight in self.runner.model.parameters())

    @property
    def config(self) -> dict[str, Any]:
        """Give what the checkpoint's config.json says of text."""
        return text_config(self.checkpoint.config)

    def activations(self, prompt: Prompt, *, keep: bool = True) -> Activations:
        """Run the prompt through the reference and give all its sites.

        They are kept for other modes, as a shelf does.
        """
        if (kept := self._kept.get(prompt.prompt_id)) is not None:
            return kept
        with numerics_of(self.dtype):
            taken = capture(self.runner, prompt, self.runner.sites)
        if keep:
            self._kept.offer(prompt.prompt_id, taken)
        return taken

    def forget(self) -> None:
        """Let go of all that is kept of prompts."""
        self._begin()

    def effective_number(self, prompt: Prompt, site: str, tensor: Tensor) -> float:
        """Give how many of a site's values carry its norm, once for all that ask."""
        key = (prompt.prompt_id, site)
        if key not in self._effective:
            values, _, counts = entries(tensor, tensor, prompt, site, dtype=self.dtype)
            self._effective[key] = effective_number(values, counts)
        return self._effective[key]

    def error_at(self, prompt: Prompt, site: str, tensor: Tensor) -> float:
        """Give the relative error of the reference's own tensor at a site, against the oracle."""
        key = (prompt.prompt_id, site, EQUAL.kind)
        if key not in self.errors:
            true = self.oracle.activations(prompt)[site]
            right, true, counts = entries(tensor, true, prompt, site, dtype=self.dtype)
            self.errors[key] = relative_distance(right, true, relation=EQUAL, counts=counts)
        return self.errors[key]

    def fingerprints(self, prompts: Sequence[Prompt]) -> list[Row]:
        """Give the fingerprint of every site over the prompts, once for all modes that share it.

        Where some mode compares a site up to a shift, it is fingerprinted centred as well.
        """
        asked = tuple(prompt.prompt_id for prompt in prompts)
        if asked not in self._prints:
            for prompt in prompts:
                if not self.has_printed(prompt):
                    self.keep_prints(prompt, self.activations(prompt))
            self._prints[asked] = [
                self._print(site, relation, place, asked)
                for place, site in enumerate(self.runner.sites)
                for relation in self._relations_at(site)
            ]
        return self._prints[asked]

    def has_printed(self, prompt: Prompt) -> bool:
        """Say whether what fingerprints are made of is kept of a prompt."""
        return (prompt.prompt_id, LOGITS, EQUAL.kind) in self._printed

    def keep_prints(self, prompt: Prompt, taken: Activations) -> None:
        """Keep of a prompt's activations what fingerprints are made of."""
        for site, tensor in taken.items():
            values, _, counts = entries(tensor, tensor, prompt, site, dtype=self.dtype)
            for relation in self._relations_at(site):
                seed = seed_of(site, prompt.prompt_id, values)
                found = printed_alone(values, counts, relation, seed=seed)
                self._printed[prompt.prompt_id, site, relation.kind] = found

    def printed(self, prompt: Prompt, site: str, relation: str) -> Printed:
        """Give what is kept of a prompt's activation at a site, in a relation's coordinates."""
        return self._printed[prompt.prompt_id, site, relation]

    def _relations_at(self, site: str) -> tuple[Relation, ...]:
        return (EQUAL, SHIFT) if may_shift(site, self.runner.family) else (EQUAL,)

    def _print(self, site: str, relation: Relation, place: int, asked: tuple[str, ...]) -> Row:
        found = Fingerprint()
        for prompt_id in asked:
            found.add(self._printed[prompt_id, site, relation.kind])
        return {
            "site": site,
            "place": place,
            "relation": relation.kind,
            **found.row(),
            "sketch": found.sketch.tolist(),
            "prompt_norms": found.norms,
            "prompt_projections": found.projections,
        }

    def affine_of(self, site: str) -> tuple[Tensor, Tensor]:
        """Give gain and bias [d_model] of the norm at a site, in float64."""
        return self.runner.affine_of(site)

    def value_bias_of(self, site: str, *, ln_folded: bool) -> Tensor:
        """Give the value bias [head, d_head] that processing folds away, in float64.

        It is what the value projection gives for an input of zeros, or for the norm's bias where
        that has been folded into the projection before. For `z` it is repeated to query heads.
        """
        projection = self.oracle.runner
        bias = torch.zeros(projection.model.config.hidden_size, dtype=torch.float64)
        if ln_folded and "ln1.out" in projection.norms:
            _, bias = projection.affine_of(layer_site(site, "ln1.out"))
        with numerics_of(EXACT), torch.no_grad():
            value = projection.project(layer_site(site, "attn.v"), bias)
        if site.endswith(".z"):
            n_heads = projection.n_heads
            value = value.repeat_interleave(n_heads // value.shape[0], dim=0)
        return value


class References:
    """The references of the checkpoint at hand; another checkpoint lets the last one go."""

    def __init__(self, checkpoint: Callable[[Case], Checkpoint] = checkpoint_of) -> None:
        """Start with none loaded; `checkpoint` gives the folder of a case's checkpoint."""
        self._checkpoint = checkpoint
        self._case_id = ""
        self._folder: Checkpoint | None = None
        self._loaded: dict[tuple[str, str], Reference] = {}
        self._room: dict[int, bool] = {}

    def of(self, cell: Cell) -> Reference:
        """Give the reference of a cell's case, dtype and device, loaded if it is not yet."""
        if cell.case.id != self._case_id:
            held = sum(each.n_bytes for each in self._loaded.values())
            self._loaded.clear()
            if held >= _COLLECTED:
                gc.collect()
            self._case_id = cell.case.id
            self._folder = None
            self._room = {}
        if cell.dtype == EXACT:
            self._check_fits(cell)
        elif not self._fits(cell, models=1):
            borrowing = self._get(cell, cell.dtype, None)
            if borrowing.oracle is borrowing:
                borrowing.borrow_oracle()
            return borrowing
        exact = self._get(cell, EXACT, None)
        return exact if cell.dtype == EXACT else self._get(cell, cell.dtype, exact)

    def _fits(self, cell: Cell, *, models: int) -> bool:
        """Say whether so many models of the case fit in memory in float64; asked once a case."""
        if (EXACT, cell.device) in self._loaded:
            return True
        if models not in self._room:
            needed = models * float64_bytes(self._checkpoint_at_hand(cell.case))
            self._room[models] = needed <= SURELY or needed <= memory_for_weights()
        return self._room[models]

    def _check_fits(self, cell: Cell) -> None:
        if not self._fits(cell, models=2):
            needed = 2 * float64_bytes(self._checkpoint_at_hand(cell.case)) / 2**30
            message = (
                f"reference and port in float64 take {needed:.1f} GiB, and there are "
                f"{memory_for_weights() / 2**30:.1f} ({VARIABLE}); ask a lower dtype, whose oracle "
                "is computed module by module"
            )
            raise Unavailable(message)

    def _get(self, cell: Cell, dtype: str, exact: Reference | None) -> Reference:
        key = (dtype, cell.device)
        if key not in self._loaded:
            as_asked = Cell(
                case=cell.case, loading_mode=cell.loading_mode, dtype=dtype, device=cell.device
            )
            folder = self._checkpoint_at_hand(cell.case)
            self._loaded[key] = Reference(as_asked, folder, exact=exact)
        return self._loaded[key]

    def _checkpoint_at_hand(self, case: Case) -> Checkpoint:
        if self._folder is None:
            self._folder = self._checkpoint(case)
        return self._folder


def _same_weights(model: torch.nn.Module, exact: torch.nn.Module) -> bool:
    exact_weights = dict(exact.named_parameters())
    return all(
        torch.equal(part.double(), other)
        for name, weight in model.named_parameters()
        for part, other in zip(
            weight.flatten().split(_COMPARED),
            exact_weights[name].flatten().split(_COMPARED),
            strict=True,
        )
    )  # in parts, since an embedding widened is half a gigabyte


def _with_weights_of(reference: Reference, cell: Cell) -> Reference:
    """Give an exact reference that holds another's rounded weights."""
    exact_cell = Cell(
        case=cell.case, loading_mode=cell.loading_mode, dtype=EXACT, device=cell.device
    )
    oracle = Reference(exact_cell, reference.checkpoint, exact=None)
    oracle.of_rounded_weights = True
    rounded = dict(reference.runner.model.named_parameters())
    with torch.no_grad():
        for name, weight in oracle.runner.model.named_parameters():
            weight.copy_(rounded[name])
    return oracle
