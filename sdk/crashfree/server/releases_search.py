"""The `release…` words of a search: which releases they mean.

Threads: any. Source: releases.md sections 3.4 and 3.5.
"""

from __future__ import annotations

import sqlite3

from crashfree.server.selection import Term


def release_term(
    db: sqlite3.Connection, projects: tuple[int, ...], term: Term
) -> frozenset[int] | None:
    """Return the ids of the releases that a term means; None when it is a plain name."""
    return None
