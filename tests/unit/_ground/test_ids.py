from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable

import pytest

from crashfree._ground import ids


def test_an_event_id_is_a_version_4_uuid_without_dashes() -> None:
    text = ids.event_id()
    parsed = uuid.UUID(text)
    assert parsed.version == 4
    assert parsed.variant == uuid.RFC_4122
    assert text == parsed.hex


def test_a_session_id_is_a_version_4_uuid_with_dashes() -> None:
    text = ids.session_id()
    parsed = uuid.UUID(text)
    assert parsed.version == 4
    assert text == str(parsed)


@pytest.mark.parametrize("make", [ids.event_id, ids.session_id, ids.trace_id, ids.span_id])
def test_ids_do_not_repeat(make: Callable[[], str]) -> None:
    assert len({make() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("byte", [b"\x00", b"\xff"])
def test_ids_are_valid_whatever_the_random_source_gives(
    byte: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", lambda n: byte * n)
    assert uuid.UUID(ids.event_id()).version == 4
    assert len(ids.trace_id()) == 32
    assert int(ids.trace_id(), 16) != 0
    assert len(ids.span_id()) == 16
    assert int(ids.span_id(), 16) != 0


@pytest.mark.parametrize(("byte", "roll"), [(b"\x00", 0.0), (b"\xff", 1 - 2**-53)])
def test_a_roll_reaches_0_and_never_1(
    byte: bytes, roll: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate of 1.0 must let everything pass, a rate of 0.0 nothing."""
    monkeypatch.setattr(os, "urandom", lambda n: byte * n)
    assert ids.roll() == roll
    assert ids.roll() < 1.0


def test_rolls_spread() -> None:
    rolls = [ids.roll() for _ in range(1000)]
    assert 0 <= min(rolls) < 0.1
    assert 0.9 < max(rolls) < 1


def test_a_program_s_seeded_random_is_not_disturbed() -> None:
    random.seed(7)
    before = random.getstate()
    ids.event_id()
    ids.session_id()
    ids.roll()
    assert random.getstate() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_parent_and_child_draw_different_ids() -> None:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, ids.event_id().encode())
        os._exit(0)
    mine = ids.event_id()
    os.waitpid(pid, 0)
    theirs = os.read(read_end, 32).decode()
    os.close(read_end)
    os.close(write_end)
    assert len(theirs) == 32
    assert theirs != mine
