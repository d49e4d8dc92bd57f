"""Rows of every kind, written by hand: any values of a column's type, or plain ones."""

import pyarrow as pa
from hypothesis import strategies as st

from harness import record
from harness.record import COLUMNS, PACKED, portions_of, write_part

KINDS = tuple(COLUMNS)
READERS = {
    "cells": record.read_cells,
    "deltas": record.read_deltas,
    "fingerprints": record.read_fingerprints,
    "controls": record.read_controls,
    "positions": record.read_positions,
    "prompts": record.read_prompts,
}
LABEL, TOKENS = pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.list_(pa.int64()))
REALS, MEASURED = pa.list_(pa.float64()), pa.list_(pa.float32())
WHOLE = st.integers(-(2**63), 2**63 - 1)
VALUES = {
    pa.string(): st.text(),
    LABEL: st.text(),
    pa.int64(): WHOLE,
    pa.float64(): st.floats(allow_nan=False),
    pa.float32(): st.floats(allow_nan=False, width=32),
    REALS: st.lists(st.floats(allow_nan=False)),
    MEASURED: st.lists(st.floats(allow_nan=False, width=32)),
    pa.bool_(): st.booleans(),
    TOKENS: st.lists(st.lists(WHOLE)),
}
PLAIN = {
    pa.string(): "words",
    LABEL: "words",
    pa.int64(): 7,
    pa.float64(): 0.5,
    pa.float32(): 0.5,
    REALS: [0.5, 0.5],
    MEASURED: [0.5, 0.5],
    pa.bool_(): True,
    TOKENS: [[7, 7]],
}


def rows_of(kind):
    """Give a strategy for rows of a kind: any value of the column's type, None where it may be."""
    fields = {
        column.name: VALUES[column.type] | st.none() if column.missing else VALUES[column.type]
        for column in COLUMNS[kind]
    }
    return st.fixed_dictionaries(fields)


def plain_row(kind, **changes):
    """Give a row of a kind that is like any other."""
    return {column.name: PLAIN[column.type] for column in COLUMNS[kind]} | changes


def unpack(run):
    """Make a packed run one of parts again, as a session leaves it that was killed at its end."""
    for kind in record.KINDS:
        for part in portions_of(run, kind):
            write_part(run, kind, part.name, part.read().to_pylist())
        (run / kind / PACKED).unlink(missing_ok=True)
