"""The only wing that knows a model library: sites, families, checkpoints and ports."""
