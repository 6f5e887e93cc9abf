"""Dead runs are adopted once, and settled in one step, whenever anybody dies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from crashfree._delivery import deadrun, disk
from crashfree._delivery.run import HELD
from crashfree._delivery.spool import Spool, SpoolLimits
from crashfree._delivery.spooldirectory import SpoolDirectory
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import session_item, sessions_item
from tests.support.clock import FakeClock

DSN = Dsn.parse("https://key@errors.example.com/42")


class Killed(BaseException):
    """What a kill -9 looks like from inside: nothing after it runs, no `except` sees it."""


@pytest.fixture
def make(tmp_path: Path, clock: FakeClock) -> Callable[[], Spool]:
    return lambda: Spool(
        SpoolDirectory(tmp_path, dsn=DSN, clock=clock), on_evicted=lambda *loss: None
    )


def die(spool: Spool, **files: bytes) -> str:
    """Leave a run as a killed process does: files there, lock gone. Return its directory."""
    run = spool.directory.open()
    assert run is not None
    for name, data in files.items():
        run.keep(name, data)
    directory = run.directory
    spool.directory.forget()
    return directory


def counts(n: int) -> Envelope:
    return Envelope.of(
        [
            sessions_item(
                {
                    "attrs": {"release": "a@1"},
                    "aggregates": [{"started": "2026-11-21T10:00:00Z", "exited": n}],
                }
            )
        ]
    )


def waiting(spool: Spool) -> int:
    """The sum of all sessions that wait as finished envelopes."""
    total = 0
    for entry in disk.regular_files(spool.status().directory):
        if entry.name.endswith(".envelope"):
            for item in decode_envelope(Path(entry.path).read_bytes()).items:
                total += item.quantity
    return total


def test_a_dead_run_is_handed_over_with_its_raw_files(make: Callable[[], Spool]) -> None:
    directory = die(make(), ledger=b"\x00\x01", session=b"{}")
    (dead,) = deadrun.adopt(make())
    assert dead.files == {"ledger": b"\x00\x01", "session": b"{}"}
    assert dead.name == os.path.basename(directory)
    assert dead.started == pytest.approx(1_790_000_000.0)


def test_a_run_is_adopted_by_one_only(make: Callable[[], Spool]) -> None:
    die(make(), ledger=b"x")
    first, second = make(), make()
    assert len(deadrun.adopt(first)) == 1
    assert deadrun.adopt(second) == []


def test_a_run_that_was_left_can_be_adopted_again(make: Callable[[], Spool]) -> None:
    die(make(), ledger=b"x")
    (dead,) = deadrun.adopt(make())
    dead.leave()
    assert len(deadrun.adopt(make())) == 1


def test_an_empty_dead_run_is_cleared_away(make: Callable[[], Spool]) -> None:
    directory = die(make())
    assert deadrun.adopt(make()) == []
    assert not os.path.exists(directory)


def test_settling_turns_the_raw_files_into_waiting_envelopes(make: Callable[[], Spool]) -> None:
    directory = die(make(), ledger=b"x")
    spool = make()
    (dead,) = deadrun.adopt(spool)
    dead.settle([counts(3), counts(4)])
    assert waiting(spool) == 7
    assert not os.path.exists(directory)
    assert deadrun.adopt(make()) == []


def test_settling_with_nothing_clears_the_run_away(make: Callable[[], Spool]) -> None:
    directory = die(make(), ledger=b"x")
    (dead,) = deadrun.adopt(make())
    dead.settle([])
    assert not os.path.exists(directory)


def test_sessions_that_waited_for_the_network_go_along(make: Callable[[], Spool]) -> None:
    die(make(), ledger=b"x", **{HELD: counts(5).encode()})
    spool = make()
    (dead,) = deadrun.adopt(spool)
    assert HELD not in dead.files
    dead.settle([counts(1)])
    assert waiting(spool) == 6


def test_a_run_that_left_nothing_but_those_is_adopted_too(make: Callable[[], Spool]) -> None:
    die(make(), **{HELD: counts(5).encode()})
    spool = make()
    (dead,) = deadrun.adopt(spool)
    assert dead.files == {}
    dead.settle([])
    assert waiting(spool) == 5


def test_many_sessions_are_split_as_servers_want_them(make: Callable[[], Spool]) -> None:
    updates = Envelope.of(
        session_item(
            {
                "sid": f"{number:08x}-0000-4000-8000-000000000000",
                "started": "2026-11-21T10:00:00Z",
                "attrs": {"release": "a@1"},
            }
        )
        for number in range(250)
    )
    die(make(), **{HELD: updates.encode()})
    spool = make()
    (dead,) = deadrun.adopt(spool)
    dead.settle([])
    sizes: list[int] = []

    def send(envelope: Envelope, may_write: Callable[[], bool]) -> str:
        sizes.append(len(envelope.items))
        return "accepted"

    assert spool.drain(send) == 3  # type: ignore[arg-type]
    assert sizes == [100, 100, 50]


def test_a_damaged_file_of_waiting_sessions_harms_nobody(make: Callable[[], Spool]) -> None:
    die(make(), ledger=b"x", **{HELD: b"\x00garbage"})
    spool = make()
    (dead,) = deadrun.adopt(spool)
    dead.settle([counts(1)])
    assert waiting(spool) == 1


def test_living_runs_are_not_adopted(make: Callable[[], Spool]) -> None:
    living = make()
    run = living.directory.open()
    assert run is not None
    run.keep("ledger", b"x")
    assert deadrun.adopt(make()) == []
    assert deadrun.adopt(living) == [], "nor one's own"
    living.directory.close()


def test_a_run_closed_with_something_to_tell_is_adopted(make: Callable[[], Spool]) -> None:
    spool = make()
    run = spool.directory.open()
    assert run is not None
    run.keep("ledger", b"x")
    spool.directory.close()
    (dead,) = deadrun.adopt(make())
    assert dead.files == {"ledger": b"x"}


def test_symlinks_inside_a_dead_run_are_not_read(make: Callable[[], Spool], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    directory = die(make(), ledger=b"x")
    os.symlink(secret, os.path.join(directory, "session"))
    (dead,) = deadrun.adopt(make())
    assert dead.files == {"ledger": b"x"}


def test_a_newborn_run_is_no_corpse(make: Callable[[], Spool], tmp_path: Path) -> None:
    """Between making the directory and taking the lock nobody may find it."""
    spool = make()
    spool.directory.open()
    runs = Path(spool.status().directory) / "runs"
    (runs / ".new-0000000000001-1-aaaaaa").mkdir()
    (runs / "0000000000001-1-bbbbbb").mkdir()
    now = spool.directory.clock.time()
    for entry in runs.iterdir():
        os.utime(entry, (now, now))
    assert deadrun.adopt(make()) == []
    assert (runs / ".new-0000000000001-1-aaaaaa").exists()
    assert (runs / "0000000000001-1-bbbbbb").exists()
    for entry in runs.iterdir():
        os.utime(entry, (now - 4000, now - 4000))
    deadrun.adopt(make())
    assert not (runs / ".new-0000000000001-1-aaaaaa").exists()
    assert not (runs / "0000000000001-1-bbbbbb").exists()


STEPS = ["mkdir", "open", "write", "replace", "rename", "unlink", "rmdir", "scandir"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("number", range(12))
def test_a_death_at_any_system_call_of_settling_neither_loses_nor_doubles(
    make: Callable[[], Spool], monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    """Kill the adopter at the n-th call of one kind; the next adopter must come to the same sum."""
    die(make(), ledger=b"x", **{HELD: counts(5).encode()})
    victim = make()
    (dead,) = deadrun.adopt(victim)
    calls = 0
    real = getattr(os, step)

    def counted(*arguments: object, **more: object) -> object:
        nonlocal calls
        calls += 1
        if calls > number:
            raise Killed
        return real(*arguments, **more)

    monkeypatch.setattr(disk.os, step, counted)
    try:
        dead.settle([counts(3), counts(4)])
    except Killed:
        pass
    monkeypatch.undo()
    dead.leave()
    # The next process: whatever raw files still count are settled to the same envelopes.
    survivor = make()
    for found in deadrun.adopt(survivor):
        assert found.files == {"ledger": b"x"}
        found.settle([counts(3), counts(4)])
    assert waiting(survivor) == 12
    assert deadrun.adopt(make()) == []


@pytest.mark.parametrize("step", ["mkdir", "open", "rename"])
def test_a_disk_that_refuses_a_run_is_no_run(
    make: Callable[[], Spool], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    spool = make()
    spool.put(counts(1))

    def refuse(*arguments: object, **more: object) -> object:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(disk.os, step, refuse)
    assert spool.directory.open() is None
    monkeypatch.undo()


def test_a_disk_that_refuses_a_settlement_leaves_the_run_as_it_was(
    make: Callable[[], Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    die(make(), ledger=b"x")
    (dead,) = deadrun.adopt(make())

    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "write", full)
    with pytest.raises(OSError, match="No space"):
        dead.settle([counts(3)])
    monkeypatch.undo()
    dead.leave()
    (again,) = deadrun.adopt(make())
    assert again.files == {"ledger": b"x"}


def test_what_a_run_keeps_is_there_as_a_whole(make: Callable[[], Spool]) -> None:
    run = make().directory.open()
    assert run is not None
    run.keep("state", b"one")
    run.keep("state", b"two")
    assert Path(run.path("state")).read_bytes() == b"two"
    run.keep("state", None)
    run.keep("state", None)
    assert not os.path.exists(run.path("state"))


def test_what_many_dead_runs_left_is_not_evicted_by_those_who_adopt_and_send_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    """A master's two hundred children may have died since; their counts are not too many."""
    place = SpoolDirectory(tmp_path, dsn=DSN, clock=clock)
    lost: list[object] = []
    limits = SpoolLimits(max_items=2)

    def spool() -> Spool:
        return Spool(place, on_evicted=lambda *loss: lost.append(loss), limits=limits)

    for _ in range(5):
        die(spool(), ledger=b"x")
    for dead in deadrun.adopt(spool()):
        dead.settle([counts(1)])
    sending = spool()
    assert sending.pending()
    assert waiting(sending) == 5
    assert lost == []
