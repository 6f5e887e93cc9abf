"""`crashfree files` and `crashfree releases files VERSION`: single files of a release.

Source: releases.md sections 4.4 and 5.1.
"""

from __future__ import annotations

import argparse
import hashlib
import os

from crashfree._cli import options, output
from crashfree._cli.failure import REFUSED, Failure, UsageFailure
from crashfree._cli.parser import Commands, Parser
from crashfree._cli.session import Session, chosen_release, release_name
from crashfree.management.models import ReleaseFile


def add(commands: Commands) -> None:
    """Register `files`."""
    parser = commands.add_parser(
        "files", help="files of a release", description="List, upload and delete release files."
    )
    options.add_scope(parser)
    parser.add_argument("-r", "--release", metavar="VERSION", help="the release's name")
    _add_actions(parser)


def add_release_files(group: Commands) -> None:
    """Register `releases files VERSION`."""
    parser = group.add_parser(
        "files",
        help="list, upload and delete files of a release",
        description="List, upload and delete files of a release.",
    )
    options.add_scope(parser)
    options.add_version(parser)
    _add_actions(parser)


def _add_actions(parser: Parser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", dest="file_action", required=True)
    listing = actions.add_parser("list", help="list them", description="List the files.")
    listing.set_defaults(run=_list)
    upload = actions.add_parser("upload", help="upload one", description="Upload one file.")
    upload.set_defaults(run=_upload)
    upload.add_argument("path", metavar="PATH")
    upload.add_argument("name", metavar="NAME", nargs="?", help="full URL or ~/path")
    upload.add_argument("-d", "--dist")
    upload.add_argument(
        "-H",
        "--file-header",
        dest="file_headers",
        metavar="KEY:VALUE",
        action="append",
        default=[],
        help="a header that comes with the file (repeatable)",
    )
    delete = actions.add_parser("delete", help="delete some", description="Delete files.")
    delete.set_defaults(run=_delete)
    delete.add_argument("names", metavar="NAME", nargs="*")
    delete.add_argument("-A", "--all", action="store_true", help="delete all files of the release")
    for leaf in (listing, upload, delete):
        options.add_scope(leaf)
    for leaf in (upload, delete):
        options.add_dry_run(leaf)


def _version(args: argparse.Namespace, session: Session) -> str:
    given = getattr(args, "version", None)
    return release_name(args, given) if given else chosen_release(args, session.settings)


def _project(session: Session) -> str | None:
    return session.api.projects[0] if session.api.projects else None


def _list(args: argparse.Namespace) -> int:
    with Session(args) as session:
        version = _version(args, session)
        found = list(session.api.list_files(version, project=_project(session)))
    if args.json:
        output.emit([file.raw for file in found])
    else:
        output.table(("Name", "Distribution", "Source Map", "Size"), [_row(file) for file in found])
    return 0


def _row(file: ReleaseFile) -> tuple[str, str, str, str]:
    headers = {key.lower(): str(value) for key, value in file.headers.items()}
    return file.name, file.dist or "", headers.get("sourcemap", ""), f"{file.size}B"


def _upload(args: argparse.Namespace) -> int:
    headers = [_header(text) for text in args.file_headers]
    try:
        with open(args.path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageFailure(f"{args.path!r} cannot be read: {error.strerror}") from None
    name = args.name or os.path.basename(args.path)
    with Session(args) as session:
        version = _version(args, session)
        made = session.api.upload_file(
            version,
            name,
            content,
            dist=args.dist,
            headers=headers,
            project=_project(session),
            filename=os.path.basename(args.path),
        )
        if session.finish_dry_run():
            return 0
    sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    if args.json:
        output.emit({"name": name, "sha1": sha1, "size": len(content), "existed": made is None})
    elif made is None:
        output.say(f"= {name} is there already")
    else:
        output.say(f"A {sha1}  ({len(content)} bytes)")
    return 0


def _header(text: str) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if not colon or not key.strip():
        raise UsageFailure(f"the header {text!r} needs the form 'Name: value'")
    return key.strip(), value.strip()


def _delete(args: argparse.Namespace) -> int:
    if bool(args.names) == bool(args.all):
        raise UsageFailure("give the names of files, or --all")
    deleted: list[str] = []
    with Session(args) as session:
        version = _version(args, session)
        project = _project(session)
        wanted = set(args.names)
        # Read the list to its end first: deleting while paging would skip files.
        found = list(session.api.list_files(version, project=project))
        chosen = [file for file in found if args.all or file.name in wanted]
        with output.Progress(args, "Deleting", len(chosen)) as progress:
            for file in chosen:
                if session.api.delete_file(version, file.id, project=project):
                    deleted.append(file.name)
                progress.advance()
        if session.finish_dry_run():
            return 0
    missing = sorted(wanted - {file.name for file in found})
    if args.json:
        output.emit({"deleted": deleted, "missing": missing})
    else:
        for name in deleted:
            output.say(f"D {name}")
    if missing and not args.json:
        raise Failure(f"no such file: {', '.join(missing)}", code="not_found", exit_code=REFUSED)
    return 1 if missing else 0
