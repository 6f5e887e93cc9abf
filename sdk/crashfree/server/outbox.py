"""The outbox: letters about deploys, written first and delivered afterwards.

A letter is a row in the transaction of what it tells. Delivery comes after the answer was given:
always as an `.eml` file and a line of JSON beside the database, and by SMTP or to a webhook where
the settings name one. A letter that could not go out keeps the reason; it is not tried twice,
because two announcements are worse than one in the file only.

Threads: `post` belongs to a transaction; `deliver` runs on any thread, one at a time per database.
Source: releases.md section 6.1.
"""

from __future__ import annotations

import os
import smtplib
import sqlite3
import ssl
from datetime import datetime, timezone
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final, NamedTuple

from crashfree._ground import json
from crashfree._ground.http import HttpClient
from crashfree.errors import Unreachable
from crashfree.server.endpoint import iso
from crashfree.server.fields import Flag, Object, Text, Url
from crashfree.server.frames import as_mapping
from crashfree.server.store import Store

SETTINGS_NAME: Final = "outbox"
_LINES: Final = "outbox.jsonl"
_TIMEOUT: Final = 15.0
_BATCH: Final = 100
_SAFE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._-+")

SMTP: Final = Object(
    {
        "host": Text(blank=False, nullable=False, required=True),
        "port": Text(blank=False, nullable=False),
        "sender": Text(blank=False, nullable=False),
        "user": Text(),
        "password": Text(trim=False),
        "starttls": Flag(),
    },
    nullable=True,
    closed=True,
)
SETTINGS: Final = Object({"smtp": SMTP, "webhook": Url()}, closed=True)
"""Where letters go besides the files; null switches a way off."""


class Letter(NamedTuple):
    """One letter to one recipient; `data` is the same as JSON."""

    kind: str
    recipient: str
    subject: str
    text: str
    data: str


class _Row(NamedTuple):
    id: int
    date: float
    letter: Letter


def post(db: sqlite3.Connection, letter: Letter, *, at: float) -> None:
    """Put a letter into the outbox."""
    db.execute(
        "INSERT INTO outbox (date, kind, recipient, subject, text, data) VALUES (?, ?, ?, ?, ?, ?)",
        (at, *letter),
    )


def directory(store: Store) -> str:
    """Return the folder that letters are written to."""
    return f"{store.path}.outbox"


def settings(store: Store) -> dict[str, Any]:
    """Return the settings as they were given, the password included."""
    text = store.meta(SETTINGS_NAME)
    return {"smtp": None, "webhook": None} | (
        {} if text is None else dict(json.decode(text.encode()))
    )


def shown_settings(store: Store) -> dict[str, Any]:
    """Return the settings without the password."""
    found = settings(store)
    if found["smtp"] and found["smtp"].get("password"):
        found["smtp"] = found["smtp"] | {"password": "[set]"}
    return found | {"directory": directory(store)}


def entries(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return all letters, newest first, as the API shows them."""
    return [
        {
            "id": str(row[0]),
            "dateCreated": iso(row[1]),
            "kind": row[2],
            "recipient": row[3],
            "subject": row[4],
            "text": row[5],
            "data": json.decode(str(row[6]).encode()),
            "state": row[7],
            "fault": row[8],
        }
        for row in db.execute(
            "SELECT id, date, kind, recipient, subject, text, data, state, fault FROM outbox"
            " ORDER BY id DESC"
        )
    ]


def deliver(store: Store) -> int:
    """Deliver the letters that wait; return how many."""
    delivered = 0
    client = HttpClient()
    try:
        while waiting := _claim(store):
            given = settings(store)
            for row in waiting:
                fault = _deliver(store, row, given, client)
                with store.write() as db:
                    db.execute(
                        "UPDATE outbox SET state = ?, fault = ? WHERE id = ?",
                        ("failed" if fault else "sent", fault, row.id),
                    )
                delivered += 1
    finally:
        client.close()
    return delivered


def tidy(db: sqlite3.Connection, *, before: float, interrupted: float) -> None:
    """Remove old letters, and say of those that a dying server was at that nobody knows."""
    db.execute("DELETE FROM outbox WHERE date < ? AND state != 'waiting'", (before,))
    db.execute(
        "UPDATE outbox SET state = 'failed', fault = 'the server ended while sending'"
        " WHERE state = 'sending' AND date < ?",
        (interrupted,),
    )


def _claim(store: Store) -> list[_Row]:
    """Take letters so that nobody else delivers them, too."""
    with store.write() as db:
        rows = [
            _Row(int(row[0]), float(row[1]), Letter(*row[2:]))
            for row in db.execute(
                "SELECT id, date, kind, recipient, subject, text, data FROM outbox"
                " WHERE state = 'waiting' ORDER BY id LIMIT ?",
                (_BATCH,),
            )
        ]
        db.executemany(
            "UPDATE outbox SET state = 'sending' WHERE id = ?", [(row.id,) for row in rows]
        )
    return rows


def _deliver(store: Store, row: _Row, given: dict[str, Any], client: HttpClient) -> str | None:
    """Send one letter every way; return what failed."""
    faults: list[str] = []
    sender = as_mapping(given["smtp"]).get("sender") or "crashfree@localhost"
    message = _message(row, str(sender))
    try:
        _write(directory(store), row, message)
    except OSError as error:
        faults.append(f"file: {error}")
    if given["smtp"]:
        try:
            _send(message, given["smtp"])
        except (OSError, smtplib.SMTPException, ValueError) as error:
            faults.append(f"smtp: {error}")
    if given["webhook"]:
        try:
            reply = client.request(
                "POST",
                given["webhook"],
                headers={"Content-Type": "application/json"},
                body=_line(row),
                timeout=_TIMEOUT,
                repeatable=False,
            )
        except Unreachable as error:
            faults.append(f"webhook: {error}")
        else:
            if reply.status >= 300:
                faults.append(f"webhook: answered {reply.status}")
    return "; ".join(faults) or None


def _message(row: _Row, sender: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = _header(sender)
    message["To"] = _header(row.letter.recipient)
    message["Subject"] = _header(row.letter.subject)
    message["Date"] = format_datetime(datetime.fromtimestamp(row.date, timezone.utc))
    message["X-Crashfree-Letter"] = str(row.id)
    message.set_content(row.letter.text)
    return message


def _header(text: str) -> str:
    """A header is one line: what a stranger's commit calls himself must not begin another."""
    return " ".join(text.split())


def _line(row: _Row) -> bytes:
    return json.encode(
        {
            "id": str(row.id),
            "date": iso(row.date),
            "kind": row.letter.kind,
            "recipient": row.letter.recipient,
            "subject": row.letter.subject,
            **json.decode(row.letter.data.encode()),
        }
    )


def _write(folder: str, row: _Row, message: EmailMessage) -> None:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    safe = "".join(char if char in _SAFE else "_" for char in row.letter.recipient)[:100]
    with open(os.path.join(folder, f"{row.id:08d}-{safe}.eml"), "wb") as file:
        file.write(message.as_bytes())
    with open(os.path.join(folder, _LINES), "ab") as file:
        file.write(_line(row) + b"\n")


def _send(message: EmailMessage, given: dict[str, Any]) -> None:
    port = int(given.get("port") or 25)
    with smtplib.SMTP(given["host"], port, timeout=_TIMEOUT) as server:
        if given.get("starttls"):
            server.starttls(context=ssl.create_default_context())
        if given.get("user"):
            server.login(given["user"], given.get("password") or "")
        server.send_message(message)
