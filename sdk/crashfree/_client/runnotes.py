"""What this process leaves in its run directory for the next start to read.

The record of the run (release, boot, when it began) and the file that faulthandler writes into. A
forked child makes a run of its own when it first counts something.

Threads: init, close, and whoever counts first in a forked child. Fork: `forget`.
Source: sessions.md section 3.5.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._delivery.run import Run
from crashfree._delivery.spooldirectory import SpoolDirectory
from crashfree._ground.clock import Clock
from crashfree._sessions import evidence
from crashfree._sessions.evidence import Evidence
from crashfree._sessions.faultfile import FaultFile
from crashfree.types import SessionAttributes

LEDGER = "ledger"
JOURNAL = "session"
FAULT = "fault"
RUN = "run"


class RunNotes:
    """The run of this process, with its record."""

    __slots__ = (
        "_attributes",
        "_clock",
        "_defaults",
        "_evidence",
        "_fault",
        "_home",
        "_run",
        "_started",
    )
    _home: SpoolDirectory
    _attributes: SessionAttributes
    _defaults: Mapping[str, object]
    _clock: Clock
    _run: Run | None
    _fault: FaultFile | None
    _evidence: Evidence
    _started: float

    def __init__(
        self,
        home: SpoolDirectory,
        *,
        attributes: SessionAttributes,
        defaults: Mapping[str, object],
        clock: Clock,
    ) -> None:
        self._home = home
        self._attributes = attributes
        self._defaults = defaults
        self._clock = clock
        self._run = None
        self._fault = None
        self._evidence = Evidence()
        self._started = 0.0

    def open(self) -> Run | None:
        """Return this process's run, made and described now if need be; None: no place for one."""
        if self._run is None:
            self._run = run = self._home.open()
            if run is not None:
                self._evidence = evidence.read()
                self._started = self._clock.time()
                self._record(run, clean=False)
                self._fault = FaultFile.enable(run.path(FAULT))
        return self._run

    def close(self, *, told: bool) -> None:
        """Note that the process came to its own end; `told`: with nothing left to tell."""
        if self._fault is not None:
            self._fault.disable()
        run = self._run
        if run is None:
            return
        if not told:
            self._record(run, clean=True)
            return
        try:
            run.keep(RUN, None)
        except OSError:
            return

    def forget(self) -> None:
        """Leave the run to the parent, in a forked child."""
        if self._fault is not None:
            self._fault.forget()
        self._fault = None
        self._run = None

    def _record(self, run: Run, *, clean: bool) -> None:
        record = evidence.run_record(
            self._attributes,
            self._evidence,
            started=self._started,
            defaults=self._defaults,
            clean=clean,
        )
        try:
            run.keep(RUN, record)
        except OSError:
            # What it would tell the next start is a refinement; the ledger has the numbers.
            return
