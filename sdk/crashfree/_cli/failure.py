"""`Failure`: a command that cannot go on, with its exit code and the remedy.

Exit codes: 0 done, 1 refused by the server, 2 wrong usage or name, 3 unreachable.
Source: DESIGN section 10.
"""

from __future__ import annotations

from crashfree.errors import CrashfreeError

DONE = 0
REFUSED = 1
USAGE = 2
UNREACHABLE = 3


class Failure(CrashfreeError):
    """Ends the command; the message is one sentence, the remedy another.

    `code` is the word that `--json` gives to programs.
    """

    code: str
    exit_code: int
    remedy: str

    def __init__(
        self, message: str, *, code: str = "failed", exit_code: int = REFUSED, remedy: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code
        self.remedy = remedy


class UsageFailure(Failure):
    """A command line that cannot be understood, or a setting that is missing."""

    usage: str

    def __init__(
        self, message: str, *, code: str = "usage", remedy: str = "", usage: str = ""
    ) -> None:
        super().__init__(message, code=code, exit_code=USAGE, remedy=remedy)
        self.usage = usage
