"""The boundary: the one place where running errors of crashfree stop.

Inside, code raises as usual; at the boundary an `Exception` is counted and said once a minute, and
the program goes on with the default. `BaseException` passes: Ctrl-C and SystemExit belong to the
program. `tests/arch/test_boundaries.py` lists every place that carries one.

Threads: any. Source: DESIGN of error handling in sdk/README.md.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import TracebackType

from crashfree._ground import log
from crashfree._ground.typed import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")
D_co = TypeVar("D_co", covariant=True)


class Boundary(Protocol[D_co]):
    """A decorator whose functions return the default where they would have raised."""

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R | D_co]: ...


class Witness(Protocol):
    """Told of every error that stopped at a boundary: what, and in which function."""

    def __call__(self, error: Exception, place: str, /) -> None: ...


_strict = False
_witness: Witness | None = None


def set_strict(enabled: bool) -> None:
    """Let errors pass the boundary, as our own tests want it."""
    global _strict
    _strict = enabled


def set_witness(witness: Witness | None) -> None:
    """Name the one who counts what stops here (the current client); None for nobody."""
    global _witness
    _witness = witness


def boundary(default: D) -> Boundary[D]:
    """Return a decorator: an `Exception` inside the function becomes its result `default`."""

    def decorate(function: Callable[P, R], /) -> Callable[P, R | D]:
        place = f"{function.__module__}.{function.__qualname__}"

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R | D:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                caught(error, place)
                return default

        guarded.__crashfree_boundary__ = True  # type: ignore[attr-defined]
        return guarded

    return decorate


def caught(error: Exception, place: str) -> None:
    """Count and say an error that was stopped at `place`; raises it again under `set_strict`."""
    if _strict:
        raise error
    if sys.is_finalizing():
        return
    witness = _witness
    try:
        if witness is not None:
            witness(error, place)
        log.warning(
            f"an error inside crashfree was stopped in {place}: {type(error).__name__}: {error}; "
            "the program is not affected",
            key=f"boundary:{place}",
        )
        if log.debugging():
            log.debug(_location(error.__traceback__))
    except Exception:
        # Whatever is so broken that it cannot even be said must still not reach the program.
        return


def _location(traceback: TracebackType | None) -> str:
    lines: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        lines.append(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return "  " + "\n  ".join(lines[-8:])
