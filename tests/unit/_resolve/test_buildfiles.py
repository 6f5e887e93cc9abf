"""`crashfree._resolve.buildfiles`: literal names and versions, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from crashfree._resolve.buildfiles import (
    from_cordova,
    from_gradle,
    from_pyproject,
    project_name,
)


def gradle(root: Path, text: str) -> str | None:
    (root / "app").mkdir()
    (root / "build.gradle").write_text("")
    (root / "app/build.gradle").write_text(text)
    found = from_gradle(str(root))
    return None if found is None else found.release


def test_gradle_names_application_and_version(tmp_path: Path) -> None:
    """Source: releases.md section 2.5."""
    text = "applicationId \"com.example.app\"\n versionCode 5\n versionName '4.2'\n"
    assert gradle(tmp_path, text) == "com.example.app@4.2"


@pytest.mark.parametrize("text", ["", "applicationId 'a'", 'versionName "1"', "versionName = '1'"])
def test_gradle_without_both_names_nothing(text: str, tmp_path: Path) -> None:
    assert gradle(tmp_path, text) is None


def test_gradle_needs_both_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/build.gradle").write_text("applicationId 'a'\nversionName '1'")
    assert from_gradle(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("platform", "attributes", "release"),
    [
        ("android", 'id="io.x" version="1.0"', "io.x@1.0"),
        ("ios", 'id="io.x" version="1.0"', "io.x@1.0"),
        ("android", 'id="io.x" android-packageName="io.a" version="1.0"', "io.a@1.0"),
        ("ios", 'id="io.x" ios-CFBundleIdentifier="io.i" version="1.0"', "io.i@1.0"),
        ("ios", 'id="io.x" android-packageName="io.a" version="1.0"', "io.x@1.0"),
        ("android", 'version="1.0"', None),
        ("android", 'id="io.x"', None),
        ("windows", 'id="io.x" version="1.0"', None),
    ],
)
def test_cordova_names_the_widget(
    platform: str, attributes: str, release: str | None, tmp_path: Path
) -> None:
    """Source: releases.md section 2.5."""
    config = f'<?xml version="1.0"?><widget xmlns="http://www.w3.org/ns/widgets" {attributes}/>'
    (tmp_path / "config.xml").write_text(config)
    here = tmp_path / "platforms" / platform
    here.mkdir(parents=True)
    found = from_cordova(str(here))
    assert (None if found is None else found.release) == release


@pytest.mark.parametrize("config", ["", "<widget", "<other id='a' version='1'/>"])
def test_a_file_that_is_no_cordova_file_names_nothing(config: str, tmp_path: Path) -> None:
    (tmp_path / "config.xml").write_text(config)
    here = tmp_path / "platforms/ios"
    here.mkdir(parents=True)
    assert from_cordova(str(here)) is None


@pytest.mark.parametrize(
    ("text", "release", "name"),
    [
        ('[project]\nname = "app"\nversion = "1.0"', "app@1.0", "app"),
        ("[ project ] # x\nversion = '1.0' # y\nname='app'", "app@1.0", "app"),
        ('[tool.x]\nversion = "9"\n[project]\nname = "app"\n[other]\nversion = "8"', None, "app"),
        ('[project]\nname = "app"\ndynamic = ["version"]', None, "app"),
        ('[tool.poetry]\nname = "app"\nversion = "1.0"', None, None),
        ('[[project]]\nname = "app"', None, None),
        ("", None, None),
        ("\x00\xff", None, None),
    ],
)
def test_pyproject_names_the_project(
    text: str, release: str | None, name: str | None, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    below = tmp_path / "below"
    below.mkdir()
    found = from_pyproject(str(below))
    assert (None if found is None else found.release) == release
    assert project_name(str(below)) == name
