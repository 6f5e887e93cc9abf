"""What capturing needs to know of its client: values only, fixed for the client's life.

Threads: any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crashfree._ground.typed import Any, NamedTuple
from crashfree._protocol import limits


def _none() -> Sequence[str]:
    return ()


class CaptureSettings(NamedTuple):
    """The options that shape an event."""

    release: str | None = None
    dist: str | None = None
    environment: str = "production"
    server_name: str | None = None
    project_root: str | None = None
    """Frames below it are in-app; None: the working directory of now."""
    in_app_include: tuple[str, ...] = ()
    in_app_exclude: tuple[str, ...] = ()
    with_locals: bool = False
    source_context: bool = True
    attach_stacktrace: bool = False
    add_full_stack: bool = False
    send_default_pii: bool = False
    max_value_length: int = limits.TEXT_BYTES
    """Bytes of one text in an event."""
    scrubber: Callable[[Any], Any] | None = None
    """Runs after the built-in one, on the event; what it returns goes on, None drops the event."""
    integrations: Callable[[], Sequence[str]] = _none
    """Names of what is installed at the moment."""
