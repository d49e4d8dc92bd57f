"""An explanation in words, as a person would tell it: short lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.judge.explain import EQUAL, LOGITS, SOFTMAX, because
from harness.report.marks import name_of, tokens_of

if TYPE_CHECKING:
    from harness.judge.explain import Explanation, Sense

Row = Mapping[str, Any]

COMMAND: Final = "  $ "
"""What a line begins with that is a command, and is not to be broken."""
ITEM: Final = "  - "

_SHOWN: Final = 8
_OWED_TO_BE_THE_SAME: Final = "owed to be the same"

_SENSES: Final = {
    "center_unembed": "up to a constant per position",
    "center_writing_weights": "up to their mean at each position",
    "fold_ln": "up to the norm's gain and bias",
    "fold_value_biases": "up to the value bias",
    SOFTMAX: "up to a constant per row",
}
_DIFFERENCES: Final = {
    "center_unembed": "shifted by a constant per position",
    "center_writing_weights": "less their mean at each position",
    "fold_ln": "without the norm's gain and bias",
    "fold_value_biases": "without the value bias",
    SOFTMAX: "shifted by a constant per row",
}
_WHY: Final = {
    "center_unembed": "log-softmax, probabilities and the top token do not change",
    "center_writing_weights": "each LayerNorm that reads the residual stream takes it out",
    "fold_ln": "the weights that read them hold these, and what they give is as before",
    "fold_value_biases": "each row of the pattern sums to 1, and the bias is in attn_out instead",
    SOFTMAX: "the softmax behind the scores takes it out",
}


def explained(found: Explanation) -> list[str]:
    """Tell an explanation, a line per thought; commands come last, each on a line of its own."""
    cell = found.cell
    tell = _PROBED if cell["probe"] is not None else _COMPARED
    lines = [_title(found), *tell[_kind(found)](found), *_known(cell)]
    if found.prompt is not None:
        lines.append(f"Smallest prompt: {tokens_of(found.prompt)}")
    lines.append("See it again:")
    return [*lines, *(f"{COMMAND}{command}  # {what}" for command, what in found.commands)]


def _kind(found: Explanation) -> str:
    verdict = str(found.cell["verdict"])
    if verdict in {"error", "unavailable"}:
        return verdict
    if not found.cell["sites_compared"]:  # a limitation says that it raises
        return "raised"
    if found.is_harmless:
        return "harmless"
    return "differs" if found.first is not None else "agrees"


def _title(found: Explanation) -> str:
    what = "every site" if found.cell["probe"] is None else "port and reference"
    forced = f", {what} forced to be {found.forced}" if found.is_forced else ""
    return f"{name_of(found.cell)}: {found.cell['verdict']}{forced}"


def _harmless(found: Explanation) -> list[str]:
    """Tell that a cell differs for its processing alone."""
    differing = sum(len(sense.sites) for sense in found.by_reason)
    mode = found.cell["loading_mode"]
    said = (
        f"What differs: {differing} of {differing + found.equal} sites, each because of what "
        f"{mode} does to the weights:"
    )
    items = (
        f"{ITEM}{_sites(sense.sites)}: the reference's, {_DIFFERENCES[sense.because]} "
        f"({sense.before:.2g} at most), {_reason(sense)}{_measured(found, sense)}."
        for sense in found.by_reason
    )
    held = (
        "In which sense it agrees: with these parts taken out every site is within its bound. "
        "Nothing is wrong with the port: without --relation no site of this cell fails."
    )
    since = f"{_since(found)} The other {found.equal} sites are equal."
    return [said, *items, since, held, *_clean(found)]


def _differs(found: Explanation) -> list[str]:
    """Tell that a port differs: where first, how far, and what still holds there."""
    first, cell = found.first, found.cell
    if first is None:  # `_kind` has asked
        return []
    site, size = first["site"], _size(first)
    lines = [
        f"What differs: the port from the reference, first at {site}: {size}{_later(found)}.",
        _since(found),
    ]
    if site == cell["first_site"]:  # of another one, behind what was forced, nobody asked
        how = _compared(first, str(cell["loading_mode"]))
        lines.append(f"In which sense: compared {how}; {cell['tightest_relation']}.")
    twin = found.localised.twin
    if twin in {"fail", "known"}:
        lines.append("Meaning, not rounding: in true float64 it differs too.")
    elif twin == "pass":
        lines.append("Rounding, not meaning: in true float64 it agrees.")
    lines += _clean(found)
    if found.by_reason:
        by_flag = "; ".join(
            f"{_named(sense.because)} at {_sites(sense.sites)} ({sense.before:.2g} at most)"
            for sense in found.by_reason
        )
        lines.append(f"Apart from that shows what is taken out and is no fault: {by_flag}.")
    return lines


def _compared(row: Row, mode: str) -> str:
    """Say in which sense a row was compared, and what asks for that."""
    if row["relation"] == EQUAL:
        return "as it is"
    reason = because(row["site"], row["relation"], mode)
    return f"{_SENSES[reason]}, because of {_named(reason)}"


def _named(reason: str) -> str:
    return "the softmax" if reason == SOFTMAX else f"`{reason}`"


def _later(found: Explanation) -> str:
    """Say at how many sites a port differs after the first."""
    number = len(found.failing) - len(found.earlier_failing) - 1
    if number <= 0:
        return ", and nowhere else"
    return f", and at {number} later sites" + (", logits too" if LOGITS in found.failing else "")


def _agrees(found: Explanation) -> list[str]:
    """Tell that a port agrees, and in which sense where it is not as it is."""
    cell = found.cell
    at_all = f"at all {cell['sites_compared']} sites, on {cell['n_prompts']} prompts"
    said = "Nothing differs: port and reference agree"
    if found.failing:  # each by a limitation, or the cell would differ
        at_all = f"at all sites but {_sites(found.failing)}, on {cell['n_prompts']} prompts"
        said = "Nothing differs that hands it on: port and reference agree"
    if found.by_reason:
        lines = [f"{said} {at_all}. {found.equal} sites are equal, and"]
        lines += [
            (
                f"{ITEM}{_sites(sense.sites)} {_agree(sense.sites)} {_SENSES[sense.because]} "
                f"(largest |Δ| {sense.before:.2g} before, {sense.after:.2g} after), "
                f"{_reason(sense)}{_measured(found, sense)}."
            )
            for sense in found.by_reason
        ]
    else:
        lines = [f"{said} {at_all}, as they are."]
    if cell["verdict"] == "stale":
        lines.append(_stale(cell))
    if found.in_other_bases:
        lines.append(
            "q, k, v and z are in other bases, because of `refactor_factored_attn_matrices`: only "
            "their products are the model's, so they are compared as attn_scores and attn_out."
        )
    if through := cell["sites_passed_through"]:
        lines.append(
            f"At {through} of the sites the port runs the reference's own code: no evidence."
        )
    return lines


def _stale(cell: Row) -> str:
    return f"But {cell['reason']}. What to do: take the limitation off the case."


def _reason(sense: Sense) -> str:
    if sense.because == SOFTMAX:
        return f"which is no fault: {_WHY[SOFTMAX]}"
    return f"because of `{sense.because}`: {_WHY[sense.because]}"


def _measured(found: Explanation, sense: Sense) -> str:
    """Say what was measured of the probabilities where the logits are told."""
    if LOGITS not in sense.sites or found.kl_nats is None or found.top1_agreement is None:
        return ""
    same = found.top1_agreement
    top = "always the same" if same >= 1 else f"the same for a share of {same:.4f} at worst"
    return f" (measured: KL {found.kl_nats:.1g} nats, top token {top})"


def _since(found: Explanation) -> str:
    first = found.first
    if first is None:
        return ""
    if not found.earlier:
        return f"Since where: {first['site']}, the first site of all."
    but = found.earlier_failing
    though = f" but {_sites(but)}, for a reason of their own" if but else ""
    return f"Since where: {first['site']}; all {found.earlier} sites before it agree{though}."


def _clean(found: Explanation) -> list[str]:
    """Say which other modes agree, and which part of the mode the difference needs."""
    where = found.localised
    said = []
    if where.clean:
        said.append(f"Which mode is clean: {_and(where.clean)}, in the same run.")
    if found.is_harmless:
        return [" ".join((*said, "So it is the processing."))] if said else []
    if others := [mode for mode in where.alike if mode != found.cell["loading_mode"]]:
        said.append(f"{'Also' if said else 'In the same run'} as here: {_and(others)}.")
    if where.brought_by:
        said.append(f"So it comes with {' or '.join(f'`{part}`' for part in where.brought_by)}.")
    elif where.needs_no_processing:
        said.append("So it is not the processing.")
    return [" ".join(said)] if said else []


def _and(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _error(found: Explanation) -> list[str]:
    raised = f"What happened: it raised, so that it gives no verdict: {found.cell['reason']}"
    do = (
        "What to do: replay it to see whether it raises again; where a library is at fault, write "
        "a limitation that says so (outcome `raises`, with a link)."
    )
    return [raised, do, *_clean(found)]


def _raised(_: Explanation) -> list[str]:
    return ["What happened: it raised, so that nothing was compared."]


def _unavailable(found: Explanation) -> list[str]:
    said = f"It was not measured, which is no verdict on the port: {found.cell['reason']}"
    do = (
        "What to do: nothing, if the reason is the port's or the model's own; else give this "
        "machine what it lacks and run the cell anew."
    )
    clean = found.localised.clean
    return [said, do, *([f"In the same run it agrees in {_and(clean)}."] if clean else [])]


def _known(cell: Row) -> list[str]:
    if cell["verdict"] != "known":
        return []
    lines = [f"Why it is known, not a failure: {cell['reason']}."]
    if cell["limitation"]:
        lines.append(
            f"Written down in {', '.join(str(cell['limitation']).split())}; the limitation on "
            "the case says until when, and from then on it is judged without it."
        )
    return lines


def _probe_differs(found: Explanation) -> list[str]:
    """Tell which check of a probe is not kept, and the sentence that the probe gave for it."""
    first, cell = found.first, found.cell
    if first is None:  # `_kind` has asked
        return []
    others = [name for name in str(cell["failing_checks"]).split("; ") if name != first["check"]]
    probe, check, site = cell["probe"], first["check"], first["site"]
    lines = [f"What is not kept: {probe}, in its check “{check}”, first at {site}: {_size(first)}."]
    if told := _told(cell):
        lines.append(f"Why: {told}.")
    if others:
        lines.append(f"These checks fail too: {'; '.join(others)}.")
    return [*lines, _owed(cell), *_clean(found)]


def _told(cell: Row) -> str:
    """Give the sentence of a probe that says more than that two things are owed to be the same."""
    said = str(cell["tightest_relation"] or "")
    return "" if said.endswith(_OWED_TO_BE_THE_SAME) else said.rstrip(".")


def _probe_agrees(found: Explanation) -> list[str]:
    cell = found.cell
    checks = "; ".join(found.checks)
    said = f"The model keeps what {cell['probe']} asks, on {cell['n_prompts']} prompts: {checks}."
    stale = [_stale(cell)] if cell["verdict"] == "stale" else []
    return [said, *stale, _owed(cell)]


def _owed(cell: Row) -> str:
    return f"What is owed, and why: harness/measure/probes/{cell['probe']}.py."


def _size(row: Row) -> str:
    """Say how far a row is from what is allowed."""
    at = f"largest |Δ| {row['max_abs']:.2g} at [{row['worst_index']}]"
    if row["dtype"] == "exact" or not row["bound"]:
        return f"rel_l2 {row['rel_l2']:.2g}, allowed {row['bound']:.2g}, {at}"
    than = "the reference's own error" if row["probe"] is None else "what rounding alone does there"
    return f"{row['error_ratio']:.3g} times {than}, allowed {row['bound']:.3g}, {at}"


def _sites(sites: Sequence[str]) -> str:
    """Name sites without their layers, each once, with their number if there are more."""
    names = list(dict.fromkeys(_inside(site) for site in sites))
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return shown if len(names) == len(sites) else f"{shown} ({len(sites)} sites)"


def _agree(sites: Sequence[str]) -> str:
    return "agree" if len(sites) > 1 or sites[0] == LOGITS else "agrees"


def _inside(site: str) -> str:
    stack, _, rest = site.partition(".")
    layer, _, inside = rest.partition(".")
    return inside if stack.endswith("blocks") and layer.isdigit() and inside else site


_COMPARED: Final = {
    "harmless": _harmless,
    "differs": _differs,
    "agrees": _agrees,
    "error": _error,
    "raised": _raised,
    "unavailable": _unavailable,
}
_PROBED: Final = {**_COMPARED, "differs": _probe_differs, "agrees": _probe_agrees}
