"""How a command that failed says so: one sentence and the remedy, or one JSON object.

Everything here goes to standard error; with `--json` every line of it is one JSON object, with the
key `error` or `warning`. Exit codes: see `crashfree._cli.failure`.
"""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar, Token
from typing import Any

from crashfree._cli.failure import REFUSED, UNREACHABLE, USAGE, Failure, UsageFailure
from crashfree._ground import json
from crashfree.errors import (
    ApiError,
    ConfigurationError,
    CrashfreeError,
    InvalidRelease,
    Unreachable,
)

_for_a_program: ContextVar[bool] = ContextVar("crashfree_cli_json", default=False)


def speak_json(wanted: bool) -> Token[bool]:
    """Write JSON from here on; the token undoes it."""
    return _for_a_program.set(wanted)


def speak_as_before(token: Token[bool]) -> None:
    """Undo `speak_json`."""
    _for_a_program.reset(token)


def warning(text: str) -> None:
    """Tell what is wrong but ends nothing."""
    if _for_a_program.get():
        line(json.encode({"warning": text}).decode())
    else:
        line(f"warning: {text}")


def failed(error: CrashfreeError, *, allowed: bool) -> int:
    """Tell the user about `error`; return the exit code that goes with it."""
    code = exit_code(error)
    if _for_a_program.get():
        line(json.encode({"error": described(error)}).decode())
    else:
        _tell(error)
    return _forgiven(code) if allowed else code


def allowed(code: int) -> int:
    """Return 0 for an exit code that `--allow-failure` forgives, with a note."""
    return _forgiven(code)


def exit_code(error: CrashfreeError) -> int:
    """Return 1, 2 or 3: refused, wrong usage or name, unreachable."""
    if isinstance(error, Failure):
        return error.exit_code
    if isinstance(error, Unreachable):
        return UNREACHABLE
    return USAGE if isinstance(error, ConfigurationError) else REFUSED


def described(error: CrashfreeError) -> dict[str, Any]:
    """Return what `--json` says about `error`."""
    answer: dict[str, Any] = {"code": _word(error), "message": str(error)}
    if isinstance(error, ApiError):
        answer["status"] = error.status
        answer["detail"] = error.body if error.body is not None else error.detail
    else:
        answer["status"] = None
        answer["detail"] = None
    if isinstance(error, InvalidRelease):
        answer["rule"] = error.code
        answer["suggestion"] = error.suggestion
    remedy = getattr(error, "remedy", "")
    if remedy:
        answer["remedy"] = remedy
    return answer


def line(text: str) -> None:
    """Write one line to standard error."""
    stream = sys.stderr
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError):
        return  # nobody is listening


def silence_stdout() -> None:
    """Point standard output to nowhere, so that the interpreter's last flush cannot fail."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return


def _tell(error: CrashfreeError) -> None:
    if isinstance(error, UsageFailure) and error.usage:
        line(error.usage)
    line(f"error: {error}")
    remedy = getattr(error, "remedy", "")
    if remedy:
        line(f"  {remedy}")


def _word(error: CrashfreeError) -> str:
    if isinstance(error, InvalidRelease):
        return "invalid_release"  # its own code names the broken rule
    code = getattr(error, "code", None)
    if isinstance(code, str):
        return code
    if isinstance(error, ApiError):
        return "refused"
    if isinstance(error, Unreachable):
        return "unreachable"
    return "configuration" if isinstance(error, ConfigurationError) else "failed"


def _forgiven(code: int) -> int:
    if not _for_a_program.get():
        line(f"note: exit code {code} turned into 0 by --allow-failure")
    return 0
