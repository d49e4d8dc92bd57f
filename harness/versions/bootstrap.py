"""Starts a measuring worker in an environment that has none of the harness installed.

Run with `python -I`, by its path: it brings in the package `harness` from beside itself and
nothing else of the surroundings it lies in.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def bring_in() -> None:
    """Make `import harness` find this package; its parent folder stays off the path."""
    spec = importlib.util.spec_from_file_location(
        "harness", _PACKAGE / "__init__.py", submodule_search_locations=[str(_PACKAGE)]
    )
    if spec is None or spec.loader is None:
        message = f"{_PACKAGE} is not a package; install the harness again"
        raise ImportError(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules["harness"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    bring_in()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
