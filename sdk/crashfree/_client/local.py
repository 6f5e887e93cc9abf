"""`dsn="local"`: the server that runs on this machine.

A module of its own, loaded when that word is met: no other program looks for a server.
Threads: any.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._delivery.spooldirectory import default_directory
from crashfree.server.discovery import local_dsn


def find(variables: Mapping[str, str]) -> str:
    """Return the DSN of the server that `crashfree serve` runs for this user.

    Raises InvalidDsn, which says how to start one, when none runs.
    """
    return local_dsn(default_directory(variables))
