"""A real browser: Debian's Chromium (or any other on the machine), driven by Playwright.

Playwright's own download is never needed; without the package or a browser the tests that ask for
one are skipped, with the reason.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_IMPACTS = ("serious", "critical")


def executable() -> str:
    """Return the path of a browser; skip the test where there is none."""
    for name in (os.environ.get("CHROMIUM", ""), *_NAMES):
        found = shutil.which(name) if name else None
        if found is not None:
            return found
    pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")


@contextmanager
def launched() -> Generator[Any, None, None]:
    """Run a browser: a `playwright.sync_api.Browser`.

    While it is open the thread belongs to Playwright's event loop, so `asyncio.run` is out of
    reach for it; hence one browser for a module of tests, not for the whole session.
    """
    try:
        sync_api = import_module("playwright.sync_api")
    except ImportError:
        pytest.skip("playwright is not installed (pip install 'crashfree[test]')")
    path = executable()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One visitor: a fresh profile with one page, and everything that went wrong in it."""

    def __init__(self, browser: Any, **options: Any) -> None:
        """`options` are those of Playwright's `new_context`."""
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(15_000)
        self.complaints: list[str] = []
        """Errors of the console and uncaught ones."""
        self.outside: list[str] = []
        """Requests that would have left the machine."""
        self.context.on("console", self._console)
        self.context.on("weberror", self._error)
        self.context.on("request", self._request)
        self.page = self.context.new_page()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *raised: object) -> None:
        self.context.close()

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location['url']})")

    def _error(self, error: Any) -> None:
        self.complaints.append(f"uncaught: {error.error}")

    def _request(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("data", "about", "blob"):
            return
        if parts.hostname not in _LOOPBACK:
            self.outside.append(request.url)

    def check(self) -> None:
        """Assert that nothing went wrong so far."""
        assert self.complaints == [], self.complaints
        assert self.outside == [], self.outside


def overflowing(page: Any) -> list[str]:
    """Return the elements that make the page scroll sideways; none where it does not."""
    found: list[str] = page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= width) return [];
          return [...document.body.querySelectorAll("*")]
            .filter((each) => each.getBoundingClientRect().right > width + 0.5)
            .slice(0, 10)
            .map((each) => each.tagName + "." + each.className + ": " +
                           (each.textContent || "").trim().slice(0, 40))
            .concat(["the page is " + document.documentElement.scrollWidth + " wide"]);
        }"""
    )
    return found


@functools.cache
def _axe() -> str:
    try:
        package = import_module("axe_playwright_python")
    except ImportError:
        pytest.skip("axe-playwright-python is not installed")
    assert package.__file__ is not None
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def faults(page: Any) -> list[str]:
    """Return the serious and critical faults that axe finds in a page.

    The context has to be made with `bypass_csp=True`: axe is put into the page as a script.
    """
    page.evaluate(_axe())
    result = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {violation['help']}: "
        + "; ".join(
            f"{node['html'][:120]} {node['any'][:1] and node['any'][0]['message']}"
            for node in violation["nodes"][:4]
        )
        for violation in result["violations"]
        if violation["impact"] in _IMPACTS
    ]
