"""A server with a clock of its own, and short ways to its catalog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

from crashfree.server import LocalServer
from tests.support.clock import FakeClock
from tests.support.serving import Answer, call, envelope, rfc3339, send, session


class Catalog:
    """Calls to one server's management API, and events sent to it."""

    def __init__(self, server: LocalServer, clock: FakeClock) -> None:
        self.server = server
        self.clock = clock
        self._events = 0

    def o(self, path: str, **query: Any) -> str:
        """A path of the organization."""
        text = f"?{urlencode(query, doseq=True)}" if query else ""
        return f"/api/0/organizations/{self.server.organization}/{path}{text}"

    def p(self, path: str, project: str = "web", **query: Any) -> str:
        """A path of a project."""
        text = f"?{urlencode(query, doseq=True)}" if query else ""
        return f"/api/0/projects/{self.server.organization}/{project}/{path}{text}"

    def get(self, path: str, status: int = 200) -> Any:
        return self._checked(call(self.server, "GET", path), status)

    def post(self, path: str, body: object, status: int = 201) -> Any:
        return self._checked(call(self.server, "POST", path, body), status)

    def put(self, path: str, body: object, status: int = 200) -> Any:
        return self._checked(call(self.server, "PUT", path, body), status)

    def delete(self, path: str, status: int = 204) -> Any:
        return self._checked(call(self.server, "DELETE", path), status)

    def answer(self, method: str, path: str, body: object = None) -> Answer:
        """The answer as it is."""
        return call(self.server, method, path, body)

    @staticmethod
    def _checked(answer: Answer, status: int) -> Any:
        assert answer.status == status, (answer.status, answer.body)
        return answer.json if answer.body else None

    # Releases.

    def release(self, version: str, *projects: str, status: int = 201, **fields: Any) -> Any:
        """Create a release (of `web` unless told otherwise)."""
        body = {"version": version, "projects": list(projects or ("web",)), **fields}
        return self.post(self.o("releases/"), body, status)

    def of(self, version: str, path: str = "", **query: Any) -> str:
        """The path of a release."""
        return self.o(f"releases/{quote(version, safe='@')}/{path}", **query)

    def versions(self, **query: Any) -> list[str]:
        """The versions that the release list shows."""
        return [entry["version"] for entry in self.get(self.o("releases/", **query))]

    # Events and sessions.

    def event(
        self,
        release: str | None = None,
        *,
        project: str = "web",
        kind: str = "ValueError",
        value: str = "bad",
        frames: list[Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> str:
        """Send an event now; return its id."""
        self._events += 1
        event_id = f"{self._events:032x}"
        payload: dict[str, Any] = {
            "event_id": event_id,
            "timestamp": self.clock.time(),
            "platform": "python",
            "exception": {"values": [{"type": kind, "value": value}]},
            **fields,
        }
        if frames is not None:
            payload["exception"]["values"][0]["stacktrace"] = {"frames": frames}
        if release is not None:
            payload["release"] = release
        body = envelope(("event", payload), header={"event_id": event_id})
        assert send(self.server, body, project=project).status == 200
        return event_id

    def session(self, release: str, *, project: str = "web", **fields: Any) -> None:
        """Send a whole session that began now."""
        payload = session(
            self.clock.time(), release=release, **{"init": True, "status": "exited", **fields}
        )
        assert send(self.server, envelope(("session", payload)), project=project).status == 200

    def issues(self, project: str = "web", query: str = "") -> list[Any]:
        found: list[Any] = self.get(self.p("issues/", project, query=query))
        return found

    def issue(self, number: int) -> Any:
        return self.get(self.o(f"issues/{number}/"))

    def activity(self, issue: int) -> list[str]:
        """The types of an issue's activity, oldest first."""
        found = self.get(self.o(f"issues/{issue}/activities/"))["activity"]
        return [entry["type"] for entry in reversed(found)]

    def commit(self, key: str, *, at: float | None = None, **fields: Any) -> dict[str, Any]:
        """A commit as a client would send it."""
        body: dict[str, Any] = {"id": key * 40 if len(key) == 1 else key, **fields}
        if at is not None:
            body["timestamp"] = rfc3339(at)
        return body


@contextmanager
def catalog(*projects: str) -> Iterator[Catalog]:
    """A fresh server with its projects (`web` and `api`)."""
    clock = FakeClock()
    with LocalServer(projects=projects or ("web", "api"), clock=clock) as server:
        yield Catalog(server, clock)
