"""`crashfree doctor` about the spool: what waits, and whether anything could."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from crashfree._cli import waiting
from crashfree._cli.findings import Section, Surroundings
from crashfree._delivery.discards import Discards
from crashfree._delivery.spool import Spool
from crashfree._delivery.spooldirectory import SpoolDirectory
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import event_item
from tests.support.clock import FakeClock


def looked(directory: Path) -> Section:
    return waiting.section(Surroundings({"CRASHFREE_SPOOL_DIR": str(directory)}, None))


def keep(directory: Path, count: int, *, age: float) -> None:
    clock = FakeClock(SYSTEM_CLOCK.time() - age)
    dsn = Dsn.parse("https://key@sentry.example.com/3")
    place = SpoolDirectory(directory, dsn=dsn, clock=clock)
    spool = Spool(place, on_evicted=Discards().record)
    for _ in range(count):
        assert spool.put(Envelope.of([event_item({"message": "x"})], event_id="a" * 32))


def test_a_directory_that_is_not_there_yet_is_fine_and_not_made(tmp_path: Path) -> None:
    found = looked(tmp_path / "deep" / "spool")
    assert found.facts["writable"] is True
    assert found.facts["envelopes"] == 0
    assert found.facts["source"] == "env:CRASHFREE_SPOOL_DIR"
    assert dict(found.rows)["waiting"] == "nothing"
    assert (found.problems, found.hints) == ((), ())
    assert list(tmp_path.iterdir()) == []


def test_what_waits_is_counted_and_after_an_hour_there_is_a_hint(tmp_path: Path) -> None:
    keep(tmp_path, 2, age=60.0)
    fresh = looked(tmp_path)
    assert (fresh.facts["envelopes"], fresh.hints) == (2, ())
    assert dict(fresh.rows)["waiting"].startswith("2 envelopes, ")
    keep(tmp_path, 1, age=7200.0)
    late = looked(tmp_path)
    assert late.facts["envelopes"] == 3
    assert "the oldest 2 hours ago" in dict(late.rows)["waiting"]
    assert "crashfree spool flush" in late.hints[0]
    (destination,) = late.facts["destinations"]  # type: ignore[misc, union-attr]
    assert destination["envelopes"] == 3  # type: ignore[index, call-overload]


def test_a_file_in_the_place_of_the_directory_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    found = looked(tmp_path / "spool" / "below")
    assert found.facts["writable"] is False
    assert "CRASHFREE_SPOOL_DIR" in found.problems[0]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_directory_without_the_right_to_write_is_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert looked(tmp_path).problems
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_user_without_a_state_directory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", str)
    found = waiting.section(Surroundings({}, None))
    assert found.facts["directory"] is None
    assert "CRASHFREE_SPOOL_DIR" in found.problems[0]
