"""Framing: wire.md sections 3.1 to 3.3.

Encode and decode are each held against bodies of real clients and a plain reader written here,
never only against each other.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree import _version
from crashfree._protocol.decoding import check, decode_envelope
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import (
    Item,
    attachment_item,
    client_report_item,
    event_item,
    received_item,
    session_item,
    sessions_item,
)
from crashfree._protocol.limits import LIMITS
from crashfree.errors import EnvelopeError
from crashfree.types import Event
from tests.support.vectors import load, read

RECORDED: list[dict[str, Any]] = load("envelopes/index.json")["envelopes"]
MALFORMED: list[dict[str, Any]] = load("envelopes/malformed.json")["cases"]
EVENT_ID = "9ec79c33ec9942ab8353589fcb2e04dc"


def body_of(case: dict[str, Any]) -> bytes:
    """The body of a malformed case."""
    if "body_base64" in case:
        return base64.b64decode(case["body_base64"])
    return "".join(text * times for text, times in case["body_parts"]).encode()


def recorded_body(entry: dict[str, Any]) -> bytes:
    """A recorded body, decompressed."""
    body = read(f"envelopes/{entry['file']}")
    if entry["file"].endswith(".gz"):
        return gzip.decompress(body)
    if entry["file"].endswith(".br"):
        decompress: Callable[[bytes], bytes] = pytest.importorskip("brotli").decompress
        return decompress(body)
    return body


def plain_read(data: bytes) -> tuple[dict[str, Any], list[tuple[dict[str, Any], bytes]]]:
    """Another reader, for what we write: every item has a length, every part ends in a newline."""
    line, _, rest = data.partition(b"\n")
    items: list[tuple[dict[str, Any], bytes]] = []
    header = json.loads(line)
    while rest:
        line, _, rest = rest.partition(b"\n")
        item_header = json.loads(line)
        length = item_header["length"]
        assert rest[length : length + 1] == b"\n"
        items.append((item_header, rest[:length]))
        rest = rest[length + 1 :]
    return header, items


def named(name: str) -> bytes:
    return read(f"envelopes/{name}.envelope")


# -- reading what real clients sent ---------------------------------------------------------


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry["file"])
def test_a_recorded_body_gives_its_header_items_and_bytes(entry: dict[str, Any]) -> None:
    expected = entry["decoded"]
    body = recorded_body(entry)
    assert hashlib.sha256(body).hexdigest() == expected["sha256"]
    envelope = decode_envelope(body)
    check(envelope)
    assert envelope.headers == expected["header"]
    assert len(envelope.items) == len(expected["items"])
    for item, item_expected in zip(envelope.items, expected["items"], strict=True):
        header = dict(item_expected["header"])
        assert item.type == header.pop("type")
        header.pop("length", None)
        assert item.headers == header
        assert len(item.view) == item_expected["payload_bytes"]
        assert hashlib.sha256(item.payload).hexdigest() == item_expected["payload_sha256"]


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry["file"])
def test_a_recorded_body_survives_being_written_again(entry: dict[str, Any]) -> None:
    expected = entry["decoded"]
    envelope = decode_envelope(recorded_body(entry))
    header, items = plain_read(envelope.encode())
    assert header == {k: v for k, v in expected["header"].items() if k != "sent_at"}
    for (item_header, payload), item_expected in zip(items, expected["items"], strict=True):
        assert item_header == {**item_expected["header"], "length": len(payload)}
        assert hashlib.sha256(payload).hexdigest() == item_expected["payload_sha256"]


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case["name"])
def test_framing_is_read_strictly(case: dict[str, Any]) -> None:
    if case["expect"]["outcome"] == "error":
        with pytest.raises(EnvelopeError) as caught:
            decode_envelope(body_of(case))
        assert caught.value.code == case["expect"]["error"]
        assert case["http_status"] == (413 if caught.value.code == "header_too_large" else 400)
        return
    envelope = decode_envelope(body_of(case))
    items = [{"type": item.type, "payload_bytes": len(item.view)} for item in envelope.items]
    assert items == case["expect"]["items"]


STATUS = {"too_large": 413, "conflicting_items": 400}


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in MALFORMED
        if case["expect"]["outcome"] == "ok" and case["name"] != "event-payload-not-json"
    ],
    ids=lambda case: case["name"],
)
def test_the_rules_across_items_give_the_status_of_the_specification(case: dict[str, Any]) -> None:
    status = 200
    try:
        check(decode_envelope(body_of(case)))
    except EnvelopeError as error:
        status = STATUS[error.code]
    assert status == case["http_status"]


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case["name"])
def test_any_kind_of_buffer_is_read_alike(case: dict[str, Any]) -> None:
    def result(data: bytes | bytearray | memoryview) -> object:
        try:
            return decode_envelope(data)
        except EnvelopeError as error:
            return error.code

    body = body_of(case)
    assert result(bytearray(body)) == result(body)
    assert result(memoryview(b"--" + body)[2:]) == result(body)


def test_an_event_id_is_normalised_and_sent_at_is_an_instant() -> None:
    dashed = b'{"event_id":"9EC79C33-EC99-42AB-8353-589FCB2E04DC","sent_at":"2026-11-21T01:00:00Z"}'
    envelope = decode_envelope(dashed)
    assert envelope.event_id == EVENT_ID
    assert envelope.sent_at == 1_795_222_800.0
    bare = decode_envelope(b"{}")
    assert bare.event_id is None
    assert bare.sent_at is None


@pytest.mark.parametrize("key", ["event_id", "dsn", "sent_at"])
@pytest.mark.parametrize("value", ["null", "5", '""', "[]", "{}", "true", '"\\ud800"'])
def test_a_known_header_key_of_the_wrong_kind_is_refused(key: str, value: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        decode_envelope(b'{"%s":%s}' % (key.encode(), value.encode()))
    assert caught.value.code == "invalid_header"


@pytest.mark.parametrize(
    "header",
    [
        b'{"event_id":"%s","event_id":"%s"}' % (EVENT_ID.encode(), EVENT_ID.encode()),
        b'{"dsn":"https://k@h/1","x":1,"dsn":"https://k@h/1"}',
        b'{"sent\\u005fat":"2026-11-21T01:00:00Z","sent_at":"2026-11-21T01:00:00Z"}',
    ],
)
def test_a_known_key_that_comes_twice_is_refused(header: bytes) -> None:
    with pytest.raises(EnvelopeError) as caught:
        decode_envelope(header)
    assert caught.value.code == "invalid_header"


def test_the_same_key_deeper_down_or_an_unknown_one_twice_is_no_matter() -> None:
    header = (
        b'{"trace":{"sent_at":1,"x":{"sent_at":2}},"sent_at":"2026-11-21T01:00:00Z","a":1,"a":2}'
    )
    envelope = decode_envelope(header)
    assert envelope.headers["a"] == 2
    assert envelope.sent_at == 1_795_222_800.0


def test_a_length_beyond_the_body_fails_without_allocating() -> None:
    body = b'{}\n{"type":"attachment","length":2000000000}\nabc'
    tracemalloc.start()
    try:
        with pytest.raises(EnvelopeError) as caught:
            decode_envelope(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == "unexpected_eof"
    assert peak < 100_000


def test_payloads_are_views_of_the_one_body() -> None:
    body = b'{}\n{"type":"hologram","length":1000000}\n' + b"x" * 1_000_000
    tracemalloc.start()
    try:
        envelope = decode_envelope(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    view = envelope.items[0].view
    assert isinstance(view, memoryview)
    assert view.obj is body


def test_a_header_line_may_be_as_long_as_the_limit_and_not_longer() -> None:
    fits = b'{"a":"' + b"x" * (65_536 - 8) + b'"}'
    assert len(fits) == 65_536
    assert decode_envelope(fits).items == ()
    assert decode_envelope(fits + b"\n").items == ()
    item = b'{"type":"x","a":"' + b"x" * (65_536 - 19) + b'"}'
    assert len(item) == 65_536
    assert len(decode_envelope(b"{}\n" + item).items) == 1
    for body in (fits[:-2] + b'x"}', b"{}\n" + item[:-2] + b'x"}\n', b"x" * 65_537):
        with pytest.raises(EnvelopeError) as caught:
            decode_envelope(body)
        assert caught.value.code == "header_too_large"


def test_a_line_without_end_is_not_searched_beyond_the_limit() -> None:
    small = LIMITS._replace(header_line=10)
    with pytest.raises(EnvelopeError) as caught:
        decode_envelope(b'{"a":"0123456789"}', limits=small)
    assert caught.value.code == "header_too_large"


def test_more_items_than_the_limit_are_refused() -> None:
    body = b"{}\n" + b'{"type":"x","length":0}\n\n' * 3
    assert len(decode_envelope(body, limits=LIMITS._replace(items=3)).items) == 3
    with pytest.raises(EnvelopeError) as caught:
        decode_envelope(body, limits=LIMITS._replace(items=2))
    assert caught.value.code == "too_large"


def test_deep_nesting_is_an_error_of_the_header_it_stands_in() -> None:
    nested = b'{"a":' + b"[" * 101 + b"]" * 101 + b"}"
    with pytest.raises(EnvelopeError) as caught:
        decode_envelope(b'{}\n{"type":"x","b":' + nested + b"}\n")
    assert caught.value.code == "invalid_item_header"


@given(st.sampled_from(RECORDED), st.data())
@settings(deadline=None, max_examples=300)
def test_cut_and_flipped_bodies_are_read_or_refused_and_nothing_else(
    entry: dict[str, Any], data: st.DataObject
) -> None:
    if entry["file"].endswith(".br"):
        return
    body = bytearray(recorded_body(entry)[:3000])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    try:
        envelope = decode_envelope(bytes(body[:cut]))
        check(envelope)
    except EnvelopeError:
        return
    kept = sum(len(item.view) for item in envelope.items)
    assert kept <= cut
    [item.quantity for item in envelope.items]


# -- writing --------------------------------------------------------------------------------


def test_what_we_write_is_this() -> None:
    envelope = Envelope.of(
        [
            event_item({"event_id": EVENT_ID, "message": "Grüße\n"}),
            attachment_item({"filename": "a.bin", "data": b"\x00\n\xff"}),
        ],
        event_id=EVENT_ID,
        trace={"trace_id": "a" * 32},
        sdk={"name": "n", "version": "1"},
    )
    head = (
        '{"event_id":"9ec79c33ec9942ab8353589fcb2e04dc","sdk":{"name":"n","version":"1"},'
        '"trace":{"trace_id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}%s}\n'
    )
    items = (
        b'{"type":"event","length":69,"content_type":"application/json"}\n'
        + '{"event_id":"9ec79c33ec9942ab8353589fcb2e04dc","message":"Grüße\\n"}\n'.encode()
        + b'{"type":"attachment","length":3,"filename":"a.bin"}\n\x00\n\xff\n'
    )
    assert envelope.encode() == (head % "").encode() + items
    assert envelope.encode(sent_at=1_795_222_800.25) == (
        (head % ',"sent_at":"2026-11-21T01:00:00.250000Z"').encode() + items
    )


def test_an_envelope_names_the_sdk() -> None:
    header, items = plain_read(Envelope.of([]).encode())
    assert header == {"sdk": {"name": "crashfree.python", "version": _version.__version__}}
    assert items == []


def test_our_items_hold_the_bytes_that_a_real_client_sent() -> None:
    theirs = decode_envelope(named("py-session-individual-two")).items
    ours = [session_item(json.loads(item.payload)) for item in theirs]
    assert Envelope({}, tuple(ours)).encode().splitlines()[2::2] == [i.payload for i in theirs]
    (aggregates,) = decode_envelope(named("py-sessions-aggregate")).items
    assert sessions_item(json.loads(aggregates.payload)) == aggregates


def test_our_attachments_are_framed_like_a_real_client_s() -> None:
    """Empty, with a BOM, with every byte value, and with bytes that look like an item header."""
    envelope = decode_envelope(named("py-event-attachments"))
    event, *theirs = envelope.items
    ours: list[Item] = []
    for item in theirs:
        filename, content_type = item.headers["filename"], item.headers["content_type"]
        assert isinstance(filename, str)
        assert isinstance(content_type, str)
        ours.append(
            attachment_item(
                {"filename": filename, "data": item.payload, "content_type": content_type}
            )
        )
    assert len(ours) == 5
    assert Envelope(envelope.headers, (event, *ours)) == envelope
    _, read_back = plain_read(Envelope({}, (event, *ours)).encode())
    assert [payload for _, payload in read_back] == [item.payload for item in envelope.items]


def test_a_received_sent_at_is_not_written_again() -> None:
    """Two of them make a server refuse the envelope; a replay states its own time."""
    envelope = decode_envelope(b'{"sent_at":"2026-11-21T01:00:00Z","dsn":"https://k@h/1"}')
    assert plain_read(envelope.encode())[0] == {"dsn": "https://k@h/1"}
    header, _ = plain_read(envelope.encode(sent_at=0.0))
    assert header == {"dsn": "https://k@h/1", "sent_at": "1970-01-01T00:00:00.000000Z"}


def test_encoding_builds_lazy_events_and_raises_what_building_raises() -> None:
    def broken() -> Event:
        raise LookupError("gone")

    lazy = event_item(lambda: {"message": "x"})
    assert plain_read(Envelope.of([lazy]).encode())[1][0][1] == b'{"message":"x"}'
    with pytest.raises(LookupError):
        Envelope.of([lazy, event_item(broken)]).encode()


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
HEADERS = st.dictionaries(
    KEYS.filter(lambda k: k not in ("event_id", "dsn", "sent_at")), JSON_VALUES
)
ITEMS = st.builds(
    received_item,
    KEYS.filter(bool),
    st.dictionaries(KEYS.filter(lambda key: key not in ("type", "length")), JSON_VALUES),
    st.binary(max_size=60)
    | st.sampled_from(
        [b"\n", b"\n\n", b'{"type":"event"}\n', b'{"type":"x","length":1}\nx', b"{}"]
    ),
)


@given(HEADERS, st.lists(ITEMS, max_size=5), st.none() | st.floats(0, 4e9))
@settings(deadline=None)
def test_an_envelope_that_is_written_reads_the_same_in_both_readers(
    headers: dict[str, Any], items: list[Item], sent_at: float | None
) -> None:
    envelope = Envelope(headers, tuple(items))
    data = envelope.encode(sent_at=sent_at)
    again = decode_envelope(data)
    assert again._replace(headers={k: v for k, v in again.headers.items() if k != "sent_at"}) == (
        envelope
    )
    assert (again.sent_at is None) == (sent_at is None)
    header, parts = plain_read(data)
    header.pop("sent_at", None)
    assert header == headers
    assert [payload for _, payload in parts] == [item.payload for item in items]
    assert [part["type"] for part, _ in parts] == [item.type for item in items]


# -- taking out, splitting ------------------------------------------------------------------


def a_session(number: int = 0) -> Item:
    return received_item("session", {}, b'{"n":%d}' % number)


def types(items: tuple[Item, ...]) -> list[str]:
    return [item.type for item in items]


REPORT = client_report_item({"timestamp": 1.0, "discarded_events": []})


def event_envelope(*more: Item) -> Envelope:
    event = event_item(lambda: {"message": "never built"})
    attachment = attachment_item({"filename": "a", "data": b"x"})
    return Envelope.of([event, attachment, *more], event_id=EVENT_ID, trace={"trace_id": "a" * 32})


def test_an_attachment_goes_when_its_event_goes() -> None:
    """Source: wire.md section 11.4."""
    envelope = event_envelope(a_session(), REPORT)
    left, dropped = envelope.without(lambda item: item.category == "error")
    assert left is not None
    assert types(left.items) == ["session", "client_report"]
    assert types(dropped) == ["event", "attachment"]
    assert not envelope.items[0].built


def test_an_event_stays_when_its_attachments_go() -> None:
    envelope = event_envelope()
    left, dropped = envelope.without(lambda item: item.category == "attachment")
    assert left is not None
    assert types(left.items) == ["event"]
    assert types(dropped) == ["attachment"]
    assert left.event_id == EVENT_ID


def test_attachments_stay_while_anything_that_they_may_belong_to_does() -> None:
    feedback = received_item("feedback", {}, b"{}")
    left, dropped = event_envelope(feedback).without(lambda item: item.type == "event")
    assert left is not None
    assert types(left.items) == ["attachment", "feedback"]
    assert types(dropped) == ["event"]
    assert left.event_id == EVENT_ID


def test_an_attachment_for_an_event_sent_before_stays() -> None:
    envelope = Envelope.of(
        [attachment_item({"filename": "a", "data": b""}), a_session()], event_id=EVENT_ID
    )
    left, dropped = envelope.without(lambda item: item.type == "session")
    assert left is not None
    assert types(left.items) == ["attachment"]
    assert types(dropped) == ["session"]
    assert left.event_id == EVENT_ID


def test_sessions_left_alone_carry_neither_event_id_nor_trace() -> None:
    left, _ = event_envelope(a_session(), REPORT).without(lambda item: item.category == "error")
    assert left is not None
    assert set(left.headers) == {"sdk"}


def test_nothing_left_is_none() -> None:
    envelope = event_envelope(a_session())
    left, dropped = envelope.without(lambda _: True)
    assert left is None
    assert dropped == envelope.items
    assert Envelope.of([]).without(lambda _: False) == (None, ())


def test_nothing_dropped_is_the_same_envelope() -> None:
    envelope = event_envelope()
    assert envelope.without(lambda _: False) == (envelope, ())
    assert envelope.without(lambda _: False)[0] is envelope


@given(st.lists(st.sampled_from(["event", "attachment", "session", "sessions", "x"])), st.data())
@settings(deadline=None)
def test_every_item_is_either_left_or_dropped_in_order(
    names: list[str], data: st.DataObject
) -> None:
    items = [received_item(name, {}, b"%d" % number) for number, name in enumerate(names)]
    drop = {id(item): data.draw(st.booleans()) for item in items}
    left, dropped = Envelope.of(items).without(lambda item: drop[id(item)])
    kept = left.items if left else ()
    assert sorted([*kept, *dropped], key=items.index) == items
    assert list(kept) == [item for item in items if item in kept]
    assert all(item in dropped for item in items if drop[id(item)])


@pytest.mark.parametrize(
    "vector",
    [case for case in load("sessions.json") if case["input"]["kind"] == "envelope_split"],
    ids=lambda case: case["name"],
)
def test_many_sessions_are_split_over_envelopes(vector: dict[str, Any]) -> None:
    given_, expected = vector["input"], vector["expect"]["items_per_envelope"]
    items = [received_item(given_["item_type"], {}, b"%d" % n) for n in range(given_["count"])]
    parts = Envelope.of(items).split()
    assert [len(part.items) for part in parts] == expected
    assert [item for part in parts for item in part.items] == items


def test_a_split_leaves_the_event_and_its_company_in_the_first_envelope() -> None:
    sessions = [a_session(number) for number in range(5)]
    first, second, third = event_envelope(*sessions, REPORT).split(max_sessions=2)
    assert types(first.items) == ["event", "attachment", "session", "session", "client_report"]
    assert first.event_id == EVENT_ID
    assert second.items == tuple(sessions[2:4])
    assert third.items == tuple(sessions[4:])
    assert set(second.headers) == {"sdk"}


def test_an_envelope_within_the_limit_is_not_split() -> None:
    envelope = event_envelope(*[a_session()] * 100)
    assert envelope.split() == (envelope,)
    assert Envelope.of([]).split() == (Envelope.of([]),)


# -- rules across items ---------------------------------------------------------------------


def refused(*items: Item, limits: Any = LIMITS) -> str | None:
    try:
        check(Envelope({}, items), limits=limits)
    except EnvelopeError as error:
        return error.code
    return None


@pytest.mark.parametrize("item_type", ["event", "transaction", "feedback", "check_in"])
def test_there_is_at_most_one_of_each_main_item(item_type: str) -> None:
    assert refused(received_item(item_type, {}, b"{}")) is None
    assert refused(*[received_item(item_type, {}, b"{}")] * 2) == "too_large"


def test_event_and_transaction_exclude_each_other() -> None:
    pair = (received_item("event", {}, b"{}"), received_item("transaction", {}, b"{}"))
    assert refused(*pair) == "conflicting_items"


def test_a_hundred_sessions_are_taken_and_one_more_is_not() -> None:
    assert refused(*[a_session()] * 100) is None
    assert refused(*[a_session()] * 101) == "too_large"


@pytest.mark.parametrize("bucket", ["{}", '{"started":"2026-11-21T01:40:00Z","exited":1}'])
def test_a_hundred_buckets_are_taken_and_one_more_is_not(bucket: str) -> None:
    def buckets(count: int) -> Item:
        text = ",".join([bucket] * count)
        return received_item("sessions", {}, b'{"attrs":{},"aggregates":[%s]}' % text.encode())

    assert refused(buckets(100)) is None
    assert refused(buckets(101)) == "too_large"


@pytest.mark.parametrize(
    "payload", [b"x" * 400, b"[%s]" % (b" " * 400), b'{"a":"%s"}' % (b"x" * 400)]
)
def test_an_unreadable_sessions_item_does_not_refuse_its_neighbours(payload: bytes) -> None:
    assert refused(received_item("sessions", {}, payload)) is None


@pytest.mark.parametrize(
    ("item_type", "limit"),
    [
        ("event", "event"),
        ("transaction", "event"),
        ("feedback", "event"),
        ("session", "session"),
        ("sessions", "session_aggregates"),
        ("client_report", "client_report"),
        ("check_in", "check_in"),
        ("attachment", "attachment"),
    ],
)
def test_a_payload_may_be_as_large_as_its_limit_and_not_larger(item_type: str, limit: str) -> None:
    limits = LIMITS._replace(**{limit: 10})
    assert refused(received_item(item_type, {}, b"x" * 10), limits=limits) is None
    assert refused(received_item(item_type, {}, b"x" * 11), limits=limits) == "too_large"


def test_all_attachments_together_have_a_limit() -> None:
    limits = LIMITS._replace(attachments=10)
    item = received_item("attachment", {}, b"x" * 5)
    assert refused(item, item, limits=limits) is None
    assert refused(item, item, received_item("attachment", {}, b"x"), limits=limits) == "too_large"


def test_unknown_items_have_no_limit_of_their_own() -> None:
    assert refused(received_item("hologram", {}, bytes(2_000_000))) is None


# -- the incumbent's reader -----------------------------------------------------------------


def test_the_incumbent_s_reader_finds_the_same_items() -> None:
    """Oracle 4 of wire.md section 22; runs where sentry-sdk is installed."""
    theirs = pytest.importorskip("sentry_sdk.envelope").Envelope
    envelope = decode_envelope(named("py-event-attachments"))
    read_back = theirs.deserialize(envelope.encode(sent_at=1_795_222_800.0))
    assert [item.type for item in read_back.items] == [item.type for item in envelope.items]
    assert [item.get_bytes() for item in read_back.items] == [i.payload for i in envelope.items]
    assert read_back.headers["sent_at"] == "2026-11-21T01:00:00.000000Z"
