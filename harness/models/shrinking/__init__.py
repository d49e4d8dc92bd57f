"""From a config to a tiny one of the same kind: a twin that is built and run before it is given."""

from harness.models.shrinking.building import (
    Tiny,
    tiny_of_config,
    tiny_of_type,
    without_bookkeeping,
)
from harness.models.shrinking.running import quiet, run_once, seeded
from harness.models.shrinking.variants import experiment

__all__ = [
    "Tiny",
    "experiment",
    "quiet",
    "run_once",
    "seeded",
    "tiny_of_config",
    "tiny_of_type",
    "without_bookkeeping",
]
