"""Build a zipapp with its release baked in; see the README beside this file."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipapp
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("greeter.pyz"))
    parser.add_argument("--release", help="the release's name (default: what git says)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        staging = Path(temporary) / "app"
        shutil.copytree(HERE / "app", staging, ignore=shutil.ignore_patterns("__pycache__"))
        named = [] if args.release is None else ["--release", args.release]
        bake = [sys.executable, "-m", "crashfree", "releases", "bake", "-o", str(staging), *named]
        baked = subprocess.run([*bake, "--directory", str(HERE)], check=False)
        if baked.returncode:
            return baked.returncode
        zipapp.create_archive(staging, args.output, interpreter="/usr/bin/env python3")
    print(f"built {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
