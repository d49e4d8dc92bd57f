"""Benchmarks: what the harness itself costs, printed as tables."""
