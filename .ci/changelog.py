"""Fold the fragments of `.changes/` into CHANGELOG.md: `python .ci/changelog.py 0.2.0 2026-12-01`.

A fragment is called `<topic>.<kind>.md` and holds one or two sentences for users. Parallel work
never meets in one file that way.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
KINDS = ("added", "changed", "deprecated", "removed", "fixed", "security")


def section(kind: str) -> str:
    fragments = sorted((ROOT / ".changes").glob(f"*.{kind}.md"))
    if not fragments:
        return ""
    lines = [f"- {' '.join(path.read_text(encoding='utf-8').split())}" for path in fragments]
    return f"### {kind.capitalize()}\n\n" + "\n".join(lines) + "\n\n"


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    version, date = sys.argv[1:]
    news = "".join(section(kind) for kind in KINDS)
    if not news:
        print("nothing in .changes/")
        return 1
    path = ROOT / "CHANGELOG.md"
    mark = "## [Unreleased]\n"
    head, found, tail = path.read_text(encoding="utf-8").partition(mark)
    if not found:
        print("CHANGELOG.md has no [Unreleased] heading")
        return 1
    path.write_text(
        f"{head}{mark}\n## [{version}] - {date}\n\n{news}{tail.lstrip()}", encoding="utf-8"
    )
    for kind in KINDS:
        for fragment in (ROOT / ".changes").glob(f"*.{kind}.md"):
            fragment.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
