"""`crashfree send-event` and `send-envelope`: something for a server to show, from a shell.

Source: wire.md sections 2 and 3, releases.md section 5.1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, cast

from crashfree._cli import options, output
from crashfree._cli.failure import UsageFailure
from crashfree._cli.parser import Commands
from crashfree._cli.session import settings_of
from crashfree._client.options import read_dsn
from crashfree._ground import env, ids, json
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import CLIENT, SDK_INFO, Envelope
from crashfree._protocol.items import event_item
from crashfree._protocol.timestamps import rfc3339
from crashfree.management.api import default_http
from crashfree.management.payloads import mapping
from crashfree.management.problems import error_of
from crashfree.management.settings import Settings
from crashfree.release import Release
from crashfree.types import Event

_LEVELS = ("fatal", "error", "warning", "info", "debug")
_TIMEOUT = 30.0
_MAX_REPLY = 1 << 16


def add(commands: Commands) -> None:
    """Register `send-event` and `send-envelope`."""
    _add_event(commands)
    _add_envelope(commands)


def _add_event(commands: Commands) -> None:
    parser = commands.add_parser(
        "send-event",
        help="send one event",
        description="Send one event: from the options, or from a JSON file.",
    )
    parser.set_defaults(run=_send_event)
    _add_target(parser)
    options.add_dry_run(parser)
    parser.add_argument("file", nargs="?", metavar="FILE", help="an event as JSON; - reads stdin")
    parser.add_argument("-m", "--message", action="append", default=[], help="(repeatable: lines)")
    parser.add_argument("-l", "--level", choices=_LEVELS)
    parser.add_argument("-r", "--release", metavar="VERSION")
    parser.add_argument("-d", "--dist")
    parser.add_argument("-E", "--env", dest="environment", metavar="ENV")
    parser.add_argument("-p", "--platform")
    parser.add_argument(
        "-t", "--tag", dest="tags", action="append", default=[], metavar="KEY:VALUE"
    )
    parser.add_argument(
        "-e", "--extra", dest="extras", action="append", default=[], metavar="KEY:VALUE"
    )
    parser.add_argument(
        "-u", "--user", dest="users", action="append", default=[], metavar="KEY:VALUE"
    )
    parser.add_argument("-f", "--fingerprint", action="append", default=[])


def _add_envelope(commands: Commands) -> None:
    parser = commands.add_parser(
        "send-envelope",
        help="send an envelope from a file",
        description="Send an envelope as it stands in a file, checked before it is sent.",
    )
    parser.set_defaults(run=_send_envelope)
    _add_target(parser)
    options.add_dry_run(parser)
    parser.add_argument("file", metavar="FILE", help="- reads standard input")
    parser.add_argument("--raw", action="store_true", help="send it unchecked")


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dsn", help="where to (default: CRASHFREE_DSN or SENTRY_DSN)")


def _dsn(args: argparse.Namespace, settings: Settings) -> Dsn:
    text = args.dsn or settings.text("dsn")
    if text is None:
        raise UsageFailure(
            "a DSN is required",
            code="missing_dsn",
            remedy="give --dsn, or set CRASHFREE_DSN or SENTRY_DSN",
        )
    return read_dsn(text, env.environ())


def _send_event(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    dsn = _dsn(args, settings)
    event, identity = _event(args, settings)
    envelope = Envelope.of([event_item(event)], event_id=identity)
    body = envelope.encode(sent_at=SYSTEM_CLOCK.time())
    return _send(args, dsn, body, event_id=identity, settings=settings)


def _send_envelope(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    dsn = _dsn(args, settings)
    body = _bytes(args.file)
    event_id = None
    if not args.raw:
        event_id = decode_envelope(body).event_id
    return _send(args, dsn, body, event_id=event_id, settings=settings)


def _send(
    args: argparse.Namespace,
    dsn: Dsn,
    body: bytes,
    *,
    event_id: str | None,
    settings: Settings,
) -> int:
    if getattr(args, "dry_run", False):
        output.say(f"POST {dsn.envelope_url}")
        sys.stdout.flush()
        sys.stdout.buffer.write(body)
        return 0
    http = default_http(proxy=settings.text("proxy"), ca_certs=settings.text("ca_certs"))
    reply = http.request(
        "POST",
        dsn.envelope_url,
        headers={
            "Content-Type": "application/x-sentry-envelope",
            "User-Agent": CLIENT,
            "X-Sentry-Auth": dsn.auth_header(CLIENT),
        },
        body=body,
        timeout=_TIMEOUT,
        max_body=_MAX_REPLY,
    )
    http.close()
    if not 200 <= reply.status < 300:
        raise error_of(reply.status, reply.body)
    if args.json:
        output.emit({"event_id": event_id, "status": reply.status, "bytes": len(body)})
    elif event_id is not None:
        output.say(f"Event sent: {event_id}")
    else:
        output.say(f"Envelope sent ({len(body)} bytes)")
    return 0


def _event(args: argparse.Namespace, settings: Settings) -> tuple[Event, str]:
    """Return the event and its id."""
    event: dict[str, Any] = {}
    if args.file is not None:
        event.update(_json(args.file))
    event.setdefault("event_id", ids.event_id())
    event.setdefault("timestamp", rfc3339(SYSTEM_CLOCK.time()))
    event.setdefault("platform", "python")
    event.setdefault("sdk", SDK_INFO)
    for key in ("level", "dist", "environment", "platform"):
        value = getattr(args, key)
        if value is not None:
            event[key] = value
    release = args.release or settings.text("release")
    if release is not None:
        event["release"] = Release.parse(release).raw
    if args.environment is None and "environment" not in event:
        event["environment"] = settings.text("environment") or "production"
    if args.message:
        event["logentry"] = {"formatted": "\n".join(args.message)}
    for key, given in (("tags", args.tags), ("extra", args.extras), ("user", args.users)):
        if given:
            event[key] = {**mapping(event.get(key)), **_pairs(given)}
    if args.fingerprint:
        event["fingerprint"] = list(args.fingerprint)
    return cast("Event", event), str(event["event_id"])


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        key, colon, value = text.partition(":")
        if not colon or not key.strip():
            raise UsageFailure(f"{text!r} needs the form KEY:VALUE")
        pairs[key.strip()] = value.strip()
    return pairs


def _json(path: str) -> dict[str, Any]:
    try:
        value = json.decode(_bytes(path))
    except ValueError as error:
        raise UsageFailure(f"{path!r} holds no JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageFailure(f"{path!r} holds no JSON object")
    return cast("dict[str, Any]", value)


def _bytes(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageFailure(f"{path!r} cannot be read: {error.strerror}") from None
