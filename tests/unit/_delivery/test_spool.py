"""Envelopes on disk: whole or not there, bounded, replayed once, whatever happens to anybody."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crashfree._delivery import deadrun, disk
from crashfree._delivery.outcome import Outcome
from crashfree._delivery.spool import MAX_ATTEMPTS, Spool, SpoolLimits
from crashfree._delivery.spooldirectory import SpoolDirectory, default_directory
from crashfree._ground import json, log
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import (
    Item,
    client_report_item,
    event_item,
    session_item,
    sessions_item,
)
from crashfree.types import SessionUpdate
from tests.support.clock import FakeClock

DSN = Dsn.parse("https://key@errors.example.com/42")
SID = "7c7b6585-f901-4351-bf8d-02711b721929"


class Site:
    """A spool, its clock, and what it said was lost."""

    def __init__(self, path: Path, clock: FakeClock, **limits: float) -> None:
        self.path = path
        self.clock = clock
        self.lost: list[tuple[str, str, int]] = []
        self.limits = SpoolLimits(**limits)  # type: ignore[arg-type]
        self.spool = self.another()

    def another(self) -> Spool:
        """A second process, as far as files and locks can tell."""
        return Spool(
            SpoolDirectory(self.path, dsn=DSN, clock=self.clock),
            on_evicted=lambda *loss: self.lost.append(loss),
            limits=self.limits,
        )

    @property
    def directory(self) -> Path:
        (found,) = (self.path / "v1").iterdir()
        return found

    def files(self) -> list[Path]:
        return sorted(entry for entry in self.directory.iterdir() if ".envelope" in entry.name)


@pytest.fixture
def site(tmp_path: Path, clock: FakeClock) -> Site:
    log.forget_repeats()
    return Site(tmp_path / "state", clock)


def event(name: str) -> Envelope:
    event_id = f"{int(name, 36):032x}"
    return Envelope.of([event_item({"event_id": event_id, "message": name})], event_id=event_id)


def update(sid: str = SID, **more: object) -> SessionUpdate:
    made: Any = {"sid": sid, "started": "2026-11-21T10:00:00Z", "attrs": {"release": "a@1"}}
    made.update(more)
    return made  # type: ignore[no-any-return]


def aggregates(exited: int = 3) -> Item:
    return sessions_item(
        {
            "attrs": {"release": "a@1"},
            "aggregates": [{"started": "2026-11-21T10:00:00Z", "exited": exited}],
        }
    )


class Sender:
    """Answers replays as told and remembers what it was given."""

    def __init__(self, *outcomes: Outcome | None, ask: bool = True) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[Envelope] = []
        self.ask = ask
        self.allowed: list[bool] = []

    def __call__(self, envelope: Envelope, may_write: Callable[[], bool]) -> Outcome | None:
        self.sent.append(envelope)
        if self.ask:
            self.allowed.append(may_write())
        return self.outcomes.pop(0) if self.outcomes else "accepted"

    @property
    def messages(self) -> list[str]:
        return [json.decode(envelope.items[0].payload)["message"] for envelope in self.sent]


class TestFiles:
    def test_making_a_spool_touches_no_disk(self, site: Site) -> None:
        assert not site.path.exists()

    def test_what_is_stored_is_private_and_has_no_sent_at(self, site: Site) -> None:
        assert site.spool.put(event("a"))
        (file,) = site.files()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        for directory in (site.path, site.path / "v1", site.directory, site.directory / "runs"):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert b"sent_at" not in file.read_bytes()
        stamp, pid, _, attempt = file.name.partition(".")[0].split("-")
        assert int(stamp) == int(site.clock.time() * 1000)
        assert int(pid) == os.getpid()
        assert attempt == "0"

    def test_two_destinations_do_not_mix(self, site: Site) -> None:
        other = Spool(
            SpoolDirectory(
                site.path, dsn=Dsn.parse("https://key@errors.example.com/43"), clock=site.clock
            ),
            on_evicted=lambda *loss: None,
        )
        site.spool.put(event("a"))
        other.put(event("b"))
        assert site.spool.status().items == other.status().items == 1
        assert site.spool.status().directory != other.status().directory

    def test_client_reports_are_never_stored(self, site: Site) -> None:
        report = client_report_item({"timestamp": 0, "discarded_events": []})
        mixed = event("a")
        site.spool.put(Envelope(mixed.headers, (*mixed.items, report)))
        site.spool.put(Envelope.of([report]))
        (file,) = site.files()
        assert b"client_report" not in file.read_bytes()

    def test_status_tells_what_waits(self, site: Site) -> None:
        assert site.spool.status().items == 0
        site.spool.put(event("a"))
        written = site.clock.time()
        site.clock.advance(60)
        site.spool.put(event("b"))
        status = site.spool.status()
        assert status.items == 2
        assert status.size == sum(file.stat().st_size for file in site.files())
        assert status.oldest == pytest.approx(written, abs=0.01)

    def test_clear_removes_what_waits(self, site: Site) -> None:
        site.spool.put(event("a"))
        site.spool.put(event("b"))
        assert site.spool.clear() == 2
        assert site.spool.status().items == 0
        assert site.lost == []


class TestLimits:
    def test_the_oldest_leave_when_there_are_too_many(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        site = Site(tmp_path, clock, max_items=3)
        for name in "abcde":
            site.spool.put(event(name))
            clock.advance(1)
        sender = Sender()
        site.spool.drain(sender)
        assert sender.messages == ["c", "d", "e"]
        assert site.lost == [("cache_overflow", "error", 1)] * 2

    def test_the_oldest_leave_when_they_are_too_large(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        site = Site(tmp_path, clock, max_bytes=500)
        for name in "abcdefgh":
            site.spool.put(event(name))
            clock.advance(1)
        status = site.spool.status()
        assert 0 < status.size <= 500
        assert len(site.lost) == 8 - status.items

    def test_what_is_too_old_leaves_at_the_start(self, tmp_path: Path, clock: FakeClock) -> None:
        site = Site(tmp_path, clock, max_age=86_400.0)
        site.spool.put(event("a"))
        clock.advance(50_000)
        site.spool.put(event("b"))
        clock.advance(50_000)
        sender = Sender()
        site.another().drain(sender)
        assert sender.messages == ["b"]
        assert site.lost == [("cache_overflow", "error", 1)]

    def test_of_many_at_once_only_those_that_fit_are_written(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        site = Site(tmp_path, clock, max_items=2)
        paths = site.spool.store([event(name) for name in "abcd"])
        assert paths is not None
        assert len(paths) == 2
        sender = Sender()
        site.spool.drain(sender)
        assert sender.messages == ["c", "d"]
        assert len(site.lost) == 2

    def test_evicted_aggregates_count_their_sessions(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        site = Site(tmp_path, clock, max_items=1)
        site.spool.put(Envelope.of([aggregates(7)]))
        clock.advance(1)
        site.spool.put(event("a"))
        assert site.lost == [("cache_overflow", "session", 7)]

    def test_the_init_of_an_evicted_session_moves_to_its_next_update(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        """sessions.md section 1.1: to a terminal one as well."""
        site = Site(tmp_path, clock, max_items=2)
        site.spool.put(Envelope.of([session_item(update(init=True, seq=0))]))
        clock.advance(1)
        other = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
        site.spool.put(Envelope.of([session_item(update(other, init=True))]))
        clock.advance(1)
        site.spool.put(Envelope.of([session_item(update(seq=1, status="exited"))]))
        sender = Sender()
        site.spool.drain(sender)
        first, second = (json.decode(envelope.items[0].payload) for envelope in sender.sent)
        assert first["sid"] == other
        assert second == update(seq=1, status="exited", init=True)


class TestReplay:
    def test_oldest_first_and_gone_when_accepted(self, site: Site) -> None:
        for name in "abc":
            site.spool.put(event(name))
            site.clock.advance(1)
        sender = Sender()
        assert site.spool.drain(sender) == 3
        assert sender.messages == ["a", "b", "c"]
        assert site.files() == []
        assert site.spool.replay(sender) == "empty"

    @pytest.mark.parametrize("outcome", ["refused", "too_large", "failed"])
    def test_an_answer_is_an_end(self, site: Site, outcome: Outcome) -> None:
        site.spool.put(event("a"))
        assert site.spool.replay(Sender(outcome)) == "sent"
        assert site.files() == []

    def test_a_limit_keeps_it_as_it_is(self, site: Site) -> None:
        site.spool.put(event("a"))
        (before,) = site.files()
        assert site.spool.replay(Sender("limited")) == "kept"
        assert site.files() == [before]

    def test_silence_keeps_it_for_eight_attempts(self, site: Site) -> None:
        site.spool.put(event("a"))
        for attempt in range(1, MAX_ATTEMPTS):
            assert site.spool.replay(Sender("unanswered")) == "kept"
            (file,) = site.files()
            assert file.name.endswith(f"-{attempt}.envelope")
        assert site.lost == []
        assert site.spool.replay(Sender("unwritten", ask=False)) == "kept"
        assert site.files() == []
        assert site.lost == [("network_error", "error", 1)]

    def test_what_must_wait_lets_the_next_one_pass(self, site: Site) -> None:
        site.spool.put(event("a"))
        site.clock.advance(1)
        site.spool.put(event("b"))
        sender = Sender(None, "accepted", ask=False)
        assert site.spool.replay(sender) == "sent"
        assert sender.messages == ["a", "b"]
        assert len(site.files()) == 1
        assert site.spool.replay(Sender(None, ask=False)) == "kept"

    def test_only_one_process_replays(self, site: Site) -> None:
        other = site.another()
        site.spool.put(event("a"))
        other.put(event("b"))
        assert site.spool.replay(Sender("limited")) == "kept"
        assert other.replay(Sender()) == "empty"
        assert not other.pending()
        site.spool.directory.close()
        assert other.drain(Sender()) == 2

    def test_a_process_that_closes_while_it_replays_keeps_its_lock(self, site: Site) -> None:
        site.spool.put(event("a"))

        def close_meanwhile(envelope: Envelope, may_write: Callable[[], bool]) -> Outcome:
            site.spool.directory.close()
            assert site.another().replay(Sender()) == "empty"
            return "accepted"

        assert site.spool.replay(close_meanwhile) == "sent"

    def test_a_file_that_another_process_removed_is_not_sent(self, site: Site) -> None:
        site.spool.put(event("a"))

        def removed_meanwhile(envelope: Envelope, may_write: Callable[[], bool]) -> Outcome:
            site.another().clear()
            assert not may_write()
            return "withdrawn"

        site.spool.replay(removed_meanwhile)
        assert site.lost == []


class TestAggregatesOnDisk:
    """They have no identity: a second copy would count twice."""

    def test_written_without_an_answer_they_are_not_sent_again(self, site: Site) -> None:
        site.spool.put(Envelope.of([aggregates(5)]))
        assert site.spool.replay(Sender("unanswered")) == "kept"
        assert site.files() == []
        assert site.lost == [("network_error", "session", 5)]

    def test_not_written_they_stay(self, site: Site) -> None:
        site.spool.put(Envelope.of([aggregates(5)]))
        assert site.spool.replay(Sender("unwritten", ask=False)) == "kept"
        assert len(site.files()) == 1
        assert site.spool.drain(Sender()) == 1
        assert site.lost == []

    def test_a_process_that_dies_while_it_writes_them_leaves_no_second_copy(
        self, site: Site
    ) -> None:
        site.spool.put(Envelope.of([aggregates(5)]))

        class Killed(BaseException):
            pass

        def die(envelope: Envelope, may_write: Callable[[], bool]) -> Outcome:
            assert may_write()
            raise Killed

        with pytest.raises(Killed):
            site.spool.replay(die)
        site.spool.directory.close()
        sender = Sender()
        assert site.another().drain(sender) == 0
        assert sender.sent == []
        assert site.lost == [("network_error", "session", 5)]
        assert site.files() == []

    def test_a_limit_gives_them_their_name_back(self, site: Site) -> None:
        site.spool.put(Envelope.of([aggregates(5)]))
        site.spool.replay(Sender("limited"))
        site.spool.directory.close()
        assert site.another().drain(Sender()) == 1


class TestHostileDisks:
    def test_a_corrupt_file_is_removed_and_the_next_one_sent(self, site: Site) -> None:
        site.spool.put(event("a"))
        (file,) = site.files()
        file.write_bytes(b"\x00garbage")
        site.clock.advance(1)
        site.spool.put(event("b"))
        sender = Sender()
        assert site.spool.drain(sender) == 1
        assert sender.messages == ["b"]
        assert site.files() == []

    @pytest.mark.parametrize("cut", [0, 1, 40, -1, -20])
    def test_a_truncated_file_harms_nobody(self, site: Site, cut: int) -> None:
        site.spool.put(event("a"))
        (file,) = site.files()
        file.write_bytes(file.read_bytes()[:cut])
        site.spool.drain(Sender())
        assert site.files() == []

    def test_symlinks_and_fifos_and_directories_are_not_touched(
        self, site: Site, tmp_path: Path
    ) -> None:
        site.spool.put(event("a"))
        secret = tmp_path / "secret"
        secret.write_bytes(event("b").encode())
        (site.directory / "0000000000001-1-1-0.envelope").symlink_to(secret)
        os.mkfifo(site.directory / "0000000000002-1-1-0.envelope")
        (site.directory / "0000000000003-1-1-0.envelope").mkdir()
        sender = Sender()
        assert site.spool.drain(sender) == 1
        assert sender.messages == ["a"]
        assert secret.exists()
        assert site.spool.status().items == 0

    def test_a_symlink_in_the_place_of_a_new_file_is_not_followed(
        self, site: Site, tmp_path: Path
    ) -> None:
        target = tmp_path / "precious"
        target.write_text("precious")
        link = tmp_path / "link"
        link.symlink_to(target)
        disk.write(str(link), b"new")
        assert target.read_text() == "precious"
        assert not link.is_symlink()
        (tmp_path / "other.tmp").symlink_to(target)
        disk.write(str(tmp_path / "other"), b"new")
        assert target.read_text() == "precious"

    def test_a_directory_that_is_a_symlink_is_refused(self, site: Site, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        site.path.mkdir()
        (site.path / "v1").symlink_to(elsewhere)
        assert not site.spool.put(event("a"))
        assert list(elsewhere.iterdir()) == []

    def test_foreign_files_are_left_alone(self, site: Site) -> None:
        site.spool.put(event("a"))
        for name in ("README", "x.envelope", "1-2-3.envelope", "a-b-c-d.envelope"):
            (site.directory / name).write_bytes(b"mine")
        site.spool.drain(Sender())
        assert site.spool.clear() == 0
        assert len([entry for entry in site.directory.iterdir() if entry.is_file()]) == 5

    def test_half_written_files_vanish_after_an_hour(self, site: Site) -> None:
        site.spool.put(event("a"))
        young = site.directory / "0000000000001-1-1-0.envelope.tmp"
        old = site.directory / "0000000000002-1-1-0.envelope.tmp"
        for file, age in ((young, 60), (old, 3700)):
            file.write_bytes(b"half")
            os.utime(file, (site.clock.time() - age,) * 2)
        assert site.another().pending()
        assert young.exists()
        assert not old.exists()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_read_only_place_is_said_once(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        site.path.mkdir()
        site.path.chmod(0o500)
        assert not site.spool.put(event("a"))
        assert not site.spool.put(event("b"))
        assert len(caplog.records) == 1

    def test_a_place_that_is_a_file_is_said_once_and_nothing_raises(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        site.path.write_text("I am a file")
        assert site.spool.directory.open() is None
        assert not site.spool.put(event("a"))
        assert site.spool.replay(Sender()) == "empty"
        assert not site.spool.pending()
        assert deadrun.adopt(site.spool) == []
        assert site.spool.status().items == 0
        assert site.spool.max_items == 0
        assert len(site.spool.directory.installation_id()) == 36
        assert len(caplog.records) == 1

    def test_a_full_disk_leaves_nothing_half_written_and_is_said_once(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        site.spool.put(event("a"))

        def full(descriptor: int, data: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(disk.os, "write", full)
        assert not site.spool.put(event("b"))
        assert not site.spool.put(event("c"))
        monkeypatch.undo()
        assert [file.name.endswith(".envelope") for file in site.files()] == [True]
        assert not list(site.directory.glob("*.tmp"))
        assert len(caplog.records) == 1


class TestForkAndRuns:
    def test_open_makes_one_run_with_its_lock_held(self, site: Site) -> None:
        run = site.spool.directory.open()
        assert run is not None
        assert site.spool.directory.open() is run
        assert os.path.exists(run.path("lock"))
        assert stat.S_IMODE(os.stat(run.directory).st_mode) == 0o700
        assert deadrun.adopt(site.another()) == []

    def test_an_empty_run_leaves_nothing_behind(self, site: Site) -> None:
        run = site.spool.directory.open()
        assert run is not None
        site.spool.directory.close()
        assert not os.path.exists(run.directory)
        site.spool.directory.close()

    def test_a_file_of_our_run_becomes_a_waiting_envelope_in_one_step(self, site: Site) -> None:
        run = site.spool.directory.open()
        assert run is not None
        run.keep("held", Envelope.of([aggregates(2)]).encode())
        assert site.spool.ship("held")
        assert not site.spool.ship("held")
        sender = Sender()
        assert site.spool.drain(sender) == 1
        assert sender.sent[0].items[0].type == "sessions"

    def test_a_forked_child_makes_a_run_of_its_own(self, site: Site) -> None:
        parent = site.spool.directory.open()
        assert parent is not None
        pid = os.fork()
        if pid == 0:
            site.spool.forget()
            child = site.spool.directory.open()
            ok = child is not None and child.directory != parent.directory
            # The parent lives, so its run is not up for adoption.
            ok = ok and deadrun.adopt(site.another()) == []
            os._exit(0 if ok else 1)
        _, status = os.waitpid(pid, 0)
        assert status == 0
        assert deadrun.adopt(site.another()) == []
        parent.keep("left", b"x")
        site.spool.directory.close()
        assert len(deadrun.adopt(site.another())) == 1

    def test_a_lock_that_was_held_at_the_fork_is_nobodys_in_the_child(self, site: Site) -> None:
        """Several spools share a directory; the child is told once for all of them."""
        another = Spool(site.spool.directory, on_evicted=lambda *loss: None)
        held = site.spool.directory.lock
        held.acquire()
        site.spool.forget()
        assert site.spool.directory.lock is not held
        assert another.ready()


class TestInstallationId:
    def test_is_the_same_for_all(self, site: Site) -> None:
        first = site.spool.directory.installation_id()
        assert first == site.another().directory.installation_id()
        assert len(first) == 36
        assert stat.S_IMODE((site.path / "installation").stat().st_mode) == 0o600

    @pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 36, b"x" * 1000])
    def test_a_damaged_one_is_replaced(self, site: Site, content: bytes) -> None:
        site.path.mkdir()
        (site.path / "installation").write_bytes(content)
        first = site.spool.directory.installation_id()
        assert first == site.another().directory.installation_id()

    def test_processes_that_ask_at_one_moment_agree(self, site: Site) -> None:
        from multiprocessing import get_context

        context = get_context("spawn")
        with context.Pool(4) as pool:
            found = pool.map(_installation_id, [str(site.path)] * 16)
        assert len(set(found)) == 1


def _installation_id(path: str) -> str:
    return SpoolDirectory(path, dsn=DSN, clock=FakeClock()).installation_id()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_STATE_HOME": "/x/state"}, "/x/state/crashfree"),
        ({"XDG_STATE_HOME": "relative"}, os.path.expanduser("~/.local/state/crashfree")),
        ({}, os.path.expanduser("~/.local/state/crashfree")),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="XDG is for Unix")
def test_the_default_place(variables: dict[str, str], expected: str) -> None:
    assert default_directory(variables) == expected
