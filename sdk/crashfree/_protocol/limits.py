"""Every number of the protocol, one line each: unit in the comment, source in brackets.

`Limits` holds those that a reader of foreign envelopes enforces and may want to change; the
constants are what both ends agree on. Pure; threads: any.

Source: wire.md sections 3, 8, 11 and 12; sessions.md sections 1, 2 and 5.1; ingest.md section 3.1.
"""

from __future__ import annotations

from crashfree._ground.typed import NamedTuple

KIB = 1024
MIB = 1024 * 1024

# What a client keeps to when it writes.
SESSION_ITEMS = 100  # session or sessions items in one envelope [sessions.md 2]
AGGREGATE_BUCKETS = 100  # buckets in one sessions item [wire.md 3.3]
CLIENT_REPORT_BYTES = 4 * KIB  # one client_report payload [wire.md 12]
EVENT_BYTES = 900_000  # one event payload, before trimming starts [wire.md 8.4]
ATTACHMENT_BYTES = 10 * MIB  # one attachment, by default [wire.md 8.4]
ATTACHMENTS_BYTES = 15 * MIB  # all attachments of one envelope [wire.md 8.4]
TEXT_BYTES = 8192  # one text value of an event, UTF-8 [wire.md 8.4]

# What a session may say.
ERRORS = 65_535  # errors of one session; the count stays there [sessions.md 3.2]
RELEASE_BYTES = 200  # release name, UTF-8 [sessions.md 1]
ENVIRONMENT_BYTES = 64  # environment name, UTF-8 [sessions.md 1]
COUNT = 2**32 - 1  # one column of a bucket [sessions.md 2]
COUNTER = 2**64 - 1  # errors and seq of an update, as a server reads them [sessions.md 1]
SESSION_AGE = 5 * 86_400  # seconds after its start that an update is taken [sessions.md 5.1]
FUTURE = 60  # seconds that a session may lie ahead of the server [sessions.md 5.1]
CLOCK_DRIFT = 55 * 60  # seconds from which on sent_at corrects times [sessions.md 5.1]

# What a server may ask for.
LONGEST_RATE_LIMIT = 86_400.0  # seconds [wire.md 11.2]
DEFAULT_RATE_LIMIT = 60.0  # seconds after a 429 that does not say [wire.md 11.3]

# What a discarded quantity may be when it is read back.
QUANTITY = 2**31  # items or bytes in one row of a client report [ingest.md 6]


class Limits(NamedTuple):
    """What a reader of envelopes takes; equal to a limit is fine. Sizes are bytes."""

    header_line: int = 64 * KIB
    items: int = 1000
    sessions: int = SESSION_ITEMS
    aggregates: int = AGGREGATE_BUCKETS
    event: int = MIB
    session: int = 64 * KIB
    session_aggregates: int = 256 * KIB
    client_report: int = CLIENT_REPORT_BYTES
    check_in: int = 100 * KIB
    attachment: int = 20 * MIB
    attachments: int = 20 * MIB


LIMITS = Limits()
