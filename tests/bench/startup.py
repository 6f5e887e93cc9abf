"""What starting costs: import and init, beside sentry-sdk in the same run.

    python tests/bench/startup.py [ROUNDS]

Each figure is a fresh interpreter; the two take turns, so that both see the same machine. Wall time
and processor time inside the process, the bare interpreter's start not counted. "Settled" is 0.3 s
later: what threads load in the background, while the program goes on, is in it.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile

SCRIPT = """
import json, sys, time
before = set(sys.modules)
wall, cpu = time.perf_counter(), time.process_time()
{load}
loaded = time.perf_counter()
imported = len(set(sys.modules) - before)
{start}
figures = {{
    "import ms": (loaded - wall) * 1e3,
    "import modules": imported,
    "import+init ms": (time.perf_counter() - wall) * 1e3,
    "import+init cpu ms": (time.process_time() - cpu) * 1e3,
}}
time.sleep(0.3)
figures["cpu ms, settled"] = (time.process_time() - cpu) * 1e3
figures["modules, settled"] = len(set(sys.modules) - before)
print(json.dumps(figures))
sys.stdout.flush()
import os
os._exit(0)
"""
DSN = "http://key@127.0.0.1:9/1"


def subjects(spool: str) -> dict[str, str]:
    ours = f"crashfree.init({DSN!r}, release='app@1.0.0', spool_dir={spool!r})"
    found = {"crashfree": SCRIPT.format(load="import crashfree", start=ours)}
    if importlib.util.find_spec("sentry_sdk") is not None:
        theirs = f"sentry_sdk.init({DSN!r}, release='app@1.0.0')"
        found["sentry-sdk"] = SCRIPT.format(load="import sentry_sdk", start=theirs)
    return found


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as spool:
        programs = subjects(spool)
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
        for _ in range(rounds + 1):
            for name, program in programs.items():
                done = subprocess.run(
                    [sys.executable, "-E", "-c", program], capture_output=True, check=True
                )
                rows[name].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"medians of {rounds} rounds, Python {sys.version.split()[0]}")
    figures = {
        name: {key: statistics.median(row[key] for row in found[1:]) for key in found[0]}
        for name, found in rows.items()
    }
    print(f"{'':<22}" + "".join(f"{name:>14}" for name in figures) + f"{'ratio':>10}")
    for key in next(iter(figures.values())):
        values = [figure[key] for figure in figures.values()]
        ratio = f"{values[1] / values[0]:>9.1f}x" if len(values) == 2 else ""
        print(f"{key:<22}" + "".join(f"{value:>14.1f}" for value in values) + ratio)
    return 0


if __name__ == "__main__":
    sys.exit(main())
