"""Transports that show instead of send: on a console, or as JSON lines in a file.

`ConsoleTransport` answers "what would be sent?"; `FileTransport` keeps every item for programs
that read it. Both write on the worker, in the order of submission. What cannot be written is
dropped, counted as `network_error`, and said once.

Threads: any. Fork: `forget`.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TextIO, cast

from crashfree._delivery.discards import Discards
from crashfree._delivery.post import buildable
from crashfree._delivery.transport import NO_STATISTICS, Statistics
from crashfree._delivery.worker import Worker
from crashfree._ground import json, log
from crashfree._ground.clock import Clock
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import Item
from crashfree._protocol.timestamps import rfc3339
from crashfree.types import DataCategory

MAX_WAITING = 1_000


class _Writer:
    """Queues envelopes for the worker, which hands each to `write`."""

    __slots__ = ("_discards", "_name", "_sent", "_waiting", "_worker", "_write")
    _worker: Worker
    _discards: Discards
    _write: Callable[[Envelope], None]
    _name: str
    _waiting: deque[Envelope]
    _sent: dict[DataCategory, int]

    def __init__(
        self, worker: Worker, discards: Discards, name: str, write: Callable[[Envelope], None]
    ) -> None:
        self._worker = worker
        self._discards = discards
        self._name = name
        self._write = write
        self.forget()

    def submit(self, envelope: Envelope) -> bool:
        self._waiting.append(envelope)
        while len(self._waiting) > MAX_WAITING:
            try:
                self._lose("queue_overflow", self._waiting.popleft())
            except IndexError:
                break
        return self._worker.submit(self._write_all)

    def flush(self, timeout: float) -> bool:
        return self._worker.flush(timeout) and not self._waiting

    def stats(self) -> Statistics:
        return NO_STATISTICS._replace(
            queued=len(self._waiting), sent=self._sent.copy(), dropped=self._discards.totals()
        )

    def forget(self) -> None:
        self._waiting = deque()
        self._sent = {}

    def _write_all(self) -> None:
        while True:
            try:
                envelope = self._waiting.popleft()
            except IndexError:
                return
            built = buildable(envelope, self._unbuilt)
            if built is None:
                continue
            try:
                self._write(built)
            except (OSError, ValueError) as error:
                log.warning(f"{self._name} cannot be written: {error}", key=self._name)
                self._lose("network_error", built)
                continue
            for item in built.items:
                self._sent[item.category] = self._sent.get(item.category, 0) + item.quantity

    def _unbuilt(self, item: Item, error: BaseException) -> None:
        log.warning(f"an item could not be built: {type(error).__name__}: {error}", key="unbuilt")
        self._discards.record("internal_sdk_error", item.category, item.quantity)

    def _lose(self, reason: Any, envelope: Envelope) -> None:
        for item in envelope.items:
            self._discards.record(reason, item.category, item.quantity)


class FileTransport:
    """Appends one JSON object per item to a file.

    A line is `{"time", "type", "headers", "payload"}`; `envelope` holds the envelope's header, and
    the payload of an attachment is left out but for its length. A new file is 0600.
    """

    __slots__ = ("_clock", "_path", "_writer")
    _path: str
    _clock: Clock
    _writer: _Writer

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        worker: Worker,
        clock: Clock,
        discards: Discards | None = None,
    ) -> None:
        self._path = os.path.abspath(os.fspath(path))
        self._clock = clock
        self._writer = _Writer(
            worker, Discards() if discards is None else discards, self._path, self._write
        )

    def submit(self, envelope: Envelope) -> bool:
        return self._writer.submit(envelope)

    def flush(self, timeout: float) -> bool:
        return self._writer.flush(timeout)

    def close(self, timeout: float) -> bool:
        return self._writer.flush(timeout)

    def forget(self) -> None:
        """Drop what the parent recorded, in a forked child."""
        self._writer.forget()

    def stats(self) -> Statistics:
        """Return what was written."""
        return self._writer.stats()

    def _write(self, envelope: Envelope) -> None:
        now = rfc3339(self._clock.time())
        lines = [
            json.encode(
                {
                    "time": now,
                    "type": item.type,
                    "envelope": dict(envelope.headers),
                    "headers": dict(item.headers),
                    "payload": _decoded(item),
                }
            )
            for item in envelope.items
        ]
        data = b"".join(line + b"\n" for line in lines)
        # One write per envelope, at the end: several processes may share the file.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)


class ConsoleTransport:
    """Writes every item as readable text, to stderr unless told otherwise."""

    __slots__ = ("_stream", "_writer")
    _stream: TextIO | None
    _writer: _Writer

    def __init__(
        self,
        *,
        worker: Worker,
        stream: TextIO | None = None,
        discards: Discards | None = None,
    ) -> None:
        self._stream = stream
        self._writer = _Writer(
            worker, Discards() if discards is None else discards, "the console", self._write
        )

    def submit(self, envelope: Envelope) -> bool:
        return self._writer.submit(envelope)

    def flush(self, timeout: float) -> bool:
        return self._writer.flush(timeout)

    def close(self, timeout: float) -> bool:
        return self._writer.flush(timeout)

    def forget(self) -> None:
        """Drop what the parent recorded, in a forked child."""
        self._writer.forget()

    def stats(self) -> Statistics:
        """Return what was written."""
        return self._writer.stats()

    def _write(self, envelope: Envelope) -> None:
        stream = sys.stderr if self._stream is None else self._stream
        stream.write(readable(envelope))
        stream.flush()


def readable(envelope: Envelope) -> str:
    """Return an envelope as text for people."""
    lines: list[str] = []
    for item in envelope.items:
        lines.append(f"── {item.type}, {item.size_hint} bytes")
        payload = _decoded(item)
        if isinstance(payload, dict):
            lines += _indented(cast("dict[str, Any]", payload), 1)
        else:
            lines.append(f"   {payload}")
    return "\n".join(lines) + "\n"


def _indented(value: Mapping[str, Any], depth: int) -> list[str]:
    lines: list[str] = []
    margin = "   " * depth
    for key, entry in value.items():
        inner = _parts(key, entry)
        if inner:
            for name, part in inner:
                lines.append(f"{margin}{name}:")
                lines += _indented(part, depth + 1)
        else:
            text = entry if isinstance(entry, str) else json.encode(entry).decode("utf-8")
            lines.append(f"{margin}{key}: {text}")
    return lines


def _parts(key: str, entry: object) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the objects inside a value: itself, or those of a list of objects."""
    if isinstance(entry, dict) and entry:
        return [(key, cast("dict[str, Any]", entry))]
    if not isinstance(entry, list):
        return []
    found: list[tuple[str, Mapping[str, Any]]] = [
        (f"{key}[{index}]", cast("dict[str, Any]", part))
        for index, part in enumerate(cast("list[object]", entry))
        if isinstance(part, dict)
    ]
    return found if len(found) == len(cast("list[object]", entry)) else []


def _decoded(item: Item) -> Any:
    if item.type == "attachment":
        return f"<{item.size_hint} bytes>"
    try:
        return json.decode(item.payload)
    except ValueError:
        return f"<{item.size_hint} bytes that are no JSON>"
