"""The import rows of docs/architecture.md, read from the source: each unit may import only from rows above its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import medgemma_visualizer

PACKAGE = "medgemma_visualizer"
ROOT = Path(medgemma_visualizer.__file__).parent
PUBLIC = "public names"

ROWS = (
    {"records", "registry", "settings", "errors", "grid", "progress"},
    {"data", "models"},
    {"heatmaps", "scores", "figures"},
    {"checks"},
    {"runs"},
    {"reports"},
    {PUBLIC, "verbs", "documented_api", "telling"},
    {"app"},
    {"cli"},
    {"__main__"},
)
#: Rows whose units belong together; in all others neighbours do not know each other.
OPEN_ROWS = (0, 6)

#: Who may load a heavy library when it is imported. Inside a function, the function's caller decides.
HEAVY = {
    "torch": {"models", "heatmaps", "checks"},
    "transformers": {"models"},
    "captum": {"heatmaps", "checks"},
    "matplotlib": {"figures"},
    "scipy": {"data", "heatmaps", "scores", "checks"},
    "skimage": {"data", "scores", "checks"},
    "cv2": {"data", "heatmaps", "scores", "checks"},
    "pydicom": {"data"},
    "pyarrow": {"runs", "reports"},
    "pandas": {"reports", "app"},
    "jinja2": {"reports"},
    "ray": {"runs"},
    "gradio": {"app"},
    "typer": {"cli"},
    "rich": {"cli"},
}

FILES = sorted(path for path in ROOT.rglob("*.py"))


def unit_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return PUBLIC if first == "__init__" else first


def row_of(unit: str) -> int:
    (row,) = (number for number, units in enumerate(ROWS) if unit in units)
    return row


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports, at its top, in functions and for type checking, by full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the row that they reach"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def units_imported(tree: ast.AST) -> set[str]:
    inside = (name.split(".") for name in imported(tree) if name.split(".")[0] == PACKAGE)
    known = set().union(*ROWS)
    return {parts[1] if len(parts) > 1 and parts[1] in known else PUBLIC for parts in inside}


def loaded_with(tree: ast.Module) -> set[str]:
    """Top-level names of what is loaded when the file is imported, leaving out functions and type checking."""
    at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {name.split(".")[0] for node in at_import for name in imported(node)}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_each_file_imports_only_from_rows_above_its_own(path):
    unit = unit_of(path)
    row = row_of(unit)
    for other in units_imported(ast.parse(path.read_text(encoding="utf-8"))) - {unit}:
        neighbours = row in OPEN_ROWS and row_of(other) == row
        assert row_of(other) < row or neighbours, f"{unit} (row {row}) imports {other} (row {row_of(other)})"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_libraries_are_loaded_only_where_they_belong(path):
    loaded = loaded_with(ast.parse(path.read_text(encoding="utf-8")))
    for library in loaded & HEAVY.keys():
        assert unit_of(path) in HEAVY[library], f"{name_of(path)} loads {library} when imported"


def test_the_rows_name_every_unit_once_and_the_rules_see_violations():
    assert len(set().union(*ROWS)) == sum(len(row) for row in ROWS)
    assert {unit_of(path) for path in FILES} <= set().union(*ROWS)
    sample = ast.parse("import torch\nfrom medgemma_visualizer.cli import main\ndef f():\n    import ray\n")
    assert units_imported(sample) == {"cli"}
    assert loaded_with(sample) == {"torch", PACKAGE}


def test_no_file_draws_through_pyplot():
    drawers = [path for path in FILES if "pyplot" in {n.split(".")[-1] for n in imported(ast.parse(path.read_text()))}]
    assert drawers == []


def test_importing_the_package_loads_no_heavy_library():
    code = f"import sys, {PACKAGE}; print(*sorted({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
