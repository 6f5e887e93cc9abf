"""`crashfree artifacts`: source files and source maps of a release, as one bundle.

Source: releases.md sections 4.4 and 5.1.
"""

from __future__ import annotations

import argparse
import tempfile

from crashfree._cli import options, output
from crashfree._cli.failure import UsageFailure
from crashfree._cli.parser import Commands, Parser
from crashfree._cli.session import Session, release_name
from crashfree.errors import InvalidRelease
from crashfree.management.bundles import EXTENSIONS, Bundle, BundleFile, collect
from crashfree.management.uploads import Assembly, upload_bundle
from crashfree.release import Release

_WAIT = 300.0


def add(commands: Commands) -> None:
    """Register `artifacts`."""
    parser = commands.add_parser(
        "artifacts", help="artifacts", description="Upload, list and delete artifact bundles."
    )
    options.add_scope(parser)
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    _add_upload(actions)
    listing = actions.add_parser("list", help="list bundles", description="List the bundles.")
    listing.set_defaults(run=_list)
    listing.add_argument("--query", help="a release, a dist or the id of a bundle")
    delete = actions.add_parser("delete", help="delete a bundle", description="Delete a bundle.")
    delete.set_defaults(run=_delete)
    delete.add_argument("bundle", metavar="ID")
    options.add_dry_run(delete)
    for leaf in (listing, delete):
        options.add_scope(leaf)


def _add_upload(actions: Commands) -> None:
    parser = actions.add_parser(
        "upload",
        help="upload files as one bundle",
        description="Upload files as one bundle. Repeating an interrupted upload sends the rest.",
    )
    parser.set_defaults(run=_upload)
    options.add_scope(parser)
    options.add_dry_run(parser)
    _add_selection(parser)
    parser.add_argument("-r", "--release", metavar="VERSION", help="the release's name")
    parser.add_argument("-d", "--dist", help="the build of the release")
    parser.add_argument("--note", help="a note that is kept with the bundle")
    wait = parser.add_mutually_exclusive_group()
    wait.add_argument("--wait", action="store_true", help="wait until the server has processed it")
    wait.add_argument(
        "--wait-for", type=options.positive, metavar="SECONDS", help="at most so long"
    )
    parser.add_argument("--strict", action="store_true", help="fail when no file is found")


def _add_selection(parser: Parser) -> None:
    group = parser.add_argument_group("files")
    group.add_argument("paths", metavar="PATH", nargs="+", help="files and directories")
    group.add_argument("-u", "--url-prefix", default="~", metavar="PREFIX", help="default: ~")
    group.add_argument("--url-suffix", default="", metavar="SUFFIX")
    group.add_argument(
        "-x",
        "--ext",
        dest="extensions",
        action="append",
        default=[],
        metavar="EXT",
        help=f"only files with this ending (repeatable; default {', '.join(EXTENSIONS)})",
    )
    group.add_argument(
        "-i", "--ignore", action="append", default=[], metavar="PATTERN", help="leave these out"
    )
    group.add_argument("-I", "--ignore-file", metavar="PATH", help="a file of such patterns")


def _upload(args: argparse.Namespace) -> int:
    files = collect(
        args.paths,
        url_prefix=args.url_prefix,
        url_suffix=args.url_suffix,
        extensions=args.extensions or EXTENSIONS,
        ignore=[*args.ignore, *_patterns(args.ignore_file)],
    )
    if not files:
        if args.strict:
            raise UsageFailure("no file was found", code="no_files")
        output.warn("no file was found, nothing is uploaded")
        return 0
    with Session(args) as session:
        version = _release(args, session)
        bundle = Bundle(files, release=version, dist=args.dist, note=args.note)
        if version is None and not bundle.has_debug_ids:
            raise UsageFailure(
                "without debug ids in the files a release is required",
                code="missing_release",
                remedy="give -r VERSION, or set CRASHFREE_RELEASE or SENTRY_RELEASE",
            )
        session.requires_projects()
        bundle.organization = session.api.organization
        bundle.projects = session.api.projects
        if session.dry:
            return _shown(args, bundle)
        with tempfile.TemporaryFile() as archive:
            identity = bundle.write(archive)
            with output.Progress(args, "Uploading") as progress:
                assembly = upload_bundle(
                    session.api.channel,
                    session.api.organization,
                    archive,
                    projects=list(session.api.projects),
                    version=version,
                    dist=args.dist,
                    wait=args.wait_for or (_WAIT if args.wait else 0.0),
                    progress=progress.reached,
                )
    _report(args, bundle, identity, assembly)
    return 0


def _release(args: argparse.Namespace, session: Session) -> str | None:
    if args.release is not None:
        return release_name(args, args.release)
    for value in session.settings.all("release"):
        try:
            return Release.parse(value.text, setting=value.origin.where).raw
        except InvalidRelease as error:
            output.warn(f"ignored: {error}")
    return None


def _patterns(path: str | None) -> list[str]:
    if path is None:
        return []
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise UsageFailure(f"{path!r} cannot be read: {error.strerror}") from None
    return [line for line in lines if line and not line.startswith("#")]


def _shown(args: argparse.Namespace, bundle: Bundle) -> int:
    if args.json:
        output.emit({"dry_run": True, "files": [_row(file) for file in bundle.files]})
    else:
        output.table(("Type", "URL"), [(file.type, file.url) for file in bundle.files])
    return 0


def _row(file: BundleFile) -> dict[str, object]:
    return {"path": file.path, "url": file.url, "type": file.type, "headers": dict(file.headers)}


def _report(args: argparse.Namespace, bundle: Bundle, identity: str, assembly: Assembly) -> None:
    if args.json:
        output.emit(
            {
                "bundleId": identity,
                "state": assembly.state,
                "chunks": assembly.chunks,
                "sent": assembly.sent,
                "release": bundle.release,
                "dist": bundle.dist,
                "projects": list(bundle.projects),
                "files": [_row(file) for file in bundle.files],
            }
        )
        return
    output.say(f"Bundled {len(bundle.files)} files, bundle id {identity}")
    done = assembly.state == "ok"
    output.say("Processed by the server" if done else "Uploaded, the server is still processing")
    for file in bundle.files:
        reference = file.headers.get("sourcemap")
        output.say(f"  {file.url}" + (f" (source map {reference})" if reference else ""))


def _list(args: argparse.Namespace) -> int:
    with Session(args) as session:
        session.requires_projects()
        found = list(session.api.list_bundles(session.api.projects[0], query=args.query))
    if args.json:
        output.emit([bundle.raw for bundle in found])
    elif not found:
        output.say("No bundles found")
    else:
        rows = [
            (
                bundle.id,
                "\n".join(
                    f"{release or '-'} {dist or ''}" for release, dist in bundle.associations
                ),
                str(bundle.file_count),
            )
            for bundle in found
        ]
        output.table(("Bundle", "Releases", "Files"), rows)
    return 0


def _delete(args: argparse.Namespace) -> int:
    with Session(args) as session:
        session.requires_projects()
        deleted = session.api.delete_bundle(session.api.projects[0], args.bundle)
        if session.finish_dry_run():
            return 0
    if args.json:
        output.emit({"bundle": args.bundle, "deleted": deleted})
    else:
        output.say(f"Deleted {args.bundle}" if deleted else f"There is no bundle {args.bundle}")
    return 0
