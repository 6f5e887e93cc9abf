"""warnings: each warning that is shown becomes a breadcrumb. Only when asked for:

    crashfree.init(integrations=["warnings"])

Hook used: `warnings.showwarning`, which is documented to be replaced. Filters decide as always what
is shown at all. Threads: any.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from crashfree.integration import Kit


class WarningsIntegration:
    """See the module."""

    name = "warnings"
    mode = None

    def install(self, kit: Kit) -> None:
        def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
            def showwarning(
                message: Warning | str,
                category: type[Warning],
                filename: str,
                lineno: int,
                *more: Any,
                **named: Any,
            ) -> Any:
                kit.add_breadcrumb(
                    {
                        "type": "log",
                        "category": f"warning.{category.__name__}",
                        "level": "warning",
                        "message": str(message),
                        "data": {"filename": filename, "lineno": lineno},
                    }
                )
                return original(message, category, filename, lineno, *more, **named)

            return showwarning

        kit.wrap(warnings, "showwarning", wrapper)

    def uninstall(self) -> None:
        """Nothing to do: what was wrapped undoes itself."""
