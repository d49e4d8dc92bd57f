"""Who may import whom: the direction that docs/architecture.md draws, held for every file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "harness"

BASE = {"errors", "case", "plugged", "surroundings"}
READING = BASE | {"record"}
JUDGING = READING | {"bounds"}
MODELS = JUDGING | {"provenance", "cache", "coverage", "exact", "threads"}
MEASURING = MODELS | {"models"}
BELOW = MEASURING | {"measure", "judge", "report", "selection", "scheduling", "versions"}
BELOW |= {"profile", "known", "teeth", "page", "history", "sharding", "cluster"}
BELOW |= {"merging", "storing", "stopping", "begun", "watching", "guarding"}
COMMAND = BELOW | {"cli_progress"}
COMMANDS = BELOW | {"gating", "searching", "cli_names"}
COMMANDS |= {"cli_cache", "cli_compatibility", "pruning"}
COMMANDS |= {"cli_convert", "cli_coverage", "cli_explain", "cli_gate", "cli_search", "cli_shrink"}
COMMANDS |= {"cli_history", "cli_init", "cli_merge", "cli_newer", "cli_progress", "cli_report"}
COMMANDS |= {"cli_pack", "cli_teeth", "scaffold"}

# Each room, and the rooms that it may import besides itself.
ROOMS = {
    "errors": set(),
    "surroundings": set(),
    "case": {"errors"},
    "plugged": {"errors", "case"},
    "record": BASE,
    "provenance": BASE,
    "models": MODELS,
    "bounds": set(),
    "exact": set(),
    "threads": set(),
    "coverage": set(),
    "measure": MEASURING,
    "teeth": MEASURING | {"measure", "judge"},
    "judge": JUDGING,
    "cache": set(),
    "versions": JUDGING | {"provenance", "profile", "selection", "cache", "judge"},
    "report": JUDGING | {"judge", "coverage"},
    "history": READING,
    "page": JUDGING | {"judge", "report", "coverage", "history"},
    "profile": BASE,
    "selection": BASE | {"profile"},
    "known": MODELS | {"models", "profile", "selection"},
    "scheduling": BASE,
    "sharding": BASE,
    "merging": READING,
    "cluster": MEASURING | {"measure", "merging"},
    "storing": set(),
    "stopping": set(),
    "begun": READING | {"storing"},
    "guarding": READING | {"storing", "stopping", "begun"},
    "watching": READING | {"storing", "stopping", "begun", "guarding", "scheduling"},
    "plugin": BELOW,
    "gating": BELOW,
    "cli_gate": COMMAND | {"gating"},
    "searching": BELOW | {"gating"},
    "cli_search": COMMAND | {"gating", "cli_gate", "searching"},
    "cli_convert": COMMAND,
    "cli_compatibility": COMMAND | {"gating", "cli_names"},
    "cli_coverage": COMMAND,
    "pruning": {"errors", "cache"},
    "cli_cache": COMMAND | {"pruning"},
    "cli_shrink": COMMAND,
    "cli_teeth": COMMAND,
    "cli_progress": set(),
    "cli_names": BASE | {"profile", "selection"},
    "cli_explain": COMMAND | {"cli_names"},
    "scaffold": {"errors"},
    "cli_init": {"errors", "scaffold"},
    "cli_newer": COMMAND,
    "cli_report": COMMAND | {"cli_names"},
    "cli_history": COMMAND | {"cli_names"},
    "cli_merge": COMMAND | {"cli_names", "merging"},
    "cli_pack": COMMAND | {"cli_names"},
    "cli": COMMANDS,
    "__init__": COMMANDS | {"plugin", "cli"},  # the facade: anything, but only lazily
}

# Each library that knows models or tensors, and the rooms that may import it.
LIBRARIES = {
    "transformers": {"models"},
    "transformer_lens": {"models"},
    "nnterp": {"models"},
    "nnsight": {"models"},
    "torch": {"models", "measure", "teeth", "provenance", "exact", "threads"},
    "ray": {"cluster"},
}


def names_imported(node: ast.AST, package: list[str]) -> Iterator[str]:
    """Give the dotted names that a node in a module of `package` imports, from the root."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            start = package[: len(package) - level + 1] if level else []
            parts = [*start, module] if module else start
            yield from (".".join([*parts, alias.name]) for alias in names)
        case ast.Call(
            func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            yield name


def is_forbidden(room: str, name: str) -> bool:
    """Say whether a room must not import this name."""
    top, *rest = name.split(".")
    if top != "harness":
        return room not in LIBRARIES.get(top, {room})
    target = rest[0] if rest and rest[0] in ROOMS else "__init__"
    return target not in ROOMS[room] | {room}


def lazy_nodes(tree: ast.Module) -> set[ast.AST]:
    """Give all nodes that do not run when the module is imported."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    blocks = [node for node in ast.walk(tree) if isinstance(node, functions)]
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            blocks += node.body
    return {node for block in blocks for node in ast.walk(block)}


def faults_in(file: Path, package: Path) -> Iterator[str]:
    """Give each import in one file that goes the wrong way, with its line."""
    inside = file.relative_to(package)
    room = inside.parts[0].removesuffix(".py")
    if room not in ROOMS:
        yield f"{inside}:1: {room} has no row in ROOMS; next: say there what it may import"
        return
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    lazy = lazy_nodes(tree)
    for node in ast.walk(tree):
        for name in names_imported(node, ["harness", *inside.parent.parts]):
            if is_forbidden(room, name):
                yield f"{inside}:{node.lineno}: {room} may not import {name}"
            elif room == "__init__" and name.startswith("harness.") and node not in lazy:
                yield f"{inside}:{node.lineno}: the facade may import {name} only lazily"


def wrong_imports(package: Path) -> list[str]:
    """Give each import in a package that goes the wrong way; no files is an error."""
    files = sorted(package.rglob("*.py"))
    assert files, f"no Python files in {package}: nothing was checked"
    return [fault for file in files for fault in faults_in(file, package)]


def write_package(folder: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
    return folder


def test_every_import_goes_one_way() -> None:
    assert wrong_imports(PACKAGE) == []


def test_every_row_of_the_table_has_its_room() -> None:
    present = {path.stem for path in PACKAGE.iterdir()}
    assert set(ROOMS) - present == set(), "a row without a room is stale"


@pytest.mark.parametrize("room", ["errors", "case", "record", "report", "selection"])
def test_reading_reaches_no_room_that_knows_tensors(room: str) -> None:
    assert ROOMS[room] & set().union(*LIBRARIES.values()) == set()


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_the_table_itself_goes_one_way(room: str) -> None:
    reached = set().union(*(ROOMS[below] for below in ROOMS[room]))
    assert reached <= ROOMS[room] - {room}


def test_a_package_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nothing was checked"):
        wrong_imports(tmp_path)


@pytest.mark.parametrize(
    ("file", "source", "line", "name"),
    [
        ("case.py", "import harness.record", 2, "harness.record"),
        ("errors.py", "from harness import case", 2, "harness.case"),
        ("record.py", "from harness import Case", 2, "harness.Case"),
        ("measure/run.py", "from harness.report import words", 2, "harness.report.words"),
        ("report/page.py", "import torch.nn", 2, "torch.nn"),
        ("report/page.py", "def f():\n    from ..measure import run", 3, "harness.measure.run"),
        ("report/page.py", 'import_module("harness.models")', 2, "harness.models"),
        ("report/a/b.py", "from ...models.sites import S", 2, "harness.models.sites.S"),
        ("report/page.py", "if TYPE_CHECKING:\n    import torch", 3, "torch"),
        ("measure/run.py", "import transformers", 2, "transformers"),
        ("plugin.py", "from transformer_lens import hooks", 2, "transformer_lens.hooks"),
    ],
)
def test_a_wrong_import_is_found_at_its_file_and_line(
    tmp_path: Path, file: str, source: str, line: int, name: str
) -> None:
    package = write_package(tmp_path, {"errors.py": "", file: f'"""A room."""\n{source}\n'})
    room = Path(file).parts[0].removesuffix(".py")
    assert wrong_imports(package) == [f"{file}:{line}: {room} may not import {name}"]


@pytest.mark.parametrize(
    "source", ["import harness.case", "try:\n from .case import Case\nfinally: 0"]
)
def test_an_import_of_the_facade_that_is_not_lazy_is_found(tmp_path: Path, source: str) -> None:
    faults = wrong_imports(write_package(tmp_path, {"__init__.py": source}))
    assert len(faults) == 1
    assert "only lazily" in faults[0]


def test_a_room_without_a_row_is_found(tmp_path: Path) -> None:
    faults = wrong_imports(write_package(tmp_path, {"utils.py": ""}))
    assert len(faults) == 1
    assert faults[0].startswith("utils.py:1: utils has no row in ROOMS")


def test_a_package_that_goes_one_way_is_silent(tmp_path: Path) -> None:
    files = {
        "__init__.py": "def __getattr__(name):\n    from harness.case import Case\n",
        "record.py": "import pyarrow\nfrom harness.case import Case\nfrom . import errors\n",
        "models/ports/bridge.py": "import torch, transformer_lens\nfrom ..sites import embed\n",
        "measure/run.py": "import torch\nfrom harness.models.ports import bridge\n",
        "report/page.py": "from harness.record import read\nfrom .words import say\n",
        "cli.py": "def main():\n    from harness.measure import run\n",
    }
    assert wrong_imports(write_package(tmp_path, files)) == []
