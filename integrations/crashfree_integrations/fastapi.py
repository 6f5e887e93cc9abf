"""FastAPI: a unit of work for each request and each websocket connection.

    import crashfree, fastapi
    crashfree.init(...)         # attaches itself, before or after the application is made
    app = fastapi.FastAPI()

The same rules and hooks as for Starlette, on which it stands; see that module. Tested with FastAPI
0.110.1 and 0.165.
"""

from __future__ import annotations

from typing import Final

from crashfree.integration import Kit
from crashfree.types import SessionMode
from crashfree_integrations.framework import framework, require
from crashfree_integrations.starlette import attach

OLDEST: Final = "0.110.1"


class FastApiIntegration:
    """Attaches to every FastAPI application of the process."""

    name: str = "fastapi"
    mode: SessionMode | None = "request"

    def install(self, kit: Kit) -> None:
        fastapi = framework("fastapi", OLDEST)
        require(fastapi, "FastAPI")
        attach(kit)

    def uninstall(self) -> None:
        """Everything is undone by the kit."""
