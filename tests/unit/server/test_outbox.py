from __future__ import annotations

import email
import email.policy
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crashfree.server import outbox
from tests.support.catalog import Catalog, catalog
from tests.support.waiting import wait_until


@pytest.fixture
def c() -> Iterator[Catalog]:
    with catalog() as made:
        yield made


def author(c: Catalog, key: str, address: str, **fields: Any) -> dict[str, Any]:
    fields = {"repository": "owner/repo", "message": "Change it\n\nbody", **fields}
    return c.commit(key, author_email=address, author_name=address.partition("@")[0], **fields)


def deployed(c: Catalog, version: str = "shop@1.2", **fields: Any) -> None:
    c.post(c.of(version, "deploys/"), {"environment": "production", **fields})


def letters(c: Catalog, state: str | None = "sent") -> list[Any]:
    def settled() -> bool:
        found = c.get(c.o("outbox/"))
        return state is None or all(letter["state"] == state for letter in found)

    wait_until(settled)
    found: list[Any] = c.get(c.o("outbox/"))
    return found


def folder(c: Catalog) -> Path:
    return Path(outbox.directory(c.server.store))


def test_the_authors_of_a_release_are_told_once(c: Catalog) -> None:
    patch = [{"path": "a.py", "type": "M"}, {"path": "b.py", "type": "A"}]
    commits = [
        author(c, "a", "ada@x.y", patch_set=patch),
        author(c, "b", "bob@x.y", repository="other", patch_set=patch[:1]),
        c.commit("c", author_name="No Address"),
    ]
    c.release("shop@1.2", "web", "api", commits=commits)
    deployed(c, projects=["web"])
    found = letters(c)
    assert [letter["recipient"] for letter in found] == ["bob@x.y", "ada@x.y"]
    letter = found[0]
    assert letter["subject"] == "Deployed version 1.2 to production"
    data = letter["data"]
    assert (data["commitCount"], data["authorCount"], data["fileCount"]) == (3, 3, 2)
    assert data["repositories"] == {"owner/repo": 1, "other": 1, "organization-1": 1}
    assert [project["slug"] for project in data["projects"]] == ["web"]
    assert "aaaaaaaaaaaa Change it (ada)" in letter["text"]
    assert "3 commits by 3 authors, 2 files changed." in letter["text"]
    c.put(c.of("shop@1.2"), {"ref": "again"})
    assert len(letters(c)) == 2


def test_each_letter_is_a_file_and_a_line(c: Catalog) -> None:
    c.release("shop@1.2", commits=[author(c, "a", "ada@x.y")])
    deployed(c)
    letters(c)
    (file,) = sorted(folder(c).glob("*.eml"))
    assert file.name == "00000001-ada@x.y.eml"
    message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    assert message["To"] == "ada@x.y"
    assert message["Subject"] == "Deployed version 1.2 to production"
    assert "owner/repo" in message.get_content()
    (line,) = (folder(c) / "outbox.jsonl").read_text().splitlines()
    assert json.loads(line)["recipient"] == "ada@x.y"
    assert json.loads(line)["version"] == "shop@1.2"


def test_a_deploy_waits_for_the_commits_that_are_still_to_come(c: Catalog) -> None:
    c.release("shop@1.2", refs=[{"repository": "owner/repo", "commit": "abc"}])
    deployed(c)
    assert letters(c) == []
    c.put(c.of("shop@1.2"), {"commits": [author(c, "a", "ada@x.y")]})
    assert [letter["recipient"] for letter in letters(c)] == ["ada@x.y"]


def test_members_say_what_they_want_to_hear(c: Catalog) -> None:
    for name, wish in (("all@x.y", "all"), ("ADA@x.y", "committed"), ("bob@x.y", "none")):
        c.post(c.o("members/"), {"email": name, "deploys": wish})
    c.post(c.o("members/"), {"email": "carl@x.y"})
    c.release("shop@1.2", commits=[author(c, "a", "ada@x.y"), author(c, "b", "bob@x.y")])
    deployed(c)
    assert {letter["recipient"] for letter in letters(c)} == {"all@x.y", "ADA@x.y"}


def test_resolved_issues_are_counted_by_project(c: Catalog) -> None:
    c.event("shop@1.1")
    c.release("shop@1.2", commits=[author(c, "a", "ada@x.y", message="Fixes WEB-1")])
    deployed(c)
    (letter,) = letters(c)
    assert letter["data"]["projects"][0]["resolvedIssues"] == 1
    assert "web: 1 issue resolved" in letter["text"]


def test_a_strangers_name_cannot_write_headers(c: Catalog) -> None:
    c.release("shop@1.2", commits=[author(c, "a", "x@y.z\r\nBcc: all@x.y")])
    deployed(c)
    letters(c)
    (file,) = folder(c).glob("*.eml")
    message = email.message_from_bytes(file.read_bytes())
    assert message["Bcc"] is None
    assert "/" not in file.name


class _Smtp(socketserver.StreamRequestHandler):
    """Enough of a mail server to take a letter."""

    received: list[str]

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        lines: list[str] = []
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go\r\n")
                while (line := self.rfile.readline()) != b".\r\n":
                    lines.append(line.decode().rstrip())
                type(self).received.append("\n".join(lines))
            elif word == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


class _Hook(socketserver.StreamRequestHandler):
    received: list[bytes]
    answer: bytes

    def handle(self) -> None:
        length = 0
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        type(self).received.append(self.rfile.read(length))
        self.wfile.write(
            b"HTTP/1.1 " + type(self).answer + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )


def serving(handler: type[socketserver.StreamRequestHandler]) -> socketserver.TCPServer:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


def test_letters_go_out_by_mail_and_to_a_webhook(c: Catalog) -> None:
    class Smtp(_Smtp):
        received: list[str] = []  # noqa: RUF012 -- one list per test class

    class Hook(_Hook):
        received: list[bytes] = []  # noqa: RUF012
        answer = b"204 No Content"

    smtp, hook = serving(Smtp), serving(Hook)
    try:
        settings = {
            "smtp": {
                "host": "127.0.0.1",
                "port": smtp.server_address[1],
                "sender": "ci@x.y",
            },
            "webhook": f"http://127.0.0.1:{hook.server_address[1]}/x",
        }
        shown = c.put(c.o("outbox/settings/"), settings)
        assert shown["smtp"]["host"] == "127.0.0.1"
        c.release("shop@1.2", commits=[author(c, "a", "ada@x.y")])
        deployed(c)
        (letter,) = letters(c)
        assert letter["fault"] is None
        assert "From: ci@x.y" in Smtp.received[0]
        assert json.loads(Hook.received[0])["subject"].startswith("Deployed version")
        Hook.answer = b"500 Oops"
        deployed(c)
        wait_until(lambda: c.get(c.o("outbox/"))[0]["state"] == "failed")
        assert c.get(c.o("outbox/"))[0]["fault"] == "webhook: answered 500"
        assert len(Smtp.received) == 2
    finally:
        for server in (smtp, hook):
            server.shutdown()
            server.server_close()


def test_settings_are_checked_and_the_password_is_not_shown(c: Catalog) -> None:
    path = c.o("outbox/settings/")
    smtp = {"host": "mail.x.y", "user": "u", "password": "secret"}
    assert c.put(path, {"smtp": smtp})["smtp"]["password"] == "[set]"
    assert "secret" not in json.dumps(c.get(path))
    assert c.put(path, {"webhook": None})["smtp"]["host"] == "mail.x.y"
    assert c.put(path, {"smtp": None})["smtp"] is None
    c.put(path, {"smtp": {"host": "x", "port": "abc"}}, 400)
    c.put(path, {"smtp": {"port": 25}}, 400)
    c.put(path, {"webhook": "file:///etc/passwd"}, 400)
    c.put(path, {"nonsense": 1}, 400)


def test_a_letter_that_cannot_go_out_says_why(c: Catalog) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), _Smtp) as closed:
        port = closed.server_address[1]
    c.put(c.o("outbox/settings/"), {"smtp": {"host": "127.0.0.1", "port": port}})
    c.release("shop@1.2", commits=[author(c, "a", "ada@x.y")])
    deployed(c)
    (letter,) = letters(c, "failed")
    assert letter["fault"].startswith("smtp:")
    assert list(folder(c).glob("*.eml"))
