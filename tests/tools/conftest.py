"""The scripts of tools/demo import each other by bare name; tests find them as the scripts do."""

from __future__ import annotations

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "demo"

if str(TOOLS) not in sys.path:
    sys.path.insert(0, str(TOOLS))
