"""The test data in `tests/vectors/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent / "vectors"


def load(name: str) -> Any:
    """Return the JSON file called `name`."""
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


def read(name: str) -> bytes:
    """Return the bytes of the file called `name`."""
    return (ROOT / name).read_bytes()
