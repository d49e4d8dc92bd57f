"""In which sense two activations must agree, per loading mode and site.

Derived from what the mode's processing does to the weights, not from what a port gives. Source:
`transformer_lens.weight_processing.ProcessWeights`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

import torch

from harness.models.sites import LOGITS, layer_of, within_block

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from harness.case import Processing
    from harness.models.family import Family

RelationKind = Literal["equal", "shift", "affine", "offset"]

# What center_writing_weights touches: everything that is written into the residual stream.
_WRITTEN: Final = frozenset(
    {"embed", "pos_embed", "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"}
)
_FACTORED: Final = frozenset({"attn.q", "attn.k", "attn.v", "attn.z", "attn.rot_q", "attn.rot_k"})


class Folded(Protocol):
    """What weight processing folds away, known from the unprocessed model. All in float64."""

    def affine_of(self, site: str) -> tuple[Tensor, Tensor]:
        """Give gain and bias [d_model] of the norm at a site."""

    def value_bias_of(self, site: str, *, ln_folded: bool) -> Tensor:
        """Give the value bias [head, d_head] that is folded into the output's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A sense of agreement: what is taken out of both sides before they are compared.

    `equal`: nothing. `shift`: the mean along the last axis of both (a constant per position).
    `affine`: the actual side is multiplied by `scale` and moved by `offset`, both known from the
    unprocessed weights, to undo a folding. `offset`: the same with scale 1.
    """

    kind: RelationKind
    because: str
    scale: Tensor | None = None
    offset: Tensor | None = None

    def for_the_reference(self) -> Relation:
        """Give the relation of the reference to its oracle: nothing of it is folded."""
        return self if self.kind == "shift" else EQUAL

    def bring(self, values: Tensor, used: Tensor | None) -> Tensor:
        """Give one side by itself, in coordinates that all sides share."""
        return _centred(values, used) if self.kind == "shift" else values

    def bring_together(
        self, actual: Tensor, expected: Tensor, used: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Give both sides with the relation's part taken out; unused entries are zero."""
        if self.kind == "shift":
            return _centred(actual, used), _centred(expected, used)
        brought = actual
        if self.scale is not None:
            brought = brought * self.scale.to(brought.device)
        if self.offset is not None:
            brought = brought + self.offset.to(brought.device)
        return (brought if used is None else torch.where(used, brought, 0.0)), expected


EQUAL: Final = Relation(kind="equal", because="nothing is processed here")
SHIFT: Final = Relation(kind="shift", because="some loading mode compares up to a shift")


def may_shift(site: str, family: Family) -> bool:
    """Say whether some loading mode compares the site up to a shift."""
    inside = within_block(site)
    written = inside in _WRITTEN and family.layer_norm
    scores = family.scores_shifted or family.alibi_from_start
    return site == LOGITS or written or (inside == "attn.attn_scores" and scores)


def _centred(values: Tensor, used: Tensor | None) -> Tensor:
    if used is None:
        return values - values.mean(-1, keepdim=True)
    number = used.sum(-1, keepdim=True).clamp(min=1)
    mean = values.sum(-1, keepdim=True) / number
    return torch.where(used, values - mean, 0.0)


def relation_for(  # noqa: PLR0911 - one return per relation
    site: str,
    *,
    port: str,
    processing: Processing,
    family: Family,
    norms: Collection[str],
    softcapped: bool,
    folded: Folded,
) -> Relation | None:
    """Give the relation at a site, or None where the mode leaves nothing to compare.

    `refactor_factored_attn_matrices` turns queries, keys and values into another basis that only
    their products share: they are compared as attn_scores and attn_out instead. Of a model whose
    sites were found, nobody has written down which norms and value biases a port may fold.
    """
    inside = within_block(site)
    if processing.refactor_factored_attn_matrices and inside in _FACTORED:
        return None
    if site == LOGITS and processing.center_unembed and not softcapped:
        return Relation(kind="shift", because="center_unembed")
    if family.automatic and not _is_told(inside, processing):
        return None
    if inside in norms and processing.fold_ln:
        gain, bias = folded.affine_of(site)
        return Relation(kind="affine", because="fold_ln", scale=gain, offset=bias)
    if inside in _WRITTEN and processing.center_writing_weights and family.layer_norm:
        return Relation(kind="shift", because="center_writing_weights")
    if inside in {"attn.v", "attn.z"} and processing.fold_value_biases:
        offset = folded.value_bias_of(site, ln_folded=processing.fold_ln)
        return Relation(kind="offset", because="fold_value_biases", offset=offset)
    if inside == "attn.attn_scores" and family.scores_shifted:
        return Relation(kind="shift", because="the reference subtracts each row's maximum")
    if inside == "attn.attn_scores" and family.alibi_from_start and port == "hooked":
        return Relation(kind="shift", because="HookedTransformer counts ALiBi back from the query")
    return EQUAL


def _is_told(inside: str, processing: Processing) -> bool:
    """Say whether a found site is what it was, whichever norms and biases the port folds."""
    is_norm = inside.endswith(".out")
    return not (
        (is_norm and processing.fold_ln)
        or (inside in {"attn.v", "attn.z"} and processing.fold_value_biases)
    )


def tightest_relation(  # noqa: PLR0911 - one return per relation, the tightest first
    actual: Tensor, expected: Tensor, used: Tensor, *, within: float
) -> str:
    """Say in words the tightest relation that does hold between two tensors.

    Args:
        actual: The port's tensor.
        expected: The reference's tensor, of the same shape.
        used: Which entries count.
        within: Largest rel_l2 at which a relation is said to hold.
    """
    if not bool((actual.isfinite() & expected.isfinite() | ~used).all()):
        return "no relation holds between values that are not finite"
    left = torch.where(used, actual.double(), 0.0)
    right = torch.where(used, expected.double(), 0.0)
    size = right.norm().clamp(min=torch.finfo(torch.float64).tiny)

    def holds(candidate: Tensor, wanted: Tensor) -> bool:
        return bool(torch.where(used, candidate - wanted, 0.0).norm() / size <= within)

    # Each relation is asked for only where it leaves something that could contradict it.
    if holds(left, right):
        return "equal"
    if bool((used.sum(-1) > 1).any()) and holds(_centred(left, used), _centred(right, used)):
        return "differs by a constant per position"
    inner = (left * right).sum() / (left * left).sum().clamp(min=torch.finfo(torch.float64).tiny)
    if bool(right.any()) and int(used.sum()) > 1 and holds(left * inner, right):
        return f"differs by one factor: reference = {float(inner):.6g} × port"
    if left.ndim > 1 and bool(used.all()):
        flat_left, flat_right = left.flatten(0, 1), right.flatten(0, 1)
        n_tokens, mean = flat_left.shape[0], flat_right.mean(0)
        if n_tokens > 1 and holds(left + (mean - flat_left.mean(0)), right):
            return "differs by one constant vector, the same at every position"
        if (
            n_tokens > _TOKENS_FOR_A_FIT
            and not holds(mean.expand_as(left), right)
            and holds(_fitted(flat_left, flat_right).view_as(left), right)
        ):
            return "differs by a gain and a bias per channel"
    return "no simple relation holds"


_TOKENS_FOR_A_FIT: Final = 4
"""A gain and a bias per channel fit any two tokens; beyond four a fit is evidence."""


def _fitted(left: Tensor, right: Tensor) -> Tensor:
    """Give the least-squares fit of right by a gain and a bias per channel of left."""
    from_mean, to_mean = left.mean(0), right.mean(0)
    spread = (left - from_mean).pow(2).sum(0).clamp(min=torch.finfo(torch.float64).tiny)
    gain = ((left - from_mean) * (right - to_mean)).sum(0) / spread
    return (left - from_mean) * gain + to_mean


def layer_site(site: str, inside: str) -> str:
    """Give another site of the same layer, e.g. (`blocks.3.attn.z`, `ln1.out`)."""
    layer = layer_of(site)
    return inside if layer is None else f"{site.split('.', maxsplit=1)[0]}.{layer}.{inside}"
