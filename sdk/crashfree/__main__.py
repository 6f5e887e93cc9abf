"""The console script and `python -m crashfree`."""

from __future__ import annotations

import io
import sys

from crashfree._cli import run


def main() -> int:
    """Run the command line of this process; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A release name outside the terminal's encoding must not end in a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
