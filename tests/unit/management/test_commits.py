"""Commits of real repositories. Source: releases.md sections 4.5 and 5.4."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crashfree._protocol.timestamps import parse_timestamp
from crashfree.management.commits import (
    MAX_REPOSITORY,
    Log,
    fitting_repository,
    read_log,
    required,
    selected,
)
from crashfree.management.git import Checkout, GitError
from crashfree.management.models import Commit
from tests.unit.management import repositories
from tests.unit.management.repositories import PATCHES, commit, git, new


@pytest.fixture(scope="module")
def widgets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repositories.relatives(tmp_path_factory) / "widgets"


@pytest.fixture(autouse=True)
def no_git_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def changes(commit: Commit) -> dict[str, str]:
    return {change.path: change.type for change in commit.changes or ()}


def whole(directory: Path, **options: object) -> Log:
    checkout = Checkout.at(str(directory))
    return read_log(checkout, head=checkout.head(), **options)  # type: ignore[arg-type]


def test_every_commit_of_the_sample_lists_what_it_changed(widgets: Path) -> None:
    """Renames, deletions, mode changes, merges; patch sets against the first parent."""
    log = whole(widgets, repository="acme/widgets")
    assert [entry.id for entry in log.commits] == list(PATCHES)
    assert {entry.id: changes(entry) for entry in log.commits} == PATCHES
    assert {entry.repository for entry in log.commits} == {"acme/widgets"}
    assert log.warnings == []
    assert log.complete


def test_names_dates_and_messages_are_those_of_the_commit(widgets: Path) -> None:
    log = whole(widgets)
    docs = next(entry for entry in log.commits if entry.id == repositories.DOCS)
    assert (docs.author_name, docs.author_email) == ("Jörg Müller", "joerg@example.com")
    assert docs.timestamp == "2026-01-03T09:00:00-05:00"
    change = next(entry for entry in log.commits if entry.id == repositories.CHANGE)
    assert change.message == "Change app\n\nFixes WIDGETS-12\n"


def test_a_range_holds_what_the_base_does_not_have(widgets: Path) -> None:
    log = whole(widgets, base=repositories.DROP)
    assert [entry.id for entry in log.commits] == [
        repositories.HEAD,
        repositories.EXECUTABLE,
        repositories.MERGE,
        repositories.FEATURE,
    ]


@pytest.mark.parametrize("depth", [0, 1, 3, 9, 50])
def test_a_depth_takes_the_newest(widgets: Path, depth: int) -> None:
    log = whole(widgets, depth=depth)
    assert [entry.id for entry in log.commits] == list(PATCHES)[:depth]
    assert log.complete


def test_a_limit_keeps_the_newest_and_says_so(widgets: Path) -> None:
    log = whole(widgets, max_commits=4)
    assert [entry.id for entry in log.commits] == list(PATCHES)[:4]
    assert not log.complete
    assert "newest 4 commits" in log.warnings[0]


def test_a_limit_of_files_keeps_whole_commits(widgets: Path) -> None:
    log = whole(widgets, max_files=4)
    assert log.files <= 4
    assert not log.complete
    assert {entry.id: changes(entry) for entry in log.commits} == {
        key: PATCHES[key] for key in list(PATCHES)[: len(log.commits)]
    }


def test_paths_choose_commits_and_files(widgets: Path) -> None:
    log = whole(widgets, paths=["docs"])
    assert [entry.id for entry in log.commits] == [repositories.DOCS]
    log = whole(widgets, paths=["src/util.py", "README.md"])
    assert changes(log.commits[-1]) == {"README.md": "A", "src/util.py": "A"}


def test_a_path_is_no_pattern(widgets: Path) -> None:
    assert whole(widgets, paths=["*.py"]).commits == []


def test_odd_names_come_through_exactly(tmp_path: Path) -> None:
    """Quotes, tabs, newlines, blanks at the end, letters that look like a status."""
    repository = new(tmp_path / "odd")
    names = ['qu"ote.txt', "ta\tb.txt", "new\nline.txt", "trail ", " lead", "M", "A\nM", "ü", "-x"]
    for name in names:
        (repository / name).write_text(name)
    commit(repository, "Odd names")
    assert changes(whole(repository).commits[0]) == dict.fromkeys(names, "A")


def test_a_file_that_becomes_a_link_or_a_program_is_modified(tmp_path: Path) -> None:
    repository = new(tmp_path / "types")
    (repository / "a").write_text("a")
    (repository / "run").write_text("run")
    commit(repository, "one")
    (repository / "a").unlink()
    (repository / "a").symlink_to("run")
    (repository / "run").chmod(0o755)
    commit(repository, "two")
    assert changes(whole(repository).commits[0]) == {"a": "M", "run": "M"}


def test_a_file_that_becomes_a_directory_is_told_by_its_paths(tmp_path: Path) -> None:
    repository = new(tmp_path / "types")
    (repository / "a").write_text("a")
    commit(repository, "one")
    (repository / "a").unlink()
    (repository / "a").mkdir()
    (repository / "a" / "b").write_text("b")
    commit(repository, "two")
    assert changes(whole(repository).commits[0]) == {"a": "D", "a/b": "A"}


def test_a_submodule_is_one_path(tmp_path: Path, widgets: Path) -> None:
    repository = new(tmp_path / "outer")
    allow = ("-c", "protocol.file.allow=always")
    git(repository, *allow, "submodule", "--quiet", "add", str(widgets), "vendor/w")
    commit(repository, "Add submodule")
    assert changes(whole(repository).commits[0]) == {".gitmodules": "A", "vendor/w": "A"}
    git(repository / "vendor" / "w", "checkout", "-q", "v1.0.0")
    commit(repository, "Move submodule")
    git(repository, "config", "diff.ignoreSubmodules", "all")
    assert changes(whole(repository).commits[0]) == {"vendor/w": "M"}


@pytest.mark.skipif(os.name == "nt", reason="paths are text there")
def test_a_path_that_is_no_utf8_is_readable_and_stops_nothing(tmp_path: Path) -> None:
    repository = new(tmp_path / "badpath")
    try:
        (Path(os.fsdecode(os.fsencode(str(repository)) + b"/caf\xe9.txt"))).write_text("x")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    commit(repository, "bad path")
    assert changes(whole(repository).commits[0]) == {"caf\ufffd.txt": "A"}


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [
        ("ISO-8859-1", b"Caf\xe9 \xfcber\n"),
        (None, b"Caf\xe9 \xfcber\n"),
        (None, "Café über\n".encode()),
    ],
)
def test_a_message_is_text_whatever_its_encoding(
    tmp_path: Path, encoding: str | None, raw: bytes
) -> None:
    """Never null: a null message breaks the server."""
    repository = new(tmp_path / "badmsg")
    (repository / "message").write_bytes(raw)
    setting = ("-c", f"i18n.commitEncoding={encoding}") if encoding else ()
    git(
        repository, *setting, "commit", "-q", "--allow-empty", "--cleanup=verbatim", "-F", "message"
    )
    assert whole(repository).commits[0].message == "Café über\n"


def test_the_users_own_settings_for_output_change_nothing(widgets: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(widgets), str(copy))
    for key, value in (
        ("diff.renames", "copies"),
        ("diff.noprefix", "true"),
        ("log.showSignature", "true"),
        ("log.decorate", "full"),
        ("log.showRoot", "false"),
        ("log.date", "relative"),
        ("log.diffMerges", "first-parent"),
        ("color.ui", "always"),
        ("core.quotePath", "true"),
        ("diff.external", "false"),
        ("format.pretty", "oneline"),
        ("log.follow", "true"),
        ("diff.orderFile", "/nowhere"),
        ("i18n.logOutputEncoding", "ISO-8859-1"),
    ):
        git(copy, "config", key, value)
    git(copy, "config", "--unset", "diff.orderFile")
    log = whole(copy)
    assert {entry.id: changes(entry) for entry in log.commits} == PATCHES
    assert log.commits[0].message == "Bump app #skipsentry\n"


def test_the_mailmap_names_the_author(widgets: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(widgets), str(copy))
    (copy / ".mailmap").write_text("Ada King <ada@king.example> <ada@example.com>\n")
    entry = whole(copy).commits[0]
    assert (entry.author_name, entry.author_email) == ("Ada King", "ada@king.example")


def test_timestamps_are_the_committers_and_strictly_descending(tmp_path: Path) -> None:
    """A rebased commit keeps its author date; the server would sort it to the bottom."""
    repository = new(tmp_path / "dates")
    for number in range(4):
        commit(repository, f"same second {number}", at="2026-03-05T00:00:00Z")
    commit(repository, "skewed clock", at="2026-03-01T00:00:00Z")
    commit(
        repository,
        "written long ago",
        at="2026-03-06T00:00:00Z",
        GIT_AUTHOR_DATE="2020-01-01T00:00:00Z",
    )
    log = whole(repository)
    instants = [parse_timestamp(entry.timestamp) for entry in log.commits]
    assert instants == sorted(set(instants), reverse=True)
    assert log.commits[0].timestamp == "2026-03-06T00:00:00Z"
    assert log.commits[1].message == "skewed clock\n"


class TestMending:
    """What a server would refuse is mended, commit by commit, and told."""

    def test_a_path_over_510_characters_is_left_out(self, tmp_path: Path) -> None:
        repository = new(tmp_path / "long")
        deep = repository.joinpath(*["d" * 100] * 5)
        deep.mkdir(parents=True)
        (deep / ("f" * 60)).write_text("x")
        (repository / "short").write_text("x")
        commit(repository, "long path")
        log = whole(repository)
        assert changes(log.commits[0]) == {"short": "A"}
        assert "limit 510" in log.warnings[0]

    def test_long_names_are_cut(self, tmp_path: Path) -> None:
        repository = new(tmp_path / "names")
        commit(
            repository,
            "m" * 70_000,
            GIT_AUTHOR_NAME="n" * 200,
            GIT_AUTHOR_EMAIL=f"{'e' * 90}@example.com",
        )
        log = whole(repository, repository="group/" * 20 + "name")
        entry = log.commits[0]
        assert len(entry.author_name or "") == 128
        assert len(entry.author_email or "") == 75
        assert len(entry.message) == 64 * 1024
        assert entry.repository is not None
        assert len(entry.repository) <= MAX_REPOSITORY
        assert entry.repository.endswith("/name")
        assert len(log.warnings) == 4

    def test_a_missing_email_is_not_sent_as_an_empty_one(self, tmp_path: Path) -> None:
        repository = new(tmp_path / "blank")
        commit(repository, "no e-mail", GIT_AUTHOR_NAME="x", GIT_AUTHOR_EMAIL="")
        payload = whole(repository).commits[0].payload()
        assert payload["author_name"] == "x"
        assert "author_email" not in payload

    def test_a_fault_is_told_once_not_for_every_commit(self, tmp_path: Path) -> None:
        repository = new(tmp_path / "often")
        for number in range(3):
            commit(repository, str(number), GIT_AUTHOR_NAME="n" * 200)
        assert len(whole(repository).warnings) == 1

    def test_a_repository_name_is_cut_at_a_path_border(self) -> None:
        assert fitting_repository("a/" * 40 + "name") == "a/" * 30 + "name"
        assert fitting_repository("x" * 70) == "x" * 64
        assert fitting_repository("acme/widgets") == "acme/widgets"


def test_a_shallow_clone_is_told_and_its_last_commit_lists_no_files(
    widgets: Path, tmp_path: Path
) -> None:
    """The boundary's parent is missing, so git would list its whole tree as added."""
    log = whole(repositories.shallow(widgets, tmp_path / "shallow", 2))
    assert [entry.id for entry in log.commits] == [repositories.HEAD, repositories.EXECUTABLE]
    assert changes(log.commits[0]) == {"src/app.py": "M"}
    assert changes(log.commits[1]) == {}
    assert "fetch-depth: 0" in log.warnings[0]


def test_sha256_repositories_are_read(tmp_path: Path) -> None:
    repository = new(tmp_path / "sha256", "--object-format=sha256")
    (repository / "a").write_text("a")
    made = commit(repository, "one")
    entry = whole(repository).commits[0]
    assert entry.id == made
    assert len(entry.id) == 64


def test_chosen_commits_are_exactly_those(widgets: Path) -> None:
    checkout = Checkout.at(str(widgets))
    log = selected(checkout, ["v1.0.0", "HEAD~3..HEAD~1", "v1.0.0"])
    ids = [entry.id for entry in log.commits]
    assert ids[0] == repositories.EXECUTABLE
    assert len(ids) == len(set(ids))
    instants = [parse_timestamp(entry.timestamp) for entry in log.commits]
    assert instants == sorted(set(instants), reverse=True)


@pytest.mark.parametrize("revision", ["nope", "--all", "a...b", "", "v1.0.0..nope"])
def test_a_revision_that_is_not_here_is_an_error_with_a_remedy(
    widgets: Path, revision: str
) -> None:
    checkout = Checkout.at(str(widgets))
    with pytest.raises(GitError) as caught:
        required(checkout, revision)
    assert caught.value.remedy
