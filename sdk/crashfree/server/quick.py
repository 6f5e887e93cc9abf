"""The usual payloads of sessions, read in one pass.

Nearly every payload is written by a client that does nothing odd. Those are read here with a few
comparisons; at anything unusual these functions return None, and the strict readers of the
protocol say what it is. So what is read here is never judged differently, only sooner: half of
what a request costs is saved by it.

Threads: any; the caches are dicts that are only added to and cleared.
Source: sessions.md sections 1 and 2.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any, Final

from crashfree._protocol.attributes import Attributes, parse_attributes
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.fields import hex_id, identity, instant
from crashfree._protocol.items import received_item
from crashfree._protocol.limits import COUNT, Limits
from crashfree._protocol.timestamps import parse_rfc3339
from crashfree.server import typed
from crashfree.server.facts import BucketRow, SessionFact, packed
from crashfree.server.typed import decode

MICRO: Final = 1_000_000
_MOST_KNOWN: Final = 2048
_LARGEST: Final = 2**62
# Status, and how many errors it means at least.
_STATUSES: Final = {"ok": 0, "exited": 0, "crashed": 1, "abnormal": 1, "unhandled": 1}
_ODD_DID_LENGTHS: Final = frozenset((0, 32, 36))

_minutes: dict[str, int] = {}
_starts: dict[str, int] = {}

Window = tuple[int, int]
"""The oldest and the newest instant that is taken, in microseconds."""


_LONGEST_HEADER: Final = 4096
_ONCE: Final = (b'"sent_at"', b'"event_id"', b'"dsn"')
_item_headers: dict[bytes, tuple[str, int, dict[str, Any]]] = {}
_good_dsns: set[str] = set()


def envelope(body: bytes, limits: Limits) -> Envelope | None:
    """Return an envelope of one item that states its length; None: look closer."""
    end = body.find(b"\n", 0, _LONGEST_HEADER)
    start = body.find(b"\n", end + 1, end + _LONGEST_HEADER) + 1
    if end <= 0 or start <= end + 1 or limits.header_line < _LONGEST_HEADER or limits.items < 1:
        return None
    line, item_line = body[:end], body[end + 1 : start - 1]
    headers = _envelope_header(line)
    item = _item_headers.get(item_line) or _item_header(item_line)
    if headers is None or item is None:
        return None
    item_type, length, item_headers = item
    stop = start + length
    if stop > len(body) or (stop < len(body) and body[stop:] != b"\n"):
        return None
    return Envelope(headers, (received_item(item_type, item_headers, body[start:stop]),))


def _envelope_header(line: bytes) -> dict[str, Any] | None:
    # What stands there twice, or could be spelled in another way, is for the strict reader.
    if line[:1] != b"{" or line[-1:] != b"}" or b"\\" in line:
        return None
    for key in _ONCE:
        if line.count(key) > 1:
            return None
    try:
        headers: dict[str, Any] = decode(line)
    except ValueError:
        return None
    get = headers.get
    event_id, sent_at, dsn = get("event_id", ""), get("sent_at", ""), get("dsn", "")
    if type(event_id) is not str or type(sent_at) is not str or type(dsn) is not str:
        return None
    if "event_id" in headers:
        known = hex_id(event_id)
        if known is None:
            return None
        headers["event_id"] = known
    if "sent_at" in headers and instant_us(sent_at) is None:
        return None
    if "dsn" in headers and dsn not in _good_dsns and not _good_dsn(dsn):
        return None
    return headers


def _good_dsn(text: str) -> bool:
    try:
        Dsn.parse(text)
    except ValueError:
        return False
    if len(_good_dsns) >= _MOST_KNOWN:
        _good_dsns.clear()
    _good_dsns.add(text)
    return True


def _item_header(line: bytes) -> tuple[str, int, dict[str, Any]] | None:
    if line[:1] != b"{" or line[-1:] != b"}":
        return None
    try:
        headers: dict[str, Any] = decode(line)
    except ValueError:
        return None
    item_type, length = headers.pop("type", None), headers.pop("length", None)
    if type(item_type) is not str or not item_type or type(length) is not int or length < 0:
        return None
    if len(_item_headers) >= _MOST_KNOWN:
        _item_headers.clear()
    if len(line) <= 256:
        # Shared from now on; nobody changes the headers of an item.
        _item_headers[line] = item_type, length, headers
    return item_type, length, headers


def instant_us(text: str) -> int | None:
    """Return an instant written as `2026-11-21T10:00:00[.123[456]]Z` in microseconds."""
    if text[-1:] != "Z" or not text.isascii():
        return None
    minute = _minutes.get(text[:17])
    if minute is None:
        try:
            minute = round(parse_rfc3339(text[:17] + "00Z") * MICRO)
        except ValueError:
            return None
        if len(_minutes) >= _MOST_KNOWN:
            _minutes.clear()
        _minutes[text[:17]] = minute
    second, fraction = text[17:19], text[20:-1]
    if not second.isdigit() or second > "59":
        return None
    if len(text) == 20:
        return minute + int(second) * MICRO
    if text[19] != "." or not fraction.isdigit():
        return None
    if len(fraction) == 6:
        return minute + int(second) * MICRO + int(fraction)
    if len(fraction) == 3:
        return minute + int(second) * MICRO + int(fraction) * 1000
    return None


def session(payload: Any, received_us: int, window: Window) -> SessionFact | None:
    """Return the fact of a session update whose names are still to be judged; None: look closer."""
    try:
        attrs = payload["attrs"]
        get, attr = payload.get, attrs.get
        release, environment = attr("release"), attr("environment", "")
        sid, did = get("sid"), get("did")
        status, errors = get("status", "ok"), get("errors", 0)
        seq, init, duration = get("seq", -1), get("init", False), get("duration", -1.0)
        if (
            type(release) is not str
            or type(environment) is not str
            or type(sid) is not str
            or len(sid) != 36
            or not sid[8] == sid[13] == sid[18] == sid[23] == "-"
            or (did is not None and (type(did) is not str or len(did) in _ODD_DID_LENGTHS))
            or type(errors) is not int
            or not 0 <= errors <= _LARGEST
            or type(seq) is not int
            or not -1 <= seq <= _LARGEST
            or (seq == -1 and "seq" in payload)
            or type(init) is not bool
            or (type(duration) is not float and type(duration) is not int)
            or duration > _LARGEST // MICRO
            or "abnormal_mechanism" in payload
        ):
            return None
        least = _STATUSES.get(status)
        started_us = instant_us(payload["started"])
        changed_us = instant_us(payload["timestamp"]) if "timestamp" in payload else received_us
        digits = sid.replace("-", "")
        key = bytes.fromhex(digits)
    except (TypeError, AttributeError, KeyError, ValueError, IndexError):
        return None
    if least is None or started_us is None or changed_us is None:
        return None
    if len(digits) != 32 or len(key) != 16:
        return None
    if changed_us < started_us:
        changed_us = started_us
    oldest, newest = window
    if started_us < oldest or changed_us > newest:
        return None
    if init:
        seq = 0
    return SessionFact(
        key,
        release,
        environment,
        did,
        started_us,
        changed_us,
        changed_us // 1000 if seq < 0 else seq,
        init,
        status,
        max(least, errors),
        None if duration < 0 else round(duration * MICRO),
        None,
    )


def sessions(raw: bytes, window: Window) -> tuple[Attributes, list[BucketRow]] | None:
    """Return attributes and buckets of a `sessions` payload; None: look closer.

    Raises ValueError for what the strict reader would refuse, too.
    """
    return aggregates(raw, window) or buckets(decode(raw), raw, window)


def aggregates(raw: bytes, window: Window) -> tuple[Attributes, list[BucketRow]] | None:
    """The same by way of types; None as well where `msgspec` is missing."""
    found = typed.aggregates(raw)
    if found is None:
        return None
    texts = found.starts
    try:
        starts = [_starts[text] for text in texts]
    except KeyError:
        try:
            starts = [_start({"started": text}) for text in texts]
        except ValueError:
            return None
    if not starts or min(starts) < window[0] or max(starts) > window[1]:
        return None
    counts, errored = found.exited, found.errored
    if any(errored):
        counts = list(map(_packed, counts, errored))
    if 0 in counts:
        return None
    users = found.users
    if users.count(None) != len(users):
        users = [identity({"did": user}, "did") for user in users]
    return found.attributes, list(zip(starts, users, counts, strict=True))


def buckets(payload: Any, raw: bytes, window: Window) -> tuple[Attributes, list[BucketRow]] | None:
    """The same, from what `raw` spells."""
    try:
        given: list[Any] = payload["aggregates"]
        if type(given) is not list or not given:
            return None
        rows = _columns(given, window)
        if rows is None:
            rows = _rows(given, raw, window)
    except (TypeError, AttributeError, KeyError):
        return None
    return None if rows is None else (parse_attributes(payload), rows)


def _columns(given: list[Any], window: Window) -> list[BucketRow] | None:
    """Read buckets of nobody in which there are exited and errored sessions, column by column."""
    exited: list[int] = [bucket.get("exited", 0) for bucket in given]
    errored: list[int] = [bucket.get("errored", 0) for bucket in given]
    # Start, and the counts that are not 0: with any other key there are more of them.
    if sum(map(len, given)) != 3 * len(given) - exited.count(0) - errored.count(0):
        return None
    if set(map(type, exited)) | set(map(type, errored)) != {int}:
        return None
    if min(exited) < 0 or min(errored) < 0 or max(exited) > COUNT or max(errored) > COUNT:
        return None
    known = _starts
    try:
        starts = [known[bucket["started"]] for bucket in given]
    except KeyError:
        starts = [_start(bucket) for bucket in given]
    if min(starts) < window[0] or max(starts) > window[1]:
        return None
    counts = list(map(_packed, exited, errored))
    return None if 0 in counts else list(zip(starts, repeat(None), counts))


def _packed(exited: int, errored: int) -> int:
    return exited + (errored << 64) if errored else exited


def _start(bucket: Any) -> int:
    """Return when a bucket starts. A server's aggregates are full of the same few minutes."""
    known = _starts.get(bucket["started"])
    if known is None:
        known = round(instant(bucket, "started") * MICRO)
        if len(_starts) >= _MOST_KNOWN:
            _starts.clear()
        _starts[bucket["started"]] = known
    return known


def _rows(given: list[Any], raw: bytes, window: Window) -> list[BucketRow] | None:
    """Read buckets one by one."""
    if b"true" in raw or b"false" in raw:
        return None  # what is no number now fails in the arithmetic
    oldest, newest = window
    rows: list[BucketRow] = []
    for bucket in given:
        get = bucket.get
        did = get("did")
        exited, errored, crashed = get("exited", 0), get("errored", 0), get("crashed", 0)
        abnormal, unhandled = get("abnormal", 0), get("unhandled", 0)
        # Negative when one of them is, too large when one of them is, 0 when all are.
        if not 0 < exited | errored | crashed | abnormal | unhandled <= COUNT:
            return None
        started_us = _start(bucket)
        if not oldest <= started_us <= newest:
            return None
        if did is not None:
            did = identity(bucket, "did")
        counts = exited
        if errored or crashed or abnormal or unhandled:
            counts = packed(exited, errored, crashed, abnormal, unhandled)
        rows.append((started_us, did, counts))
    return rows
