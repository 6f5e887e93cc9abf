"""A framework that has never heard of crashfree: it crawls pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

__version__ = "1.0.0"


class Page(NamedTuple):
    """A page, and the name of the rule that found it."""

    url: str
    rule: str


class Crawler:
    """Hands each page to a function; one that fails does not stop the others."""

    def __init__(self, visit: Callable[[Page], object]) -> None:
        self._visit = visit
        self.failed: list[Page] = []

    def crawl(self, pages: Iterable[Page]) -> None:
        """Visit all pages."""
        for page in pages:
            try:
                self.visit(page)
            except Exception:  # noqa: BLE001 -- any page may fail in any way
                self.failed.append(page)

    def visit(self, page: Page) -> object:
        """Visit one page."""
        return self._visit(page)
