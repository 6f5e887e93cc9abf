"""The words and shapes of the wire, and the callbacks users may give.

Vocabularies are `Literal` strings: they are the wire, so nothing is converted. Payloads are
TypedDicts: what is sent is what is declared here. Where only some keys are required they stand in
a base of their own: `NotRequired` would load typing-extensions, and that inspect, in every program.

Source: wire.md sections 4 to 6, 11.4 and 12; sessions.md sections 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from crashfree._ground.typed import Any, Literal, TypeAlias, TypedDict

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""What JSON can say."""

Level = Literal["fatal", "error", "warning", "info", "debug"]
SessionMode = Literal["application", "request"]
SessionStatus = Literal["ok", "exited", "crashed", "abnormal", "unhandled"]
Outcome = Literal["exited", "errored", "crashed", "abnormal", "unhandled"]
"""The columns of an aggregate: how a finished session is counted."""
AbnormalMechanism = Literal["anr_foreground", "anr_background"]

ItemType = Literal[
    "event", "session", "sessions", "client_report", "attachment", "feedback", "check_in"
]
DataCategory = Literal[
    "default",
    "error",
    "transaction",
    "security",
    "attachment",
    "session",
    "profile",
    "replay",
    "monitor",
    "span",
    "feedback",
    "metric_bucket",
    "profile_chunk",
    "log_item",
    "log_byte",
    "trace_metric",
    "trace_metric_byte",
    "user_report",
    "internal",
]
DiscardReason = Literal[
    "queue_overflow",
    "cache_overflow",
    "ratelimit_backoff",
    "network_error",
    "send_error",
    "sample_rate",
    "before_send",
    "event_processor",
    "ignored",
    "backpressure",
    "invalid",
    "internal_sdk_error",
]


class User(TypedDict, total=False):
    """Who uses the program. `id` (else `email`, else `username`) identifies them in sessions."""

    id: str | int
    email: str
    username: str
    name: str
    ip_address: str
    data: Mapping[str, Any]


class Breadcrumb(TypedDict, total=False):
    """Something that happened before the event."""

    timestamp: str | float
    type: str
    category: str
    level: Level
    message: str
    data: Mapping[str, Any]


class Mechanism(TypedDict, total=False):
    """How an exception came to be captured. `handled: False` is what makes a session crash."""

    type: str
    handled: bool
    exception_id: int
    parent_id: int
    source: str
    is_exception_group: bool
    synthetic: bool
    description: str
    help_link: str
    data: Mapping[str, Any]
    meta: Mapping[str, Any]


class Frame(TypedDict, total=False):
    """One call in a stack trace."""

    filename: str
    abs_path: str
    module: str
    function: str
    lineno: int
    colno: int
    pre_context: list[str]
    context_line: str
    post_context: list[str]
    vars: Mapping[str, Any]
    in_app: bool


class Stacktrace(TypedDict):
    """Frames, oldest call first, never empty."""

    frames: list[Frame]


class ExceptionValue(TypedDict, total=False):
    """One exception of a chain or group."""

    type: str
    value: str
    module: str | None
    mechanism: Mechanism
    stacktrace: Stacktrace
    thread_id: int | str


class Request(TypedDict, total=False):
    """The HTTP request that was being served."""

    url: str
    method: str
    query_string: str
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    data: Any
    env: Mapping[str, str]


class Event(TypedDict, total=False):
    event_id: str
    timestamp: str | float
    platform: str
    level: Level
    logger: str
    transaction: str
    server_name: str
    release: str
    dist: str
    environment: str
    message: str
    logentry: Mapping[str, Any]
    exception: Mapping[str, Any]
    threads: Mapping[str, Any]
    breadcrumbs: Mapping[str, Any]
    tags: dict[str, str]
    extra: dict[str, Any]
    contexts: dict[str, Any]
    user: dict[str, Any]
    request: dict[str, Any]
    fingerprint: list[str]
    modules: dict[str, str]
    sdk: Mapping[str, Any]
    _meta: dict[str, Any]


"""An error or message event, as it is sent."""


class Hint(TypedDict, total=False):
    """What an event was made from, for callbacks; never sent."""

    exc_info: tuple[type[BaseException], BaseException, Any]
    log_record: Any
    attachments: list[Attachment]


class _File(TypedDict):
    filename: str
    data: bytes


class Attachment(_File, total=False):
    """A file that goes with an event."""

    content_type: str
    attachment_type: str


class _Released(TypedDict):
    release: str


class SessionAttributes(_Released, total=False):
    """What a session belongs to; never changes while it lives."""

    environment: str
    ip_address: str
    user_agent: str


class _Session(TypedDict):
    sid: str
    started: str
    attrs: SessionAttributes


class SessionUpdate(_Session, total=False):
    """Payload of a `session` item: the whole state of one session."""

    did: str
    seq: int
    timestamp: str
    init: bool
    duration: float
    status: SessionStatus
    errors: int
    abnormal_mechanism: AbnormalMechanism


class _Minute(TypedDict):
    started: str


class SessionBucket(_Minute, total=False):
    """Counts of one minute (and of one user, where users are counted)."""

    did: str
    exited: int
    errored: int
    crashed: int
    abnormal: int
    unhandled: int


class SessionAggregates(TypedDict):
    """Payload of a `sessions` item."""

    attrs: SessionAttributes
    aggregates: list[SessionBucket]


class DiscardedEvents(TypedDict):
    """One row of a client report."""

    reason: str
    category: str
    quantity: int


class ClientReport(TypedDict):
    """Payload of a `client_report` item: what the client itself dropped."""

    timestamp: str | float
    discarded_events: list[DiscardedEvents]


BeforeSend: TypeAlias = Callable[[Event, Hint], "Event | None"]
"""Sees the finished event; returns it (changed or not), or None to drop it."""

EventProcessor: TypeAlias = Callable[[Event, Hint], "Event | None"]
"""Changes an event on its way; None drops it."""

BeforeBreadcrumb: TypeAlias = Callable[[Breadcrumb, Mapping[str, Any]], "Breadcrumb | None"]
"""Sees a breadcrumb before it is kept; None drops it."""

Sampler: TypeAlias = Callable[[Event, Hint], float]
"""Returns the share (0 to 1) of events like this one that shall be sent."""

OnDrop: TypeAlias = Callable[[DiscardReason, DataCategory, int], None]
"""Told of every loss: reason, category, quantity."""
