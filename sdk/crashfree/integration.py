"""What the author of an integration imports.

An integration is an object with a name, a mode, `install(kit)` and `uninstall()`:

    from crashfree.integration import Integration, Kit

    class SpiderIntegration:
        name = "spider"
        mode = "request"            # this process serves units of work; None: says nothing

        def install(self, kit: Kit) -> None:
            import spider           # the framework; it is imported already when this runs

            def crawl(original):
                def wrapper(page):
                    with kit.unit(mechanism="spider") as unit:
                        unit.set_transaction(page.route)
                        return original(page)
                return wrapper

            kit.wrap(spider.Crawler, "crawl", crawl)

        def uninstall(self) -> None:
            pass                    # kit.wrap undoes itself

`kit.unit` counts one unit of work: what leaves the block as an exception is a crash of that unit,
what is captured inside is an error of it. A nested framework gets the running unit, so that
nothing is counted twice. Work in pieces (a streamed body, a callback) uses `unit.segment()` around
each piece and `unit.end()` after the last.

Prefer a hook that the framework offers over `kit.wrap`. Tell users of it by entry points:

    [project.entry-points."crashfree.integrations"]
    spider = "spider_crashfree:SpiderIntegration"      # init(integrations=["spider"])
    [project.entry-points."crashfree.auto"]
    spider = "spider_crashfree:SpiderIntegration"      # when the module `spider` gets imported

The class is made without arguments. `install` raises IntegrationError, with the version found and
the version needed, when the framework does not fit.
"""

from __future__ import annotations

from crashfree._capture.httpdata import asgi_request as asgi_request
from crashfree._capture.httpdata import wsgi_request as wsgi_request
from crashfree._client.registry import Integration as Integration
from crashfree._client.registry import Kit as Kit
from crashfree._client.unit import AnyUnit as AnyUnit
from crashfree._client.unit import JoinedUnit as JoinedUnit
from crashfree._client.unit import Segment as Segment
from crashfree._client.unit import Service as Service
from crashfree._client.unit import Unit as Unit
from crashfree._client.unit import unit as unit

__all__ = (
    "AnyUnit",
    "Integration",
    "JoinedUnit",
    "Kit",
    "Segment",
    "Service",
    "Unit",
    "asgi_request",
    "unit",
    "wsgi_request",
)
