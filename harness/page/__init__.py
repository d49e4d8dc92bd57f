"""The HTML page of a run or of a gate: one file, which opens from disk without a network."""
