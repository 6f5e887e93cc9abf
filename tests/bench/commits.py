"""Reading 10,000 commits with their changed files: at most 3 s and 150 MB.

    python tests/bench/commits.py [COMMITS]

The peer of the same run is git itself printing the same log to nowhere; the ratio says what Python
adds. Each measurement runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

CEILING_SECONDS = 3.0
CEILING_MB = 150.0
FILES = 2_000
CHANGES = 6

_OURS = """
import json, resource, sys, time
from crashfree._ground import json as encoder
from crashfree.management import Checkout, read_log
began = time.perf_counter()
checkout = Checkout.at(sys.argv[1])
log = read_log(checkout, head=checkout.head(), repository="acme/widgets",
               max_commits=10**9, max_files=10**9)
read = time.perf_counter() - began
body = encoder.encode({"commits": [commit.payload() for commit in log.commits]})
total = time.perf_counter() - began
def peak(who):
    return resource.getrusage(who).ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20)
print(json.dumps({"commits": len(log.commits), "files": log.files, "read": read, "total": total,
                  "bytes": len(body), "mb": peak(resource.RUSAGE_SELF),
                  "git_mb": peak(resource.RUSAGE_CHILDREN)}))
"""


def make_repository(directory: str, commits: int) -> None:
    """Write a linear history with merges every hundredth commit through `git fast-import`."""
    subprocess.run(["git", "init", "-q", "-b", "main", directory], check=True)
    process = subprocess.Popen(
        ["git", "-C", directory, "fast-import", "--quiet"], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    write = process.stdin.write
    for number in range(1, commits + 1):
        who = (
            f"Author {number % 50} <author{number % 50}@example.com> {1_600_000_000 + number * 60}"
        )
        text = (
            f"Change number {number}\n\nWhy it was done, in a sentence or two. Fixes APP-{number}\n"
        )
        data = text.encode()
        write(f"commit refs/heads/main\nmark :{number}\n".encode())
        write(f"author {who} +0200\ncommitter {who} +0200\ndata {len(data)}\n".encode() + data)
        if number > 1:
            write(f"from :{number - 1}\n".encode())
        if number % 100 == 0:
            write(f"merge :{number - 50}\n".encode())
        for change in range(CHANGES):
            file = (number * 7 + change * 131) % FILES
            content = f"{number} {change}\n".encode()
            path = f"src/package{file % 40}/module{file}.py"
            write(f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content)
        write(b"\n")
    process.stdin.close()
    if process.wait():
        raise SystemExit("git fast-import failed")


def measure_git(directory: str) -> float:
    """Return how long git takes to print the same log."""
    command = ["git", "-C", directory, "log", "-z", "--name-status", "--no-renames"]
    began = time.perf_counter()
    subprocess.run([*command, "--format=%H%x00%B"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> int:
    commits = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as scratch:
        directory = os.path.join(scratch, "repository")
        make_repository(directory, commits)
        peer = min(measure_git(directory) for _ in range(3))
        runs = [
            json.loads(subprocess.check_output([sys.executable, "-c", _OURS, directory]))
            for _ in range(3)
        ]
    best = min(runs, key=lambda run: run["total"])
    print(
        f"{best['commits']} commits, {best['files']} changed files, {best['bytes'] >> 20} MiB JSON"
    )
    print(f"{'what':<28}{'seconds':>10}{'ratio':>8}{'MB':>8}{'git MB':>8}")
    print(f"{'git log alone':<28}{peer:>10.2f}{1:>8.1f}")
    for name in ("read", "total"):
        label = "read_log" if name == "read" else "read_log and encode"
        print(
            f"{label:<28}{best[name]:>10.2f}{best[name] / peer:>8.1f}"
            f"{best['mb']:>8.0f}{best['git_mb']:>8.0f}"
        )
    late = best["total"] > CEILING_SECONDS
    fat = max(run["mb"] for run in runs) > CEILING_MB
    if late or fat:
        print(f"over the ceiling of {CEILING_SECONDS} s and {CEILING_MB} MB")
    return 1 if late or fat else 0


if __name__ == "__main__":
    sys.exit(main())
