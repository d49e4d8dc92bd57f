"""The columns of a run's rows, as declared values: each with its type and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import pyarrow as pa

SCHEMA_VERSION: Final = 5
Kind = Literal["cells", "controls", "deltas", "fingerprints", "positions", "prompts"]
Row = Mapping[str, Any]

VERDICTS: Final = ("pass", "fail", "known", "stale", "error", "unavailable")
GREEN: Final = frozenset({"pass", "known"})
RED: Final = frozenset({"fail", "stale", "error"})

TEXT_ORIGIN: Final = "text:"
"""What the origin of a prompt begins with whose tokens a tokenizer made of a text."""

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
# What is measured of a site needs no more than seven digits, and millions of rows no more bytes.
_MEASURED = pa.float32()
_LABEL = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name, its type, what it means; `missing` says when it may be null."""

    name: str
    type: pa.DataType
    doc: str
    missing: str = ""


def _column(name: str, kind: pa.DataType, doc: str, missing: str = "") -> Column:
    return Column(name=name, type=kind, doc=doc, missing=missing)


_AXES: Final = (
    _column("run_id", _LABEL, "folder name of the run that measured it, a shard's if merged"),
    _column("cell_id", _LABEL, "case, loading mode, dtype (and device if not cpu), by dots"),
    _column("family", _LABEL, "architecture"),
    _column("variant", _LABEL, "the family's configuration variant"),
    _column("checkpoint", _LABEL, "kind and name of the checkpoint"),
    _column("port", _LABEL, "what was compared with the reference"),
    _column("loading_mode", _LABEL, "how the port was loaded"),
    _column("dtype", _LABEL, "exact (true float64), float32, bfloat16 or float16"),
    _column("device", _LABEL, "cpu, cuda or mps"),
    _column("probe", _LABEL, "what the model was asked of itself", "port and reference compared"),
)

_NO_AXES_OF_PRINTS: Final = frozenset({"cell_id", "port", "loading_mode", "probe"})
_AXES_OF_CONTROLS: Final = frozenset(
    {"run_id", "cell_id", "family", "port", "loading_mode", "dtype"}
)
_NOT_RUN: Final = "the cell did not run to its end"
_NOT_LOGITS: Final = "the site is not `logits`"
_NOT_PORT: Final = "the side is no port"

COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    "cells": (
        *_AXES,
        _column("verdict", _LABEL, f"one of {', '.join(VERDICTS)}"),
        _column("reason", _TEXT, "why, in words, for every verdict but pass", "the cell passed"),
        _column("failing_checks", _TEXT, "the probe's checks that failed, by `; `", "none failed"),
        _column("first_site", _TEXT, "first failing site in forward order", "no site failed"),
        _column("first_prompt_id", _TEXT, "smallest prompt known to fail there", "no site failed"),
        _column("tightest_relation", _TEXT, "relation that holds at it", "no site failed"),
        _column("limitation", _TEXT, "link of the limitation on the case", "there is none"),
        _column(
            "sites_compared",
            _WHOLE,
            "sites compared, on all prompts; of a probe, those it may ask about",
        ),
        _column("sites_passed_through", _WHOLE, "of these, computed by the reference's own code"),
        _column("sites_missing", _WHOLE, "sites of the reference that the port lacks"),
        _column("missing_sites", _TEXT, "their names, by spaces"),
        _column("n_prompts", _WHOLE, "prompts run"),
        _column("routing_flips", _WHOLE, "tokens sent to other experts than the oracle's"),
        _column("unjudged", _WHOLE, "sites × prompts with no position before the first flip"),
        _column("worst_rel_l2", _REAL, "largest rel_l2 over its deltas", _NOT_RUN),
        _column("worst_error_ratio", _REAL, "largest error_ratio ÷ chance_factor", _NOT_RUN),
        _column("checkpoint_digest", _TEXT, "sha256 over the checkpoint's files", _NOT_RUN),
        _column("remote_code", _TEXT, "the checkpoint's own code, file=sha256", "none was run"),
        _column("seconds", _REAL, "wall time of the cell, seconds"),
        _column("peak_rss_mb", _REAL, "peak memory of the process so far, MiB"),
    ),
    "deltas": (
        *_AXES,
        _column("check", _LABEL, "which of the probe's checks", "port and reference compared"),
        _column("power", _MEASURED, "rel_l2 of the nearest mistake", "the check knows of none"),
        _column("prompt_id", _LABEL, "key into prompts"),
        _column("site", _LABEL, "where, in TransformerLens' names without hook_"),
        _column("layer", _WHOLE, "layer of the site", "the site is outside the blocks"),
        _column("tensor_shape", _LABEL, "shape of the port's tensor, e.g. 2x11x20"),
        _column("n_compared", _WHOLE, "values compared: neither padding nor masked out"),
        _column("relation", _LABEL, "sense in which the two must agree here"),
        _column(
            "agrees_as",
            _LABEL,
            "relation by the mode's processing in which a row passes that fails as it was forced",
            "no relation was forced, or the row passes, or fails by its mode's relation too",
        ),
        _column(
            "passed_through", pa.bool_(), "the reference's own code computed the port's tensor"
        ),
        _column("max_abs", _MEASURED, "largest |port - reference| once the relation is taken out"),
        _column("mean_abs", _MEASURED, "mean |port - reference|, likewise"),
        _column("rms", _MEASURED, "root mean square of port - reference, likewise"),
        _column("rel_l2", _MEASURED, "‖port - reference‖ / ‖reference‖, likewise"),
        _column("cosine", _MEASURED, "cosine of port and reference", "one of them is zero"),
        _column("mean_port", _MEASURED, "mean of the port's values, relation not applied"),
        _column(
            "mean_reference", _MEASURED, "mean of the reference's values, relation not applied"
        ),
        _column("std_port", _MEASURED, "their standard deviation, relation not applied"),
        _column("std_reference", _MEASURED, "the same of the reference"),
        _column("raw_max_abs", _MEASURED, "largest |port - reference| with nothing taken out"),
        _column("shift_abs", _MEASURED, "largest part that the relation, or agrees_as, takes out"),
        _column("reference_error", _MEASURED, "rel_l2 of the reference against the oracle"),
        _column("port_error", _MEASURED, "rel_l2 of the port against the oracle"),
        _column(
            "typical_error",
            _MEASURED,
            "reference_error, root mean square over prompts; of a row that would fail, over runs "
            "of its prompt with rounding drawn anew, if that is more",
        ),
        _column(
            "error_ratio",
            _MEASURED,
            "port_error / the largest of reference_error, typical_error and one rounding's error",
        ),
        _column("chance_factor", _MEASURED, "how far chance takes the error of so few values"),
        _column("bound", _MEASURED, "largest rel_l2 (dtype exact) or error_ratio (else) allowed"),
        _column("kl_nats", _MEASURED, "KL(reference ‖ port), nats, mean per token", _NOT_LOGITS),
        _column("top1_agreement", _MEASURED, "share of tokens with the same argmax", _NOT_LOGITS),
        _column("nonfinite", _WHOLE, "values not finite on either side"),
        _column("worst_index", _TEXT, "index of max_abs in the tensor, e.g. 0,7,12"),
        _column("verdict", _LABEL, "pass or fail"),
    ),
    "fingerprints": (
        *(column for column in _AXES if column.name not in _NO_AXES_OF_PRINTS),
        _column("side", _LABEL, "reference, oracle (of rounded weights) or port"),
        _column("cell_id", _LABEL, "the port's cell", _NOT_PORT),
        _column("loading_mode", _LABEL, "how the port was loaded", _NOT_PORT),
        _column("site", _LABEL, "where, in TransformerLens' names without hook_"),
        _column("place", _WHOLE, "the site's place in forward order, from 0"),
        _column("relation", _LABEL, "coordinates: as it is (equal), or centred (shift)"),
        _column("question", _WHOLE, "digest of checkpoint and prompts: only equals compare"),
        _column("digest", _WHOLE, "64 bits over all prompts: equal digests are equal values"),
        _column("norm", _REAL, "norm of the values of all prompts"),
        _column("mean_value", _REAL, "their mean"),
        _column("std_value", _REAL, "their standard deviation"),
        _column("n_values", _WHOLE, "values that count"),
        _column("masked", _WHOLE, "scores that the model itself masks out"),
        _column("nonfinite", _WHOLE, "values that count and are not finite"),
        _column("sketch", pa.list_(_REAL), "CountSketch of 32 buckets", "the side is a port"),
        _column("prompt_norms", pa.list_(_REAL), "norm per prompt", "the side is a port"),
        _column(
            "prompt_projections", pa.list_(_REAL), "sketch of one bucket each", "side is a port"
        ),
        _column("rel_l2", _REAL, "port to reference, largest over prompts", _NOT_PORT),
        _column("reference_error", _REAL, "of the reference to the oracle, typical", _NOT_PORT),
        _column("error_ratio", _REAL, "largest over prompts, ÷ chance_factor", _NOT_PORT),
        _column("failed", pa.bool_(), "port differs from the reference here", _NOT_PORT),
        _column(
            "difference_sketch",
            pa.list_(_MEASURED),
            "CountSketch of port - reference",
            "the port agrees with the reference, or the side is none",
        ),
    ),
    "controls": (
        *(column for column in _AXES if column.name in _AXES_OF_CONTROLS),
        _column("fault", _TEXT, "what was planted, and where", "none could be"),
        _column("expected_site", _TEXT, "site that must be named first", "none could be"),
        _column("first_site", _TEXT, "site that was", "none was: the fault was not seen"),
        _column("caught", pa.bool_(), "the cell turned red; if not, the run proves nothing"),
        _column("words", _TEXT, "what the cell said of itself, or why nothing was planted"),
        _column("seconds", _REAL, "wall time of the cell with the fault, seconds"),
    ),
    "positions": (
        _column("run_id", _LABEL, "the run's folder name"),
        _column("cell_id", _LABEL, "a comparison that is not as it should be"),
        _column("prompt_id", _LABEL, "smallest prompt known to fail, key into prompts"),
        _column("site", _LABEL, "first failing site"),
        _column("row", _WHOLE, "row of the batch, from 0"),
        _column("position", _WHOLE, "position in the row, from 0; of attention, the query's"),
        _column("token", _WHOLE, "token id there", "the site's positions are a decoder's"),
        _column("max_abs", _MEASURED, "largest |port - reference| there, the relation taken out"),
        _column("rel_l2", _MEASURED, "‖port - reference‖ / ‖reference‖ there", "all is zero there"),
    ),
    "prompts": (
        _column("run_id", _LABEL, "folder name of the run that measured it, a shard's if merged"),
        _column("cell_id", _LABEL, "the cell that ran it"),
        _column("prompt_id", _TEXT, "digest of tokens and mask"),
        _column("origin", _TEXT, "bank:<name>, hypothesis, shrunk or text:<name>"),
        _column("fingerprinted", pa.bool_(), "fingerprints cover it"),
        _column("tokens", pa.list_(pa.list_(_WHOLE)), "token ids [batch, pos]"),
        _column("attention_mask", pa.list_(pa.list_(_WHOLE)), "ones where a token is real"),
    ),
}

AXES_OF: Final = {
    kind: tuple(axis.name for axis in _AXES if axis.name in {column.name for column in columns})
    for kind, columns in COLUMNS.items()
}
"""Of each kind, the axes that it has: what its rows can be filtered by."""


def schema_of(kind: str) -> pa.Schema:
    """Give the Arrow schema of a kind of row, each column with its documentation."""
    return pa.schema(
        [
            pa.field(
                column.name,
                column.type,
                nullable=bool(column.missing),
                metadata={"doc": column.doc}
                | ({"missing": column.missing} if column.missing else {}),
            )
            for column in COLUMNS[kind]
        ],
        metadata={"schema_version": str(SCHEMA_VERSION), "kind": kind},
    )


@cache
def plain_schema(kind: str) -> pa.Schema:
    """Give the schema without documentation, as parts have it: columns.json says it once."""
    schema = schema_of(kind)
    return pa.schema([field.remove_metadata() for field in schema], schema.metadata)


def encoding_of(kind: str) -> dict[str, list[str]]:
    """Say how columns are encoded: floats split by byte, which makes a part a third smaller."""
    fields = plain_schema(kind)
    floats = [field.name for field in fields if pa.types.is_floating(field.type)]
    lists = {field.name for field in fields if pa.types.is_list(field.type)}
    others = [name for name in fields.names if name not in lists.union(floats)]
    return {"use_dictionary": others, "use_byte_stream_split": floats}
