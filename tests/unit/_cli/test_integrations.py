"""`crashfree doctor` tells which integrations there are, and what does not fit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from crashfree._cli import run

THIRD_PARTY = """
[crashfree.integrations]
spider = spider_crashfree:SpiderIntegration
ghost = no_such_module_anywhere:Ghost
[crashfree.auto]
spider = spider_crashfree:SpiderIntegration
"""


def installed(site: Path, name: str, version: str, **files: str) -> None:
    """Write what an installation of a distribution leaves behind."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, text in files.items():
        (info / f"{file}.txt").write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of installed packages that comes first."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def report(folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def read() -> dict[str, Any]:
        assert run(["doctor", "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)["integrations"]
        return found

    return read


def states(found: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["state"] for each in found["found"]}


def test_one_of_another_package_is_told_without_importing_anything(report: Any, site: Path) -> None:
    installed(site, "spider", "4.2", entry_points=THIRD_PARTY)
    (site / "spider_crashfree.py").write_text("raise RuntimeError('imported')")
    (site / "spider.py").write_text("raise RuntimeError('imported')")
    found = report()
    spider = next(each for each in found["found"] if each["name"] == "spider")
    assert (spider["state"], spider["version"], spider["automatic"]) == ("ready", "4.2", True)
    assert "spider" not in sys.modules
    assert states(found)["ghost"] == "broken"
    assert any("no_such_module_anywhere" in problem for problem in found["problems"])


def test_a_framework_that_is_too_old_is_a_problem_with_a_remedy(report: Any, site: Path) -> None:
    installed(site, "rq", "1.2")
    (site / "rq.py").touch()
    found = report()
    assert states(found)["rq"] == "too old"
    assert any("pip install 'rq>=" in problem for problem in found["problems"])


def test_what_variables_name_is_looked_up(report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRASHFREE_INTEGRATIONS", "sentry_sdk, nothing_of_the_kind")
    monkeypatch.setenv("CRASHFREE_DISABLED_INTEGRATIONS", "flask")
    found = report()
    assert states(found)["flask"] == "off"
    assert any("'nothing_of_the_kind'" in problem for problem in found["problems"])


def test_people_get_one_line_for_each_kind(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "integrations\n  automatic" in text
    assert "multiprocessing" in text
