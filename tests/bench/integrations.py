"""What installed frameworks cost `init` that the program never imports.

    python tests/bench/integrations.py

Starts fresh interpreters by turns: with nothing but crashfree, with everything that is installed
beside it, and beside those sentry-sdk's `init`, which imports what it finds. Ceiling: 25 ms more
than with nothing.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

ROUNDS = 15
CEILING = 25.0
ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = (
    "flask", "django", "rest_framework", "starlette", "fastapi", "aiohttp", "celery", "rq",
    "gunicorn", "uvicorn", "hypercorn", "granian", "waitress", "gevent", "eventlet", "redis",
    "sentry_sdk", "jinja2", "httpx", "tornado", "sanic",
)  # fmt: skip
PROGRAM = """
import sys, time
sys.path[:] = {path!r} + [place for place in sys.path if "site-packages" not in place]
began = time.perf_counter()
{init}
print(__import__("json").dumps([(time.perf_counter() - began) * 1000, len(sys.modules)]))
"""
OURS = "import crashfree; crashfree.init('http://k@127.0.0.1:9/1', release='a@1', spool=False)"
THEIRS = "import sentry_sdk; sentry_sdk.init('http://k@127.0.0.1:9/1', release='a@1')"


def measured(path: list[str], init: str) -> tuple[float, int]:
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM.format(path=path, init=init)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    milliseconds, modules = json.loads(done.stdout.splitlines()[-1])
    return milliseconds, modules


def empty_environment(folder: Path) -> list[str]:
    """crashfree alone: its two roots, and the entry points of its installation."""
    info = folder / "crashfree-0.dist-info"
    info.mkdir()
    text = metadata.distribution("crashfree").read_text("entry_points.txt")
    (info / "entry_points.txt").write_text(text or "")
    return [str(ROOT / "sdk"), str(ROOT / "integrations"), str(folder)]


def main() -> int:
    site = sysconfig.get_path("purelib")
    there = [name for name in FRAMEWORKS if importlib.util.find_spec(name) is not None]
    with tempfile.TemporaryDirectory() as folder:
        nothing = empty_environment(Path(folder))
        everything = [str(ROOT / "sdk"), str(ROOT / "integrations"), site]
        kinds = {"crashfree, nothing else": (nothing, OURS)}
        kinds["crashfree, everything"] = (everything, OURS)
        if "sentry_sdk" in there:
            kinds["sentry-sdk, everything"] = (everything, THEIRS)
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        modules: dict[str, int] = {}
        for _ in range(ROUNDS):
            for kind, (path, init) in kinds.items():
                milliseconds, modules[kind] = measured(path, init)
                times[kind].append(milliseconds)
    medians = {kind: statistics.median(found) for kind, found in times.items()}
    print(f"{len(there)} frameworks installed: {', '.join(there)}")
    print(f"{'':<26}{'init, ms':>10}{'modules':>10}")
    for kind, median in medians.items():
        print(f"{kind:<26}{median:>10.1f}{modules[kind]:>10}")
    more = medians["crashfree, everything"] - medians["crashfree, nothing else"]
    print(f"for what is installed: {more:.1f} ms (ceiling {CEILING:.0f})")
    return 0 if more < CEILING else 1


if __name__ == "__main__":
    sys.exit(main())
