"""For programs of tests that use Celery's folder as a broker: messages appear in it as a whole.

kombu's own file is there before its text is. A worker that looks in between reads nothing, and ends
with a JSONDecodeError. Imported by the programs, from a copy beside them.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps


def put(channel: Any, queue: str, payload: Any, **_: Any) -> None:
    """Write a message to a file that no queue looks for, then give it its name."""
    name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
    part = os.path.join(channel.data_folder_out, f".{name}")
    with open(part, "wb") as file:
        file.write(dumps(payload).encode())
    os.replace(part, os.path.join(channel.data_folder_out, name))


filesystem.Channel._put = put
