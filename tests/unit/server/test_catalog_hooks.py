from __future__ import annotations

from crashfree.server import catalog_hooks
from tests.support.catalog import Catalog, catalog
from tests.support.waiting import wait_until

DAY = 86_400.0


def tidied(c: Catalog) -> None:
    now = c.clock.time()
    catalog_hooks.tidy(c.server.store, now=now, before=now - 90 * DAY)


def test_old_activity_and_letters_go_and_facts_stay() -> None:
    with catalog() as c:
        c.event("a@1")
        commit = c.commit("a", author_email="ada@x.y")
        c.release("a@1", status=208, commits=[commit], dateReleased="2026-09-01")
        c.post(c.of("a@1", "deploys/"), {"environment": "prod"})
        wait_until(lambda: [letter["state"] for letter in c.get(c.o("outbox/"))] == ["sent"])
        store = c.server.store
        with store.write() as db:
            db.execute("UPDATE outbox SET state = 'sending'")
        c.clock.advance(2 * 3600)
        tidied(c)
        (letter,) = c.get(c.o("outbox/"))
        assert (letter["state"], letter["fault"]) == ("failed", "the server ended while sending")
        assert c.activity(1) == ["first_seen"]
        c.clock.advance(91 * DAY)
        tidied(c)
        assert c.get(c.o("outbox/")) == []
        assert c.activity(1) == []
        shown = c.get(c.of("a@1"))
        assert (shown["commitCount"], shown["deployCount"]) == (1, 1)
        assert {entry["type"] for entry in c.get(c.o("activity/"))} == {"release", "deploy"}


def test_a_letter_that_waits_is_never_removed() -> None:
    with catalog() as c:
        with c.server.store.write() as db:
            db.execute(
                "INSERT INTO outbox (date, kind, recipient, subject, text, data)"
                " VALUES (0, 'deploy', 'a@b.c', 's', 't', '{}')"
            )
        tidied(c)
        assert [letter["state"] for letter in c.get(c.o("outbox/"))] == ["waiting"]
