"""One session as the server keeps it, and how updates are merged into it.

Invariants: merging is idempotent and does not depend on the order of arrival (but for updates that
contradict each other about what must never change: there the first one that came is kept); the
status never goes down; a session is in exactly one column at any time.

Pure; threads: any. Source: sessions.md sections 1.2 and 5.3 (local server), DESIGN section 6.6.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from crashfree.server.facts import SessionFact

HEALTHY, ERRORED, CRASHED, ABNORMAL, UNHANDLED = range(5)
"""Columns of the count tables."""
COLUMNS: Final = ("healthy", "errored", "crashed", "abnormal", "unhandled")

# Kinds of user sets, as bits.
SEEN: Final = 1
HURT: Final = 2
CRASH: Final = 4
ABNORM: Final = 8
UNHANDLE: Final = 16
HANG: Final = 32
FOREGROUND_HANG: Final = 64
KINDS: Final = (SEEN, HURT, CRASH, ABNORM, UNHANDLE, HANG, FOREGROUND_HANG)

_PRECEDENCE: Final = {"ok": 0, "exited": 1, "unhandled": 3, "abnormal": 4, "crashed": 5}
_OTHER: Final = 2
_COLUMN: Final = {"crashed": CRASHED, "abnormal": ABNORMAL, "unhandled": UNHANDLED}
_COLUMN_FLAG: Final = {
    HEALTHY: SEEN,
    ERRORED: SEEN | HURT,
    CRASHED: SEEN | HURT | CRASH,
    ABNORMAL: SEEN | HURT | ABNORM,
    UNHANDLED: SEEN | HURT | UNHANDLE,
}
_MECHANISM_FLAG: Final = {"anr_foreground": HANG | FOREGROUND_HANG, "anr_background": HANG}


class SessionRow(NamedTuple):
    """The merged state of a session; the fields of the table behind its key."""

    release_id: int
    environment_id: int
    user_id: int
    status: str
    errors: int
    announced: bool
    rank: int
    changed_us: int
    duration_us: int | None
    mechanism: str | None

    @property
    def column(self) -> int:
        """In which column it is counted."""
        return column_of(self.status, self.errors)

    @property
    def flags(self) -> int:
        """In which user sets its user is; 0 without a user."""
        if not self.user_id:
            return 0
        return _COLUMN_FLAG[self.column] | _MECHANISM_FLAG.get(self.mechanism or "", 0)


def column_of(status: str, errors: int) -> int:
    """Return the column of a session; a word that we do not know is an error, not a crash."""
    column = _COLUMN.get(status)
    if column is not None:
        return column
    return ERRORED if errors > 0 or status not in ("ok", "exited") else HEALTHY


def bucket_flags(healthy: int, errored: int, crashed: int, abnormal: int, unhandled: int) -> int:
    """Return in which user sets the user of an aggregate bucket is."""
    flags = 0
    for column, count in enumerate((healthy, errored, crashed, abnormal, unhandled)):
        if count:
            flags |= _COLUMN_FLAG[column]
    return flags


def begun(fact: SessionFact, release_id: int, environment_id: int, user_id: int) -> SessionRow:
    """Return the row of a session that was not known."""
    return SessionRow(
        release_id,
        environment_id,
        user_id,
        fact.status,
        fact.errors,
        fact.init,
        fact.rank,
        fact.changed_us,
        fact.duration_us if fact.status == "exited" else None,
        fact.mechanism,
    )


def merged(row: SessionRow, fact: SessionFact, user_id: int) -> SessionRow:
    """Return `row` with an update merged in; its attributes stay, a missing user is filled in.

    The update that decides is the one with the highest status, then the latest; errors is the
    highest count that any update told.
    """
    errors = max(row.errors, fact.errors)
    announced = row.announced or fact.init
    user = row.user_id or user_id
    if _order(fact.status, fact.rank, fact.changed_us) > _order(
        row.status, row.rank, row.changed_us
    ):
        return SessionRow(
            row.release_id,
            row.environment_id,
            user,
            fact.status,
            errors,
            announced,
            fact.rank,
            fact.changed_us,
            fact.duration_us if fact.status == "exited" else None,
            fact.mechanism,
        )
    return row._replace(errors=errors, announced=announced, user_id=user)


def anomaly(row: SessionRow, fact: SessionFact, after: SessionRow) -> str | None:
    """Return what is odd about an update to a known session: the name of a counter, or None."""
    if fact.init and row.announced:
        return "duplicate_init"
    if row.status != "ok" and after == row:
        return "late_update"
    return None


def _order(status: str, rank: int, changed_us: int) -> tuple[int, int, int]:
    return (_PRECEDENCE.get(status, _OTHER), rank, changed_us)
