"""How a dead run ended, and what it left to tell.

The evidence, strongest first: its own word that it ended cleanly; a crash that faulthandler wrote
down; another boot since; more processes of its control group killed for want of memory; and else
it was killed. Sessions follow from that:

    ended and not through the transport   told as it ended
    live, the run crashed                 crashed, one error more, at the time of the crash
    live, in the background               exited, when the program was left
    live, else                            abnormal, when it was last seen
    units in flight                       crashed or abnormal, by the same evidence

Nothing that began more than five days ago is told: servers refuse it.

Pure; threads: any. Source: sessions.md section 3.5.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground import ids
from crashfree._ground.clock import Mark
from crashfree._ground.typed import Any, NamedTuple, cast
from crashfree._protocol import limits
from crashfree._protocol.aggregates import CountKey, to_payloads
from crashfree._protocol.session import SessionState, UnhandledStatus, session_payload
from crashfree._protocol.timestamps import parse_rfc3339
from crashfree._sessions import evidence as machine
from crashfree._sessions import faultdump, journal
from crashfree._sessions.counts import Counts
from crashfree._sessions.evidence import Cause, Ending, Evidence, RunRecord
from crashfree._sessions.faultdump import DumpedThread, FaultDump
from crashfree._sessions.journal import Entry
from crashfree._sessions.ledgerfile import read_ledger
from crashfree.types import Event, Outcome, SessionAggregates, SessionAttributes, SessionUpdate

RUN = "run"
SESSION = "session"
LEDGER = "ledger"
FAULT = "fault"
# The time of a crash is the time of a file, and the clock of files goes in steps of up to 10 ms: a
# session that had only just begun may look younger than the crash that ended it.
_FILE_TIME = 0.05


class PostMortem(NamedTuple):
    """What a dead run comes to."""

    ending: Ending
    updates: tuple[SessionUpdate, ...]
    aggregates: tuple[SessionAggregates, ...]
    event: Event | None
    expired: int
    """Sessions that are too old to be told."""


def examine(
    files: Mapping[str, bytes],
    *,
    now: float,
    evidence: Evidence,
    modified: Mapping[str, float] | None = None,
) -> PostMortem | None:
    """Return what the files of a dead run say; None when they say nothing.

    `modified`: when a file was last written, where that is known; for the fault file it is the
    time of the crash.
    """
    record = machine.decode_record(files[RUN]) if RUN in files else None
    entry = journal.decode(files[SESSION]) if SESSION in files else None
    books = read_ledger(files[LEDGER]) if LEDGER in files else None
    dump = faultdump.parse(files[FAULT]) if FAULT in files else None
    if record is None and entry is None and books is None and dump is None:
        return None
    died = None if modified is None else modified.get(FAULT)
    ending = _ending(record, entry, books, dump, evidence, died)
    oldest = now - limits.SESSION_AGE
    updates, old_updates = _updates(entry, ending, oldest)
    aggregates, old_counts = _aggregates(books, ending, oldest)
    event = None
    if dump is not None and ending.crashed and (ending.at is None or ending.at >= oldest):
        event = _event(dump, record, ending, now)
    return PostMortem(ending, updates, aggregates, event, old_updates + old_counts)


def _ending(
    record: RunRecord | None,
    entry: Entry | None,
    books: tuple[SessionAttributes, Counts] | None,
    dump: FaultDump | None,
    evidence: Evidence,
    died: float | None,
) -> Ending:
    attributes = (
        record.attributes
        if record is not None
        else entry.session.attributes
        if entry is not None and entry.session is not None
        else books[0]
        if books is not None
        else None
    )
    seen = _last_sign(record, entry, books)
    cause = _cause(record, entry, dump, evidence)
    return Ending(
        cause=cause,
        signal=dump.signal if dump is not None and cause == "crashed" else None,
        at=died if cause == "crashed" and died is not None else seen,
        started=None if record is None else record.started,
        pid=None if record is None else record.pid,
        release=None if attributes is None else attributes.get("release"),
    )


def _cause(
    record: RunRecord | None, entry: Entry | None, dump: FaultDump | None, evidence: Evidence
) -> Cause:
    if record is not None and record.clean:
        return "clean"
    if dump is not None:
        return "crashed"
    if entry is not None and any(update.get("status") == "crashed" for update in entry.untold):
        # An exception ended it; it was killed before it could say so.
        return "crashed"
    if record is None:
        return "killed"
    then = record.evidence
    if then.boot_id and evidence.boot_id and then.boot_id != evidence.boot_id:
        return "reboot"
    if then.group == evidence.group and _more(evidence.oom_kills, then.oom_kills):
        return "out_of_memory"
    return "killed"


def _more(now: int | None, then: int | None) -> bool:
    return now is not None and then is not None and now > then


def _last_sign(
    record: RunRecord | None, entry: Entry | None, books: tuple[SessionAttributes, Counts] | None
) -> float | None:
    signs: list[float] = []
    if record is not None:
        signs.append(record.started)
    if entry is not None:
        signs.append(entry.seen)
    if books is not None:
        signs += books[1].open
        signs += [minute for minute, _, _ in books[1].ended]
    return max(signs) if signs else None


# --- application mode -------------------------------------------------------------------------


def _updates(
    entry: Entry | None, ending: Ending, oldest: float
) -> tuple[tuple[SessionUpdate, ...], int]:
    if entry is None:
        return (), 0
    updates = list(entry.untold)
    if entry.session is not None:
        updates.append(_final(entry, entry.session, ending))
    fresh = tuple(update for update in updates if parse_rfc3339(update["started"]) >= oldest)
    return fresh, len(updates) - len(fresh)


def _final(entry: Entry, session: SessionState, ending: Ending) -> SessionUpdate:
    started = session.started.wall
    crashed = ending.crashed and ending.at is not None and ending.at >= started - _FILE_TIME
    if crashed and ending.at is not None:
        at = max(ending.at, started)
        passed = 0.0 if entry.left is not None else max(0.0, at - entry.seen)
        state = session.crashed(at=Mark(at, entry.worked + passed, 0.0))
    elif entry.left is not None:
        state = session.ended("exited", at=Mark(entry.left, entry.worked, 0.0))
    elif ending.cause == "clean":
        state = session.ended("exited", at=Mark(entry.seen, entry.worked, 0.0))
    else:
        state = session.ended("abnormal", at=Mark(entry.seen, entry.worked, 0.0))
    return session_payload(
        state,
        timestamp=entry.seen,
        unhandled_status=cast(UnhandledStatus, entry.unhandled_status),
    )


# --- request mode -----------------------------------------------------------------------------


def _aggregates(
    books: tuple[SessionAttributes, Counts] | None, ending: Ending, oldest: float
) -> tuple[tuple[SessionAggregates, ...], int]:
    if books is None:
        return (), 0
    attributes, counts = books
    totals: dict[CountKey, int] = {}
    for group in (counts.ended, *counts.lent.values(), _in_flight(counts, ending)):
        for key, n in group.items():
            totals[key] = totals.get(key, 0) + n
    fresh = {key: n for key, n in totals.items() if key[0] >= oldest}
    payloads = to_payloads(attributes, fresh)
    return tuple(payloads), sum(totals.values()) - sum(fresh.values())


def _in_flight(counts: Counts, ending: Ending) -> dict[CountKey, int]:
    verdict: Outcome = "crashed" if ending.crashed else "abnormal"
    found: dict[CountKey, int] = {}
    for minute, n in counts.open.items():
        crashed = min(max(counts.marked.get(minute, 0), 0), n)
        for outcome, share in (("crashed", crashed), (verdict, n - crashed)):
            if share > 0:
                key: CountKey = (minute, None, cast(Outcome, outcome))
                found[key] = found.get(key, 0) + share
    return found


# --- the crash itself -------------------------------------------------------------------------


def _event(dump: FaultDump, record: RunRecord | None, ending: Ending, now: float) -> Event:
    name = dump.signal or "FatalError"
    mechanism: dict[str, Any] = {"type": "signal", "handled": False, "synthetic": True}
    if dump.signal is not None:
        mechanism["meta"] = {"signal": {"number": dump.number, "name": dump.signal}}
    value: dict[str, Any] = {"type": name, "value": dump.reason, "mechanism": mechanism}
    crashed = dump.crashed_thread
    if crashed is not None:
        value["thread_id"] = crashed.ident
        if crashed.frames:
            value["stacktrace"] = {"frames": list(crashed.frames)}
    event: dict[str, Any] = {"platform": "python"}
    if record is not None:
        event.update(record.defaults)
        for key in ("release", "environment"):
            value_of = record.attributes.get(key)
            if value_of is not None:
                event.setdefault(key, value_of)
    event |= {
        "event_id": ids.event_id(),
        "timestamp": now if ending.at is None else ending.at,
        "level": "fatal",
        "exception": {"values": [value]},
    }
    if len(dump.threads) > 1:
        event["threads"] = {"values": [_thread(thread) for thread in dump.threads]}
    return cast(Event, event)


def _thread(thread: DumpedThread) -> dict[str, Any]:
    value: dict[str, Any] = {"id": thread.ident, "crashed": thread.current}
    if thread.current:
        value["current"] = True
    if thread.name is not None:
        value["name"] = thread.name
    if thread.frames and not thread.current:
        value["stacktrace"] = {"frames": list(thread.frames)}
    return value
