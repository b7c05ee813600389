"""The synthetic tree of tools/demo for tests, and small tables."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOOL = Path(__file__).resolve().parents[1] / "tools" / "demo" / "mimic_tree.py"


def tool() -> Any:
    """The script as a module."""
    name = "mimic_tree_tool"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TOOL)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def write_table(path: Path, headings: Sequence[str], *rows: Sequence[object]) -> Path:
    """A separated file, packed where its name says so."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([headings, *rows])
    content = text.getvalue().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
