"""Rows become verdicts. Imports no tensor library: it starts at once and replays from disk."""
