from __future__ import annotations

import json
import threading
from typing import Any, cast

import pytest

from crashfree._protocol import items
from crashfree._protocol.items import (
    Item,
    attachment_item,
    base_name,
    category_of,
    client_report_item,
    event_item,
    received_item,
    session_item,
    sessions_item,
)
from crashfree.types import Event, SessionAggregates, SessionUpdate

EVENT: Event = {"event_id": "0" * 32, "message": "Grüße"}


@pytest.mark.parametrize(
    ("item_type", "category"),
    [
        ("event", "error"),
        ("session", "session"),
        ("sessions", "session"),
        ("client_report", "internal"),
        ("attachment", "attachment"),
        ("feedback", "feedback"),
        ("check_in", "monitor"),
        ("user_report", "user_report"),
        ("transaction", "transaction"),
        ("hologram", "default"),
    ],
)
def test_every_type_has_its_data_category(item_type: str, category: str) -> None:
    """Aggregates count as sessions too: they were once missed. Source: wire.md section 4."""
    assert category_of(item_type) == category
    assert received_item(item_type, {}, b"").category == category


def test_an_event_is_compact_utf_8_json() -> None:
    item = event_item(EVENT)
    assert item.type == "event"
    assert item.headers == {"content_type": "application/json"}
    assert item.payload == '{"event_id":"%s","message":"Grüße"}'.encode() % (b"0" * 32)
    assert item.quantity == 1
    assert item.size_hint == len(item.payload)


def test_a_lazy_event_is_built_when_it_is_asked_for_and_once() -> None:
    calls: list[int] = []

    def build() -> Event:
        calls.append(1)
        return EVENT

    item = event_item(build, size_hint=500)
    assert not item.built
    assert item.size_hint == 500
    assert item.quantity == 1
    assert repr(item) == "<Item event, 500 bytes>"
    assert not calls
    first = item.payload
    assert item.built
    assert first == event_item(EVENT).payload
    assert item.payload is first
    assert item.view is first
    assert item.size_hint == len(first)
    assert len(calls) == 1


def test_a_lazy_event_lets_go_of_what_it_was_built_from() -> None:
    class Draft:
        def finish(self) -> Event:
            return EVENT

    import weakref

    draft = Draft()
    alive = weakref.ref(draft)
    item = event_item(draft.finish)
    del draft
    assert alive() is not None
    assert item.payload
    assert alive() is None


def test_what_building_raises_comes_out_of_the_payload_each_time() -> None:
    def build() -> Event:
        raise RuntimeError("no frames")

    item = event_item(build)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no frames"):
            item.payload  # noqa: B018
        assert not item.built


def test_threads_that_ask_at_once_get_the_same_bytes() -> None:
    parties = 8
    for _ in range(50):
        barrier = threading.Barrier(parties)
        builds: list[int] = []

        def build(builds: list[int] = builds) -> Event:
            builds.append(1)
            # Each build differs, so that two kept results would be seen.
            return {"message": f"build {len(builds)}"}

        item = event_item(build)
        seen: list[bytes] = []

        def ask(item: Item = item, seen: list[bytes] = seen, gate: Any = barrier) -> None:
            gate.wait()
            seen.append(item.payload)

        threads = [threading.Thread(target=ask) for _ in range(parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(seen) == parties
        assert all(payload is seen[0] for payload in seen)


def test_a_build_that_is_entered_again_keeps_the_inner_result() -> None:
    """A signal handler may flush while the worker's job runs in this same thread."""
    inner: list[bytes] = []

    def build() -> Event:
        if not inner:
            inner.append(b"")
            inner[0] = item.payload
        return {"message": "later" if inner[0] else "first"}

    item = event_item(build)
    assert item.payload is inner[0]


@pytest.mark.parametrize(
    ("values", "unhandled"),
    [
        ([{"mechanism": {"type": "excepthook", "handled": False}}], True),
        ([{"mechanism": {"handled": True}}, {"mechanism": {"handled": False}}], True),
        ([{"mechanism": {"handled": True}}], False),
        ([{"mechanism": {}}, {}], False),
        ([{"mechanism": None}], False),
        ([], False),
        (None, False),
    ],
)
def test_an_event_that_nobody_handled_is_marked(values: Any, unhandled: bool) -> None:
    event = cast("Event", {"exception": {"values": values}})
    assert event_item(event).unhandled is unhandled
    assert event_item(event, unhandled=not unhandled).unhandled is not unhandled


def test_a_lazy_event_is_unhandled_when_its_maker_says_so() -> None:
    assert event_item(lambda: EVENT, unhandled=True).unhandled
    assert not event_item(lambda: EVENT).unhandled


def test_a_session_item_counts_one_and_aggregates_count_their_sessions() -> None:
    """Source: wire.md section 12: the sum of its counts."""
    update: SessionUpdate = {
        "sid": "7bdbc0e8-e9af-448c-bca0-7a04b3328193",
        "started": "2026-11-21T01:40:48.455611Z",
        "attrs": {"release": "desk@5.1.0"},
    }
    aggregates: SessionAggregates = {
        "attrs": {"release": "desk@5.1.0"},
        "aggregates": [
            {"started": "2026-11-21T01:40:00.000000Z", "exited": 7, "errored": 2},
            {"started": "2026-11-21T01:41:00.000000Z", "crashed": 1, "did": "u"},
        ],
    }
    assert session_item(update).quantity == 1
    assert sessions_item(aggregates).quantity == 10
    payload = sessions_item(aggregates).payload
    assert received_item("sessions", {}, payload).quantity == 10


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"[]", b"{}", b'{"attrs":{"release":"r"},"aggregates":[{"exited":"x"}]}']
)
def test_unreadable_aggregates_count_as_one_item(payload: bytes) -> None:
    assert received_item("sessions", {}, payload).quantity == 1


def test_an_attachment_is_counted_in_bytes_and_an_empty_one_as_one() -> None:
    assert attachment_item({"filename": "a", "data": b"12345"}).quantity == 5
    assert attachment_item({"filename": "a", "data": b""}).quantity == 1
    assert received_item("attachment", {}, memoryview(b"12345")).quantity == 5
    assert received_item("attachment", {}, b"").quantity == 1


def test_a_batch_is_counted_by_its_item_count() -> None:
    assert received_item("log", {"item_count": 2}, b"{}").quantity == 2
    assert received_item("log", {"item_count": "2"}, b"{}").quantity == 1
    assert received_item("log", {"item_count": True}, b"{}").quantity == 1
    assert received_item("hologram", {}, b"abc").quantity == 1


def test_an_attachment_says_name_and_types() -> None:
    item = attachment_item(
        {
            "filename": "/var/log/app.log",
            "data": b"x",
            "content_type": "text/plain",
            "attachment_type": "event.minidump",
        }
    )
    assert item.headers == {
        "filename": "app.log",
        "content_type": "text/plain",
        "attachment_type": "event.minidump",
    }
    assert item.payload == b"x"


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("a.txt", "a.txt"),
        ("/etc/passwd", "passwd"),
        ("C:\\dumps\\core.dmp", "core.dmp"),
        ("../../x", "x"),
        ("dir/", "dir"),
        ("..", "unnamed"),
        (" . ", "unnamed"),
        ("", "unnamed"),
        ("a\nb\x00c\x7f.txt", "abc.txt"),
        ("報告.txt", "報告.txt"),
    ],
)
def test_a_file_name_loses_its_path_and_control_characters(filename: str, name: str) -> None:
    assert base_name(filename) == name


def test_a_client_report_is_json() -> None:
    item = client_report_item({"timestamp": 1.5, "discarded_events": []})
    assert json.loads(item.payload) == {"timestamp": 1.5, "discarded_events": []}


def test_items_are_equal_when_type_headers_and_bytes_are() -> None:
    one = received_item("attachment", {"filename": "a"}, memoryview(b"--x--")[2:3])
    assert one == attachment_item({"filename": "a", "data": b"x"})
    assert one != attachment_item({"filename": "b", "data": b"x"})
    assert one != attachment_item({"filename": "a", "data": b"y"})
    assert one != received_item("hologram", {"filename": "a"}, b"x")
    assert one != "attachment"


def test_a_received_payload_is_copied_only_when_bytes_are_asked_for() -> None:
    body = b"0123456789"
    item = received_item("hologram", {}, memoryview(body)[2:5])
    view = item.view
    assert isinstance(view, memoryview)
    assert view.obj is body
    payload = item.payload
    assert isinstance(payload, bytes)
    assert payload == b"234"
    assert item.payload is payload


def test_all_public_makers_of_items_are_functions() -> None:
    """Type, category and payload fit together because nobody else calls the class."""
    makers = [name for name in dir(items) if name.endswith("_item")]
    assert makers == [
        "attachment_item",
        "client_report_item",
        "event_item",
        "received_item",
        "session_item",
        "sessions_item",
    ]
