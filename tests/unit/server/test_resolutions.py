"""A random history of releases, resolutions and events, against a model of the rules."""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crashfree.server import catalog_hooks, catalog_schema, issues, releases, resolutions
from crashfree.server.recording import Hooks, MetEvent
from crashfree.server.store import Store

Version = tuple[int, int]
Step = tuple[str, int]


class World:
    """One project with one issue, and what should be true of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = 1000.0
        self.ids: list[int] = []
        self.versions: list[Version] = []
        self.resolution: tuple[str, int | None] | None = None
        self._numbers = itertools.count(1)
        with store.write() as db:
            self.project = store.add_project(db, "app", at=0.0).id

    def release(self, minor: int) -> None:
        version = (1, minor)
        if version in self.versions:
            return
        self.now += 10
        with self.store.write() as db:
            name = f"app@1.{minor}"
            self.ids.append(self.store.release_id(db, name, self.project, self.now, seen=False))
        self.versions.append(version)
        if self.resolution is not None and self.resolution[0] == "next":
            current = self.resolution[1]
            if current is None or version > self.versions[current]:
                self.resolution = ("in", len(self.versions) - 1)

    def event(self, index: int | None) -> None:
        self.now += 10
        with self.store.write() as db:
            number = next(self._numbers)
            release = None if index is None else self.ids[index]
            event = MetEvent(self.project, str(number), self.now, release, 1, {"message": "x"})
            issues.record_event(db, event)
        if self.resolution is not None and self._regresses(index):
            self.resolution = None

    def _regresses(self, index: int | None) -> bool:
        assert self.resolution is not None
        kind, fixed = self.resolution
        if kind == "now":
            return True
        if index is None or fixed is None:
            return False
        if kind == "next":
            return self.versions[index] > self.versions[fixed]
        return self.versions[index] >= self.versions[fixed]

    def resolve(self, kind: str, index: int) -> None:
        self.now += 10
        with self.store.write() as db:
            if issues.get(db, 1) is None:
                return
            common = {"issue_id": 1, "project_id": self.project, "at": self.now}
            if kind == "now":
                resolutions.resolve(db, kind="now", **common)  # type: ignore[arg-type]
                self.resolution = ("now", None)
            elif kind == "next":
                current = releases.latest(db, self.project)
                resolutions.resolve(
                    db,
                    kind="in_next_release",
                    release_id=current,
                    **common,  # type: ignore[arg-type]
                )
                newest = max(range(len(self.ids)), key=lambda at: self.versions[at], default=None)
                assert current == (None if newest is None else self.ids[newest])
                self.resolution = ("next", newest)
            elif self.ids:
                at = index % len(self.ids)
                resolutions.resolve(
                    db,
                    kind="in_release",
                    release_id=self.ids[at],
                    **common,  # type: ignore[arg-type]
                )
                self.resolution = ("in", at)

    def check(self) -> None:
        with self.store.read() as db:
            issue = issues.get(db, 1)
            if issue is None:
                return
            assert (issue.status == "resolved") is (self.resolution is not None)
            known = resolutions.get(db, 1)
            assert (known is None) is (self.resolution is None)
            if known is not None and self.resolution is not None:
                kinds = {"now": "now", "in_release": "in", "in_next_release": "next"}
                assert kinds[known.kind] == self.resolution[0]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("release"), st.integers(0, 12)),
        st.tuples(st.just("event"), st.integers(-1, 12)),
        st.tuples(st.sampled_from(["now", "in", "next"]), st.integers(0, 12)),
    ),
    max_size=25,
)


@given(STEPS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_history_ends_as_the_rules_say(steps: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        store = Store(
            Path(folder) / "x.db",
            hooks=Hooks(catalog_hooks.issue_of, catalog_hooks.release_created),
            catalog_migrations=catalog_schema.MIGRATIONS,
        )
        try:
            world = World(store)
            world.event(None)
            for what, number in steps:
                if what == "release":
                    world.release(number)
                elif what == "event":
                    if number < 0 or not world.ids:
                        world.event(None)
                    else:
                        world.event(number % len(world.ids))
                else:
                    world.resolve(what, number)
                world.check()
        finally:
            store.close()


@pytest.mark.parametrize("kind", ["in_release", "in_next_release"])
def test_a_deleted_release_leaves_the_issue_resolved(tmp_path: Path, kind: str) -> None:
    """What was fixed in a release that is gone comes back from releases made after the fix."""
    store = Store(tmp_path / "x.db", catalog_migrations=catalog_schema.MIGRATIONS)
    try:
        world = World(store)
        world.event(None)
        world.release(1)
        with store.write() as db:
            resolutions.resolve(
                db,
                issue_id=1,
                project_id=world.project,
                kind=kind,  # type: ignore[arg-type]
                release_id=world.ids[0],
                at=world.now,
            )
            releases.delete(db, store.counts(db), world.ids[0])
        world.event(None)
        with store.read() as db:
            issue = issues.get(db, 1)
            assert issue is not None
            assert issue.status == "resolved"
        world.ids.clear()
        world.versions.clear()
        world.release(2)
        world.event(0)
        with store.read() as db:
            issue = issues.get(db, 1)
            assert issue is not None
            assert issue.status == "unresolved"
    finally:
        store.close()
