"""Rules of sessions.md section 2."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree._protocol.aggregates import (
    OUTCOMES,
    CountKey,
    counts_of,
    merge,
    outcome_of,
    to_payloads,
    total,
)
from crashfree._protocol.attributes import Attributes
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.received import ReceivedBucket, parse_session_aggregates
from crashfree._protocol.timestamps import minute_of, parse_rfc3339
from crashfree.types import SessionAggregates, SessionAttributes
from tests.support.vectors import load, read

ATTRIBUTES: SessionAttributes = {"release": "app@1.0", "environment": "test"}
VECTORS = [case for case in load("sessions.json") if case["input"]["kind"] == "aggregate"]
MINUTE = 1_704_110_400  # 2024-01-01T12:00:00Z

MINUTES = st.integers(0, 300).map(lambda n: MINUTE + 60 * n)
KEYS = st.tuples(MINUTES, st.none() | st.sampled_from(["u", "v", "w"]), st.sampled_from(OUTCOMES))
COUNTS = st.dictionaries(KEYS, st.integers(1, 10**6), max_size=300)


def recorded(name: str) -> Any:
    (item,) = decode_envelope(read(f"envelopes/{name}.envelope")).items
    return json.loads(item.payload)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda case: case["name"])
def test_sessions_fall_into_the_buckets_of_the_specification(vector: dict[str, Any]) -> None:
    groups: dict[str, dict[CountKey, int]] = {}
    for session in vector["input"]["sessions"]:
        minute = minute_of(parse_rfc3339(session["started"]))
        key = (minute, None, outcome_of(session["status"], session["errors"]))
        counts = groups.setdefault(session.get("release", "r"), {})
        counts[key] = counts.get(key, 0) + 1
    payloads = [
        payload
        for release, counts in groups.items()
        for payload in to_payloads({"release": release}, counts)
    ]
    assert len(payloads) == vector["expect"]["items"]
    if "aggregates" in vector["expect"]:
        buckets = [
            {**bucket, "started": bucket["started"].replace(".000000", "")}
            for bucket in payloads[0]["aggregates"]
        ]
        assert buckets == vector["expect"]["aggregates"]


@pytest.mark.parametrize(
    ("status", "errors", "outcome"),
    [
        ("crashed", 0, "crashed"),
        ("crashed", 5, "crashed"),
        ("abnormal", 5, "abnormal"),
        ("unhandled", 5, "unhandled"),
        ("exited", 5, "errored"),
        ("exited", 0, "exited"),
        ("ok", 1, "errored"),
        ("ok", 0, "exited"),
    ],
)
def test_a_session_is_counted_in_its_worst_column(status: str, errors: int, outcome: str) -> None:
    """Order: crashed, abnormal, unhandled, errored, exited."""
    assert outcome_of(status, errors) == outcome


def test_we_write_what_a_real_client_wrote_for_the_same_sessions() -> None:
    minute = minute_of(parse_rfc3339("2026-11-21T01:40:48Z"))
    payloads = to_payloads(
        {"release": "shop-api@2.4.0+118", "environment": "staging"},
        {(minute, None, "crashed"): 1, (minute, None, "exited"): 7, (minute, None, "errored"): 2},
    )
    assert payloads == [recorded("py-sessions-aggregate")]


def test_the_five_outcomes_of_a_minute_share_a_bucket() -> None:
    """W21."""
    (payload,) = to_payloads(ATTRIBUTES, {(MINUTE, None, outcome): 1 for outcome in OUTCOMES})
    assert payload == {
        "attrs": ATTRIBUTES,
        "aggregates": [
            {
                "started": "2024-01-01T12:00:00.000000Z",
                "exited": 1,
                "errored": 1,
                "crashed": 1,
                "abnormal": 1,
                "unhandled": 1,
            }
        ],
    }


def test_each_user_has_a_bucket_and_those_without_one_share_theirs() -> None:
    (payload,) = to_payloads(
        ATTRIBUTES,
        {
            (MINUTE, "v", "exited"): 1,
            (MINUTE, None, "exited"): 2,
            (MINUTE, "u", "crashed"): 3,
            (MINUTE, "", "exited"): 4,
        },
    )
    assert [(b.get("did"), total_of(b)) for b in payload["aggregates"]] == [
        (None, 6),
        ("u", 3),
        ("v", 1),
    ]


def total_of(bucket: Any) -> int:
    return sum(bucket.get(outcome, 0) for outcome in OUTCOMES)


def test_unhandled_sessions_can_be_written_as_crashed_for_older_servers() -> None:
    counts: dict[CountKey, int] = {(MINUTE, None, "unhandled"): 2, (MINUTE, None, "crashed"): 1}
    (payload,) = to_payloads(ATTRIBUTES, counts, unhandled_status="crashed")
    assert payload["aggregates"] == [{"started": "2024-01-01T12:00:00.000000Z", "crashed": 3}]


def test_nothing_counted_makes_no_payload() -> None:
    assert to_payloads(ATTRIBUTES, {}) == []
    assert to_payloads(ATTRIBUTES, {(MINUTE, None, "exited"): 0}) == []
    assert merge([]) == []


@given(COUNTS, st.integers(1, 120))
@settings(deadline=None)
def test_every_session_is_in_exactly_one_column_of_one_bucket(
    counts: dict[CountKey, int], max_buckets: int
) -> None:
    payloads = to_payloads(ATTRIBUTES, counts, max_buckets=max_buckets)
    read_back: Counter[CountKey] = Counter()
    seen: set[tuple[str, str | None]] = set()
    for payload in payloads:
        assert payload["attrs"] == ATTRIBUTES
        assert 1 <= len(payload["aggregates"]) <= max_buckets
        for bucket in payload["aggregates"]:
            key = (bucket["started"], bucket.get("did"))
            assert key not in seen
            seen.add(key)
        read_back.update(counts_of(payload))
    assert read_back == counts
    assert sum(map(total, payloads)) == sum(counts.values())


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), COUNTS), max_size=4))
@settings(deadline=None)
def test_merging_keeps_every_sum_and_never_mixes_releases(
    parts: list[tuple[str, dict[CountKey, int]]],
) -> None:
    """W40: what a limit held back goes out in one."""
    payloads = [
        payload
        for release, counts in parts
        for payload in to_payloads({"release": release}, counts, max_buckets=7)
    ]
    merged = merge(payloads)
    for release in ("a", "b"):
        before: Counter[CountKey] = Counter()
        after: Counter[CountKey] = Counter()
        for payload in payloads:
            if payload["attrs"]["release"] == release:
                before.update(counts_of(payload))
        for payload in merged:
            if payload["attrs"]["release"] == release:
                after.update(counts_of(payload))
        assert before == after
    assert len(merged) <= len(payloads)
    assert all(len(payload["aggregates"]) <= 100 for payload in merged)


@given(COUNTS)
@settings(deadline=None)
def test_a_server_reads_what_we_write(counts: dict[CountKey, int]) -> None:
    sessions = 0
    for payload in to_payloads(ATTRIBUTES, counts):
        received = parse_session_aggregates(json.loads(json.dumps(payload)))
        assert received.attributes == Attributes("app@1.0", "test", None, None)
        sessions += sum(bucket.total for bucket in received.buckets)
        for bucket in received.buckets:
            for outcome in OUTCOMES:
                key = (int(bucket.started), bucket.did, outcome)
                assert getattr(bucket, outcome) == counts.get(key, 0)
    assert sessions == sum(counts.values())


def test_the_aggregates_of_real_clients_are_read() -> None:
    python = parse_session_aggregates(recorded("py-sessions-aggregate"))
    assert python.attributes == Attributes("shop-api@2.4.0+118", "staging", None, None)
    assert python.buckets == (ReceivedBucket(1_795_225_200.0, None, 7, 2, 1, 0, 0),)
    node = parse_session_aggregates(recorded("node-sessions-aggregate"))
    assert node.buckets == (ReceivedBucket(1_795_225_260.0, None, 5, 1, 0, 0, 0),)


def payload_with(**bucket: Any) -> dict[str, Any]:
    started = {"started": "2020-02-07T14:16:01Z"}
    return {"attrs": {"release": "r"}, "aggregates": [started | bucket]}


def test_a_start_is_taken_as_it_is() -> None:
    """Servers do not round again. Source: sessions.md section 2."""
    (bucket,) = parse_session_aggregates(payload_with(exited=1)).buckets
    assert bucket.started == parse_rfc3339("2020-02-07T14:16:01Z")


def test_what_is_absent_is_zero_and_no_list_is_an_empty_one() -> None:
    (bucket,) = parse_session_aggregates(payload_with()).buckets
    assert bucket.total == 0
    assert parse_session_aggregates({"attrs": {"release": "r"}}).buckets == ()


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        {},
        {"aggregates": []},
        {"attrs": {}},
        {"attrs": {"release": "r"}, "aggregates": None},
        {"attrs": {"release": "r"}, "aggregates": {}},
        {"attrs": {"release": "r"}, "aggregates": [5]},
        {"attrs": {"release": "r"}, "aggregates": [{"exited": 1}]},
        payload_with(started="2020-02-07T14:16:01"),
        payload_with(started=5),
        payload_with(did=5),
        payload_with(exited=-1),
        payload_with(exited=1.0),
        payload_with(exited="1"),
        payload_with(exited=None),
        payload_with(exited=True),
        payload_with(exited=2**32),
    ],
)
def test_aggregates_of_the_wrong_type_are_refused(payload: object) -> None:
    with pytest.raises(ValueError):
        parse_session_aggregates(payload)


def test_the_nil_uuid_is_nobody_in_a_bucket_either() -> None:
    (bucket,) = parse_session_aggregates(payload_with(did="0" * 32, exited=1)).buckets
    assert bucket.did is None


def test_reading_back_adds_up_buckets_of_the_same_minute() -> None:
    payload: SessionAggregates = {
        "attrs": ATTRIBUTES,
        "aggregates": [
            {"started": "2024-01-01T12:00:00Z", "exited": 1},
            {"started": "2024-01-01T12:00:01Z", "exited": 2, "errored": 0},
        ],
    }
    assert counts_of(payload) == {(MINUTE, None, "exited"): 3}
