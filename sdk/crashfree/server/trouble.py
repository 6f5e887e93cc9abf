"""Bugs of ours that a request ran into: told to the client by number, to the log in full.

Threads: any. Source: ingest.md section 2.3 (500).
"""

from __future__ import annotations

import logging

from crashfree._ground import ids


class Troubles:
    """Numbers and logs what nobody foresaw."""

    __slots__ = ("_log", "noted")
    _log: logging.Logger
    noted: int

    def __init__(self) -> None:
        self._log = logging.getLogger("crashfree.server")
        self.noted = 0

    def note(self, error: BaseException, where: str) -> str:
        """Log an error with its traceback and return its number."""
        number = ids.span_id()
        self.noted += 1
        self._log.error("internal error %s at %s", number, where, exc_info=error)
        return number
