"""From hidden states to logits: what is asked for with `output_hidden_states` gives the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from harness import bounds
from harness.case import Prompt
from harness.errors import ConventionError, Refused
from harness.measure.capture import by_row
from harness.measure.compare import compare
from harness.measure.probes.model import Owed
from harness.measure.references import numerics_of
from harness.measure.relations import EQUAL
from harness.models.heads import Convention, final_norm_of, finish, rebuilt
from harness.models.ports.huggingface import TransformersRunner
from harness.models.sites import LN_FINAL, LOGITS, within_block
from harness.models.text_config import text_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from harness.measure.probes.model import Model

AS_THE_REFERENCE: Final = "hidden_states[-1] as the reference gives it"

_ROWS: Final = 3
_SQUARE: Final = 5
"""Rows of the oblong prompt, at most; and rows and length of the square one."""


def hidden_to_logits(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Rebuild the logits from `hidden_states[-1]` by the model's own modules: bit for bit.

    The last hidden state is behind the final norm in nearly every family, and before it in
    ChatGLM, where batch and positions change places too. Who takes one for the other norms twice
    or not at all, and gets logits that look like logits. So the state is read as the family's
    record declares, on prompts of more and of as many rows as tokens. The check's `power` is what
    the same reading would miss the logits by if the model gave another state: the one on the other
    side of the norm, or laid out the other way. Where no norm stands between the last block and
    the logits, there is none to forget, and the check's name says so.

    Where a port has another convention than the reference, its last hidden state must be the
    reference's all the same, brought to its reading: with the norm applied that is still due.
    """
    runner = model.runner
    if not isinstance(runner, TransformersRunner):
        message = f"{model.cell.mode.port} gives no hidden_states"
        raise Refused(message)
    if not runner.family.head.is_known:
        message = (
            f"{runner.family.name}: how its logits come from hidden_states is written down "
            "nowhere, and no known way gives them"
        )
        raise Refused(message)
    declared = runner.family.head.declared(runner.model)
    normless = "" if final_norm_of(runner.family, runner.model) else ", no final norm to forget"
    for name, asked in shapes(prompt).items():
        with numerics_of(model.cell.dtype), torch.no_grad():
            hidden, logits = runner.last_hidden(asked)
            made = rebuilt(runner.family, runner.model, hidden, declared)
            power = power_of(runner, asked, hidden, logits)
            fits = readings(runner, hidden, logits)
        if made.shape == logits.shape:
            yield Owed(
                check=f"{name}{normless}",
                actual={LOGITS: made},
                expected={LOGITS: logits},
                bitwise=True,
                power=power,
            )
        refuse_another(model, declared, fits=fits, power=power)
        if not model.is_the_reference and declared != of_the_reference(model):
            yield as_the_reference(model, name, asked, hidden)


def of_the_reference(model: Model) -> Convention:
    """Give the convention that the reference's family declares."""
    reference = model.reference.runner
    return reference.family.head.declared(reference.model)


def shapes(prompt: Prompt) -> dict[str, Prompt]:
    """Give the prompt with another number of rows than of tokens, and with the same.

    Where the two are the same, a layout that was mistaken still has the shape of the right one.
    """
    row = prompt.tokens[0]
    rows = tuple(row[place:] + row[:place] for place in range(len(row)))
    n_rows = next(n for n in (_ROWS, _ROWS - 1) if n != len(row))
    side = min(_SQUARE, len(row))
    oblong = (rows * n_rows)[:n_rows]
    square = tuple(each[:side] for each in rows[:side])
    return {
        "batch ≠ length": Prompt.unpadded(oblong, origin=prompt.origin),
        "batch = length": Prompt.unpadded(square, origin=prompt.origin),
    }


def power_of(
    runner: TransformersRunner, prompt: Prompt, hidden: Tensor, logits: Tensor
) -> float | None:
    """Give how far the declared reading of another state is from the logits, the nearest one.

    None if none has their shape, as where there is no norm and as many rows as tokens would be
    needed, or where the finished state is projected to another width (OPT-350m).
    """
    family, model = runner.family, runner.model
    declared = family.head.declared(model)
    others = [hidden.transpose(0, 1)]
    if final_norm_of(family, model):
        if declared.finished:
            last = [site for site in runner.sites if within_block(site) == "resid_post"][-1]
            before = by_row(runner.run(prompt, [last])[last], prompt)
            others.append(before.transpose(0, 1) if declared.sequence_first else before)
        else:
            others.append(finish(family, model, hidden))
    made = (
        rebuilt(family, model, other, declared)
        for other in others
        if other.shape[-1] == hidden.shape[-1]
    )
    return min(
        (distance(each, logits) for each in made if each.shape == logits.shape), default=None
    )


def readings(runner: TransformersRunner, hidden: Tensor, logits: Tensor) -> set[Convention]:
    """Give the readings of a hidden state that make the logits."""
    family, model = runner.family, runner.model
    # What has been projected to another width (OPT-350m) has had its norm.
    width = text_part(model.config).hidden_size
    may_be_due = final_norm_of(family, model) and hidden.shape[-1] == width
    found = set()
    for finished in (True, False) if may_be_due else (True,):
        for sequence_first in (False, True):
            reading = Convention(finished=finished, sequence_first=sequence_first)
            made = rebuilt(family, model, hidden, reading)
            if made.shape == logits.shape and distance(made, logits) <= bounds.EXACT_BOUND:
                found.add(reading)
    return found


def distance(made: Tensor, logits: Tensor) -> float:
    """Give the relative distance of logits that were made from the model's own."""
    counts = torch.ones(logits.shape, dtype=torch.bool, device=logits.device)
    return compare(made, logits, relation=EQUAL, counts=counts).rel_l2


def refuse_another(
    model: Model, declared: Convention, *, fits: set[Convention], power: float | None
) -> None:
    """Refuse a state that is not what is declared, and a check that could not tell.

    Raises:
        ConventionError: says what is declared and what was measured.
    """
    blind = power is not None and power <= bounds.EXACT_BOUND
    if declared in fits and not blind:
        return
    found = "; ".join(sorted(map(str, fits))) or "no reading of it gives the logits"
    if declared in fits:
        found = f"another state would give the logits as well (to {power:.1g}): the check is blind"
    message = (
        f"hidden_states[-1] of {model.cell.case.family} is not what is declared\n"
        f"  found:   {found}\n"
        f"  allowed: {declared}\n"
        "  next:    see what this release records, or mend the family's head (harness/models)"
    )
    raise ConventionError(message)


def as_the_reference(model: Model, shape: str, prompt: Prompt, hidden: Tensor) -> Owed:
    """Hold a port's last hidden state against the reference's, each brought to one reading.

    Naively, only the layout is, without which they cannot be held together at all: what they are
    then apart is the norm that one of them has had.
    """
    port, reference = model.runner, model.reference.runner
    assert isinstance(port, TransformersRunner)  # noqa: S101 - asked before
    ours, theirs = port.family.head.declared(port.model), of_the_reference(model)
    norm_too = not model.naive
    with numerics_of(model.cell.dtype), torch.no_grad():
        expected, _ = reference.last_hidden(prompt)
        hidden = brought(port, hidden, ours, norm_too=norm_too)
        expected = brought(reference, expected, theirs, norm_too=norm_too)
    norm = final_norm_of(reference.family, reference.model)
    return Owed(
        check=f"{shape}, {AS_THE_REFERENCE}",
        actual={LN_FINAL: hidden},
        expected={LN_FINAL: expected},
        because=f"the reference's hidden_states[-1] is {theirs} ({norm}), the port's is {ours}; "
        "with the norm applied that is still due, they agree",
    )


def brought(
    runner: TransformersRunner, hidden: Tensor, convention: Convention, *, norm_too: bool
) -> Tensor:
    """Bring a last hidden state to [batch, pos, d_model], and behind the final norm if asked."""
    if norm_too and not convention.finished:
        hidden = finish(runner.family, runner.model, hidden)
    return hidden.transpose(0, 1) if convention.sequence_first else hidden
