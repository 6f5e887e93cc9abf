"""Projects, keys and settings as ingest needs them: in memory, a moment old at most.

Changes made by this process are seen at once; those of another process (the command line working
on the same file) within two seconds.

Threads: the event loop's; the "changed" mark may be set by any.
Source: ingest.md sections 2.5 and 4.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final

from crashfree._ground.clock import Clock
from crashfree.server.ingest import Filters
from crashfree.server.store import Store

_AT_MOST: Final = 2.0


class Projects:
    """Who may send, and what is filtered."""

    __slots__ = (
        "_clock",
        "_filters",
        "_fresh",
        "_keys",
        "_limits",
        "_load_filters",
        "_read_at",
        "_store",
    )
    _store: Store
    _clock: Clock
    _load_filters: Callable[[Mapping[str, Any]], Filters]
    _keys: dict[int, list[str]]
    _filters: dict[int, Filters]
    _limits: dict[int, list[Any]]
    _fresh: bool
    _read_at: float

    def __init__(
        self,
        store: Store,
        clock: Clock,
        load_filters: Callable[[Mapping[str, Any]], Filters],
    ) -> None:
        self._store = store
        self._clock = clock
        self._load_filters = load_filters
        self._keys = {}
        self._filters = {}
        self._limits = {}
        self._fresh = False
        self._read_at = 0.0
        store.on_catalog_change(self._stale)

    def accepts(self, project_id: int, key: str) -> bool:
        """Return whether `key` is an active key of a project that is not disabled."""
        self._refresh()
        return any(hmac.compare_digest(key, known) for known in self._keys.get(project_id, ()))

    def filters(self, project_id: int) -> Filters | None:
        """Return the inbound filters of a project; None when it has none."""
        return self._filters.get(project_id)

    def limits(self, project_id: int) -> list[Any]:
        """Return the rate limits of a project, as they were set."""
        return self._limits.get(project_id, [])

    def _stale(self) -> None:
        self._fresh = False

    def _refresh(self) -> None:
        now = self._clock.monotonic()
        if self._fresh and 0.0 <= now - self._read_at < _AT_MOST:
            return
        self._fresh = True
        self._read_at = now
        keys: dict[int, list[str]] = {}
        filters: dict[int, Filters] = {}
        limits: dict[int, list[Any]] = {}
        with self._store.read(counts=False) as db:
            for project_id, key in db.execute(
                "SELECT project_id, public_key FROM project_keys"
                " JOIN projects ON projects.id = project_id WHERE active AND NOT disabled"
            ):
                keys.setdefault(project_id, []).append(key)
            for project_id in keys:
                options = self._store.option(db, project_id, "filters", None)
                if options:
                    filters[project_id] = self._load_filters(options)
                given = self._store.option(db, project_id, "limits", None)
                if given:
                    limits[project_id] = given
        self._keys, self._filters, self._limits = keys, filters, limits
