"""What is to be told about sessions: last states, sums, `init` once, and nothing twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._delivery import sessionbook
from crashfree._delivery.outcome import Outcome
from crashfree._delivery.sessionbook import NO_BATCH, SessionBook, sids_of
from crashfree._ground import json
from crashfree._protocol.aggregates import total
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.items import Item, received_item, session_item, sessions_item
from crashfree._protocol.timestamps import rfc3339
from tests.support.clock import FakeClock

A = "aaaaaaaa-0000-4000-8000-000000000000"
B = "bbbbbbbb-0000-4000-8000-000000000000"


class Book:
    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.lost: list[tuple[str, int]] = []
        self.book = SessionBook(
            clock=clock, on_loss=lambda reason, quantity: self.lost.append((reason, quantity))
        )

    def update(self, sid: str = A, seq: int = 0, status: str = "ok", **more: Any) -> None:
        payload = {
            "sid": sid,
            "started": rfc3339(self.clock.time()),
            "attrs": {"release": "app@1"},
            "seq": seq,
            "status": status,
            **more,
        }
        if seq == 0:
            payload["init"] = True
        self.book.take_in([session_item(payload)])  # type: ignore[arg-type]

    def counts(self, release: str = "app@1", did: str | None = None, **outcomes: int) -> None:
        bucket: Any = {"started": rfc3339(self.clock.time() // 60 * 60), **outcomes}
        if did is not None:
            bucket["did"] = did
        self.book.take_in([sessions_item({"attrs": {"release": release}, "aggregates": [bucket]})])

    def send(self, outcome: Outcome = "accepted") -> list[Any]:
        batch = self.book.batch()
        self.book.settle(batch, outcome)
        return payloads(batch.items)


def payloads(items: tuple[Item, ...]) -> list[Any]:
    return [json.decode(item.payload) for item in items]


@pytest.fixture
def book(clock: FakeClock) -> Book:
    return Book(clock)


class TestUpdates:
    def test_an_update_goes_out_as_it_is(self, book: Book) -> None:
        book.update()
        (sent,) = book.send()
        assert sent["sid"] == A
        assert sent["init"] is True
        assert sent["seq"] == 0
        assert book.book.batch() is NO_BATCH
        assert not book.book.waiting

    def test_only_the_last_state_of_a_session_is_told(self, book: Book) -> None:
        book.update(seq=0)
        book.update(seq=1, errors=1)
        book.update(seq=2, status="exited", duration=4.0)
        (sent,) = book.send()
        assert (sent["seq"], sent["status"], sent["duration"]) == (2, "exited", 4.0)
        assert sent["init"] is True, "the update that carried it was never sent"

    def test_init_is_told_once(self, book: Book) -> None:
        book.update(seq=0)
        book.send()
        book.update(seq=1, status="crashed")
        (sent,) = book.send()
        assert "init" not in sent

    @pytest.mark.parametrize("outcome", ["unwritten", "unanswered", "limited", "withdrawn"])
    def test_what_did_not_arrive_is_told_again(self, book: Book, outcome: Outcome) -> None:
        """sessions.md section 3.7: the last state of a session is kept."""
        book.update(seq=0)
        book.send(outcome)
        assert book.book.waiting
        book.update(seq=1, status="exited")
        (sent,) = book.send()
        assert (sent["seq"], sent["init"]) == (1, True)
        assert book.lost == []

    def test_a_refused_update_is_lost_but_its_init_is_not(self, book: Book) -> None:
        book.update(seq=0)
        book.send("refused")
        assert book.lost == [("send_error", 1)]
        assert not book.book.waiting
        book.update(seq=1, status="exited")
        (sent,) = book.send()
        assert sent["init"] is True

    def test_what_came_while_it_was_under_way_is_told_next(self, book: Book) -> None:
        book.update(seq=0)
        batch = book.book.batch()
        book.update(seq=1, status="exited")
        assert book.book.batch() is NO_BATCH, "one request at a time per session"
        book.book.settle(batch, "accepted")
        (sent,) = book.send()
        assert sent["seq"] == 1
        assert "init" not in sent

    def test_nothing_follows_a_terminal_update(self, book: Book) -> None:
        book.update(seq=0, status="crashed")
        book.update(seq=1, status="exited")
        (sent,) = book.send()
        assert sent["status"] == "crashed"
        book.update(seq=2, status="exited")
        assert book.send() == []

    def test_updates_that_arrive_out_of_order_do_not_go_back(self, book: Book) -> None:
        book.update(seq=1, errors=1)
        book.update(seq=0)
        (sent,) = book.send()
        assert (sent["seq"], sent["init"]) == (1, True)

    def test_sessions_do_not_mix(self, book: Book) -> None:
        book.update(A, seq=0)
        book.update(B, seq=0, status="exited")
        sent = book.send()
        assert [update["sid"] for update in sent] == [A, B]

    def test_a_hundred_go_into_one_envelope(self, book: Book) -> None:
        for number in range(250):
            book.update(f"{number:08x}-0000-4000-8000-000000000000", status="exited")
        assert [len(book.send()) for _ in range(4)] == [100, 100, 50, 0]

    def test_an_update_can_ride_with_an_event(self, book: Book) -> None:
        book.update(A, seq=0)
        book.update(B, seq=0)
        ride = book.book.ride([A])
        assert [update["sid"] for update in payloads(ride.items)] == [A]
        assert [update["sid"] for update in book.send()] == [B]
        book.book.settle(ride, "accepted")
        assert book.book.ride([A]) is NO_BATCH

    def test_sids_are_found_in_items(self) -> None:
        items = [
            session_item({"sid": A, "started": "", "attrs": {"release": "x"}}),
            received_item("session", {}, b"nonsense"),
            received_item("event", {}, b"{}"),
        ]
        assert sids_of(items) == [A]

    def test_what_cannot_be_read_is_counted(self, book: Book) -> None:
        book.book.take_in([received_item("session", {}, b"nonsense")])
        book.book.take_in([received_item("session", {}, b"[1]")])
        book.update()
        assert len(book.send()) == 1
        assert book.lost == [("internal_sdk_error", 1)] * 2


class TestCounts:
    def test_counts_of_a_minute_add_up(self, book: Book) -> None:
        book.counts(exited=3)
        book.counts(exited=2, crashed=1)
        (sent,) = book.send()
        (bucket,) = sent["aggregates"]
        assert (bucket["exited"], bucket["crashed"]) == (5, 1)

    def test_a_limit_holds_them_back_and_loses_none(self, book: Book) -> None:
        book.counts(exited=3)
        book.send("limited")
        book.clock.advance(60)
        book.counts(exited=2)
        (sent,) = book.send()
        assert [bucket["exited"] for bucket in sent["aggregates"]] == [3, 2]
        assert book.lost == []

    def test_what_was_not_written_is_sent_again(self, book: Book) -> None:
        book.counts(exited=3)
        book.send("unwritten")
        (sent,) = book.send()
        assert total(sent) == 3

    @pytest.mark.parametrize(
        ("outcome", "reason"),
        [
            ("unanswered", "network_error"),
            ("refused", "send_error"),
            ("too_large", "send_error"),
            ("failed", "internal_sdk_error"),
        ],
    )
    def test_what_may_have_arrived_or_was_refused_is_not_sent_again(
        self, book: Book, outcome: Outcome, reason: str
    ) -> None:
        book.counts(exited=3, crashed=1)
        book.send(outcome)
        assert book.send() == []
        assert book.lost == [(reason, 4)]

    def test_releases_and_users_are_kept_apart(self, book: Book) -> None:
        book.counts("app@1", did="u1", exited=1)
        book.counts("app@1", did="u2", exited=1)
        book.counts("app@2", exited=1)
        first, second = book.send()
        assert {first["attrs"]["release"], second["attrs"]["release"]} == {"app@1", "app@2"}
        assert [len(first["aggregates"]), len(second["aggregates"])] == [2, 1]

    def test_a_hundred_buckets_go_into_one_item(self, book: Book) -> None:
        for number in range(250):
            book.counts(did=f"u{number}", exited=1)
        sent = book.send()
        assert [len(payload["aggregates"]) for payload in sent] == [100, 100, 50]

    def test_more_items_than_an_envelope_takes_go_in_two(self, book: Book) -> None:
        for number in range(10_100 - 200):
            book.counts(did=f"u{number}", exited=1)
        first, second = book.send(), book.send()
        assert len(first) == 99
        assert second == []
        book.update()
        for number in range(100):
            book.counts(f"app@{number}", exited=1)
        assert len(book.send()) == 100
        assert len(book.send()) == 1
        assert book.lost == []

    def test_counts_that_no_server_takes_any_more_are_dropped(self, book: Book) -> None:
        """sessions.md section 3.7: at most 5 days."""
        book.counts(exited=3)
        book.send("limited")
        book.clock.advance(5 * 86_400 - 100)
        book.counts(exited=1)
        book.send("limited")
        assert book.lost == []
        book.clock.advance(700)
        book.counts(exited=1)
        (sent,) = book.send()
        assert total(sent) == 2
        assert book.lost == [("cache_overflow", 3)]


class TestBounds:
    def test_arrivals_that_nobody_looks_at_are_bounded(self, book: Book) -> None:
        for _ in range(sessionbook.MAX_UNSEEN + 10):
            book.counts(exited=1)
        assert book.lost == [("queue_overflow", 1)] * 10
        (sent,) = book.send()
        assert total(sent) == sessionbook.MAX_UNSEEN

    def test_ended_sessions_that_nobody_heard_of_become_counts(
        self, book: Book, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessionbook, "MAX_SESSIONS", 10)
        for number in range(30):
            status = "crashed" if number % 2 else "exited"
            book.update(
                f"{number:08x}-0000-4000-8000-000000000000", status=status, did=f"u{number}"
            )
        sent = book.send()
        updates = [payload for payload in sent if "sid" in payload]
        (aggregated,) = [payload for payload in sent if "aggregates" in payload]
        assert len(updates) == 10
        assert total(aggregated) == 20
        assert sum(bucket.get("crashed", 0) for bucket in aggregated["aggregates"]) == 10
        assert aggregated["aggregates"][0]["did"].startswith("u")
        assert book.lost == []

    def test_a_session_that_may_be_known_is_not_counted_again(
        self, book: Book, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        book.update(A, status="exited")
        book.send("unanswered")
        monkeypatch.setattr(sessionbook, "MAX_SESSIONS", 1)
        book.update(B, status="exited")
        sent = book.send()
        assert [payload.get("sid") for payload in sent] == [B]
        assert book.lost == [("cache_overflow", 1)]

    def test_users_are_merged_before_counts_are_lost(
        self, book: Book, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessionbook, "MAX_BUCKETS", 50)
        for number in range(80):
            book.counts(did=f"u{number}", exited=1)
        (sent,) = book.send()
        (bucket,) = sent["aggregates"]
        assert bucket["exited"] == 80
        assert book.lost == []


class TestKeeping:
    def test_a_snapshot_holds_all_that_is_untold(self, book: Book) -> None:
        book.update(A, seq=0)
        book.counts(exited=2)
        data = book.book.snapshot()
        assert data is not None
        first, second = payloads(decode_envelope(data).items)
        assert first["sid"] == A
        assert total(second) == 2
        assert len(book.send()) == 2
        assert book.book.snapshot() is None

    def test_counts_that_are_being_written_are_not_in_it_and_updates_are(self, book: Book) -> None:
        book.update(A, seq=0)
        book.counts(exited=2)
        batch = book.book.batch()
        data = book.book.snapshot()
        assert data is not None
        (only,) = payloads(decode_envelope(data).items)
        assert only["sid"] == A
        book.book.settle(batch, "unwritten")
        data = book.book.snapshot()
        assert data is not None
        assert len(decode_envelope(data).items) == 2

    def test_giving_up_counts_everything(self, book: Book) -> None:
        book.update(A, seq=0)
        book.counts(exited=2)
        book.book.give_up("network_error")
        assert book.lost == [("network_error", 3)]
        assert not book.book.waiting
        assert book.book.held == 0

    def test_a_child_knows_nothing(self, book: Book) -> None:
        book.update(A, seq=0)
        book.book.forget()
        assert book.send() == []
        assert book.lost == []

    def test_halves_of_a_batch_make_the_whole(self, book: Book) -> None:
        for number in range(5):
            book.update(f"{number:08x}-0000-4000-8000-000000000000")
        for number in range(4):
            book.counts(f"app@{number}", exited=number + 1)
        batch = book.book.batch()
        first, second = batch.halves()
        assert first.items + second.items == batch.items
        assert {**first.updates, **second.updates} == batch.updates
        assert sessionbook.total(first.counts) + sessionbook.total(second.counts) == 10
        book.book.settle(first, "accepted")
        book.book.settle(second, "unwritten")
        assert book.book.held == len(second.updates) + 10


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("count"), st.integers(1, 5)),
            st.tuples(
                st.just("send"),
                st.sampled_from(
                    ["accepted", "unwritten", "unanswered", "limited", "refused", "failed"]
                ),
            ),
            st.tuples(st.just("minute"), st.integers(0, 3)),
        ),
        max_size=60,
    )
)
def test_every_counted_session_is_told_once_lost_once_or_waits(
    steps: list[tuple[str, Any]],
) -> None:
    book = Book(FakeClock())
    begun = told = 0
    for kind, value in steps:
        if kind == "count":
            book.counts(exited=value)
            begun += value
        elif kind == "minute":
            book.clock.advance(value * 60)
        else:
            sent = book.send(value)
            if value == "accepted":
                told += sum(total(payload) for payload in sent)
    lost = sum(quantity for _, quantity in book.lost)
    assert begun == told + lost + book.book.held


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("update"), st.sampled_from(["ok", "ok", "exited", "crashed"])),
            st.tuples(
                st.just("send"),
                st.sampled_from(["accepted", "unwritten", "limited", "refused", "withdrawn"]),
            ),
        ),
        max_size=40,
    )
)
def test_what_a_server_sees_of_a_session_is_lawful(steps: list[tuple[str, str]]) -> None:
    """init first and once, seq grows, nothing after a terminal status."""
    book = Book(FakeClock())
    seq = 0
    seen: list[Any] = []
    for kind, value in steps:
        if kind == "update":
            book.update(seq=seq, status=value)
            seq += 1
        else:
            sent = book.send(value)  # type: ignore[arg-type]
            if value == "accepted":
                seen += sent
    assert [update.get("init", False) for update in seen] == [True, *[False] * (len(seen) - 1)][
        : len(seen)
    ]
    assert [update["seq"] for update in seen] == sorted({update["seq"] for update in seen})
    assert all(update["status"] == "ok" for update in seen[:-1])
