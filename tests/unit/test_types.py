from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from crashfree import types


@pytest.mark.parametrize(
    ("shape", "required"),
    [
        (types.Attachment, {"filename", "data"}),
        (types.SessionAttributes, {"release"}),
        (types.SessionUpdate, {"sid", "started", "attrs"}),
        (types.SessionBucket, {"started"}),
        (types.SessionAggregates, {"attrs", "aggregates"}),
        (types.ClientReport, {"timestamp", "discarded_events"}),
        (types.Event, set()),
    ],
)
def test_a_payload_requires_what_the_wire_requires(shape: Any, required: set[str]) -> None:
    assert shape.__required_keys__ == required


def test_the_shapes_load_neither_typing_extensions_nor_inspect() -> None:
    """Every program that calls init would pay for them."""
    program = (
        "import sys; before = set(sys.modules); import crashfree.types;"
        "late = {'inspect', 'typing_extensions', 'dataclasses'} & (set(sys.modules) - before);"
        "assert not late, late"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
