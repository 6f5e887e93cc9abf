"""Aggregates: sessions that were never announced one by one, counted per minute, user and outcome.

A session is in exactly one column; sums are preserved by writing, splitting and merging.
A minute is its start in seconds since the epoch, a multiple of 60. Pure; threads: any.

Source: sessions.md section 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crashfree._ground.typed import Literal, TypeAlias, cast
from crashfree._protocol import limits
from crashfree._protocol.timestamps import minute_of, parse_rfc3339, rfc3339
from crashfree.types import Outcome, SessionAggregates, SessionAttributes, SessionBucket

BucketKey: TypeAlias = "tuple[int, str | None]"
CountKey: TypeAlias = "tuple[int, str | None, Outcome]"

OUTCOMES: tuple[Outcome, ...] = ("exited", "errored", "crashed", "abnormal", "unhandled")


def outcome_of(status: str, errors: int) -> Outcome:
    """Return the column in which a finished session is counted."""
    if status == "crashed":
        return "crashed"
    if status == "abnormal":
        return "abnormal"
    if status == "unhandled":
        return "unhandled"
    return "errored" if errors > 0 else "exited"


def to_payloads(
    attributes: SessionAttributes,
    counts: Mapping[CountKey, int],
    *,
    max_buckets: int = limits.AGGREGATE_BUCKETS,
    unhandled_status: Literal["unhandled", "crashed"] = "unhandled",
) -> list[SessionAggregates]:
    """Return payloads of at most `max_buckets` buckets that hold all the counts.

    Oldest minute first; none at all when every count is 0. `unhandled_status="crashed"` writes
    unhandled sessions as crashed, for servers that do not know the fifth column.
    """
    buckets: dict[BucketKey, dict[Outcome, int]] = {}
    for (minute, did, outcome), count in counts.items():
        if count <= 0:
            continue
        column: Outcome = unhandled_status if outcome == "unhandled" else outcome
        bucket = buckets.setdefault((minute_of(minute), did or None), {})
        bucket[column] = bucket.get(column, 0) + count
    ordered = sorted(buckets.items(), key=lambda entry: (entry[0][0], entry[0][1] or ""))
    written = [_bucket(key, columns) for key, columns in ordered]
    return [
        {"attrs": attributes, "aggregates": written[start : start + max_buckets]}
        for start in range(0, len(written), max_buckets)
    ]


def counts_of(payload: SessionAggregates) -> dict[CountKey, int]:
    """Return the counts in a payload of ours, by whole minutes."""
    counts: dict[CountKey, int] = {}
    for bucket in payload["aggregates"]:
        minute = minute_of(parse_rfc3339(bucket["started"]))
        did = bucket.get("did")
        for outcome in OUTCOMES:
            count = bucket.get(outcome, 0)
            if count:
                key = (minute, did, outcome)
                counts[key] = counts.get(key, 0) + count
    return counts


def merge(
    payloads: Iterable[SessionAggregates], *, max_buckets: int = limits.AGGREGATE_BUCKETS
) -> list[SessionAggregates]:
    """Return payloads of ours that count the same sessions in as few buckets as possible."""
    groups: dict[tuple[tuple[str, str], ...], tuple[SessionAttributes, dict[CountKey, int]]] = {}
    for payload in payloads:
        attributes = payload["attrs"]
        group = tuple(sorted(cast("Mapping[str, str]", attributes).items()))
        _, counts = groups.setdefault(group, (attributes, {}))
        for key, count in counts_of(payload).items():
            counts[key] = counts.get(key, 0) + count
    merged: list[SessionAggregates] = []
    for attributes, counts in groups.values():
        merged += to_payloads(attributes, counts, max_buckets=max_buckets)
    return merged


def total(payload: SessionAggregates) -> int:
    """Return the number of sessions that a payload counts."""
    return sum(bucket.get(outcome, 0) for bucket in payload["aggregates"] for outcome in OUTCOMES)


def _bucket(key: BucketKey, columns: Mapping[Outcome, int]) -> SessionBucket:
    minute, did = key
    bucket: SessionBucket = {"started": rfc3339(minute)}
    if did is not None:
        bucket["did"] = did
    for outcome in OUTCOMES:
        count = columns.get(outcome, 0)
        if count:
            bucket[outcome] = count
    return bucket
