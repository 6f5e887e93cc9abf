"""What one session update and one envelope cost, beside sentry-sdk where it is installed.

Run: python tests/bench/protocol.py
"""

from __future__ import annotations

import importlib
import sys
import timeit
from collections.abc import Callable
from typing import Any

from crashfree._ground.clock import SYSTEM_CLOCK, Mark
from crashfree._protocol.aggregates import OUTCOMES, CountKey, to_payloads
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import session_item
from crashfree._protocol.received import parse_session_update
from crashfree._protocol.session import SessionState, session_payload
from crashfree._protocol.timestamps import parse_rfc3339, rfc3339
from crashfree.types import SessionAttributes

NOW = 1_795_225_248.404572
ATTRIBUTES: SessionAttributes = {"release": "shop@1.0", "environment": "production"}


def micros(job: Callable[[], object], number: int = 5000) -> float:
    """Microseconds of one run; the best of seven."""
    return min(timeit.repeat(job, number=number, repeat=7)) / number * 1e6


def theirs() -> Callable[[], bytes] | None:
    """Start, end and serialize one session with sentry-sdk."""
    try:
        session: Any = importlib.import_module("sentry_sdk.session")
        envelope: Any = importlib.import_module("sentry_sdk.envelope")
    except ImportError:
        return None

    def run() -> bytes:
        one = session.Session(release="shop@1.0", environment="production", did="u")
        one.close()
        carrier = envelope.Envelope()
        carrier.add_session(one)
        data: bytes = carrier.serialize()
        return data

    return run


def ours() -> bytes:
    """Start, end and serialize one session."""
    state = SessionState.begin(ATTRIBUTES, at=Mark.of(SYSTEM_CLOCK), did="u")
    ended = state.ended(at=Mark.of(SYSTEM_CLOCK))
    return Envelope.of([session_item(session_payload(ended, timestamp=NOW))]).encode(sent_at=NOW)


def main() -> None:
    """Print the table."""
    start = Mark.of(SYSTEM_CLOCK)
    state = SessionState.begin(ATTRIBUTES, at=start, did="u")
    ended = state.ended(at=start)
    update = session_payload(ended, timestamp=NOW)
    envelope = Envelope.of([session_item(update)])
    body = envelope.encode(sent_at=NOW)
    counts: dict[CountKey, int] = {
        (1_795_225_200 + 60 * minute, None, outcome): 3
        for minute in range(2)
        for outcome in OUTCOMES
    }
    rows: list[tuple[str, Callable[[], object]]] = [
        ("write a timestamp", lambda: rfc3339(NOW)),
        ("read a timestamp", lambda: parse_rfc3339("2026-11-21T01:40:48.404572Z")),
        ("one transition", state.errored),
        ("session payload", lambda: session_payload(ended, timestamp=NOW)),
        ("encode an envelope with one session", lambda: envelope.encode(sent_at=NOW)),
        ("decode it", lambda: decode_envelope(body)),
        ("read its update", lambda: parse_session_update(update)),
        ("aggregates of two minutes", lambda: to_payloads(ATTRIBUTES, counts)),
    ]
    print(f"CPython {sys.version.split()[0]}, microseconds")
    for name, job in rows:
        print(f"  {name:<40} {micros(job):8.2f}")
    whole = micros(ours)
    print(f"  {'a session from start to bytes':<40} {whole:8.2f}")
    peer = theirs()
    if peer is None:
        print("  sentry-sdk is not installed: no peer to compare with")
        return
    cost = micros(peer, 500)
    print(f"  {'the same with sentry-sdk':<40} {cost:8.2f}   {cost / whole:.1f} times ours")


if __name__ == "__main__":
    main()
