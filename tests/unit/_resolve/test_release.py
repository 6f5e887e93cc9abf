"""`crashfree._resolve.release`: the order of sources, what is kept of them, and what is said."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from crashfree._ground import log
from crashfree._resolve import lookup as module
from crashfree._resolve.answers import Resolved
from crashfree._resolve.baked import FILE_NAME
from crashfree._resolve.program import Program
from crashfree._resolve.release import resolve_release
from crashfree.errors import InvalidRelease
from tests.support.repository import commit, git, needs_git, repository

COMMIT = "a86d127c4b2f23a0a862620280427dcc01c78676"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    log.forget_repeats()
    yield
    log.forget_repeats()


def resolve(
    argument: str | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | str = "/",
    program: Program = Program(),  # noqa: B008 -- immutable
) -> Resolved:
    return resolve_release(
        argument, environ=environ or {}, directory=str(directory), program=program, memory={}
    )


def name(resolved: Resolved) -> str | None:
    return None if resolved.release is None else resolved.release.raw


# --- the order --------------------------------------------------------------------------------

# The documented order, then the platforms of today, then the installed distribution.
HOSTS = [
    "HEROKU_BUILD_COMMIT",
    "HEROKU_SLUG_COMMIT",
    "SOURCE_VERSION",
    "CODEBUILD_RESOLVED_SOURCE_VERSION",
    "CIRCLE_SHA1",
    "GAE_DEPLOYMENT_ID",
    "K_REVISION",
    "VERCEL_GIT_COMMIT_SHA",
    "RENDER_GIT_COMMIT",
    "RAILWAY_GIT_COMMIT_SHA",
]
ORDER = ["argument", "CRASHFREE_RELEASE", "SENTRY_RELEASE", "file", "git", *HOSTS, "distribution"]


@needs_git
@pytest.mark.parametrize("best", ORDER)
def test_each_source_wins_over_all_that_come_after_it(best: str, tmp_path: Path) -> None:
    """Source: releases.md section 2.2; the order of HEROKU_SLUG_COMMIT to GAE_DEPLOYMENT_ID and
    the place of git before them are those of the oldest documentation."""
    left = ORDER[ORDER.index(best) :]
    environ = {each: f"from-{each}" for each in left if each.isupper()}
    wanted = f"from-{best}"
    if "git" in left:
        repository(tmp_path)
    if "file" in left:
        (tmp_path / FILE_NAME).write_text('{"release": "from-file"}')
    if best == "git":
        wanted = git(tmp_path, "rev-parse", "HEAD")

    found = resolve(
        "from-argument" if best == "argument" else None,
        environ,
        tmp_path,
        Program(module="hypothesis"),
    )

    if best == "distribution":
        assert name(found) is not None
        assert str(name(found)).startswith("hypothesis@")
        assert found.source == "distribution:hypothesis"
    else:
        assert name(found) == wanted
        source = f"file:{tmp_path / FILE_NAME}" if best == "file" else best
        assert found.source == (f"env:{best}" if best.isupper() else source)
    assert found.tried[-1].source == found.source
    assert found.tried[-1].outcome == "found"
    assert {each.outcome for each in found.tried[:-1]} <= {"absent"}


def test_without_any_source_there_is_no_release_and_all_were_asked(tmp_path: Path) -> None:
    found = resolve(directory=tmp_path, environ={"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
    assert (found.release, found.source) == (None, "none")
    assert [each.source for each in found.tried] == [
        "env:CRASHFREE_RELEASE",
        "env:SENTRY_RELEASE",
        "file",
        "git",
        "host",
        "distribution",
    ]
    assert {each.outcome for each in found.tried} == {"absent"}
    assert all(each.detail for each in found.tried)


# --- the argument -----------------------------------------------------------------------------


def test_an_empty_argument_means_no_release_and_no_look_up() -> None:
    """Source: releases.md section 2.2, 1."""
    found = resolve("", {"SENTRY_RELEASE": "app@1"})
    assert (found.release, found.source) == (None, "argument")
    assert len(found.tried) == 1


@pytest.mark.parametrize("argument", [" ", "a/b", "latest", "x" * 201, 3, b"app@1", ["app@1"]])
def test_a_bad_argument_raises_before_anything_is_asked(argument: Any) -> None:
    with pytest.raises(InvalidRelease):
        resolve(argument, {"SENTRY_RELEASE": "app@1"})


def test_an_argument_is_trimmed_once() -> None:
    assert name(resolve(" app@1.0\n")) == "app@1.0"


def test_a_named_distribution_gives_its_version() -> None:
    found = resolve(" auto:Hypothesis ", {"SENTRY_RELEASE": "app@1"})
    assert str(name(found)).startswith("hypothesis@")
    assert found.source == "distribution:hypothesis"


def test_a_named_distribution_that_is_missing_is_said_and_the_next_source_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = resolve("auto:no-such-thing", {"SENTRY_RELEASE": "app@1"})
    assert name(found) == "app@1"
    assert found.tried[0].outcome == "refused"
    assert "no distribution 'no-such-thing' is installed" in caplog.text


@pytest.mark.parametrize("argument", ["auto:", "auto: ", " auto:\n"])
def test_a_named_distribution_needs_a_name(argument: str) -> None:
    with pytest.raises(InvalidRelease, match="auto:myapp"):
        resolve(argument)


# --- variables --------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", ["", " ", "\n", "\u3000\x85"])
def test_a_blank_variable_counts_as_not_set(blank: str) -> None:
    """Source: releases.md section 2.3, table: sentry-python makes it the release `"  "`."""
    environ = dict.fromkeys(ORDER, blank) | {"K_REVISION": "k"}
    assert name(resolve(environ=environ)) == "k"


def test_a_bad_variable_is_said_once_and_the_next_source_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The warning names the variable, the rule and the repaired name."""
    environ = {"SENTRY_RELEASE": "feature/x", "HEROKU_SLUG_COMMIT": COMMIT}
    for _ in range(3):
        found = resolve(environ=environ)
        assert name(found) == COMMIT
    [record] = [record for record in caplog.records if record.name == "crashfree"]
    assert record.levelno == logging.WARNING
    for part in ("SENTRY_RELEASE", 'U+002F "/" at index 7', "'feature-x'", "next source"):
        assert part in record.getMessage()
    refused = found.tried[1]
    assert (refused.source, refused.outcome) == ("env:SENTRY_RELEASE", "refused")


def test_our_own_variable_may_be_bad_and_the_other_good() -> None:
    environ = {"CRASHFREE_RELEASE": "latest", "SENTRY_RELEASE": "app@2"}
    assert name(resolve(environ=environ)) == "app@2"


def test_what_was_cut_off_a_variable_is_told() -> None:
    """Source: releases.md section 1.3, last line."""
    found = resolve(environ={"SENTRY_RELEASE": " app@1\n\n"})
    assert name(found) == "app@1"
    assert found.tried[-1].detail == "3 blank characters cut off (U+0020, U+000A)"


def test_a_variable_is_trimmed_as_servers_trim_and_not_as_python_does() -> None:
    """U+001F is white space to `str.strip` and a forbidden character to servers."""
    found = resolve(environ={"SENTRY_RELEASE": "app@1\x1f"})
    assert found.release is None
    assert found.tried[1].outcome == "refused"


# --- git --------------------------------------------------------------------------------------


@needs_git
def test_git_costs_no_process_and_needs_no_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = git(repository(tmp_path), "rev-parse", "HEAD")
    monkeypatch.setattr(subprocess, "Popen", None)
    assert name(resolve(environ={"PATH": ""}, directory=tmp_path)) == wanted


@needs_git
def test_a_repository_that_only_git_reads_without_git_leads_to_the_next_source(
    tmp_path: Path,
) -> None:
    (repository(tmp_path) / ".git/reftable").mkdir()
    found = resolve(environ={"PATH": "", "K_REVISION": "k"}, directory=tmp_path)
    assert name(found) == "k"
    assert "reftable" in found.tried[3].detail
    assert "not on the PATH" in found.tried[3].detail


def test_a_working_directory_that_was_removed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    found = resolve_release(None, environ={"K_REVISION": "k"}, program=Program(), memory={})
    assert name(found) == "k"


# --- the memory -------------------------------------------------------------------------------


@needs_git
def test_a_checkout_that_moves_on_does_not_rename_a_running_program(tmp_path: Path) -> None:
    first = git(repository(tmp_path), "rev-parse", "HEAD")
    memory: module.Memory = {}

    def again() -> str | None:
        return name(
            resolve_release(
                None, environ={}, directory=str(tmp_path), program=Program(), memory=memory
            )
        )

    assert again() == first
    assert commit(tmp_path) != first
    assert again() == first
    memory.clear()
    assert again() != first


@needs_git
def test_the_process_has_one_memory_and_variables_are_not_in_it(tmp_path: Path) -> None:
    first = git(repository(tmp_path), "rev-parse", "HEAD")
    directory = str(tmp_path)
    assert name(resolve_release(None, environ={}, directory=directory)) == first
    commit(tmp_path)
    assert name(resolve_release(None, environ={}, directory=directory)) == first
    environ = {"SENTRY_RELEASE": "app@1"}
    assert name(resolve_release(None, environ=environ, directory=directory)) == "app@1"


def test_neither_files_nor_git_nor_distributions_are_asked_when_a_variable_answers() -> None:
    memory: module.Memory = {}
    for argument, wanted in ((None, "app@1"), ("app@2", "app@2")):
        environ = {"SENTRY_RELEASE": "app@1"}
        assert name(resolve_release(argument, environ=environ, memory=memory)) == wanted
    assert not memory


def test_a_bad_baked_file_is_said_and_the_next_source_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_text('{"release": "a/b"}')
    environ = {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "K_REVISION": "k"}
    assert name(resolve(environ=environ, directory=tmp_path)) == "k"
    assert FILE_NAME in caplog.text
    assert "'a-b'" in caplog.text
    (tmp_path / FILE_NAME).write_text("{")
    assert name(resolve(environ=environ, directory=tmp_path)) == "k"
    assert "is neither" in caplog.text
