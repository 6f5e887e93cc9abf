"""What an error means for the session it happens in.

Source: sessions.md sections 3.1 and 3.2.
"""

from __future__ import annotations

from crashfree._ground.typed import Literal, TypeAlias

Verdict: TypeAlias = Literal["none", "errored", "unhandled", "crashed"]
"""`errored`: handled. `unhandled`: nobody handled it, the process lives. `crashed`: the end."""
