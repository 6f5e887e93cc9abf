"""Everything submitted is sent, on disk, held back or dropped with a reason: against a real server
that misbehaves."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crashfree._delivery import deadrun
from crashfree._delivery.discards import Discards
from crashfree._delivery.httptransport import HttpTransport
from crashfree._delivery.outbox import QueueLimits
from crashfree._delivery.spool import Spool
from crashfree._delivery.spooldirectory import SpoolDirectory
from crashfree._delivery.worker import Worker
from crashfree._ground import ids, log
from crashfree._ground.http import HttpSettings
from crashfree._protocol.aggregates import total
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import Item, attachment_item, event_item, session_item, sessions_item
from crashfree._protocol.timestamps import rfc3339
from crashfree.types import Event
from tests.support.clock import FakeClock
from tests.support.stub import Answer, Request, Stub, dead_port
from tests.support.waiting import wait_until

A = "aaaaaaaa-0000-4000-8000-000000000000"


class Site:
    """A transport, its parts, and the server it talks to."""

    def __init__(self, stub: Stub, clock: FakeClock, **more: Any) -> None:
        self.stub = stub
        self.clock = clock
        self.spool_path: Path | None = more.pop("spool_path", None)
        self.dsn = Dsn.parse(more.pop("dsn", stub.dsn))
        self.worker = Worker(clock=clock)
        self.discards = Discards()
        self.spool = None if self.spool_path is None else self.make_spool()
        if self.spool is not None:
            self.spool.directory.open()
        self.transport = HttpTransport(
            self.dsn,
            worker=self.worker,
            clock=clock,
            discards=self.discards,
            spool=self.spool,
            http=HttpSettings(connect_timeout=1.0, timeout=more.pop("timeout", 5.0)),
            **more,
        )

    def make_spool(self) -> Spool:
        assert self.spool_path is not None
        place = SpoolDirectory(self.spool_path, dsn=self.dsn, clock=self.clock)
        return Spool(place, on_evicted=self.discards.record)

    def event(self, message: str = "hello", **more: Any) -> str:
        envelope = an_event(message, **more)
        assert self.transport.submit(envelope)
        assert envelope.event_id is not None
        return envelope.event_id

    def session(self, seq: int = 0, status: str = "ok", sid: str = A) -> Item:
        payload: Any = {
            "sid": sid,
            "started": rfc3339(self.clock.time()),
            "attrs": {"release": "app@1"},
            "seq": seq,
            "status": status,
        }
        if seq == 0:
            payload["init"] = True
        return session_item(payload)

    def update(self, seq: int = 0, status: str = "ok", sid: str = A) -> None:
        self.transport.submit(Envelope.of([self.session(seq, status, sid)]))

    def counts(self, **outcomes: Any) -> None:
        bucket: Any = {"started": rfc3339(self.clock.time() // 60 * 60), **outcomes}
        payload: Any = {"attrs": {"release": "app@1"}, "aggregates": [bucket]}
        self.transport.submit(Envelope.of([sessions_item(payload)]))

    def flush(self, timeout: float = 10.0) -> bool:
        return self.transport.flush(timeout)

    def posted(self) -> list[Request]:
        """The requests that were more than a client report."""
        return [
            request
            for request in self.stub.requests
            if [name for name, _ in request.items] != ["client_report"]
        ]

    def messages(self) -> list[str]:
        return [event["message"] for event in self.stub.items("event")]

    def counted(self) -> int:
        return sum(total(payload) for payload in self.stub.items("sessions"))

    def dropped(self) -> dict[tuple[str, str], int]:
        return dict(self.transport.stats().dropped)

    def files(self) -> int:
        return self.transport.stats().spooled

    def restart(self) -> None:
        """End this life and begin the next one."""
        self.transport.close(0.0)
        if self.spool is not None:
            self.spool.directory.close()
        self.worker.close(5.0)
        self.__init__(self.stub, self.clock, spool_path=self.spool_path)  # type: ignore[misc]

    def end(self) -> None:
        self.transport.close(0.0)
        if self.spool is not None:
            self.spool.directory.close()
        self.worker.close(5.0)


def helpers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "crashfree-sender"]


def an_event(message: str = "hello", *, unhandled: bool = False, items: Any = ()) -> Envelope:
    event_id = ids.event_id()
    event: Any = {"event_id": event_id, "message": message}
    return Envelope.of([event_item(event, unhandled=unhandled), *items], event_id=event_id)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


@pytest.fixture
def make(stub: Stub, clock: FakeClock) -> Iterator[Callable[..., Site]]:
    log.forget_repeats()
    sites: list[Site] = []

    def build(**more: Any) -> Site:
        sites.append(Site(stub, clock, **more))
        return sites[-1]

    yield build
    for site in sites:
        site.end()


@pytest.fixture
def site(make: Callable[..., Site]) -> Site:
    return make()


@pytest.fixture
def spooling(make: Callable[..., Site], tmp_path: Path) -> Site:
    return make(spool_path=tmp_path / "spool")


class TestSending:
    def test_an_event_arrives_with_everything_a_server_asks_for(self, site: Site) -> None:
        event_id = site.event()
        assert site.flush()
        (request,) = site.stub.requests
        assert request.method == "POST"
        assert request.path == "/api/42/envelope/"
        assert request.headers["content-type"] == "application/x-sentry-envelope"
        assert request.headers["user-agent"].startswith("crashfree.python/")
        auth = request.headers["x-sentry-auth"]
        assert auth.startswith("Sentry sentry_key=key, sentry_version=7, sentry_client=crashfree")
        assert request.envelope.event_id == event_id
        assert request.envelope.sent_at == pytest.approx(site.clock.time())

    def test_every_envelope_says_when_it_was_sent(self, site: Site) -> None:
        """complaints-transport row 49: session and report envelopes too."""
        site.update()
        site.flush()
        site.discards.record("before_send", "error")
        site.flush()
        assert len(site.stub.requests) == 2
        assert all(request.envelope.sent_at is not None for request in site.stub.requests)

    def test_large_bodies_are_compressed_and_small_ones_are_not(self, site: Site) -> None:
        site.event("small")
        site.event("large" * 1000)
        site.flush()
        small, large = site.stub.requests
        assert "content-encoding" not in small.headers
        assert large.headers["content-encoding"] == "gzip"
        assert large.raw_size < 1000

    def test_compression_can_be_switched_off(self, make: Callable[..., Site]) -> None:
        site = make(compression="none")
        site.event("large" * 1000)
        site.flush()
        assert "content-encoding" not in site.stub.requests[0].headers

    def test_submitting_does_not_wait_for_the_server(self, site: Site) -> None:
        site.stub.answer(delay=0.5)
        began = time.perf_counter()
        for _ in range(100):
            site.event()
        assert time.perf_counter() - began < 0.3

    def test_a_backlog_is_sent_by_five_at_once(self, site: Site) -> None:
        site.stub.answer(delay=0.05)
        for number in range(100):
            site.event(str(number))
        began = time.perf_counter()
        assert site.flush()
        assert time.perf_counter() - began < 3.0, "one after the other would take 5 s"
        assert sorted(site.messages(), key=int) == [str(number) for number in range(100)]
        assert 2 <= site.stub.connections <= 5
        wait_until(lambda: not helpers(), 5.0, "they live only while there is a backlog")

    def test_a_lazy_event_is_built_on_the_worker(self, site: Site) -> None:
        built_on: list[str] = []

        def build() -> Event:
            built_on.append(threading.current_thread().name)
            return {"message": "late"}

        site.transport.submit(Envelope.of([event_item(build)], event_id=ids.event_id()))
        site.flush()
        assert built_on == ["crashfree-worker"]
        assert site.messages() == ["late"]

    def test_an_event_that_cannot_be_built_is_counted_and_its_neighbours_go(
        self, site: Site
    ) -> None:
        def broken() -> Event:
            raise RuntimeError("source file vanished")

        envelope = Envelope.of(
            [event_item(broken), site.session(status="crashed")], event_id=ids.event_id()
        )
        site.transport.submit(envelope)
        site.event("next")
        assert site.flush()
        assert site.messages() == ["next"]
        assert [update["status"] for update in site.stub.items("session")] == ["crashed"]
        assert site.dropped() == {("internal_sdk_error", "error"): 1}

    def test_after_close_nothing_is_taken(self, site: Site) -> None:
        assert site.transport.close(1.0)
        assert not site.transport.submit(an_event())
        assert site.transport.close(1.0)
        assert site.flush()


class TestAnswers:
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500, 502, 302])
    def test_a_refusal_loses_the_event_as_send_error(self, site: Site, status: int) -> None:
        """complaints-transport rows 42 and 43."""
        site.stub.script(Answer(status=status, headers={"Location": "/elsewhere"}))
        site.event()
        assert site.flush()
        assert site.dropped() == {("send_error", "error"): 1}
        assert len(site.stub.items("event")) == 1, "never sent again"

    def test_a_limit_loses_the_event_and_the_server_counts_it(self, site: Site) -> None:
        site.stub.script(Answer(status=429, headers={"Retry-After": "30"}))
        site.event("one")
        site.flush()
        assert site.dropped() == {}
        site.event("two")
        site.flush()
        assert site.messages() == ["one"]
        assert site.dropped() == {("ratelimit_backoff", "error"): 1}
        site.clock.advance(30)
        site.event("three")
        site.flush()
        assert site.messages() == ["one", "three"]

    @pytest.mark.parametrize(
        ("headers", "status", "seconds"),
        [
            ({"X-Sentry-Rate-Limits": "60:error:organization"}, 200, 60.0),
            ({"X-Sentry-Rate-Limits": "2.5:error;session:key"}, 429, 2.5),
            ({"X-Sentry-Rate-Limits": "nonsense", "Retry-After": "7"}, 429, 7.0),
            ({"X-Sentry-Rate-Limits": "nonsense"}, 429, 60.0),
            ({"Retry-After": "1.5"}, 429, 1.5),
            ({"Retry-After": "soon"}, 429, 60.0),
            ({}, 429, 60.0),
        ],
    )
    def test_every_form_of_a_limit_counts(
        self, site: Site, headers: dict[str, str], status: int, seconds: float
    ) -> None:
        """complaints-transport row 45."""
        site.stub.script(Answer(status=status, headers=headers))
        site.event()
        site.flush()
        assert site.transport.limited("error")
        site.clock.advance(seconds - 0.01)
        assert site.transport.limited("error")
        site.clock.advance(0.02)
        assert not site.transport.limited("error")

    def test_limits_on_what_we_never_send_are_silent(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        """complaints-transport row 46, as Bugsink does it."""
        site.stub.answer(headers={"X-Sentry-Rate-Limits": "86400:transaction;span:organization"})
        for number in range(100):
            site.event(str(number))
        assert site.flush()
        assert len(site.stub.requests) == 100
        assert caplog.records == []
        assert site.transport.stats().healthy

    def test_an_attachment_goes_when_its_event_goes(self, site: Site) -> None:
        site.stub.script(Answer(headers={"X-Sentry-Rate-Limits": "60:error:key"}))
        site.event()
        site.flush()
        site.event(items=[attachment_item({"filename": "a.log", "data": b"x" * 100})])
        site.flush()
        assert len(site.posted()) == 1
        assert site.dropped() == {
            ("ratelimit_backoff", "error"): 1,
            ("ratelimit_backoff", "attachment"): 100,
        }

    def test_a_limit_on_attachments_leaves_the_event(self, site: Site) -> None:
        site.stub.script(Answer(headers={"X-Sentry-Rate-Limits": "60:attachment:key"}))
        site.event()
        site.flush()
        site.event("with", items=[attachment_item({"filename": "a.log", "data": b"x" * 100})])
        site.flush()
        assert site.messages() == ["hello", "with"]
        assert site.stub.items("attachment") == []

    def test_what_is_too_large_is_split_once(self, site: Site) -> None:
        site.stub.script(Answer(status=413), Answer(), Answer(status=413))
        site.event("big", items=[attachment_item({"filename": "a.log", "data": b"x" * 100})])
        site.flush()
        assert [len(request.envelope.items) for request in site.posted()] == [2, 1, 1]
        ids_seen = {request.envelope.event_id for request in site.posted()}
        assert len(ids_seen) == 1
        assert site.dropped() == {("send_error", "attachment"): 100}

    def test_too_large_twice_is_lost(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        site.stub.answer(status=413)
        site.event("big")
        site.flush()
        assert len(site.posted()) == 1
        assert site.dropped() == {("send_error", "error"): 1}
        assert "event" in caplog.text
        assert " B" in caplog.text

    def test_a_wrong_dsn_is_said_clearly_and_tried_once_a_minute(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        site.stub.answer(status=403)
        for number in range(10):
            site.event(str(number))
            site.flush()
        assert len(site.stub.requests) == 3
        assert site.dropped() == {("send_error", "error"): 10}
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 2, "once per status, and once with the DSN"
        assert "key@127.0.0.1" in lines[1]
        site.clock.advance(60)
        site.stub.answer()
        site.event("later")
        site.flush()
        assert site.messages()[-1] == "later"

    def test_one_line_a_minute_while_the_server_is_away(
        self, make: Callable[..., Site], caplog: pytest.LogCaptureFixture
    ) -> None:
        """complaints-transport row 37."""
        site = make(dsn=f"http://key@127.0.0.1:{dead_port()}/42")
        for number in range(100):
            site.event(str(number))
            site.flush()
        assert len(caplog.records) == 1
        assert "Traceback" not in caplog.text


class TestSilence:
    def test_without_a_spool_what_nobody_answered_is_lost(self, site: Site) -> None:
        site.stub.script(Answer(reset=True))
        site.event()
        site.flush()
        assert site.dropped() == {("network_error", "error"): 1}

    def test_a_connection_that_died_while_idle_costs_nothing(self, site: Site) -> None:
        """complaints-transport row 35."""
        site.event("one")
        site.flush()
        site.stub.script(Answer(reset=True))
        site.event("two")
        site.flush()
        assert site.messages() == ["one", "two", "two"]
        assert site.dropped() == {}

    def test_with_a_spool_it_is_on_disk_and_sent_when_the_server_is_back(
        self, spooling: Site
    ) -> None:
        spooling.stub.answer(reset=True)
        first = spooling.event("one")
        assert spooling.flush()
        assert spooling.files() == 1
        assert spooling.dropped() == {}
        spooling.stub.answer()
        spooling.clock.advance(100)
        spooling.event("two")
        spooling.flush()
        wait_for_replay(spooling)
        seen = [request.envelope.event_id for request in spooling.stub.requests]
        assert seen.count(first) == 2
        assert spooling.messages()[-1] == "one"

    def test_in_an_outage_what_comes_goes_to_disk_without_being_tried(
        self, make: Callable[..., Site], tmp_path: Path
    ) -> None:
        site = make(spool_path=tmp_path / "s", dsn=f"http://key@127.0.0.1:{dead_port()}/42")
        site.event("first")
        assert site.flush()
        for number in range(50):
            site.event(str(number))
        site.worker.flush(5.0)
        wait_until(lambda: site.files() == 51, 5.0)
        assert site.transport.stats().requests == 1

    def test_the_next_start_sends_what_is_on_disk(
        self, stub: Stub, clock: FakeClock, tmp_path: Path
    ) -> None:
        """complaints-transport row 38."""
        site = Site(stub, clock, spool_path=tmp_path / "s")
        stub.answer(reset=True)
        site.event("lost?", unhandled=True)
        site.flush()
        stub.answer()
        site.restart()
        site.transport.resume()
        clock.advance(1.0)
        wait_for_replay(site)
        assert site.messages()[-1] == "lost?"
        site.end()

    def test_close_without_time_puts_everything_on_disk(self, spooling: Site) -> None:
        """shutdown_timeout=0: what is on disk is enough."""
        spooling.stub.answer(hang=True)
        for number in range(10):
            spooling.event(str(number))
        spooling.update(seq=0, status="exited")
        began = time.monotonic()
        spooling.transport.close(0.0)
        assert time.monotonic() - began < 0.5
        assert spooling.make_spool().status().items >= 10
        spooling.stub.stop()

    def test_close_with_a_hanging_server_takes_no_longer_than_allowed(self, site: Site) -> None:
        site.stub.answer(hang=True)
        for number in range(10):
            site.event(str(number))
        began = time.monotonic()
        assert not site.transport.close(0.5)
        assert time.monotonic() - began < 0.7
        assert site.dropped() == {("network_error", "error"): 10}
        site.stub.stop()

    def test_without_a_spool_an_outage_fills_the_queue_and_no_more(
        self, make: Callable[..., Site]
    ) -> None:
        site = make(dsn=f"http://key@127.0.0.1:{dead_port()}/42", queue=QueueLimits(max_items=20))
        site.event("first")
        site.flush()
        for number in range(100):
            site.event(str(number), unhandled=number == 0)
        site.worker.flush(5.0)
        assert site.transport.stats().queued == 20
        assert site.dropped() == {
            ("network_error", "error"): 1,
            ("queue_overflow", "error"): 80,
        }
        assert not site.flush(0.2)

    def test_a_slow_answer_after_close_is_not_sent_again(
        self, stub: Stub, clock: FakeClock, tmp_path: Path
    ) -> None:
        """The envelope was put on disk when time was up; then the answer came after all."""
        site = Site(stub, clock, spool_path=tmp_path / "s")
        stub.answer(delay=0.5)
        site.event()
        wait_until(lambda: len(stub.requests) == 1, 5.0)
        assert not site.transport.close(0.1)
        assert site.spool is not None
        assert site.spool.status().items == 1
        wait_until(lambda: site.spool is not None and site.spool.status().items == 0, 5.0)
        site.end()


class TestSessions:
    def test_updates_go_out_alone(self, site: Site) -> None:
        site.update(seq=0)
        site.flush()
        site.update(seq=1, status="exited")
        site.flush()
        assert [(u["seq"], u.get("init", False)) for u in site.stub.items("session")] == [
            (0, True),
            (1, False),
        ]

    def test_a_crash_and_its_session_travel_together(self, site: Site) -> None:
        site.event("crash", unhandled=True, items=[site.session(0, "crashed")])
        site.flush()
        (request,) = site.stub.requests
        assert [name for name, _ in request.items] == ["event", "session"]

    def test_an_update_in_an_event_never_overtakes_an_earlier_one(self, site: Site) -> None:
        """Events go first, but the session's init was submitted before."""
        started, go = threading.Event(), threading.Event()
        site.worker.submit(lambda: (started.set(), go.wait(5))[0])
        started.wait(5)
        site.update(seq=0)
        site.event("error", items=[site.session(1)])
        site.update(seq=2, status="exited")
        go.set()
        site.flush()
        updates = site.stub.items("session")
        assert [update["seq"] for update in updates] == sorted(update["seq"] for update in updates)
        assert updates[0]["init"] is True
        assert all("init" not in update for update in updates[1:])
        assert updates[-1]["status"] == "exited"

    def test_a_limit_on_errors_never_stops_a_session(self, site: Site) -> None:
        site.stub.script(Answer(headers={"X-Sentry-Rate-Limits": "60:error:key"}))
        site.event()
        site.flush()
        site.event("crash", items=[site.session(0, "crashed")])
        site.flush()
        assert site.messages() == ["hello"]
        assert [update["status"] for update in site.stub.items("session")] == ["crashed"]

    def test_a_limit_on_sessions_never_stops_an_event(self, site: Site) -> None:
        site.stub.script(Answer(headers={"X-Sentry-Rate-Limits": "60:session:key"}))
        site.event()
        site.flush()
        site.event("crash", items=[site.session(0, "crashed")])
        site.flush()
        assert site.messages() == ["hello", "crash"]
        assert site.stub.items("session") == []
        assert site.dropped() == {}
        site.clock.advance(60)
        site.event("next")
        site.flush()
        assert [update["init"] for update in site.stub.items("session")] == [True]

    def test_limited_aggregates_are_merged_into_the_next_flush(self, site: Site) -> None:
        """sessions.md section 3.7: the incumbent loses them."""
        site.stub.script(Answer(headers={"X-Sentry-Rate-Limits": "300:session:organization"}))
        site.event()
        site.flush()
        for _ in range(5):
            site.counts(exited=10, crashed=1)
            site.clock.advance(59)
            assert site.flush()
        assert site.stub.items("sessions") == []
        assert site.transport.stats().held_sessions == 55
        site.clock.advance(10)
        site.flush()
        assert site.counted() == 55
        assert len(site.stub.items("sessions")) == 1
        assert site.dropped() == {}

    def test_the_end_of_a_limit_needs_nobody_to_notice(self, site: Site) -> None:
        site.stub.script(Answer(headers={"X-Sentry-Rate-Limits": "300:session:organization"}))
        site.event()
        site.flush()
        site.counts(exited=1)
        site.flush()
        site.clock.advance(301)
        site.worker.submit(lambda: None)
        wait_until(lambda: site.counted() == 1, 5.0)

    def test_an_outage_loses_no_count_that_was_not_written(self, make: Callable[..., Site]) -> None:
        site = make(dsn=f"http://key@127.0.0.1:{dead_port()}/42")
        for _ in range(10):
            site.counts(exited=7)
            assert not site.flush(1.0)
            site.clock.advance(61)
        assert site.dropped() == {}
        assert site.transport.stats().held_sessions == 70

    def test_aggregates_that_were_written_without_an_answer_are_not_sent_again(
        self, site: Site
    ) -> None:
        """DESIGN section 6.6: they have no identity, a second copy would count twice."""
        site.event()
        site.flush()
        site.stub.script(Answer(reset=True))
        site.counts(exited=7)
        site.flush()
        site.clock.advance(100)
        site.flush()
        assert site.counted() == 7
        assert site.dropped() == {("network_error", "session"): 7}

    def test_on_the_worker_aggregates_are_on_disk_when_submit_returns(self, spooling: Site) -> None:
        """So that whoever counted them may forget them; a kill in the next line loses none."""
        spooling.stub.answer(hang=True)
        found: list[int] = []

        def job() -> None:
            spooling.counts(exited=7)
            assert spooling.spool is not None
            run = spooling.spool.run
            assert run is not None
            found.append(Path(run.path("held")).stat().st_size)

        spooling.worker.submit(job)
        wait_until(lambda: found, 5.0)
        assert found[0] > 0
        spooling.stub.stop()

    def test_a_run_that_is_killed_in_an_outage_leaves_its_sessions(
        self, stub: Stub, clock: FakeClock, tmp_path: Path
    ) -> None:
        dead = Site(
            stub, clock, spool_path=tmp_path / "s", dsn=f"http://key@127.0.0.1:{dead_port()}/42"
        )
        dead.counts(exited=7)
        dead.update(seq=0)
        assert dead.flush(), "on disk is safe"
        assert dead.spool is not None
        dead.spool.forget()  # the kill: the lock is gone, nothing was tidied up
        spool = dead.make_spool()
        (run,) = deadrun.adopt(spool)
        run.settle(())
        assert spool.status().items == 1
        dead.worker.close(1.0)

    def test_a_hundred_updates_make_one_request(self, site: Site) -> None:
        started, go = threading.Event(), threading.Event()
        site.worker.submit(lambda: (started.set(), go.wait(5))[0])
        started.wait(5)
        for number in range(100):
            sid = f"{number:08x}-0000-4000-8000-000000000000"
            site.update(0, "ok", sid)
            site.update(1, "exited", sid)
        go.set()
        site.flush()
        assert len(site.stub.requests) == 1
        assert len(site.stub.items("session")) == 100

    def test_a_server_that_refuses_sessions_is_remembered_and_said_once(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        site.stub.answer(status=400)
        for seq in range(10):
            site.update(seq=seq)
            site.flush()
        assert len(site.posted()) == 3
        assert caplog.text.count("does not take sessions") == 1
        site.stub.answer()
        site.event("still")
        site.flush()
        assert site.messages() == ["still"]

    def test_a_server_that_refuses_sessions_still_gets_the_crash(self, site: Site) -> None:
        site.stub.script(Answer(status=400))
        site.event("crash", items=[site.session(0, "crashed")])
        site.flush()
        assert [len(request.envelope.items) for request in site.posted()] == [2, 1]
        assert site.dropped() == {("send_error", "session"): 1}
        site.update(seq=0, sid="bbbbbbbb-0000-4000-8000-000000000000")
        site.flush()
        assert len(site.posted()) == 2

    def test_one_refusal_by_a_server_that_took_sessions_before_means_nothing(
        self, site: Site
    ) -> None:
        site.update(seq=0)
        site.flush()
        site.stub.script(*[Answer(status=400)] * 4)
        for seq in range(1, 5):
            site.update(seq=seq)
            site.flush()
        site.update(seq=5)
        site.flush()
        assert len(site.posted()) == 6


class TestReports:
    def test_losses_are_reported_at_flush(self, site: Site) -> None:
        site.discards.record("sample_rate", "error", 3)
        assert site.flush()
        (report,) = site.stub.items("client_report")
        assert report["discarded_events"] == [
            {"reason": "sample_rate", "category": "error", "quantity": 3}
        ]
        assert report["timestamp"] == pytest.approx(site.clock.time())
        site.flush()
        assert len(site.stub.requests) == 1

    def test_a_report_goes_along_after_half_a_minute(self, site: Site) -> None:
        site.discards.record("sample_rate", "error")
        site.event()
        wait_until(lambda: len(site.stub.requests) == 1, 5.0)
        assert site.stub.items("client_report") == []
        site.clock.advance(30)
        site.event()
        wait_until(lambda: len(site.stub.requests) == 2, 5.0)
        assert len(site.stub.items("client_report")) == 1

    def test_a_report_goes_alone_after_a_minute(self, site: Site) -> None:
        site.discards.record("sample_rate", "error")
        site.clock.advance(61)
        site.worker.submit(lambda: None)
        wait_until(lambda: len(site.stub.items("client_report")) == 1, 5.0)

    @pytest.mark.parametrize("answer", [Answer(status=500), Answer(status=429), Answer(reset=True)])
    def test_a_report_that_did_not_arrive_is_told_with_the_next(
        self, site: Site, answer: Answer
    ) -> None:
        """complaints-transport row 44."""
        site.stub.script(answer)
        site.discards.record("sample_rate", "error", 2)
        site.flush()
        site.clock.advance(100)
        site.discards.record("sample_rate", "error", 3)
        site.flush()
        last = site.stub.items("client_report")[-1]
        assert last["discarded_events"] == [
            {"reason": "sample_rate", "category": "error", "quantity": 5}
        ]

    def test_with_a_full_queue_the_report_goes_all_the_same(
        self, make: Callable[..., Site]
    ) -> None:
        """complaints-transport row 13."""
        site = make(queue=QueueLimits(max_items=5))
        started, go = threading.Event(), threading.Event()
        site.worker.submit(lambda: (started.set(), go.wait(5))[0])
        started.wait(5)
        for number in range(100):
            site.event(str(number))
        go.set()
        assert site.flush()
        rows = [
            row for report in site.stub.items("client_report") for row in report["discarded_events"]
        ]
        assert sum(row["quantity"] for row in rows) + len(site.messages()) == 100

    def test_no_report_under_a_limit_on_everything(self, site: Site) -> None:
        site.stub.script(Answer(status=429))
        site.event()
        site.flush()
        site.discards.record("sample_rate", "error", 2)
        site.flush()
        assert len(site.stub.requests) == 1
        site.clock.advance(61)
        site.flush()
        assert len(site.stub.items("client_report")) == 1

    def test_reports_can_be_switched_off(self, make: Callable[..., Site]) -> None:
        site = make(send_client_reports=False)
        site.discards.record("sample_rate", "error", 2)
        site.clock.advance(100)
        site.event()
        site.flush()
        assert site.stub.items("client_report") == []
        assert site.dropped() == {("sample_rate", "error"): 2}


class TestFlush:
    def test_with_nothing_to_do_it_is_quick(self, site: Site) -> None:
        """complaints-transport row 11."""
        site.event()
        site.flush()
        began = time.perf_counter()
        assert site.flush()
        assert site.transport.close(2.0)
        assert time.perf_counter() - began < 0.02 + 0.05

    def test_zero_does_not_wait(self, site: Site) -> None:
        site.stub.answer(delay=0.3)
        site.event()
        began = time.perf_counter()
        assert not site.flush(0.0)
        assert time.perf_counter() - began < 0.1
        assert site.flush()

    def test_it_ends_by_its_deadline(self, site: Site) -> None:
        site.stub.answer(hang=True)
        site.event()
        began = time.monotonic()
        assert not site.flush(0.3)
        assert 0.2 < time.monotonic() - began < 0.6
        site.stub.stop()

    def test_on_the_worker_it_does_not_wait_for_itself(self, site: Site) -> None:
        answers: list[bool] = []

        def job() -> None:
            site.event()
            answers.append(site.flush(10.0))

        site.worker.submit(job)
        site.worker.flush(5.0)
        assert site.flush()
        assert answers == [False]

    def test_what_comes_during_it_does_not_prolong_it(self, site: Site) -> None:
        site.stub.answer(delay=0.02)
        stop = threading.Event()

        def busy() -> None:
            while not stop.is_set():
                site.event("more")
                stop.wait(0.002)

        thread = threading.Thread(target=busy)
        site.event("mine")
        thread.start()
        began = time.monotonic()
        assert site.flush(10.0)
        assert time.monotonic() - began < 2.0
        stop.set()
        thread.join()
        assert site.flush(20.0)

    def test_many_threads_flush_at_once(self, site: Site) -> None:
        site.stub.answer(delay=0.02)
        for _ in range(20):
            site.event()
        answers: list[bool] = []
        threads = [threading.Thread(target=lambda: answers.append(site.flush())) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [True] * 6

    def test_a_server_that_cannot_be_reached_is_not_waited_for(
        self, make: Callable[..., Site]
    ) -> None:
        site = make(dsn=f"http://key@127.0.0.1:{dead_port()}/42")
        site.event("one")
        began = time.monotonic()
        site.flush(10.0)
        site.event("two")
        site.flush(10.0)
        assert time.monotonic() - began < 2.0


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith("crashfree"):
            raise RuntimeError("can't create new thread at interpreter shutdown")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.usefixtures("no_threads")
class TestWithoutThreads:
    """complaints-transport row 9."""

    def test_flush_sends_in_the_caller(self, site: Site) -> None:
        for number in range(20):
            site.event(str(number))
        site.update(seq=0, status="exited")
        site.counts(exited=3)
        site.discards.record("sample_rate", "error")
        assert site.flush()
        assert len(site.messages()) == 20
        assert len(site.stub.items("session")) == 1
        assert site.counted() == 3
        assert len(site.stub.items("client_report")) == 1

    def test_close_sends_in_the_caller(self, site: Site) -> None:
        site.event()
        assert site.transport.close(5.0)
        assert site.messages() == ["hello"]

    def test_with_a_spool_the_replay_happens_there_too(self, spooling: Site) -> None:
        spooling.stub.answer(reset=True)
        spooling.event("one")
        assert spooling.flush()
        assert spooling.files() == 1
        spooling.stub.answer()
        spooling.clock.advance(100)
        assert spooling.transport.close(5.0)
        assert spooling.files() == 0


def locks_of(thing: object, seen: set[int], path: str = "") -> list[tuple[str, object]]:
    """Every lock that can be reached from an object of ours, and where."""
    if id(thing) in seen or isinstance(thing, (str, bytes, int, float, type(None))):
        return []
    seen.add(id(thing))
    if isinstance(thing, type(threading.Lock())):
        return [(path, thing)]
    inner: list[tuple[str, object]] = []
    if isinstance(thing, dict):
        inner = [(str(key), value) for key, value in thing.items()]
    elif isinstance(thing, (list, tuple, deque)):
        inner = [(str(number), value) for number, value in enumerate(thing)]
    elif type(thing).__module__.startswith("crashfree"):
        names = {name for base in type(thing).__mro__ for name in getattr(base, "__slots__", ())}
        inner = [(name, getattr(thing, name, None)) for name in names]
    return [found for name, value in inner for found in locks_of(value, seen, f"{path}.{name}")]


def test_no_lock_of_the_parent_is_left_in_a_child(spooling: Site) -> None:
    """complaints-transport row 2: each of them may have been held at the moment of the fork."""
    spooling.event()
    spooling.flush()
    before = locks_of(spooling.transport, set())
    assert len(before) >= 10, before
    spooling.worker.close(1.0)
    spooling.transport._http.close()
    spooling.transport.forget()
    spooling.worker.forget()
    inherited = {id(lock) for _, lock in before}
    after = locks_of(spooling.transport, set())
    assert len(after) >= 10, after
    assert [where for where, lock in after if id(lock) in inherited] == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestFork:
    def test_a_child_sends_its_own_only(self, site: Site) -> None:
        """complaints-transport row 4."""
        started, go = threading.Event(), threading.Event()
        site.worker.submit(lambda: (started.set(), go.wait(20))[0])
        started.wait(5)
        for number in range(10):
            site.event(f"parent {number}")
        site.update(seq=0)
        site.counts(exited=5)
        site.discards.record("sample_rate", "error")
        pid = os.fork()
        if pid == 0:
            site.event("child")
            os._exit(0 if site.flush(10.0) else 1)
        _, status = os.waitpid(pid, 0)
        assert status == 0
        assert site.messages() == ["child"]
        go.set()
        assert site.flush()
        assert sorted(site.messages()) == ["child", *sorted(f"parent {n}" for n in range(10))]
        assert len(site.stub.items("session")) == 1
        assert site.counted() == 5

    def test_a_child_keeps_the_limits(self, site: Site) -> None:
        site.stub.script(Answer(headers={"X-Sentry-Rate-Limits": "60:error:key"}))
        site.event()
        site.flush()
        pid = os.fork()
        if pid == 0:
            site.transport.submit(an_event())
            os._exit(0 if site.transport.limited("error") and site.flush(5.0) else 1)
        _, status = os.waitpid(pid, 0)
        assert status == 0
        assert len(site.posted()) == 1

    @pytest.mark.slow
    def test_two_hundred_forks_under_load(self, site: Site) -> None:
        """complaints-transport rows 1 to 3: no inherited lock hangs a child."""
        stop = threading.Event()

        def busy() -> None:
            while not stop.is_set():
                site.event("parent")
                site.discards.record("sample_rate", "error")
                stop.wait(0.0005)

        threads = [threading.Thread(target=busy) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(200):
                pid = os.fork()
                if pid == 0:
                    site.event(f"child {number}")
                    os._exit(0 if site.flush(5.0) else 1)
                _, status = os.waitpid(pid, 0)
                assert status == 0, f"child {number}"
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        children = [message for message in site.messages() if message.startswith("child")]
        assert sorted(children) == sorted(f"child {number}" for number in range(200))


class TestStatistics:
    def test_what_was_sent_is_counted_by_category(self, site: Site) -> None:
        site.event(items=[attachment_item({"filename": "a", "data": b"x" * 10})])
        site.update()
        site.counts(exited=3)
        site.flush()
        stats = site.transport.stats()
        assert stats.sent == {"error": 1, "attachment": 10, "session": 4}
        assert stats.requests == len(site.stub.requests)
        assert stats.sent_bytes == sum(request.raw_size for request in site.stub.requests)
        assert stats.queued == stats.queued_bytes == 0
        assert stats.last_error is None

    def test_what_went_wrong_last_is_told(self, site: Site) -> None:
        site.stub.answer(status=500, body=b'{"detail":"oh dear"}')
        site.event()
        site.flush()
        assert "500" in str(site.transport.stats().last_error)
        assert "oh dear" in str(site.transport.stats().last_error)

    def test_health(self, make: Callable[..., Site]) -> None:
        site = make(dsn=f"http://key@127.0.0.1:{dead_port()}/42")
        assert site.transport.stats().healthy
        for _ in range(3):
            site.event()
            site.flush()
        assert not site.transport.stats().healthy

    def test_limits_in_force_are_shown(self, site: Site) -> None:
        site.stub.script(Answer(headers={"X-Sentry-Rate-Limits": "60:session:key"}))
        site.event()
        site.flush()
        site.clock.advance(20)
        assert site.transport.stats().rate_limits == {"session": 40.0}
        assert not site.transport.stats().healthy


def wait_for_replay(site: Site) -> None:
    """Let the clock run until the spool is empty."""

    def empty() -> bool:
        site.clock.advance(0.2)
        site.worker.submit(lambda: None)
        return site.files() == 0

    wait_until(empty, 10.0, "the spool is replayed")


def test_who_flushes_while_the_worker_looks_around_is_not_told_too_early(
    site: Site, hasty_threads: None
) -> None:
    """The worker finds nothing to send, then an event and its flush come, then it tells all."""
    for number in range(300):
        site.event(str(number))
        assert site.flush()
    assert site.messages() == [str(number) for number in range(300)]
