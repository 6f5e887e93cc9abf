"""How this SDK names itself on the wire.

Source: wire.md sections 2.1 and 3.1.
"""

from __future__ import annotations

from crashfree._version import __version__
from crashfree.types import JSON

NAME = "crashfree.python"
CLIENT = f"{NAME}/{__version__}"
"""For `User-Agent` and `sentry_client`."""
INFO: dict[str, JSON] = {"name": NAME, "version": __version__}
"""For the envelope header `sdk`, and the root of an event's `sdk`."""
