"""Client reports: what the client itself dropped, as a payload and back.

Pure; threads: any. Source: wire.md section 12, ingest.md section 6.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground import json
from crashfree._ground.typed import cast
from crashfree._protocol import fields, limits
from crashfree.types import ClientReport, DataCategory, DiscardedEvents, DiscardReason


def client_reports(
    counts: Mapping[tuple[DiscardReason, DataCategory], int],
    *,
    timestamp: float,
    max_bytes: int = limits.CLIENT_REPORT_BYTES,
) -> list[ClientReport]:
    """Return reports of at most `max_bytes` each that hold all the counts; mostly one, or none.

    The category `internal` is left out: a lost report is not reported, its counts go back.
    """
    reports: list[ClientReport] = []
    rows: list[DiscardedEvents] = []
    size = room = max_bytes - len(json.encode({"timestamp": timestamp, "discarded_events": []}))
    for (reason, category), quantity in sorted(counts.items()):
        if quantity <= 0 or category == "internal":
            continue
        row: DiscardedEvents = {"reason": reason, "category": category, "quantity": quantity}
        length = len(json.encode(row)) + 1
        if length > room and rows:
            reports.append({"timestamp": timestamp, "discarded_events": rows})
            rows, room = [], size
        rows.append(row)
        room -= length
    if rows:
        reports.append({"timestamp": timestamp, "discarded_events": rows})
    return reports


def parse_client_report(payload: object) -> dict[tuple[str, str], int]:
    """Return the counts in the decoded payload of a client report.

    Rows that are not readable are left out, and so are quantities below 0 or over 2^31. Raises
    ValueError when the payload is no report at all.
    """
    report = fields.mapping(payload, "the payload")
    rows: object = report.get("discarded_events", [])
    if not isinstance(rows, list):
        raise ValueError("discarded_events is not a list")
    counts: dict[tuple[str, str], int] = {}
    for row in cast("list[object]", rows):
        if not isinstance(row, dict):
            continue
        entry = cast("dict[str, object]", row)
        reason, category = entry.get("reason"), entry.get("category")
        quantity = entry.get("quantity")
        if (
            isinstance(reason, str)
            and isinstance(category, str)
            and isinstance(quantity, int)
            and not isinstance(quantity, bool)
            and 0 < quantity <= limits.QUANTITY
        ):
            counts[reason, category] = counts.get((reason, category), 0) + quantity
    return counts
