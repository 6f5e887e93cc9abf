"""Transports that show: readable text, JSON lines."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from crashfree._delivery.discards import Discards
from crashfree._delivery.printing import ConsoleTransport, FileTransport
from crashfree._delivery.worker import Worker
from crashfree._ground import ids, log
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import attachment_item, event_item
from crashfree.types import Event
from tests.support.clock import FakeClock


@pytest.fixture
def worker(clock: FakeClock) -> Iterator[Worker]:
    worker = Worker(clock=clock)
    yield worker
    worker.close(5.0)


def envelope() -> Envelope:
    event_id = ids.event_id()
    event: Event = {
        "event_id": event_id,
        "level": "error",
        "tags": {"color": "green"},
        "exception": {"values": [{"type": "ValueError", "value": "no"}]},
    }
    attachment = attachment_item({"filename": "a.log", "data": b"\x00" * 12})
    return Envelope.of([event_item(event), attachment], event_id=event_id)


def test_the_console_shows_what_would_be_sent(worker: Worker) -> None:
    stream = io.StringIO()
    console = ConsoleTransport(worker=worker, stream=stream)
    assert console.submit(envelope())
    assert console.flush(5.0)
    text = stream.getvalue()
    assert "── event" in text
    assert "level: error" in text
    assert "color: green" in text
    assert "values[0]:" in text
    assert "type: ValueError" in text
    assert "── attachment, 12 bytes" in text
    assert console.stats().sent == {"error": 1, "attachment": 12}


def test_the_console_is_stderr_by_default(
    worker: Worker, capsys: pytest.CaptureFixture[str]
) -> None:
    console = ConsoleTransport(worker=worker)
    console.submit(envelope())
    console.close(5.0)
    out, err = capsys.readouterr()
    assert out == ""
    assert "event" in err


def test_a_file_gets_one_json_object_per_item(
    worker: Worker, clock: FakeClock, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    transport = FileTransport(path, worker=worker, clock=clock)
    first, second = envelope(), envelope()
    transport.submit(first)
    transport.submit(second)
    assert transport.flush(5.0)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["type"] for line in lines] == ["event", "attachment"] * 2
    assert lines[0]["payload"]["event_id"] == first.event_id
    assert lines[0]["envelope"]["event_id"] == first.event_id
    assert lines[1]["headers"]["filename"] == "a.log"
    assert lines[1]["payload"] == "<12 bytes>"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 & ~_umask()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_a_file_that_cannot_be_written_is_said_once_and_counted(
    worker: Worker, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.forget_repeats()
    discards = Discards()
    transport = FileTransport(
        tmp_path / "none" / "x.jsonl", worker=worker, clock=clock, discards=discards
    )
    transport.submit(envelope())
    transport.submit(envelope())
    assert transport.flush(5.0)
    assert discards.totals() == {("network_error", "error"): 2, ("network_error", "attachment"): 24}
    assert len(caplog.records) == 1


def test_what_cannot_be_built_is_counted(worker: Worker) -> None:
    def broken() -> Event:
        raise RuntimeError("no")

    discards = Discards()
    console = ConsoleTransport(worker=worker, stream=io.StringIO(), discards=discards)
    console.submit(Envelope.of([event_item(broken)], event_id=ids.event_id()))
    assert console.flush(5.0)
    assert discards.totals() == {("internal_sdk_error", "error"): 1}


def test_what_waits_is_bounded(worker: Worker) -> None:
    import threading

    started, go = threading.Event(), threading.Event()
    worker.submit(lambda: (started.set(), go.wait(5))[0])
    started.wait(5)
    discards = Discards()
    console = ConsoleTransport(worker=worker, stream=io.StringIO(), discards=discards)
    for _ in range(1_010):
        console.submit(Envelope.of([event_item({})], event_id=ids.event_id()))
    go.set()
    assert console.flush(10.0)
    assert discards.totals() == {("queue_overflow", "error"): 10}
