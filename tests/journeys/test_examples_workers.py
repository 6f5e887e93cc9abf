"""The examples of workers and of a package that brings its own integration, against the server."""

from __future__ import annotations

import configparser
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import environment
from tests.support.site import health
from tests.support.stub import Stub
from tests.support.waiting import wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SUPPORT = Path(__file__).resolve().parents[1] / "support"


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        yield server


def counts(stub: Stub) -> dict[str, int]:
    found: dict[str, int] = {}
    for payload in stub.items("sessions"):
        for bucket in payload["aggregates"]:
            for key, value in bucket.items():
                if key not in ("started", "did"):
                    found[key] = found.get(key, 0) + value
    return found


@pytest.fixture
def spider(tmp_path: Path) -> Path:
    """The example, as pip installs it: its modules, and its entry points beside them."""
    source = EXAMPLES / "third_party_integration"
    for module in ("spider.py", "spider_crashfree.py"):
        shutil.copy(source / module, tmp_path)
    project = configparser.ConfigParser()
    # Its entry points are plain enough to be read as an ini file.
    project.read_string((source / "pyproject.toml").read_text())
    info = tmp_path / "spider-1.0.0.dist-info"
    info.mkdir()
    lines: list[str] = []
    for group in ("crashfree.integrations", "crashfree.auto"):
        entries: Any = project[f'project.entry-points."{group}"']
        lines.append(f"[{group}]")
        lines += [f"{name} = {entries[name].strip(chr(34))}" for name in entries]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.parametrize("disabled", [False, True])
def test_an_integration_in_somebody_elses_package(stub: Stub, spider: Path, disabled: bool) -> None:
    variables = {
        "CRASHFREE_DSN": stub.dsn,
        "CRASHFREE_SPOOL_DIR": str(spider / "spool"),
        "PYTHONPATH": str(spider),
    }
    if disabled:
        variables["CRASHFREE_DISABLED_INTEGRATIONS"] = "spider"
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "third_party_integration" / "program.py")],
        env=environment(variables), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 page failed")
    if disabled:
        assert "spider" not in done.stdout
        assert [up["status"] for up in stub.items("session")] == ["exited"]
        assert counts(stub) == {}
        return
    assert "'spider'" in done.stdout
    assert counts(stub) == {"exited": 2, "crashed": 1}
    assert stub.items("session") == []
    (event,) = stub.items("event")
    assert event["transaction"] == "link"
    assert event["tags"]["url"] == "https://example.com/broken"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_a_celery_worker(tmp_path: Path) -> None:
    pytest.importorskip("celery")
    pytest.importorskip("starlette")
    from crashfree.server import LocalServer

    with LocalServer() as server:
        shutil.copy(EXAMPLES / "celery_worker.py", tmp_path / "celery_worker.py")
        shutil.copy(SUPPORT / "atomicqueue.py", tmp_path)
        env = environment(
            {
                "CRASHFREE_DSN": server.dsn,
                "CRASHFREE_SPOOL_DIR": str(tmp_path / "spool"),
                "BROKER_URL": "filesystem://",
            }
        )
        log = tmp_path / "log"
        with log.open("wb") as stream:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "celery_worker", "worker", "-l", "info",
                 "--pool", "threads", "--without-mingle", "--without-gossip",
                 "--include", "atomicqueue"],
                cwd=tmp_path, env=env, stdout=stream, stderr=stream, start_new_session=True,
            )  # fmt: skip
        try:
            wait_until(lambda: " ready." in log.read_text(), 60, "no worker")
            subprocess.run(
                [sys.executable, "-c", "import atomicqueue; "
                 "from celery_worker import *; pay.delay(4); pay.delay(0); "
                 "basket.delay(); mail.delay('ada')"],
                cwd=tmp_path, env={**env, "CRASHFREE_DISABLED": "1"}, check=True, timeout=60,
            )  # fmt: skip
            wait_until(lambda: log.read_text().count("] succeeded") == 3, 60, "tasks are left")
            wait_until(lambda: "ZeroDivisionError" in log.read_text(), 60, "tasks are left")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
        found = health(server)
        assert (found["healthy"], found["errored"], found["crashed"]) == (3, 1, 1)
        assert (found["releases"], found["users"]) == (["shop@1.0.0"], 1)
