"""Somebody who came through the door of the page, without a browser."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from crashfree.server import LocalServer
from tests.support.serving import Answer, request


class Visitor:
    """Asks for views and sends their forms, with the cookie that the token brings."""

    def __init__(self, server: LocalServer) -> None:
        self.server = server
        first = request(server.url, "GET", f"/releases?token={server.token}")
        assert first.status == 303, first.status
        self.cookie = first.headers["Set-Cookie"].split(";")[0]

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for a view; names of headers with _ for -."""
        given = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return request(self.server.url, "GET", path, headers=[("Cookie", self.cookie), *given])

    def text(self, path: str, status: int = 200) -> str:
        """Return a view's HTML."""
        answer = self.get(path)
        assert answer.status == status, (answer.status, path)
        return answer.body.decode()

    def send(
        self, path: str, form: Mapping[str, str | list[str]], *, origin: str | None = None
    ) -> Answer:
        """Send a form, as a page of this server would, or of another `origin`."""
        headers = [
            ("Cookie", self.cookie),
            ("Origin", self.server.url if origin is None else origin),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ]
        body = urlencode(form, doseq=True).encode()
        return request(self.server.url, "POST", path, headers=headers, body=body)

    def follow(self, answer: Answer) -> str:
        """Go where a form leads; return that view's HTML."""
        assert answer.status == 303, (answer.status, answer.body)
        where = urlsplit(answer.headers["Location"])
        return self.text(where.path + (f"?{where.query}" if where.query else ""))
