"""`crashfree releases bake`: write the release into a file that travels with the program.

Source: releases.md section 2.
"""

from __future__ import annotations

import argparse
import os
import sys

from crashfree._cli import output
from crashfree._cli.failure import Failure
from crashfree._cli.parser import Commands, plain
from crashfree._cli.propose import add_sources, proposal_for, required
from crashfree._cli.session import release_name
from crashfree._resolve.baked import FILE_NAME, content


def add_bake(group: Commands) -> None:
    """Register `releases bake`."""
    parser = group.add_parser(
        "bake",
        help="write the release into a file that goes into the build",
        description=(
            f"Write the release into {FILE_NAME}, which init reads before it looks at git:\n"
            "for wheels, zipapps, frozen programs and containers. Put the file beside the main\n"
            "file, into the program's package or into the working directory, and not under\n"
            "version control; CRASHFREE_RELEASE_FILE points to any other place."
        ),
        takes_dashed_names=True,
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default=FILE_NAME,
        help=f"the file, or the directory to write {FILE_NAME} into; - for standard output",
    )
    parser.add_argument(
        "--release", type=plain, metavar="NAME", help="the name (default: as propose-version)"
    )
    add_sources(parser)


def _run(args: argparse.Namespace) -> int:
    if args.release is not None:
        name, source = release_name(args, args.release), "argument"
    else:
        # Not from a baked file: one that an earlier build left here would live for ever.
        resolved = proposal_for(args, baked=False).resolved
        name, source = required(resolved).raw, resolved.source
    data = content(name, source)
    if args.output == "-":
        sys.stdout.write(data.decode())
        return 0
    path = os.path.join(args.output, FILE_NAME) if os.path.isdir(args.output) else args.output
    _write(path, data)
    if args.json:
        output.emit({"release": name, "source": source, "path": path})
    else:
        output.note(args, f"Baked {name} ({source}) into {path}")
    return 0


def _write(path: str, data: bytes) -> None:
    """Put the file there in one step, so that no build ever packs half of it."""
    partial = f"{path}.{os.getpid()}.partial"
    try:
        with open(partial, "wb") as file:
            file.write(data)
        os.replace(partial, path)
    except OSError as error:
        raise Failure(
            f"{path} cannot be written: {error.strerror or error}",
            code="unwritable",
            remedy="give another place with -o FILE",
        ) from None
    finally:
        if os.path.exists(partial):
            os.unlink(partial)
