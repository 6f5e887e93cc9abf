"""What comes with events or beside them: attachments, feedback, check-ins, as they were sent.

Threads: handlers run on any thread. Source: ingest.md section 6.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from starlette.responses import Response

from crashfree.server.endpoint import Call, Problem, answer, api, download, iso, page
from crashfree.server.frames import as_mapping
from crashfree.server.typed import decode

_MOST: Final = 1000
"""The newest are listed."""
_DIGITS: Final = 19


_ATTACHMENT: Final = (
    "SELECT id, name, content_type, attachment_type, size, received, data IS NOT NULL AS kept"
    " FROM attachments WHERE project_id = ? AND event_id = ?"
)


def list_attachments(call: Call) -> Response:
    """Return name, type and size of what came with an event."""
    with call.store.read(counts=False) as db:
        found = db.execute(
            f"{_ATTACHMENT} ORDER BY id LIMIT ?", (call.project.id, _event(call), _MOST)
        ).fetchall()
    return answer([_attachment(row) for row in found])


def get_attachment(call: Call) -> Response:
    """Return an attachment: its description, or with `download` its bytes, if they were kept."""
    number = call.path["attachment"]
    if not (number.isascii() and number.isdigit() and len(number) < _DIGITS):
        raise Problem(404)
    with call.store.read(counts=False) as db:
        row = db.execute(
            f"{_ATTACHMENT} AND id = ?", (call.project.id, _event(call), int(number))
        ).fetchone()
        if row is None:
            raise Problem(404)
        if "download" not in call.query:
            return answer(_attachment(row))
        if not row["kept"]:
            raise Problem(404, "the bytes of attachments are kept with --keep-attachments only")
        data = db.execute("SELECT data FROM attachments WHERE id = ?", (row["id"],)).fetchone()[0]
    return download(data, row["name"])


def _event(call: Call) -> str:
    return call.path["event"].replace("-", "").lower()


def _attachment(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "mimetype": row["content_type"],
        "type": row["attachment_type"],
        "size": row["size"],
        "dateCreated": iso(row["received"]),
        "kept": bool(row["kept"]),
    }


def list_feedback(call: Call) -> Response:
    """Return what users wrote, newest first."""
    with call.store.read(counts=False) as db:
        found = db.execute(
            "SELECT id, event_id, received, payload FROM feedback WHERE project_id = ?"
            " ORDER BY id DESC LIMIT ?",
            (call.project.id, _MOST),
        ).fetchall()
    return page(call, [_feedback(*row) for row in found])


def _feedback(number: int, event_id: str | None, received: float, raw: bytes) -> dict[str, Any]:
    payload: dict[str, Any] = decode(raw)
    # A feedback item has it in a context; the older user report is nothing else.
    said = as_mapping(as_mapping(payload.get("contexts")).get("feedback")) or payload
    return {
        "id": str(number),
        "eventID": said.get("associated_event_id") or payload.get("event_id") or event_id,
        "name": said.get("name"),
        "email": said.get("contact_email") or said.get("email"),
        "comments": said.get("message") or said.get("comments"),
        "dateCreated": iso(received),
    }


def list_check_ins(call: Call) -> Response:
    """Return the check-ins of monitors, newest first."""
    with call.store.read(counts=False) as db:
        found = db.execute(
            "SELECT id, received, payload FROM check_ins WHERE project_id = ?"
            " ORDER BY id DESC LIMIT ?",
            (call.project.id, _MOST),
        ).fetchall()
    return page(call, [_check_in(*row) for row in found])


def _check_in(number: int, received: float, raw: bytes) -> dict[str, Any]:
    payload: dict[str, Any] = decode(raw)
    return {
        "id": str(payload.get("check_in_id") or number),
        "monitorSlug": payload.get("monitor_slug"),
        "status": payload.get("status"),
        "duration": payload.get("duration"),
        "release": payload.get("release"),
        "environment": payload.get("environment"),
        "dateCreated": iso(received),
    }


_PROJECT: Final = "/api/0/projects/{organization}/{project}/"
ROUTES: Final = [
    api(_PROJECT + "events/{event}/attachments/", GET=list_attachments),
    api(_PROJECT + "events/{event}/attachments/{attachment}/", GET=get_attachment),
    api(_PROJECT + "user-feedback/", GET=list_feedback),
    api(_PROJECT + "checkins/", GET=list_check_ins),
]
