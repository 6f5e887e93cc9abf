"""What every request handler is given: store, settings, clock, names.

One context per running server; made by `running`, reached by `context(request)`.

Threads: any; the fields never change.
"""

from __future__ import annotations

from typing import Final, NamedTuple, cast

from starlette.requests import HTTPConnection

from crashfree._ground.clock import Clock
from crashfree._protocol.limits import LIMITS, MIB, Limits
from crashfree.server.faults import Faults
from crashfree.server.store import Store

DEFAULT_ORGANIZATION: Final = "crashfree"
DEFAULT_PROJECT: Final = "app"


class Settings(NamedTuple):
    """What a server allows; sizes in bytes, times in seconds."""

    organization: str = DEFAULT_ORGANIZATION
    hosts: tuple[str, ...] = ()
    """Names, besides addresses and localhost, that pages and API may be asked under."""
    max_body: int = 20 * MIB
    """Of an envelope as it comes."""
    max_decoded: int = 32 * MIB
    """Of an envelope once decompressed."""
    max_in_work: int = 64 * MIB
    """Of all envelopes in work; more get 503."""
    limits: Limits = LIMITS
    body_pause: float = 15.0
    """Between two parts of a body."""
    body_time: float = 30.0
    """For a whole body."""
    trust_proxy: bool = False
    """Whether `X-Forwarded-For` and `Forwarded` name the client."""
    keep_attachments: bool = False
    forward: str | None = None
    """The DSN of an upstream Sentry project that gets every envelope as well."""
    retention_days: int = 90
    max_events: int = 10_000
    """Per project; the oldest go first."""


class Context(NamedTuple):
    """One running server."""

    store: Store
    settings: Settings
    clock: Clock
    token: str
    faults: Faults

    @property
    def organization(self) -> str:
        """The slug of the one organization."""
        return self.settings.organization


def context(request: HTTPConnection) -> Context:
    """Return the context of the server that a request came to."""
    return cast("Context", request.app.state.context)
