"""Bodies of type multipart/form-data, taken apart.

The body is in memory already and bounded; parts are views of it. Whatever is not well formed is an
error, never a guess.

Pure; any thread. Source: RFC 7578.
"""

from __future__ import annotations

from email.message import Message
from typing import Final, NamedTuple

_MOST_PARTS: Final = 1000
_LONGEST_HEAD: Final = 16 * 1024


class BadMultipart(ValueError):
    """A body that is no multipart/form-data."""


class Part(NamedTuple):
    """One field; `filename` None for a plain value."""

    name: str
    filename: str | None
    data: memoryview

    @property
    def text(self) -> str:
        """The value as text."""
        return bytes(self.data).decode("utf-8", "replace")


def parse(body: bytes, content_type: str) -> list[Part]:
    """Return the parts of a body in order; raises BadMultipart."""
    boundary = _boundary(content_type)
    view = memoryview(body)
    mark = b"--" + boundary
    # What stands before the first mark is to be ignored.
    at = 0 if body.startswith(mark) else body.find(b"\r\n" + mark)
    if at < 0:
        raise BadMultipart("the first boundary is missing")
    at = at if body.startswith(mark) else at + 2
    parts: list[Part] = []
    while True:
        at += len(mark)
        if body.startswith(b"--", at):
            return parts
        start = body.find(b"\r\n", at)
        if start < 0 or body[at:start].strip(b" \t"):
            raise BadMultipart("a boundary line does not end")
        start += 2
        end = body.find(b"\r\n" + mark, start - 2)
        if end < 0:
            raise BadMultipart("the last boundary is missing")
        if len(parts) >= _MOST_PARTS:
            raise BadMultipart("too many parts")
        parts.append(_part(body, view, start, end))
        at = end + 2


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["Content-Type"] = content_type
    if message.get_content_type() != "multipart/form-data":
        raise BadMultipart("the content type is not multipart/form-data")
    boundary = message.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= 200:
        raise BadMultipart("the content type has no boundary")
    return boundary.encode("latin-1", "replace")


def _part(body: bytes, view: memoryview, start: int, end: int) -> Part:
    if body.startswith(b"\r\n", start):
        raise BadMultipart("a part has no headers")
    head_end = body.find(b"\r\n\r\n", start, start + _LONGEST_HEAD)
    if head_end < 0 or head_end + 2 > end:
        raise BadMultipart("the headers of a part do not end")
    disposition = Message()
    for line in body[start:head_end].decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            disposition["Content-Disposition"] = value.strip()
    field = disposition.get_param("name", header="Content-Disposition")
    if not isinstance(field, str):
        raise BadMultipart("a part has no name")
    return Part(field, disposition.get_filename(), view[head_end + 4 : end])
