from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.catalog import Catalog, catalog


@pytest.fixture
def c() -> Iterator[Catalog]:
    with catalog() as made:
        yield made


def test_a_repository_is_linked_changed_and_deleted(c: Catalog) -> None:
    made = c.post(c.o("repos/"), {"name": "owner/repo", "url": "https://x.y/owner/repo"})
    assert (made["name"], made["status"]) == ("owner/repo", "active")
    assert made["provider"] == {"id": "git", "name": "Git"}
    assert c.post(c.o("repos/"), {"name": "owner/repo", "provider": "github"}, 200)["id"] == "1"
    changed = c.put(c.o("repos/1/"), {"name": "owner/new", "url": None})
    assert (changed["name"], changed["url"]) == ("owner/new", None)
    other = c.post(c.o("repos/"), {"name": "other"})
    assert other["provider"] == {"id": "manual", "name": "Manual"}
    c.put(c.o("repos/2/"), {"name": "owner/new"}, 409)
    assert [repo["name"] for repo in c.get(c.o("repos/", query="OWN"))] == ["owner/new"]
    c.delete(c.o("repos/1/"))
    assert [repo["name"] for repo in c.get(c.o("repos/"))] == ["other"]
    c.put(c.o("repos/1/"), {}, 404)
    c.post(c.o("repos/"), {"name": "x", "provider": "svn"}, 400)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("git@github.com:a/b.git", "git@github.com:a/b.git"),
        ("https://user:secret@x.y/a/b", "https://x.y/a/b"),
        ("ssh://git@x.y:122/a", "ssh://git@x.y:122/a"),
    ],
)
def test_any_address_that_git_takes_is_kept_without_a_password(
    c: Catalog, given: str, kept: str
) -> None:
    assert c.post(c.o("repos/"), {"name": "r", "url": given})["url"] == kept
    c.put(c.o("repos/1/"), {"url": "https://x.y/a b"}, 400)


def test_a_repository_with_commits_is_hidden_not_lost(c: Catalog) -> None:
    now = c.clock.time()
    c.release(
        "a@1",
        commits=[
            c.commit("a", at=now, repository="r"),
            c.commit("b", at=now - 60, repository="r"),
        ],
    )
    shown = c.get(c.o("repos/1/commits/"))
    assert [commit["id"][0] for commit in shown] == ["a", "b"]
    c.delete(c.o("repos/1/"))
    assert c.get(c.o("repos/")) == []
    assert [repo["name"] for repo in c.get(c.o("repos/", status="deleted"))] == ["r"]
    assert c.get(c.of("a@1"))["commitCount"] == 2


def test_members_are_added_changed_and_removed(c: Catalog) -> None:
    made = c.post(c.o("members/"), {"email": "ada@x.y", "teams": ["core"]})
    assert made == {
        "id": "1",
        "email": "ada@x.y",
        "name": "ada@x.y",
        "teams": ["core"],
        "deploys": "committed",
    }
    c.post(c.o("members/"), {"email": "ada@x.y", "name": "Ada", "deploys": "all"}, 200)
    (member,) = c.get(c.o("members/"))
    assert (member["name"], member["deploys"], member["teams"]) == ("Ada", "all", [])
    c.post(c.o("members/"), {"email": "nobody"}, 400)
    c.post(c.o("members/"), {"email": "a@b.c", "deploys": "sometimes"}, 400)
    c.delete(c.o("members/1/"))
    c.delete(c.o("members/1/"), 404)


def test_the_root_tells_what_the_token_may_do(c: Catalog) -> None:
    root = c.get("/api/0/")
    assert root["user"] is None
    assert {"project:releases", "org:read"} <= set(root["auth"]["scopes"])
    (organization,) = c.get("/api/0/organizations/")
    assert organization["slug"] == c.server.organization
    assert c.get(c.o(""))["slug"] == c.server.organization
    c.get("/api/0/organizations/other/", 404)


def test_environments_are_those_that_were_seen_or_deployed_to(c: Catalog) -> None:
    c.event("a@1", environment="prod")
    c.release("a@1", "api")
    c.post(c.of("a@1", "deploys/"), {"environment": "dev", "projects": ["api"]})
    assert [env["name"] for env in c.get(c.o("environments/"))] == ["dev", "prod"]
    assert [env["name"] for env in c.get(c.p("environments/", "api"))] == ["dev"]
