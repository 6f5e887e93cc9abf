"""What users say, as an envelope's items.

Threads: any. Source: wire.md section 4.
"""

from __future__ import annotations

from crashfree._capture import rendering
from crashfree._capture.draft import Recorder
from crashfree._capture.scope import Scope, merged
from crashfree._capture.settings import CaptureSettings
from crashfree._ground import json
from crashfree._ground.clock import SYSTEM_CLOCK, Clock
from crashfree._ground.typed import Any, NamedTuple
from crashfree._protocol import fields
from crashfree._protocol.items import Item, attachment_item, received_item

MESSAGE_CHARACTERS = 4096
_FIELD_CHARACTERS = 200


class Feedback(NamedTuple):
    """A piece of feedback, ready to be sent."""

    event_id: str
    items: list[Item]


def feedback_items(
    message: str,
    *,
    name: str | None = None,
    email: str | None = None,
    url: str | None = None,
    event_id: str | None = None,
    settings: CaptureSettings,
    scopes: tuple[Scope, ...] = (),
    clock: Clock = SYSTEM_CLOCK,
) -> Feedback:
    """Make the items of a feedback; `event_id` that is none is left out, long texts are cut."""
    scope = merged(*scopes)
    if scope.trace is None and len(scopes) > 1:
        scope.trace = scopes[1].own_trace()
    draft = Recorder(settings, clock).event({"level": "info"}, scope)
    event: dict[str, Any] = dict(draft.build())
    feedback: dict[str, Any] = {"message": rendering.text_of(message)[:MESSAGE_CHARACTERS]}
    for key, value in (("name", name), ("contact_email", email), ("url", url)):
        if value:
            feedback[key] = rendering.text_of(value)[:_FIELD_CHARACTERS]
    about = fields.hex_id(rendering.text_of(event_id)) if event_id else None
    if about is not None:
        feedback["associated_event_id"] = about
    draft.scrub(event)  # type: ignore[arg-type]
    for key in ("threads", "modules", "breadcrumbs"):
        event.pop(key, None)
    # After scrubbing: what the user wrote is for the reader, the address they gave included.
    event["contexts"]["feedback"] = feedback
    event["type"] = "feedback"
    items = [received_item("feedback", {"content_type": "application/json"}, json.encode(event))]
    items += [attachment_item(attachment) for attachment in scope.attachments]
    return Feedback(draft.event_id, items)
