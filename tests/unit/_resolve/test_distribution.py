"""`crashfree._resolve.distribution`: whose version is the program's."""

from __future__ import annotations

from pathlib import Path

import pytest

from crashfree._resolve.distribution import Distribution, installed, owner
from crashfree._resolve.program import Program


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of installed distributions, on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(
    site: Path, name: str, version: str = "1.0", *, scripts: str = "", packages: str = ""
) -> None:
    """Lay down what an installer does, as far as look-ups read it."""
    directory = site / f"{name.replace('-', '_')}-{version}.dist-info"
    directory.mkdir()
    (directory / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    if scripts:
        (directory / "entry_points.txt").write_text(f"[console_scripts]\n{scripts}\n")
    if packages:
        (directory / "top_level.txt").write_text(packages)


def test_a_distribution_is_found_in_any_spelling(site: Path) -> None:
    install(site, "My.Bakery", "2026.1")
    for name in ("My.Bakery", "my-bakery", "my_bakery"):
        assert installed(name) == Distribution("My.Bakery", "2026.1")


@pytest.mark.parametrize("name", ["no-such-thing-at-all", "", " ", "a/b", "\x00", "é"])
def test_a_distribution_that_is_not_there_is_no_error(name: str) -> None:
    assert installed(name) is None


def test_a_broken_installation_is_no_error(site: Path) -> None:
    (site / "broken-1.0.dist-info").mkdir()
    assert installed("broken") is None
    (site / "broken-1.0.dist-info/METADATA").write_text("Name: broken\n")
    assert installed("broken") is None
    assert isinstance(owner(Program(module="broken")), str)


def test_a_module_belongs_to_its_namesake(site: Path) -> None:
    install(site, "bakery", "3.1")
    assert owner(Program(file="/x/bakery/__main__.py", module="bakery")) == ("bakery", "3.1")
    assert owner(Program(module="bakery.cli.main")) == ("bakery", "3.1")


def test_a_module_belongs_to_the_distribution_that_installed_it(site: Path) -> None:
    install(site, "bread-and-cake", "4.0", packages="bakery\n")
    assert owner(Program(module="bakery")) == ("bread-and-cake", "4.0")


def test_a_script_belongs_to_the_distribution_that_declares_it(site: Path) -> None:
    install(site, "bread-and-cake", "4.0", scripts="bake-bread = bakery.cli:main")
    program = Program(file="/opt/venv/bin/bake-bread", entry="bakery")
    assert owner(program) == ("bread-and-cake", "4.0")
    assert owner(program._replace(file="C:\\venv\\Scripts\\other")) != ("bread-and-cake", "4.0")


def test_what_a_script_of_ones_own_imports_is_not_its_release(site: Path) -> None:
    install(site, "requests-like", "2.0", packages="reqs")
    answer = owner(Program(file="/usr/local/bin/my-tool", entry="reqs"))
    assert answer == "/usr/local/bin/my-tool belongs to no installed distribution"


@pytest.mark.parametrize("runner", ["gunicorn", "Celery", "pytest"])
def test_a_runner_is_never_the_release(runner: str, site: Path) -> None:
    module = runner.lower()
    install(site, runner, "99.0", scripts=f"{module} = x:y")
    for program in (Program(module=module), Program(file=f"/opt/venv/bin/{module}")):
        assert "only runs the program" in str(owner(program))


@pytest.mark.parametrize(
    "program", [Program(), Program(file="/srv/app/main.py"), Program(module="no_such_module")]
)
def test_a_program_that_was_not_installed_has_no_distribution(program: Program) -> None:
    answer = owner(program)
    assert isinstance(answer, str)
    assert "belongs to no installed distribution" in answer
