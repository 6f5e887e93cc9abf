"""The spool: envelopes that wait on disk.

    <ms>-<pid>-<count>-<attempt>.envelope    waiting; plain bytes without `sent_at`

in the destination's directory, see `spooldirectory`.

Invariants: an envelope is in one file; a file is there as a whole or not at all; never more than
the limits by count, bytes and age, the oldest leaving first and counted as `cache_overflow`; a
session's `init` survives the eviction of the update that carried it; what cannot be read is
removed and said once; a client report is never stored.

Threads: one at a time: the worker, or whoever stands in for it; `forget` in a forked child.
Source: wire.md section 17.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from crashfree._delivery import disk
from crashfree._delivery.outcome import Outcome
from crashfree._delivery.run import Run
from crashfree._delivery.spooldirectory import SUFFIX, SpoolDirectory
from crashfree._ground import json, log
from crashfree._ground.typed import Literal, NamedTuple, TypeAlias
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import Item, received_item
from crashfree.errors import EnvelopeError
from crashfree.types import DataCategory, DiscardReason

OnEvicted: TypeAlias = Callable[[DiscardReason, DataCategory, int], None]
Send: TypeAlias = Callable[[Envelope, Callable[[], bool]], "Outcome | None"]
"""Sends a stored envelope and says what became of it; None: not now, keep it as it is.

The function it is handed is to be asked right before the first byte is written."""
Replayed: TypeAlias = Literal["sent", "kept", "empty"]

WRITTEN_SUFFIX = ".written"
MAX_ATTEMPTS = 8
_LARGEST_ENVELOPE = 64 << 20


class SpoolLimits(NamedTuple):
    """How much may wait on disk for one destination."""

    max_items: int = 200
    max_bytes: int = 20 << 20
    max_age: float = 30 * 86_400.0
    """Seconds; a server would give older events a new date."""


DEFAULT_LIMITS = SpoolLimits()


class SpoolStatus(NamedTuple):
    """What waits on disk for one destination."""

    directory: str
    items: int
    size: int
    """Bytes of the envelopes."""
    oldest: float | None
    """When the oldest was written, in seconds since the epoch."""
    runs: int
    """Run directories, those of living processes included."""


class Spool:
    """The waiting envelopes of one destination. What changes is in its directory, shared."""

    __slots__ = ("_limits", "_on_evicted", "directory")
    directory: SpoolDirectory
    _limits: SpoolLimits
    _on_evicted: OnEvicted

    def __init__(
        self,
        directory: SpoolDirectory,
        *,
        on_evicted: OnEvicted,
        limits: SpoolLimits = DEFAULT_LIMITS,
    ) -> None:
        self.directory = directory
        self._limits = limits
        self._on_evicted = on_evicted

    def ready(self) -> bool:
        """Make the directories and look after what is there, once; False when there can be none.

        What this process adopts afterwards may be more than fits: it is sent, not evicted.
        """
        if not self.directory.make():
            return False
        if not self.directory.looked_after:
            self.directory.looked_after = True
            with self.directory.lock:
                self._tidy()
                self._evict()
        return True

    def put(self, envelope: Envelope) -> bool:
        """Store an envelope; False when the disk refuses. Raises what building a payload raises."""
        return self.store((envelope,)) is not None

    def store(self, envelopes: Sequence[Envelope]) -> list[str] | None:
        """Store envelopes, oldest first; return their paths, None when the disk refuses.

        Of more than fit by number only the last ones are written; the others count as evicted.
        Raises what building a payload raises.
        """
        if not envelopes:
            return []
        surplus = len(envelopes) - self._limits.max_items
        if not self.ready():
            return None
        for envelope in envelopes[: max(0, surplus)]:
            self._tell("cache_overflow", envelope)
        paths: list[str] = []
        with self.directory.lock:
            for envelope in envelopes[max(0, surplus) :]:
                kept, _ = envelope.without(lambda item: item.type == "client_report")
                if kept is None:
                    continue
                path = os.path.join(self.directory.path, self.directory.new_name())
                try:
                    disk.write(path, kept.encode())
                except OSError as error:
                    self.directory.give_up(error)
                    return None
                paths.append(path)
            self._evict()
        return paths

    def ship(self, name: str) -> bool:
        """Make a file of our run, which must hold one envelope, a waiting envelope, in one step."""
        run = self.directory.run
        if run is None:
            return False
        with self.directory.lock:
            target = os.path.join(self.directory.path, self.directory.new_name())
        return disk.move(run.path(name), target)

    def replay(self, send: Send) -> Replayed:
        """Send the oldest stored envelope, if it is ours to replay.

        "sent": it is gone from the disk, there may be more; "kept": it is still there, come back
        later; "empty": there is nothing to do for this process.
        """
        if not self.ready() or not self._may_replay():
            return "empty"
        result: Replayed = "empty"
        for entry in self._waiting():
            path = entry.path
            envelope = self._read(path)
            if envelope is None:
                continue
            written = _Written(path, has_aggregates(envelope))
            self.directory.replaying = True
            try:
                outcome = send(envelope, written.mark)
            finally:
                self.directory.replaying = False
            if outcome is not None:
                return self._after(path, written, envelope, outcome)
            # What is in it is limited; another kind behind it may not be.
            result = "kept"
        return result

    def drain(self, send: Send) -> int:
        """Replay until nothing is left or something was kept; return how many left the disk."""
        gone = 0
        while self.replay(send) == "sent":
            gone += 1
        return gone

    def pending(self) -> bool:
        """Return whether something waits here that this process may replay."""
        return bool(self._files()) and self.ready() and self._may_replay()

    def clear(self) -> int:
        """Remove all waiting envelopes, uncounted; return how many there were."""
        return clear(self.directory.path)

    def status(self) -> SpoolStatus:
        """Return what waits."""
        return _status(self.directory.path)

    @property
    def max_items(self) -> int:
        """How many envelopes may wait; 0 once the disk has refused."""
        return 0 if self.directory.broken else self._limits.max_items

    def forget(self) -> None:
        """Leave run and locks to the parent, in a forked child."""
        self.directory.forget()

    @property
    def run(self) -> Run | None:
        """The run of this process; None before it was opened."""
        return self.directory.run

    # -- inside

    def _files(self) -> list[os.DirEntry[str]]:
        return _envelopes(self.directory.path)

    def _waiting(self) -> list[os.DirEntry[str]]:
        return [entry for entry in self._files() if not entry.name.endswith(WRITTEN_SUFFIX)]

    def _may_replay(self) -> bool:
        if self.directory.replay_lock.held:
            return True
        if not self.directory.replay_lock.acquire():
            return False
        # Aggregates that were written when the last holder died: the server may have them, and
        # nothing on the wire would tell a second copy from other sessions.
        for entry in self._files():
            if entry.name.endswith(WRITTEN_SUFFIX):
                self._drop(entry.path, "network_error")
        return True

    def _after(
        self, path: str, written: _Written, envelope: Envelope, outcome: Outcome
    ) -> Replayed:
        if outcome == "withdrawn":
            # Another process took the file away.
            return "sent"
        if outcome == "limited":
            written.unmark()
            return "kept"
        if outcome == "unwritten":
            written.unmark()
            self._failed(path, envelope)
            return "kept"
        if outcome == "unanswered" and not written.counting:
            self._failed(path, envelope)
            return "kept"
        if outcome == "unanswered":
            self._tell("network_error", envelope)
        disk.remove(written.path)
        return "sent" if outcome != "unanswered" else "kept"

    def _failed(self, path: str, envelope: Envelope) -> None:
        stem, _, attempt = os.path.basename(path)[: -len(SUFFIX)].rpartition("-")
        tried = int(attempt) + 1
        if tried >= MAX_ATTEMPTS:
            if disk.remove(path):
                self._tell("network_error", envelope)
            return
        disk.move(path, os.path.join(self.directory.path, f"{stem}-{tried}{SUFFIX}"))

    def _read(self, path: str) -> Envelope | None:
        data = disk.read(path, _LARGEST_ENVELOPE)
        if data is None:
            # Gone, or not readable by us now; another look is cheap.
            return None
        try:
            return decode_envelope(data)
        except EnvelopeError as error:
            disk.remove(path)
            log.warning(f"removed {path}, which is no envelope: {error}", key="spool corrupt")
            return None

    def _drop(self, path: str, reason: DiscardReason) -> None:
        envelope = self._read(path)
        if envelope is not None and disk.remove(path):
            self._tell(reason, envelope)

    def _tell(self, reason: DiscardReason, envelope: Envelope) -> None:
        for item in envelope.items:
            self._on_evicted(reason, item.category, item.quantity)

    def _tidy(self) -> None:
        """Remove what killed writers left half-written."""
        for directory in (self.directory.top, self.directory.path):
            for entry in disk.regular_files(directory):
                if entry.name.endswith(disk.TMP_SUFFIX) and self.directory.is_old(entry.path):
                    disk.remove(entry.path)

    def _evict(self) -> None:
        """Remove the oldest envelopes beyond the limits."""
        files = self._waiting()
        sizes = [_size(entry) for entry in files]
        total = sum(sizes)
        too_old = (self.directory.clock.time() - self._limits.max_age) * 1000
        for index, entry in enumerate(files):
            left = len(files) - index
            if (
                left <= self._limits.max_items
                and total <= self._limits.max_bytes
                and _milliseconds(entry.name) >= too_old
            ):
                return
            total -= sizes[index]
            self._evict_one(entry.path, [later.path for later in files[index + 1 :]])

    def _evict_one(self, path: str, later: list[str]) -> None:
        envelope = self._read(path)
        if envelope is None or not disk.remove(path):
            return
        self._tell("cache_overflow", envelope)
        orphans = _announced(envelope)
        for other in later:
            if not orphans:
                return
            orphans -= self._announce(other, orphans)

    def _announce(self, path: str, orphans: set[str]) -> set[str]:
        """Give `init` to the updates in a file whose session lost it; return their ids."""
        data = disk.read(path, _LARGEST_ENVELOPE)
        if data is None or not any(sid.encode() in data for sid in orphans):
            return set()
        envelope = self._read(path)
        if envelope is None:
            return set()
        found: set[str] = set()
        items: list[Item] = []
        for item in envelope.items:
            sid = _sid(item)
            if sid in orphans and sid not in found:
                found.add(sid)
                item = _with_init(item)
            items.append(item)
        if found:
            try:
                disk.write(path, Envelope(envelope.headers, tuple(items)).encode())
            except OSError as error:
                self.directory.give_up(error)
        return found


class _Written:
    """Marks a stored file, by its name, from the moment its first byte goes out.

    Only for aggregates: they have no identity, so a second copy would count twice.
    """

    __slots__ = ("_plain", "counting", "path")
    path: str
    counting: bool
    _plain: str

    def __init__(self, path: str, counting: bool) -> None:
        self.path = path
        self.counting = counting
        self._plain = path

    def mark(self) -> bool:
        """Note that it is being written; False when another process took the file away."""
        if not self.counting:
            return os.path.exists(self.path)
        marked = self._plain + WRITTEN_SUFFIX
        if not disk.move(self._plain, marked):
            return False
        self.path = marked
        return True

    def unmark(self) -> None:
        """Note that it was not written, or that the server said it did not take it."""
        if self.path != self._plain and disk.move(self.path, self._plain):
            self.path = self._plain


def survey(directory: str | os.PathLike[str]) -> list[SpoolStatus]:
    """Return what waits for each destination under a spool directory, whatever its DSN."""
    top = os.path.join(os.path.abspath(os.fspath(directory)), "v1")
    return [_status(os.path.join(top, name)) for name in disk.directories(top)]


def clear(directory: str) -> int:
    """Remove the envelopes that wait in one destination's directory; return their number."""
    return sum(disk.remove(entry.path) for entry in _envelopes(directory))


def has_aggregates(envelope: Envelope) -> bool:
    """Return whether a second copy of this envelope would count sessions twice."""
    return any(item.type == "sessions" for item in envelope.items)


def _envelopes(directory: str) -> list[os.DirEntry[str]]:
    """Return what waits in a destination's directory, oldest first."""
    return [
        entry
        for entry in disk.regular_files(directory)
        if entry.name.endswith((SUFFIX, SUFFIX + WRITTEN_SUFFIX)) and _milliseconds(entry.name) >= 0
    ]


def _status(directory: str) -> SpoolStatus:
    files = _envelopes(directory)
    return SpoolStatus(
        directory,
        len(files),
        sum(_size(entry) for entry in files),
        _milliseconds(files[0].name) / 1000 if files else None,
        len(disk.directories(os.path.join(directory, "runs"))),
    )


def _milliseconds(name: str) -> int:
    """Return when a file was stored, by its name; -1 when the name is not one of ours."""
    parts = name.partition(".")[0].split("-")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts):
        return -1
    return int(parts[0])


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


def _update(item: Item) -> dict[str, object] | None:
    if item.type != "session":
        return None
    try:
        payload = json.decode(item.view)
    except ValueError:
        return None
    return payload if isinstance(payload, dict) else None  # pyright: ignore[reportUnknownVariableType]


def _sid(item: Item) -> str | None:
    update = _update(item)
    sid = None if update is None else update.get("sid")
    return sid if isinstance(sid, str) else None


def _announced(envelope: Envelope) -> set[str]:
    """Return the ids of the sessions that an envelope announces."""
    found: set[str] = set()
    for item in envelope.items:
        update = _update(item)
        if update is not None and update.get("init") is True:
            sid = update.get("sid")
            if isinstance(sid, str):
                found.add(sid)
    return found


def _with_init(item: Item) -> Item:
    update = _update(item) or {}
    return received_item(item.type, item.headers, json.encode({**update, "init": True}))
