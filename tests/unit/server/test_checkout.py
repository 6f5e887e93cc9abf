from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crashfree.server.checkout import read_range
from crashfree.server.commits import Repository
from tests.support.catalog import Catalog, catalog
from tests.support.vectors import ROOT

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(scope="module")
def widgets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkout") / "widgets"
    subprocess.run(["bash", str(ROOT / "make_widgets_repo.sh"), str(path)], check=True)
    return path


@pytest.fixture
def c() -> Iterator[Catalog]:
    with catalog("widgets") as made:
        yield made


def repository(path: Path | None) -> Repository:
    text = None if path is None else str(path)
    return Repository(1, "acme/widgets", None, "git", "active", text, 0.0)


def test_a_range_is_read_newest_first_with_its_files(widgets: Path) -> None:
    found = read_range(repository(widgets), "v1.0.0~3", "v1.1.0")
    assert found is not None
    subjects = [commit["message"].partition("\n")[0] for commit in found]
    assert subjects == [
        "Bump app #skipsentry",
        "Make app executable",
        "Merge branch 'feature'",
        "Feature work",
        "Drop readme",
    ]
    assert [commit["patch_set"] for commit in found] == [
        [{"path": "src/app.py", "type": "M"}],
        [{"path": "src/app.py", "type": "M"}],
        [],
        [{"path": "src/feature.py", "type": "A"}],
        [{"path": "README.md", "type": "D"}],
    ]
    assert found[0]["repository"] == "acme/widgets"


def test_odd_names_renames_and_the_first_commit(widgets: Path) -> None:
    found = read_range(repository(widgets), None, "HEAD")
    assert found is not None
    assert len(found) == 9
    by_subject = {commit["message"].partition("\n")[0]: commit for commit in found}
    docs = by_subject["Add docs"]
    assert docs["author_name"] == "Jörg Müller"
    assert [file["path"] for file in docs["patch_set"]] == ["docs/naïve-ü.md", "docs/read me.txt"]
    assert by_subject["Rename util to helpers"]["patch_set"] == [
        {"path": "src/helpers.py", "type": "A"},
        {"path": "src/util.py", "type": "D"},
    ]
    assert by_subject["Change app"]["message"] == "Change app\n\nFixes WIDGETS-12"
    assert {file["type"] for file in by_subject["Initial import"]["patch_set"]} == {"A"}


def test_a_base_that_is_gone_leaves_the_newest_commits(widgets: Path) -> None:
    found = read_range(repository(widgets), "f" * 40, "HEAD")
    assert found is not None
    assert len(found) == 9


@pytest.mark.parametrize(
    ("base", "head"), [(None, "nope"), (None, "--output=x"), ("-x", "HEAD"), (None, "a b")]
)
def test_what_git_cannot_tell_is_none(widgets: Path, base: str | None, head: str) -> None:
    assert read_range(repository(widgets), base, head) is None


def test_without_a_checkout_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read_range(repository(None), None, "HEAD") is None
    assert read_range(repository(tmp_path / "nowhere"), None, "HEAD") is None


def test_refs_are_filled_from_a_linked_checkout(c: Catalog, widgets: Path) -> None:
    c.post(c.o("repos/"), {"name": "acme/widgets", "localPath": str(widgets)})
    made = c.release(
        "widgets@1.0",
        "widgets",
        refs=[{"repository": "acme/widgets", "commit": "v1.0.0~3"}],
    )
    assert made["data"] == {}
    c.clock.advance(10)
    made = c.release(
        "widgets@1.1", "widgets", refs=[{"repository": "acme/widgets", "commit": "HEAD"}]
    )
    subjects = [
        commit["message"].partition("\n")[0] for commit in c.get(c.of("widgets@1.1", "commits/"))
    ]
    assert subjects == [
        "Make app executable",
        "Merge branch 'feature'",
        "Feature work",
        "Drop readme",
    ]
    assert made["commitCount"] == 4
    missing = c.release(
        "widgets@1.2", "widgets", refs=[{"repository": "acme/widgets", "commit": "nope"}]
    )
    assert missing["data"] == {"commitsPending": True}
