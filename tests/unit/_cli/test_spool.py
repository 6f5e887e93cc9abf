"""`crashfree spool status|flush|clear`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crashfree._cli import run
from crashfree._delivery.spool import Spool
from crashfree._delivery.spooldirectory import SpoolDirectory
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import event_item, sessions_item
from tests.support.stub import Answer, Stub, dead_port


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def fill(place: Path, dsn: str, *messages: str) -> Spool:
    directory = SpoolDirectory(place, dsn=Dsn.parse(dsn), clock=SYSTEM_CLOCK)
    spool = Spool(directory, on_evicted=lambda *loss: None)
    for number, message in enumerate(messages):
        event_id = f"{number:032x}"
        spool.put(
            Envelope.of([event_item({"event_id": event_id, "message": message})], event_id=event_id)
        )
    return spool


def call(capsys: pytest.CaptureFixture[str], place: Path, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(["spool", *words, "--spool-dir", str(place)])
    out, err = capsys.readouterr()
    return code, out, err


def facts(capsys: pytest.CaptureFixture[str], place: Path, *words: str) -> tuple[int, Any]:
    code, out, _ = call(capsys, place, *words, "--json")
    return code, json.loads(out)


def test_nothing_waits_and_nothing_is_made(
    place: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, place, "status") == (0, "Nothing waits.\n", "")
    code, out, _ = call(capsys, place, "flush", "--dsn", stub.dsn)
    assert (code, out) == (0, "Sent 0 envelopes, 0 left.\n")
    assert not place.exists()
    assert stub.requests == []


def test_status_shows_every_destination(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(place, "https://a@one.example/1", "x", "y")
    fill(place, "https://a@two.example/1", "z")
    code, found = facts(capsys, place, "status")
    assert code == 0
    assert sorted(entry["envelopes"] for entry in found) == [1, 2]
    code, found = facts(capsys, place, "status", "--dsn", "https://a@two.example/1")
    assert [entry["envelopes"] for entry in found] == [1]
    code, out, _ = call(capsys, place, "status")
    assert "envelopes" in out
    assert "KiB" in out


def test_flush_sends_what_waits(
    place: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(place, stub.dsn, "one", "two")
    code, out, err = call(capsys, place, "flush", "--dsn", stub.dsn)
    assert (code, out, err) == (0, "Sent 2 envelopes, 0 left.\n", "")
    assert [event["message"] for event in stub.items("event")] == ["one", "two"]
    assert facts(capsys, place, "status")[1][0]["envelopes"] == 0


def test_flush_takes_up_what_a_dead_run_left(
    place: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = fill(place, stub.dsn)
    dead = spool.directory.open()
    assert dead is not None
    bucket: Any = {"started": "2026-11-21T10:00:00Z", "exited": 3}
    held = sessions_item({"attrs": {"release": "a@1"}, "aggregates": [bucket]})
    dead.keep("held", Envelope.of([held]).encode())
    spool.forget()
    code, found = facts(capsys, place, "flush", "--dsn", stub.dsn)
    assert code == 0
    assert (found["sent"], found["runs"], found["left"]) == (1, 1, 0)
    assert [payload["aggregates"][0]["exited"] for payload in stub.items("sessions")] == [3]


def test_the_dsn_may_come_from_the_environment(
    place: Path, stub: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRASHFREE_DSN", stub.dsn)
    fill(place, stub.dsn, "one")
    assert call(capsys, place, "flush")[0] == 0
    assert len(stub.items("event")) == 1


def test_without_a_dsn_there_is_nowhere_to_send_to(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CRASHFREE_DSN", "SENTRY_DSN"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = call(capsys, place, "flush")
    assert code == 2
    assert "DSN" in err


def test_a_server_that_is_away_is_exit_code_3_and_nothing_is_lost(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = f"http://key@127.0.0.1:{dead_port()}/42"
    fill(place, dsn, "one", "two")
    code, found = facts(capsys, place, "flush", "--dsn", dsn)
    assert code == 3
    assert (found["sent"], found["left"]) == (0, 2)
    assert "refused" in found["error"]


def test_a_server_that_refuses_is_exit_code_1(
    place: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.script(Answer(status=400))
    fill(place, stub.dsn, "one", "two")
    code, found = facts(capsys, place, "flush", "--dsn", stub.dsn)
    assert code == 1
    assert (found["refused"], found["left"]) == (1, 0)


def test_a_rate_limit_leaves_the_rest_for_later(
    place: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.script(Answer(), Answer(status=429))
    fill(place, stub.dsn, "one", "two", "three")
    code, found = facts(capsys, place, "flush", "--dsn", stub.dsn)
    assert code == 1
    assert (found["sent"], found["left"]) == (1, 2)


def test_clear_removes_what_waits(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(place, "https://a@one.example/1", "x", "y")
    fill(place, "https://a@two.example/1", "z")
    code, out, _ = call(capsys, place, "clear", "--dsn", "https://a@two.example/1")
    assert (code, out) == (0, "Removed 1 envelope.\n")
    assert facts(capsys, place, "clear") == (0, {"removed": 2})
    assert all(entry["envelopes"] == 0 for entry in facts(capsys, place, "status")[1])
