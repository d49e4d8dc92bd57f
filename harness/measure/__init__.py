"""Tensors become numbers: prompts, exact mode, capture, relations, comparison, a cell's run."""
