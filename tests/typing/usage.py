"""Code as users write it; checked by mypy and pyright in strict mode, never run."""

from __future__ import annotations

from datetime import timedelta

from typing_extensions import assert_type

import crashfree
import crashfree.types
from crashfree.errors import ApiError
from crashfree.integration import Integration, Kit
from crashfree.release import Release
from crashfree.testing import capture
from crashfree.types import Event, Hint, SessionUpdate


def before_send(event: Event, hint: Hint) -> Event | None:
    if "exc_info" in hint and isinstance(hint["exc_info"][1], KeyError):
        return None
    event["tags"] = {**event.get("tags", {}), "seen": "yes"}
    return event


def program() -> None:
    client = crashfree.init(
        "https://key@sentry.example.com/1",
        release="shop@1.0.0",
        background_timeout=timedelta(seconds=10),
        before_send=before_send,
        ignore_errors=[KeyboardInterrupt, "shop.errors.Ignored"],
        integrations=["flask", Spider()],
        sample_rate=lambda event, hint: 0.5,
    )
    assert_type(client, crashfree.Client)
    assert_type(client.options.release, Release | None)
    crashfree.set_user({"id": 42, "email": "a@b"})
    crashfree.set_tag("plan", "free")
    assert_type(crashfree.capture_message("hello", "warning"), str | None)
    try:
        raise ValueError
    except ValueError as error:
        assert_type(crashfree.capture_exception(error), str | None)
    with crashfree.new_scope() as scope:
        scope.set_tag("block", "yes")
    with crashfree.session(), crashfree.background_session():
        pass
    assert_type(crashfree.flush(timeout=1.5), bool)
    assert_type(client.stats().sent_bytes, int)


async def coroutine() -> None:
    async with crashfree.session():
        pass


class Spider:
    """An integration of a third party."""

    name = "spider"
    mode: crashfree.types.SessionMode | None = "request"

    def install(self, kit: Kit) -> None:
        with kit.unit(mechanism="spider") as unit:
            unit.set_transaction("/route")

    def uninstall(self) -> None:
        pass


spider: Integration = Spider()


def tests() -> None:
    with capture(release="shop@1.0.0") as seen:
        crashfree.capture_message("x")
    assert_type(seen.events, list[Event])
    assert_type(seen.sessions, list[SessionUpdate])


def errors(error: Exception) -> str:
    if isinstance(error, crashfree.InvalidRelease):
        return error.suggestion or error.code
    if isinstance(error, ApiError):
        return f"{error.status} {error.detail}"
    return Release.parse("a@1.0").short
