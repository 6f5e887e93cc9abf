"""`multipart/form-data`: fields and files in one request body.

Pure but for the boundary, which is random. Threads: any. Source: RFC 7578.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from crashfree._ground import ids


class Part(NamedTuple):
    """One field; a file when it has a file name."""

    name: str
    filename: str | None
    content: bytes


def field(name: str, value: str) -> Part:
    """Return a text field."""
    return Part(name, None, value.encode())


def file(name: str, filename: str, content: bytes) -> Part:
    """Return a file."""
    return Part(name, filename, content)


def encode(parts: Sequence[Part]) -> tuple[str, bytes]:
    """Return the content type, which names the boundary, and the body."""
    boundary = f"crashfree-{ids.event_id()}"
    pieces: list[bytes] = []
    for part in parts:
        head = f'Content-Disposition: form-data; name="{_quoted(part.name)}"'
        if part.filename is not None:
            head += f'; filename="{_quoted(part.filename)}"'
            head += "\r\nContent-Type: application/octet-stream"
        pieces.extend((f"--{boundary}\r\n{head}\r\n\r\n".encode(), part.content, b"\r\n"))
    pieces.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(pieces)


def _quoted(text: str) -> str:
    """Escape as browsers do: the characters that would end the quoted name."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
