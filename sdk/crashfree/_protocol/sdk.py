"""How this SDK names itself on the wire.

Source: wire.md sections 2.1 and 3.1.
"""

from __future__ import annotations

from crashfree._ground.typed import Final
from crashfree._version import __version__
from crashfree.types import JSON

NAME: Final = "crashfree.python"
CLIENT: Final = f"{NAME}/{__version__}"
"""For `User-Agent` and `sentry_client`."""
INFO: Final[dict[str, JSON]] = {"name": NAME, "version": __version__}
"""For the envelope header `sdk`, and the root of an event's `sdk`."""
