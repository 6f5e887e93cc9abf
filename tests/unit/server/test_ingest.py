from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.timestamps import parse_rfc3339, rfc3339
from crashfree.server import ingest
from crashfree.server.facts import Facts, packed, unpacked
from crashfree.server.ingest import Policy, Sender
from crashfree.server.sessions import (
    ABNORM,
    CRASH,
    FOREGROUND_HANG,
    HANG,
    HURT,
    SEEN,
    begun,
    bucket_flags,
)
from tests.support import vectors
from tests.support.serving import envelope

_CASES = vectors.load("sessions.json")
_NOON = parse_rfc3339("2024-05-10T12:00:00Z")


def _plain(count: int) -> dict[str, Any]:
    return {"started": "2024-05-10T11:00:00Z", "exited": count}


def _cases(kind: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in _CASES if case["input"]["kind"] == kind]


def _read(
    item_type: str,
    payload: object,
    *,
    received: float = _NOON,
    sent_at: str | None = None,
    client_ip: str | None = None,
    policy: Policy | None = None,
) -> Facts:
    header = {} if sent_at is None else {"sent_at": sent_at}
    data = envelope((item_type, payload), header=header)
    return ingest.read(decode_envelope(data), Sender(1, received, client_ip), policy or Policy())


def _rows(facts: Facts) -> list[Any]:
    return [row for aggregates in facts.aggregates for row in aggregates.rows]


def _near(payload: Mapping[str, Any]) -> float:
    """Return a receive time at which an old vector is not too old."""
    started = payload.get("started") or payload.get("aggregates", [{}])[0].get("started")
    try:
        return parse_rfc3339(started) + 7200
    except (TypeError, ValueError):
        return _NOON


@pytest.mark.parametrize("case", _cases("parse"))
def test_each_payload_is_taken_or_refused(case: dict[str, Any]) -> None:
    """Source: sessions.md section 1."""
    given, expect = case["input"], case["expect"]
    facts = _read(given["item_type"], given["payload"], received=_near(given["payload"]))
    assert bool(facts.sessions) == expect["ok"]
    if not expect["ok"]:
        assert facts.tallies["refused", "session", expect["reason"]] == 1
        return
    (fact,) = facts.sessions
    assert len(fact.sid) == 16
    assert any(fact.sid)
    normalized = expect.get("normalized")
    if normalized:
        assert fact.sid.hex() == normalized["sid"].replace("-", "")
        assert (fact.did, fact.init, fact.status) == (None, False, "ok")
        assert (fact.errors, fact.duration_us, fact.mechanism) == (0, None, None)


@pytest.mark.parametrize("case", _cases("normalize"))
def test_each_time_is_judged_and_corrected(case: dict[str, Any]) -> None:
    """Clock drift, age, and the timestamp that lies before the start. Source: section 5.1."""
    given, expect = case["input"], case["expect"]
    facts = _read(
        given["item_type"],
        given["payload"],
        received=parse_rfc3339(given["received_at"]),
        sent_at=given.get("sent_at"),
    )
    if given["item_type"] == "sessions":
        found = [
            {
                "started": rfc3339(fact[0] / 1e6).replace(".000000", ""),
                "exited": unpacked(fact[2])[0],
            }
            for fact in _rows(facts)
        ]
        assert found == expect["aggregates"]
        return
    assert bool(facts.sessions) == expect["accepted"]
    if expect["accepted"]:
        (fact,) = facts.sessions
        assert fact.started_us == parse_rfc3339(expect["started"]) * 1e6
        assert fact.changed_us == parse_rfc3339(expect["timestamp"]) * 1e6


class _Everything:
    """A filter that remembers the attributes it was shown."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []

    def event(self, payload: Mapping[str, Any], *, client_ip: str | None) -> str | None:
        return "error-message"

    def session(
        self, attrs: Mapping[str, Any], *, client_ip: str | None, user_agent: str | None
    ) -> str | None:
        self.shown.append(dict(attrs))
        return None


@pytest.mark.parametrize("case", _cases("validate_attrs"))
def test_each_attribute_is_kept_dropped_or_fatal(case: dict[str, Any]) -> None:
    given, expect = case["input"], case["expect"]
    seen = _Everything()
    payload = {"started": "2024-05-10T11:59:00Z", "attrs": given["attrs"]}
    facts = _read(
        "session", payload, client_ip=given.get("client_addr"), policy=Policy(filters=seen)
    )
    assert bool(facts.sessions) == expect["accepted"]
    if expect["accepted"]:
        (fact,) = facts.sessions
        assert fact.release == expect["attrs"]["release"]
        assert fact.environment == expect["attrs"].get("environment", "")
        if "ip_address" in expect["attrs"]:
            assert seen.shown[0]["ip_address"] == expect["attrs"]["ip_address"]


@pytest.mark.parametrize("case", _cases("extract_metrics"))
def test_each_update_counts_what_upstream_counts(case: dict[str, Any]) -> None:
    """Upstream turns an update into counters and sets; ours must fill the same ones.

    One difference is wanted: a session whose `init` never came counts as one session all the same.
    """
    given = case["input"]
    facts = _read(given["item_type"], given["payload"], received=_near(given["payload"]))
    metrics = case["expect"]["metrics"]
    flags = 0
    for metric in metrics:
        if metric["name"] == "s:sessions/user@none":
            flags |= {
                None: SEEN,
                "errored": SEEN | HURT,
                "crashed": CRASH,
                "abnormal": ABNORM,
            }[metric["tags"].get("session.status")]
            mechanism = metric["tags"].get("abnormal_mechanism")
            if mechanism:
                flags |= HANG | (FOREGROUND_HANG if mechanism == "anr_foreground" else 0)
    if given["item_type"] == "session":
        (fact,) = facts.sessions
        row = begun(fact, 1, 1, 1 if fact.did else 0)
        assert row.flags == flags
        in_error_set = any(metric["name"] == "s:sessions/error@none" for metric in metrics)
        assert (row.column != 0) == in_error_set
        return
    totals = [sum(unpacked(row[2])) for row in _rows(facts)]
    inits = [
        metric["value"] for metric in metrics if metric["tags"].get("session.status") == "init"
    ]
    assert totals == inits
    found = 0
    for row in _rows(facts):
        if row[1]:
            found |= bucket_flags(*unpacked(row[2]))
    assert found == flags


def test_an_old_bucket_is_counted_as_refused() -> None:
    payload = {
        "attrs": {"release": "a"},
        "aggregates": [
            {"started": "2024-05-01T00:00:00Z", "exited": 3, "crashed": 1},
            {"started": "2024-05-10T11:00:00Z"},
        ],
    }
    facts = _read("sessions", payload)
    assert facts.aggregates == ()
    assert facts.tallies["refused", "session", "too_old"] == 4


def test_a_filtered_session_leaves_nothing_but_a_count() -> None:
    class Closed(_Everything):
        def session(
            self, attrs: Mapping[str, Any], *, client_ip: str | None, user_agent: str | None
        ) -> str | None:
            return "web-crawlers"

    payload = {
        "attrs": {"release": "a"},
        "aggregates": [{"started": "2024-05-10T11:00:00Z", "exited": 5}],
    }
    facts = _read("sessions", payload, policy=Policy(filters=Closed()))
    assert facts.aggregates == ()
    assert facts.tallies["filtered", "session", "web-crawlers"] == 5


def test_a_filtered_event_takes_its_attachments_with_it_and_leaves_the_session() -> None:
    data = envelope(
        ("event", {"message": "x"}),
        ("attachment", b"abc"),
        ("session", {"started": "2024-05-10T11:59:00Z", "attrs": {"release": "a"}, "errors": 1}),
    )
    facts = ingest.read(decode_envelope(data), Sender(1, _NOON), Policy(filters=_Everything()))
    assert facts.event is None
    assert facts.attachments == ()
    assert facts.event_id is not None
    assert [fact.errors for fact in facts.sessions] == [1]
    assert facts.tallies["filtered", "error", "error-message"] == 1


@pytest.mark.parametrize(
    ("stated", "taken"),
    [
        (_NOON - 60, _NOON - 60),
        (_NOON - 31 * 86_400, _NOON),
        (_NOON + 61, _NOON),
        ("2024-05-10T11:00:00", _NOON - 3600),
        ("never", _NOON),
        (None, _NOON),
    ],
)
def test_the_time_of_an_event_is_believed_when_it_can_be(stated: object, taken: float) -> None:
    facts = _read("event", {"message": "x", "timestamp": stated})
    assert facts.event is not None
    assert facts.event.timestamp == taken


def test_the_status_of_the_future_is_kept_and_counts_as_an_error() -> None:
    payload = {"started": "2024-05-10T11:59:00Z", "attrs": {"release": "a"}, "status": "vanished"}
    (fact,) = _read("session", payload).sessions
    assert (fact.status, fact.errors) == ("vanished", 1)


def test_an_envelope_without_items_has_no_facts() -> None:
    facts = ingest.read(Envelope({}, ()), Sender(1, _NOON), Policy())
    assert facts == Facts(1, _NOON, None, None, (), (), (), (), {})


@given(
    st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 5), min_size=1, max_size=8),
)
def test_packed_counts_add_up_column_by_column(counts: list[tuple[int, ...]]) -> None:
    total = sum(packed(*each) for each in counts)
    assert unpacked(total) == tuple(map(sum, zip(*counts, strict=True)))
