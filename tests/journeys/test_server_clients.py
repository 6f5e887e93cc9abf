"""Unmodified clients of others feed the server, and every number is the truth."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crashfree.server import LocalServer
from tests.support.serving import ask, totals
from tests.support.waiting import wait_until

_FIELDS = (
    "sum(session)",
    "count_unique(user)",
    "crash_free_rate(session)",
    "crash_free_rate(user)",
)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as running:
        yield running


def _events(server: LocalServer) -> list[dict[str, Any]]:
    with server.store.read() as db:
        return [json.loads(row[0]) for row in db.execute("SELECT payload FROM events ORDER BY id")]


_SENTRY_SDK = """
import sys
import sentry_sdk
from sentry_sdk.sessions import track_session

dsn, user, outcome = sys.argv[1:]
sentry_sdk.init(dsn, release="shop@1.2.0", environment="production", default_integrations=False,
                debug=True)
scope = sentry_sdk.get_isolation_scope()
sentry_sdk.set_user({"id": user})
with track_session(scope, session_mode="application"):
    if outcome != "fine":
        try:
            raise ValueError(outcome)
        except ValueError as error:
            event, hint = sentry_sdk.utils.event_from_exception(
                error, mechanism={"type": "x", "handled": outcome == "handled"})
            sentry_sdk.capture_event(event, hint)
sentry_sdk.flush()
"""


def test_sentry_sdk_for_python_is_counted_exactly(server: LocalServer) -> None:
    """Three processes of the incumbent: one fine, one with a handled error, one crashed."""
    pytest.importorskip("sentry_sdk", reason="sentry-sdk is not installed")
    for user, outcome in (("1", "fine"), ("1", "handled"), ("2", "crashed")):
        process = subprocess.run(
            [sys.executable, "-c", _SENTRY_SDK, server.dsn, user, outcome],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "Unexpected status code" not in process.stderr
    assert totals(server, *_FIELDS) == {
        "sum(session)": 3,
        "count_unique(user)": 2,
        "crash_free_rate(session)": pytest.approx(2 / 3),
        "crash_free_rate(user)": 0.5,
    }
    groups = ask(
        server, "sessions/", field="sum(session)", groupBy="session.status", statsPeriod="1h"
    ).json["groups"]
    found = {group["by"]["session.status"]: group["totals"]["sum(session)"] for group in groups}
    assert found == {"healthy": 1, "errored": 1, "crashed": 1, "abnormal": 0, "unhandled": 0}
    assert [event["exception"]["values"][0]["value"] for event in _events(server)] == [
        "handled",
        "crashed",
    ]


_SENTRY_NODE = """
const Sentry = require("@sentry/node");
const http = require("http");
Sentry.init({
  dsn: process.argv[2], release: "web@2.0.0", environment: "staging",
  integrations: (defaults) => [
    ...defaults.filter((each) => each.name !== "ProcessSession" && each.name !== "Http"),
    Sentry.httpIntegration({ sessionFlushingDelayMS: 100 }),
  ],
});
const server = http.createServer((request, response) => {
  if (request.url === "/handled") Sentry.captureException(new Error("handled"));
  response.end("ok");
});
server.listen(0, "127.0.0.1", async () => {
  const base = "http://127.0.0.1:" + server.address().port;
  for (const path of ["/", "/", "/", "/handled"]) {
    await new Promise((done, fail) =>
      http.get(base + path, (answer) => { answer.resume(); answer.on("end", done); })
        .on("error", fail));
  }
  server.close();
  await new Promise((done) => setTimeout(done, 300));
  await Sentry.flush(5000);
  process.exit(0);
});
"""


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with @sentry/node in it; skip where it cannot be had."""
    given = os.environ.get("CRASHFREE_TEST_NODE_MODULES")
    if given:
        return Path(given)
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", ".", "@sentry/node@10"]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"@sentry/node cannot be installed here: {error}")
    return folder / "node_modules"


@pytest.mark.slow
def test_sentry_for_node_is_counted_exactly(server: LocalServer, node_modules: Path) -> None:
    """It sends chunked bodies with the key in the query, and aggregates of its requests."""
    script = node_modules.parent / "app.js"
    script.write_text(_SENTRY_NODE)
    subprocess.run(
        ["node", str(script), server.dsn],
        cwd=node_modules.parent,
        capture_output=True,
        timeout=60,
        check=True,
    )
    wait_until(lambda: totals(server, "sum(session)")["sum(session)"] >= 4, 20)
    assert totals(
        server, "sum(session)", "crash_free_rate(session)", query="release:web@2.0.0"
    ) == {
        "sum(session)": 4,
        "crash_free_rate(session)": 1.0,
    }
    groups = ask(
        server, "sessions/", field="sum(session)", groupBy="session.status", statsPeriod="1h"
    ).json["groups"]
    found = {group["by"]["session.status"]: group["totals"]["sum(session)"] for group in groups}
    assert (found["healthy"], found["errored"]) == (3, 1)
    assert [event["exception"]["values"][-1]["value"] for event in _events(server)] == ["handled"]
