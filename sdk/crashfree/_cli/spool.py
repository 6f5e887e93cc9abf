"""`crashfree spool`: what waits on disk for a network, and sending or removing it.

`flush` also takes up what dead processes left behind (their counts, their open sessions), as the
next start of the program would. Source: wire.md section 17, sessions.md section 3.5.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

from crashfree._cli import output
from crashfree._cli.ago import span
from crashfree._cli.failure import DONE, REFUSED, UNREACHABLE, UsageFailure
from crashfree._cli.parser import Commands, Parser
from crashfree._client.autopsy import Autopsy
from crashfree._client.options import read_dsn
from crashfree._delivery import spool as spooling
from crashfree._delivery.discards import Discards
from crashfree._delivery.httptransport import HttpTransport
from crashfree._delivery.spool import Spool, SpoolLimits, SpoolStatus
from crashfree._delivery.spooldirectory import SpoolDirectory, default_directory, destination
from crashfree._delivery.worker import Worker
from crashfree._ground import env
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree._ground.http import resolve_settings
from crashfree._protocol.dsn import Dsn
from crashfree.types import JSON

_KIB = 1024
# The tool removes nothing for want of room; that is the program's business.
_NO_LIMITS = SpoolLimits(max_items=1 << 30, max_bytes=1 << 50)


def add(commands: Commands) -> None:
    """Register `spool`."""
    parser = commands.add_parser(
        "spool",
        help="what waits on disk for a network",
        description="Look at what waits on disk for a network; send it, or remove it.",
    )
    actions = parser.add_subparsers(metavar="ACTION", dest="spool_action", required=True)
    status = actions.add_parser("status", help="show what waits", description="Show what waits.")
    status.set_defaults(run=_show)
    flush = actions.add_parser(
        "flush",
        help="send what waits",
        description="Send what waits, and what dead processes left, to the DSN's server.",
    )
    flush.set_defaults(run=_flush)
    clear = actions.add_parser(
        "clear",
        help="remove what waits, unsent",
        description="Remove what waits, unsent: for one DSN when it is given, else for all.",
    )
    clear.set_defaults(run=_clear)
    for leaf in (status, flush, clear):
        _add_place(leaf)


def _add_place(parser: Parser) -> None:
    parser.add_argument(
        "--dsn",
        help="whose (default for flush: CRASHFREE_DSN or SENTRY_DSN; for the others: everybody's)",
    )
    parser.add_argument(
        "--spool-dir",
        metavar="DIRECTORY",
        help="where (default: CRASHFREE_SPOOL_DIR or the user's state directory)",
    )


def _show(args: argparse.Namespace) -> int:
    found = _found(args)
    now = SYSTEM_CLOCK.time()
    if args.json:
        output.emit([_facts(status) for status in found])
        return DONE
    if not any(status.items or status.runs for status in found):
        output.say("Nothing waits.")
        return DONE
    rows = [
        (
            status.directory,
            str(status.items),
            f"{status.size / _KIB:.1f} KiB",
            "" if status.oldest is None else f"{span(max(0.0, now - status.oldest))} ago",
            str(status.runs),
        )
        for status in found
    ]
    output.table(("destination", "envelopes", "size", "oldest", "runs"), rows)
    return DONE


def _clear(args: argparse.Namespace) -> int:
    removed = sum(spooling.clear(status.directory) for status in _found(args))
    if args.json:
        output.emit({"removed": removed})
    else:
        output.say(f"Removed {removed} {_envelopes(removed)}.")
    return DONE


class _Flushed(NamedTuple):
    sent: int
    refused: int
    """Items, not envelopes."""
    left: int
    adopted: int
    error: str | None
    reached: bool


def _flush(args: argparse.Namespace) -> int:
    dsn = _dsn(args)
    if dsn is None:
        raise UsageFailure(
            "a DSN is required",
            code="missing_dsn",
            remedy="give --dsn, or set CRASHFREE_DSN or SENTRY_DSN",
        )
    done = _flushed(dsn, _directory(args))
    if args.json:
        output.emit(
            {
                "sent": done.sent,
                "refused": done.refused,
                "left": done.left,
                "runs": done.adopted,
                "error": done.error,
            }
        )
    else:
        _tell(done)
    if not done.reached:
        return UNREACHABLE
    return REFUSED if done.refused or done.left else DONE


def _tell(done: _Flushed) -> None:
    if done.adopted:
        runs = "run" if done.adopted == 1 else "runs"
        output.say(f"Took up what {done.adopted} dead {runs} left.")
    output.say(f"Sent {done.sent} {_envelopes(done.sent)}, {done.left} left.")
    if done.refused:
        output.warn(f"the server refused {done.refused} of the items in them")
    if done.error is not None:
        output.warn(done.error)


def _flushed(dsn: Dsn, directory: str) -> _Flushed:
    discards = Discards()
    place = SpoolDirectory(directory, dsn=dsn, clock=SYSTEM_CLOCK)
    spool = Spool(place, on_evicted=discards.record, limits=_NO_LIMITS)
    transport = HttpTransport(
        dsn,
        worker=Worker(clock=SYSTEM_CLOCK),
        clock=SYSTEM_CLOCK,
        discards=discards,
        spool=spool,
        http=resolve_settings(),
        # What the programs lost is theirs to report.
        send_client_reports=False,
    )
    try:
        # Without a folder there is nothing, and none is made for the sake of looking.
        exists = any(status.directory == place.path for status in _all(directory))
        adopted = 0
        if exists:
            adopted = Autopsy(spool, others=(), clock=SYSTEM_CLOCK, on_crash=None).perform()
        gone = transport.send_spooled() if exists else 0
        stats = transport.stats()
    finally:
        transport.close(0.0)
        place.close()
    refused = sum(count for (reason, _), count in stats.dropped.items() if reason == "send_error")
    silent = stats.requests > 0 and stats.last_error is not None and not stats.sent_bytes
    return _Flushed(
        sent=gone,
        refused=refused,
        left=stats.spooled,
        adopted=adopted,
        error=stats.last_error,
        reached=not silent,
    )


def _found(args: argparse.Namespace) -> list[SpoolStatus]:
    """Return what waits: of the DSN that was given, else of every destination."""
    found = _all(_directory(args))
    if args.dsn is None:
        return found
    name = destination(read_dsn(args.dsn, env.environ()))
    return [status for status in found if status.directory.endswith(name)]


def _all(directory: str) -> list[SpoolStatus]:
    return spooling.survey(directory)


def _directory(args: argparse.Namespace) -> str:
    if args.spool_dir is not None:
        return str(args.spool_dir)
    variables = env.environ()
    named = env.setting(variables, "SPOOL_DIR")
    directory = default_directory(variables) if named is None else named.value
    if directory is None:
        raise UsageFailure(
            "this user has no state directory", code="no_spool", remedy="give --spool-dir"
        )
    return directory


def _dsn(args: argparse.Namespace) -> Dsn | None:
    if args.dsn is not None:
        return read_dsn(args.dsn, env.environ())
    named = env.setting(env.environ(), "DSN")
    return None if named is None else read_dsn(named.value, env.environ())


def _facts(status: SpoolStatus) -> dict[str, JSON]:
    return {
        "directory": status.directory,
        "envelopes": status.items,
        "bytes": status.size,
        "oldest": status.oldest,
        "runs": status.runs,
    }


def _envelopes(number: int) -> str:
    return "envelope" if number == 1 else "envelopes"
