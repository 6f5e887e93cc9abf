"""The unmodified @sentry/browser in a real browser feeds the server, and every number is the truth.

The package has no ready bundle, so the browser loads its own modules as they are, by an import map.
The page comes from another origin than the server, as everywhere: each envelope is a cross-origin
request.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from crashfree.server import LocalServer
from tests.support.browser import Visit
from tests.support.serving import ask, totals
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

_VERSION = "10"
_PACKAGES = (
    "@sentry/browser",
    "@sentry/browser-utils",
    "@sentry/core",
    "@sentry/conventions",
    "@sentry/feedback",
    "@sentry/replay",
    "@sentry/replay-canvas",
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>shop</title><link rel="icon" href="data:,">
<script type="importmap">{"imports": IMPORTS}</script>
<script type="module">
import * as Sentry from "@sentry/browser";
const wanted = new URLSearchParams(location.search);
const user = wanted.get("user");
Sentry.init({
  dsn: wanted.get("dsn"), release: "shop@3.1.0", environment: "production",
  initialScope: user ? {user: {id: user}} : {},
  beforeSend: (event) =>
    event.exception?.values?.[0]?.value === "not wanted" ? null : event,
});
const acts = {
  look: () => {},
  handled: () => {
    try { null.price; } catch (error) { Sentry.captureException(error); }
  },
  handledtwice: () => {
    Sentry.captureException(new Error("one"));
    Sentry.captureException(new Error("two"));
  },
  throws: () => { setTimeout(() => { throw new Error("uncaught"); }); },
  rejects: () => { Promise.reject(new Error("rejected")); },
  crumbs: () => {
    Sentry.setTag("flavour", "vanilla");
    Sentry.addBreadcrumb({category: "cart", message: "added", level: "info"});
    Sentry.captureMessage("hello", "info");
  },
  unwanted: () => { Sentry.captureException(new Error("not wanted")); },
};
acts[wanted.get("act")]();
document.title = "done";
</script></head><body><h1>shop</h1></body></html>
"""


class _Site:
    """A web site with the package on it."""

    def __init__(self, folder: Path) -> None:
        class Handler(SimpleHTTPRequestHandler):
            extensions_map = {  # noqa: RUF012 -- as the base class has it
                **SimpleHTTPRequestHandler.extensions_map,
                ".mjs": "text/javascript",
                ".js": "text/javascript",
            }

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(Handler, directory=str(folder))
        )
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def package(request: pytest.FixtureRequest) -> Path:
    """Return a folder with @sentry/browser in `node_modules`; skip where it cannot be had."""
    cache = request.config.cache
    assert cache is not None
    folder = cache.mkdir(f"sentry-browser-{_VERSION}")
    if not (folder / "complete").exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed")
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", "."]
        try:
            subprocess.run(
                [*command, f"@sentry/browser@{_VERSION}"],
                cwd=folder,
                capture_output=True,
                timeout=180,
                check=True,
            )
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"@sentry/browser cannot be installed here: {error}")
        (folder / "complete").touch()
    return folder


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "node_modules").symlink_to(package / "node_modules", target_is_directory=True)
    page = _PAGE.replace("IMPORTS", json.dumps(_imports(package / "node_modules")))
    (folder / "index.html").write_text(page, encoding="utf-8")
    running = _Site(folder)
    yield running
    running.close()


def _imports(modules: Path) -> dict[str, str]:
    """Return where each name that the modules import is, by the `exports` of their packages."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        described = json.loads((modules / name / "package.json").read_text(encoding="utf-8"))
        for entry, target in described["exports"].items():
            file = _import_target(target)
            if file is not None and not file.endswith(".json"):
                found[name + entry[1:]] = f"/node_modules/{name}/{file.removeprefix('./')}"
    return found


def _import_target(target: object) -> str | None:
    if isinstance(target, str):
        return target
    if isinstance(target, Mapping):
        for condition in ("production", "import", "default"):
            if condition in target:
                return _import_target(target[condition])
    return None


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as running:
        yield running


def _visit(browser: Any, site: _Site, server: LocalServer, act: str, user: str = "") -> list[str]:
    """Open the shop as a visitor, do one thing and go away; return what the console said."""
    with Visit(browser) as visit:
        answers: list[int] = []

        def answered(response: Any) -> None:
            if "/envelope/" in response.url and response.request.method == "POST":
                answers.append(response.status)

        visit.context.on("response", answered)
        visit.page.goto(f"{site.url}/?act={act}&user={user}&dsn={server.dsn}")
        visit.page.wait_for_function("document.title === 'done'")
        # Leaving hides the page: the SDK sends what it still has, by a request that outlives it.
        visit.page.goto("about:blank")
        assert visit.outside == []
        assert set(answers) <= {200}
        return visit.complaints


def _statuses(server: LocalServer) -> dict[str, int]:
    groups = ask(
        server, "sessions/", field="sum(session)", groupBy="session.status", statsPeriod="1h"
    ).json["groups"]
    found = {group["by"]["session.status"]: group["totals"]["sum(session)"] for group in groups}
    return {name: count for name, count in found.items() if count}


def _events(server: LocalServer) -> list[dict[str, Any]]:
    with server.store.read() as db:
        return [json.loads(row[0]) for row in db.execute("SELECT payload FROM events ORDER BY id")]


def test_visits_end_as_they_ended(browser: Any, site: _Site, server: LocalServer) -> None:
    """Five visitors: two look, two meet errors that are handled, one meets one that is not."""
    for act, user in (("look", "1"), ("look", "2"), ("handled", "2"), ("handledtwice", "3")):
        assert _visit(browser, site, server, act, user) == []
    wait_until(lambda: len(_events(server)) == 3)
    complaints = _visit(browser, site, server, "throws", "4")
    assert [text for text in complaints if "uncaught" not in text] == []
    wait_until(lambda: len(_events(server)) == 4)
    wait_until(
        lambda: _statuses(server).get("crashed") == 1 and sum(_statuses(server).values()) == 5,
        what="all visits are known",
    )
    assert _statuses(server) == {"healthy": 2, "errored": 2, "crashed": 1}
    assert totals(
        server,
        "sum(session)",
        "count_unique(user)",
        "crash_free_rate(session)",
        "crash_free_rate(user)",
        query="release:shop@3.1.0",
    ) == {
        "sum(session)": 5,
        "count_unique(user)": 4,
        "crash_free_rate(session)": pytest.approx(0.8),
        "crash_free_rate(user)": 0.75,
    }
    values = [event["exception"]["values"][-1]["value"] for event in _events(server)]
    assert sorted(values[1:]) == ["one", "two", "uncaught"]
    assert "null" in values[0]
    frames = _events(server)[0]["exception"]["values"][-1]["stacktrace"]["frames"]
    assert frames[-1]["filename"].startswith(site.url)


def test_a_rejected_promise_is_a_crash(browser: Any, site: _Site, server: LocalServer) -> None:
    """Nobody handled it, so the SDK calls the session crashed."""
    _visit(browser, site, server, "rejects", "1")
    wait_until(lambda: _statuses(server) != {"healthy": 1} and len(_events(server)) == 1)
    assert _statuses(server) == {"crashed": 1}
    assert totals(server, "crash_free_rate(user)") == {"crash_free_rate(user)": 0.0}


def test_what_a_message_carries_arrives(browser: Any, site: _Site, server: LocalServer) -> None:
    """Tags, breadcrumbs, the request; a message is no error of its session."""
    assert _visit(browser, site, server, "crumbs", "1") == []
    wait_until(lambda: len(_events(server)) == 1)
    (event,) = _events(server)
    assert event["message"] == "hello"
    assert event["tags"]["flavour"] == "vanilla"
    assert [crumb["message"] for crumb in event["breadcrumbs"] if crumb["category"] == "cart"] == [
        "added"
    ]
    assert event["request"]["url"].startswith(site.url)
    assert "Chrome" in event["request"]["headers"]["User-Agent"]
    assert _statuses(server) == {"healthy": 1}


def test_what_the_page_drops_is_told_as_it_is_left(
    browser: Any, site: _Site, server: LocalServer
) -> None:
    """The client report is sent when the page is hidden, by a request that outlives it."""
    assert _visit(browser, site, server, "unwanted", "1") == []

    def discarded() -> dict[tuple[str, str], int]:
        with server.store.read() as db:
            return {
                (row["reason"], row["category"]): row["quantity"]
                for row in db.execute("SELECT * FROM tallies WHERE what LIKE 'discarded%'")
            }

    wait_until(discarded, what="the client report is here")
    assert discarded() == {("before_send", "error"): 1}
    assert _events(server) == []
    assert sum(_statuses(server).values()) == 1
    assert totals(server, "crash_free_rate(session)") == {"crash_free_rate(session)": 1.0}
