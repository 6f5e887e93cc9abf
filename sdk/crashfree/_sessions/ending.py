"""How a run ended, in one value.

Apart from what finds it out, because every client has it and few have a dead run to look at.
Threads: any.
"""

from __future__ import annotations

from crashfree._ground.typed import Literal, NamedTuple, TypeAlias

Cause: TypeAlias = Literal["clean", "crashed", "killed", "out_of_memory", "reboot"]


class Ending(NamedTuple):
    """How a run ended."""

    cause: Cause
    """`clean`, `crashed`, `killed`, `out_of_memory` or `reboot`."""
    signal: str | None = None
    """Name of the signal, as `SIGSEGV`, where faulthandler saw it."""
    at: float | None = None
    """When, in seconds since the epoch; the last sign of life where nothing better is known."""
    started: float | None = None
    pid: int | None = None
    release: str | None = None

    @property
    def crashed(self) -> bool:
        """Whether the program itself was at fault."""
        return self.cause == "crashed"
