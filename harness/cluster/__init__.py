"""Cells on many machines: pytest collects, Ray schedules, a subprocess per case measures.

Nothing here is imported unless `--executor ray` asks for it, and no file but `engine.py` knows Ray.
"""
