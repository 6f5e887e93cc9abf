from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.items import client_report_item
from crashfree._protocol.reports import client_reports, parse_client_report
from crashfree.types import DataCategory, DiscardReason
from tests.support.vectors import read

REASONS: list[DiscardReason] = ["before_send", "event_processor", "queue_overflow", "sample_rate"]
CATEGORIES: list[DataCategory] = ["error", "session", "attachment", "default", "monitor"]
COUNTS = st.dictionaries(
    st.tuples(st.sampled_from(REASONS), st.sampled_from(CATEGORIES)), st.integers(1, 2**31)
)


def recorded(name: str) -> bytes:
    return decode_envelope(read(f"envelopes/{name}")).items[-1].payload


def test_a_report_is_the_bytes_that_a_real_client_sent_for_the_same_counts() -> None:
    counts: dict[tuple[DiscardReason, DataCategory], int] = {
        ("event_processor", "error"): 1,
        ("before_send", "error"): 3,
    }
    (report,) = client_reports(counts, timestamp=1795225249.4317772)
    assert client_report_item(report).payload == recorded("py-client-report-alone.envelope")


def test_a_recorded_report_is_read() -> None:
    payload = json.loads(recorded("py-client-report-alone.envelope"))
    assert parse_client_report(payload) == {
        ("before_send", "error"): 3,
        ("event_processor", "error"): 1,
    }


def test_nothing_lost_makes_no_report() -> None:
    assert client_reports({}, timestamp=1.0) == []
    assert client_reports({("sample_rate", "error"): 0}, timestamp=1.0) == []


def test_a_lost_report_is_never_reported() -> None:
    assert client_reports({("network_error", "internal"): 3}, timestamp=1.0) == []


@given(COUNTS, st.integers(200, 4096))
@settings(deadline=None)
def test_every_count_is_in_exactly_one_report_and_no_report_is_too_large(
    counts: dict[tuple[DiscardReason, DataCategory], int], max_bytes: int
) -> None:
    reports = client_reports(counts, timestamp=1795225249.5, max_bytes=max_bytes)
    read_back: dict[tuple[str, str], int] = {}
    for report in reports:
        assert report["discarded_events"]
        assert len(client_report_item(report).payload) <= max_bytes
        for key, quantity in parse_client_report(report).items():
            assert key not in read_back
            read_back[key] = quantity
    assert read_back == counts


@pytest.mark.parametrize(
    "row",
    [
        None,
        "text",
        [],
        {},
        {"reason": "x", "category": "error"},
        {"reason": 1, "category": "error", "quantity": 1},
        {"reason": "x", "category": None, "quantity": 1},
        {"reason": "x", "category": "error", "quantity": -1},
        {"reason": "x", "category": "error", "quantity": 0},
        {"reason": "x", "category": "error", "quantity": 2**31 + 1},
        {"reason": "x", "category": "error", "quantity": 1.5},
        {"reason": "x", "category": "error", "quantity": True},
        {"reason": "x", "category": "error", "quantity": "1"},
    ],
)
def test_an_unreadable_row_is_left_out_and_its_neighbours_are_kept(row: object) -> None:
    good = {"reason": "custom", "category": "hologram", "quantity": 2}
    report = {"timestamp": 1, "discarded_events": [good, row, good]}
    assert parse_client_report(report) == {("custom", "hologram"): 4}


@pytest.mark.parametrize("payload", [None, [], "x", {"discarded_events": {}}])
def test_what_is_no_report_is_refused(payload: object) -> None:
    with pytest.raises(ValueError):
        parse_client_report(payload)
