"""Tensors become numbers: prompts, exact mode, capture, relations, comparison, the run of a cell."""
