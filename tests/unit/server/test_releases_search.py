from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.datastructures import QueryParams

from crashfree.server.endpoint import Problem
from crashfree.server.engine import Selection
from crashfree.server.releases_search import release_term
from crashfree.server.selection import parse_terms, select
from crashfree.server.store import Store

VERSIONS = [
    "shop@1.0",
    "shop@1.2.0-rc.9",
    "shop@1.2.0",
    "shop@1.2.3+5",
    "shop@1.10",
    "cart@2.0+build",
    "0123456789abcdef",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    from crashfree.server import catalog_schema

    path = tmp_path_factory.mktemp("search") / "x.db"
    made = Store(path, catalog_migrations=catalog_schema.MIGRATIONS)
    with made.write() as db:
        project = made.add_project(db, "app", at=0.0)
        other = made.add_project(db, "other", at=0.0)
        for at, version in enumerate(VERSIONS):
            made.release_id(db, version, project.id, float(at))
        made.release_id(db, "elsewhere@9", other.id, 0.0)
        db.executemany(
            "INSERT INTO release_environments (release_id, project_id, environment_id, adopted,"
            " unadopted) VALUES (?, 1, 1, ?, ?)",
            [(1, 5.0, 6.0), (2, 5.0, None), (3, None, None)],
        )
    yield made
    made.close()


def found(
    store: Store,
    text: str,
    projects: tuple[int, ...] = (1,),
    environments: tuple[int, ...] | None = None,
) -> list[str] | None:
    (term,) = parse_terms(text)
    with store.read() as db:
        ids = release_term(db, Selection(projects, None, environments), term)
        if ids is None:
            return None
        return [
            row[0]
            for row in db.execute("SELECT version, id FROM releases ORDER BY id")
            if row[1] in ids
        ]


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        ("release.version:1.2", ["shop@1.2.0"]),
        ("release.version:1.2.3", ["shop@1.2.3+5"]),
        ("release.version:1.2.3+5", ["shop@1.2.3+5"]),
        ("release.version:1.2.3+6", []),
        ("release.version:>1.2", ["shop@1.2.3+5", "shop@1.10", "cart@2.0+build"]),
        (
            "release.version:>=1.2.0-rc.9",
            ["shop@1.2.0-rc.9", "shop@1.2.0", "shop@1.2.3+5", "shop@1.10", "cart@2.0+build"],
        ),
        ("release.version:<1.2", ["shop@1.0", "shop@1.2.0-rc.9"]),
        ("release.version:<=1.0", ["shop@1.0"]),
        ("release.semver:>shop@1.2.3", ["shop@1.10"]),
        ("release.version:1.2.*", ["shop@1.2.0-rc.9", "shop@1.2.0", "shop@1.2.3+5"]),
        ("release.version:1.*", VERSIONS[:5]),
        ("release.version:*", VERSIONS[:6]),
        ("release.version:shop@1.2*", ["shop@1.2.0-rc.9", "shop@1.2.0", "shop@1.2.3+5"]),
        ("!release.version:>1.0", ["shop@1.0", "0123456789abcdef"]),
        ("release.version:[1.0,2.0]", ["shop@1.0", "cart@2.0+build"]),
        ("release.package:shop", VERSIONS[:5]),
        ("release.package:[cart,none]", ["cart@2.0+build"]),
        ("release.package:c*", ["cart@2.0+build"]),
        ("release.build:5", ["shop@1.2.3+5"]),
        ("release.build:>4", ["shop@1.2.3+5"]),
        ("release.build:<5", []),
        ("release.build:build", ["cart@2.0+build"]),
        ("release.build:*", ["shop@1.2.3+5", "cart@2.0+build"]),
        ("release.stage:adopted", ["shop@1.2.0-rc.9"]),
        ("release.stage:replaced", ["shop@1.0"]),
        ("release.stage:low", ["shop@1.2.0"]),
        ("release.stage:[low_adoption,adopted]", ["shop@1.2.0-rc.9", "shop@1.2.0"]),
        ("release:latest", ["cart@2.0+build"]),
        ("release:[latest,shop@1.0]", ["shop@1.0", "cart@2.0+build"]),
        ("release:[latest,shop@1.1*]", ["shop@1.10", "cart@2.0+build"]),
        ("!release:latest", [*VERSIONS[:5], "0123456789abcdef"]),
    ],
)
def test_words_mean_releases(store: Store, text: str, versions: list[str]) -> None:
    assert found(store, text) == versions


def test_latest_is_the_winner_of_each_project(store: Store) -> None:
    assert found(store, "release:latest", (1, 2)) == ["cart@2.0+build", "elsewhere@9"]
    assert found(store, "release:latest", (3,)) == []


def test_latest_and_stages_are_those_of_the_environment(store: Store) -> None:
    """Source: releases.md section 3.5. Environment 1 has seen the first three, 2 none."""
    assert found(store, "release:latest", environments=(1,)) == ["shop@1.2.0"]
    assert found(store, "release:latest", environments=(2,)) == []
    assert found(store, "release.stage:adopted", environments=(1,)) == ["shop@1.2.0-rc.9"]
    assert found(store, "release.stage:adopted", environments=(2,)) == []


def test_an_environment_named_behind_the_release_counts_as_well(store: Store) -> None:
    query = QueryParams({})
    with store.read() as db:
        for text, versions in (
            ('release:latest environment:""', ["shop@1.2.0"]),
            ('environment:"" release:latest', ["shop@1.2.0"]),
            ("release:latest", ["cart@2.0+build", "elsewhere@9"]),
            ("release:latest project:other", ["elsewhere@9"]),
        ):
            chosen = select(db, query, store.projects(db), parse_terms(text), release_term)
            named = {row[0]: row[1] for row in db.execute("SELECT id, version FROM releases")}
            assert [named[release] for release in chosen.releases or ()] == versions


@pytest.mark.parametrize("text", ["release:shop@1.0", "release.colour:red"])
def test_what_is_no_word_of_this_kind_is_left_to_others(store: Store, text: str) -> None:
    assert found(store, text) is None


@pytest.mark.parametrize(
    "text",
    [
        "release.version:>x",
        "release.version:1.2.x.*",
        "release.version:>1.*",
        "release.build:>abc",
        "release.stage:young",
    ],
)
def test_what_cannot_be_understood_is_refused(store: Store, text: str) -> None:
    with pytest.raises(Problem) as caught:
        found(store, text)
    assert caught.value.status == 400


def date_of(number: int) -> Any:
    return float(number)


@pytest.mark.parametrize(
    ("newest_first", "semver"),
    [
        ([], False),
        (["a@1"], True),
        (["x"], False),
        (["x", "a@1"], False),
        (["a@1", "x"], True),
        (["x", "x", "a@1", "x"], True),
        (["x", "x", "x", "a@1", "a@2"], False),
        (["x", "x", "a@1", "x", "a@2", "x", "a@3", "x", "x", "x"], True),
        (["x", "x", "a@1", "x", "a@2", "x", "x", "x", "x", "x"], False),
        (["x", "x", "x", "a@1", "a@2", "a@3", "a@4", "x", "x", "x"], False),
        (["a@1", *["x"] * 8, "a@2", "a@3", "a@4"], False),
    ],
)
def test_the_newest_releases_decide_how_a_project_is_ordered(
    tmp_path: Any, newest_first: list[str], semver: bool
) -> None:
    from crashfree.server import catalog_schema, releases

    store = Store(tmp_path / "x.db", catalog_migrations=catalog_schema.MIGRATIONS)
    try:
        with store.write() as db:
            project = store.add_project(db, "app", at=0.0)
            for number, kind in enumerate(reversed(newest_first)):
                version = f"{kind}.{number}" if "@" in kind else f"plain-{number}"
                store.release_id(db, version, project.id, float(number))
            assert releases.follows_semver(db, project.id) is semver
    finally:
        store.close()
