"""The scripts of tools/demo and of benchmarks/ import each other by bare name; tests find them as the scripts do."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

for folder in (ROOT / "benchmarks", ROOT / "tools" / "demo"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
