"""The integration of spider: each page is a unit of work. Found by the entry points of spider."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from crashfree.errors import IntegrationError
from crashfree.integration import Kit
from crashfree.types import SessionMode


class SpiderIntegration:
    """Attaches to every crawler of the process, when spider is imported."""

    name: str = "spider"
    mode: SessionMode | None = "request"

    def install(self, kit: Kit) -> None:
        import spider

        if not spider.__version__.startswith("1."):
            raise IntegrationError(f"the integration needs spider 1.x, found {spider.__version__}")

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(original)
            def visit(crawler: spider.Crawler, page: spider.Page) -> object:
                with kit.unit(mechanism="spider") as unit:
                    unit.set_transaction(page.rule)
                    unit.scope.set_tag("url", page.url)
                    return original(crawler, page)

            return visit

        # Spider has no hook of its own; `wrap` is undone when crashfree is closed.
        kit.wrap(spider.Crawler, "visit", counted)

    def uninstall(self) -> None:
        """Nothing but what the kit undoes."""
