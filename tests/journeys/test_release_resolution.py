"""The release of real programs: found the same way by `init`, `propose-version` and `doctor`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import crashfree
from crashfree._delivery.memory import MemoryTransport
from crashfree._resolve.baked import FILE_NAME
from crashfree.errors import InvalidRelease
from tests.support.repository import commit, git, needs_git, repository, surroundings

EXAMPLE = Path(__file__).parents[2] / "examples" / "zipapp"

PROGRAM = """
import json, sys
import crashfree

client = crashfree.init(**json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
options = client.options
print(json.dumps({
    "release": options.release and options.release.raw,
    "source": options.release_source,
    "tried": [each.source for each in options.release_tried],
    "loaded": [name for name in ("subprocess", "importlib.metadata") if name in sys.modules],
}))
crashfree.close()
"""
# Ends the program as soon as it starts another one, whichever way.
NO_PROCESS = """
import sys

def refuse(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork"):
        raise SystemExit(f"started a process: {arguments}")

sys.addaudithook(refuse)
"""


def run(
    command: list[str], directory: Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=directory,
        env=surroundings(
            CRASHFREE_SPOOL_DIR=str(directory / ".spool"),
            **(environ or {}),
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done


def init(
    directory: Path,
    environ: Mapping[str, str] | None = None,
    *,
    program: str = PROGRAM,
    **arguments: str,
) -> dict[str, Any]:
    """Let a real program call init in `directory`; return what it found."""
    done = run([sys.executable, "-c", program, json.dumps(arguments)], directory, environ)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


def cli(directory: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Any:
    done = run([sys.executable, "-m", "crashfree", *arguments, "--json"], directory, environ)
    return json.loads(done.stdout) if done.stdout else None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in no repository, whatever is above the temporary directory."""
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    return tmp_path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return repository(tmp_path, commits=2)


# --- the same everywhere ----------------------------------------------------------------------


@needs_git
@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SENTRY_RELEASE": " app@1.0\n"},
        {"SENTRY_RELEASE": "a/b", "HEROKU_SLUG_COMMIT": "slug"},
        {"GAE_DEPLOYMENT_ID": "462"},
    ],
    ids=["nothing set", "variable", "bad variable", "host"],
)
@pytest.mark.parametrize("kind", ["checkout", "worktree", "baked", "empty"])
def test_the_same_folder_gives_the_same_name_everywhere(
    kind: str, environ: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".git").write_text("gitdir: nowhere\n")
    if kind != "empty":
        (folder / ".git").unlink()
        repository(folder)
    if kind == "worktree":
        git(folder, "worktree", "add", "-q", str(tmp_path / "tree"))
        folder = tmp_path / "tree"
        commit(folder)
    if kind == "baked":
        (folder / FILE_NAME).write_text("baked@1.0")

    found = init(folder, environ)
    report = cli(folder, "doctor", environ=environ)["release"]
    proposed = cli(folder, "releases", "propose-version", environ=environ)

    assert report["name"] == found["release"]
    assert report["source"] == found["source"]
    if found["release"] is None:
        assert (kind, proposed) == ("empty", None)
    else:
        assert proposed == {"version": found["release"], "source": found["source"]}


@needs_git
def test_git_costs_no_process_even_where_git_is_not_installed(checkout: Path) -> None:
    wanted = git(checkout, "rev-parse", "HEAD")
    found = init(checkout, {"PATH": str(checkout)}, program=NO_PROCESS + PROGRAM)
    assert (found["release"], found["source"]) == (wanted, "git")
    assert found["loaded"] == []


@needs_git
def test_another_project_root_can_be_named(folder: Path) -> None:
    other = repository(folder / "other")
    found = init(folder, project_root=str(other))
    assert found["release"] == git(other, "rev-parse", "HEAD")


# --- no git, no variables ---------------------------------------------------------------------


def test_a_container_with_a_baked_file_beside_the_main_file(folder: Path) -> None:
    """Started from somewhere else, as containers and service managers do."""
    app = folder / "app"
    app.mkdir()
    (app / "main.py").write_text(PROGRAM)
    run(
        [sys.executable, "-m", "crashfree", "releases", "bake", "--release", "app@7", "-o", "app"],
        folder,
    )
    done = run([sys.executable, "app/main.py"], folder)
    found = json.loads(done.stdout)
    assert found["release"] == "app@7"
    assert found["source"] == f"file:{app / FILE_NAME}"


def test_code_that_runs_before_the_main_file_finds_the_same_release(folder: Path) -> None:
    """As an instrumenting `sitecustomize` does: there is no main module yet."""
    app, site = folder / "app", folder / "site"
    app.mkdir()
    site.mkdir()
    (app / "main.py").write_text("")
    (app / FILE_NAME).write_text("app@7")
    (site / "sitecustomize.py").write_text(f"exec({PROGRAM!r}, {{}})")
    done = run([sys.executable, "app/main.py"], folder, {"PYTHONPATH": str(site)})
    assert json.loads(done.stdout)["release"] == "app@7"


def test_a_baked_file_elsewhere_is_named_by_its_variable(folder: Path) -> None:
    (folder / "etc").mkdir()
    (folder / "etc/release").write_text("app@8\n")
    environ = {"CRASHFREE_RELEASE_FILE": str(folder / "etc/release")}
    assert init(folder, environ)["release"] == "app@8"
    assert cli(folder, "doctor", environ=environ)["release"]["name"] == "app@8"


@pytest.fixture
def installed(tmp_path: Path) -> Mapping[str, str]:
    """A site directory with the distribution `Bread-And-Cake`, which installs `bakery`."""
    site = tmp_path / "site"
    (site / "bakery").mkdir(parents=True)
    (site / "bakery/__init__.py").write_text("")
    (site / "bakery/__main__.py").write_text(f"def main():\n    exec({PROGRAM!r}, {{}})\nmain()\n")
    (site / "bakery/cli.py").write_text(f"def main():\n    exec({PROGRAM!r}, {{}})\n")
    info = site / "bread_and_cake-4.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Bread-And-Cake\nVersion: 4.2\n")
    (info / "top_level.txt").write_text("bakery\n")
    (info / "entry_points.txt").write_text("[console_scripts]\nbake-bread = bakery.cli:main\n")
    return {"PYTHONPATH": str(site)}


def test_a_module_of_an_installed_distribution_has_its_version(
    folder: Path, installed: Mapping[str, str]
) -> None:
    done = run([sys.executable, "-m", "bakery"], folder, installed)
    found = json.loads(done.stdout)
    assert (found["release"], found["source"]) == (
        "Bread-And-Cake@4.2",
        "distribution:Bread-And-Cake",
    )


def test_an_installed_script_has_the_version_of_its_distribution(
    folder: Path, installed: Mapping[str, str]
) -> None:
    """The script is written as installers write it."""
    script = folder / "bake-bread"
    script.write_text("import sys\nfrom bakery.cli import main\nsys.exit(main())\n")
    done = run([sys.executable, str(script)], folder, installed)
    assert json.loads(done.stdout)["release"] == "Bread-And-Cake@4.2"


def test_an_installed_script_reads_the_file_baked_into_its_package(
    folder: Path, installed: Mapping[str, str]
) -> None:
    package = Path(installed["PYTHONPATH"]) / "bakery"
    (package / FILE_NAME).write_text('{"release": "bakery@4.2+57"}')
    script = folder / "bake-bread"
    script.write_text("import sys\nfrom bakery.cli import main\nsys.exit(main())\n")
    done = run([sys.executable, str(script)], folder, installed)
    assert json.loads(done.stdout)["release"] == "bakery@4.2+57"


def test_a_distribution_can_be_named(folder: Path, installed: Mapping[str, str]) -> None:
    found = init(folder, installed, release="auto:bread-and-cake")
    assert found["release"] == "Bread-And-Cake@4.2"
    proposed = cli(
        folder,
        "releases",
        "propose-version",
        "--distribution",
        "bread-and-cake",
        environ=installed,
    )
    assert proposed["version"] == "Bread-And-Cake@4.2"


@pytest.mark.slow
def test_the_example_builds_a_zipapp_that_knows_its_release(folder: Path) -> None:
    archive = folder / "greeter.pyz"
    build = [sys.executable, str(EXAMPLE / "build.py"), "-o", str(archive)]
    assert run([*build, "--release", "greeter@1.2.3"], folder).returncode == 0
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    done = run([sys.executable, str(archive)], elsewhere)
    assert done.stdout == f"hello from greeter@1.2.3 (file:{archive / FILE_NAME})\n"


# --- bad input --------------------------------------------------------------------------------


def test_a_bad_variable_is_said_once_with_variable_rule_and_repair(folder: Path) -> None:
    twice = PROGRAM.replace("options =", "client = crashfree.init()\noptions =")
    environ = {"SENTRY_RELEASE": "feature/x", "K_REVISION": "app-00001"}
    found = init(folder, environ, program=twice)
    assert found["release"] == "app-00001"
    lines = [line for line in found["stderr"].splitlines() if "SENTRY_RELEASE" in line]
    assert len(lines) == 1
    for part in ("U+002F", "index 7", "'feature-x'"):
        assert part in lines[0]


def test_no_release_is_said_once_per_process_with_the_remedy(folder: Path) -> None:
    program = PROGRAM.replace(
        "options =",
        "crashfree.capture_message('one')\ncrashfree.capture_message('two')\n"
        "client = crashfree.init(**json.loads(sys.argv[1]))\noptions =",
    )
    found = init(folder, program=program, dsn="http://key@127.0.0.1:9/1")
    assert found["release"] is None
    lines = [line for line in found["stderr"].splitlines() if "sessions are off" in line]
    assert len(lines) == 1
    assert "init(release=" in lines[0]


@pytest.fixture
def transport() -> Any:
    yield MemoryTransport()
    crashfree.close()


@pytest.mark.parametrize("bad", ["a/b", " ", "latest", "auto:", "x" * 201])
def test_a_bad_argument_raises_and_changes_nothing(bad: str, transport: MemoryTransport) -> None:
    before = crashfree.init(
        "http://key@127.0.0.1:9/1", release="app@1", transport=transport, auto_integrations=False
    )
    hook = sys.excepthook
    with pytest.raises(InvalidRelease):
        crashfree.init("http://key@127.0.0.1:9/1", release=bad)
    assert crashfree.get_client() is before
    assert sys.excepthook is hook
    assert not transport.closed
    crashfree.capture_message("still there")
    assert len(transport.events) == 1


def test_events_and_sessions_carry_the_identical_text(
    transport: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sentry-python strips the name in events only, which splits the data of one build."""
    monkeypatch.setenv("SENTRY_RELEASE", " app@1.0\n")
    monkeypatch.setenv("SENTRY_ENVIRONMENT", "\u3000staging ")
    monkeypatch.delenv("CRASHFREE_RELEASE", raising=False)
    crashfree.init("http://key@127.0.0.1:9/1", transport=transport, auto_integrations=False)
    crashfree.capture_message("hello")
    crashfree.start_session()
    crashfree.end_session()
    crashfree.close()
    [event] = transport.events
    assert (event["release"], event["environment"]) == ("app@1.0", "staging")
    assert transport.sessions
    for session in transport.sessions:
        assert session["attrs"]["release"] == "app@1.0"
        assert session["attrs"].get("environment") == "staging"


def test_nothing_that_costs_is_loaded_when_a_variable_answers(folder: Path) -> None:
    found = init(folder, {"SENTRY_RELEASE": "app@1"})
    assert found["loaded"] == []
    assert found["tried"] == ["env:CRASHFREE_RELEASE", "env:SENTRY_RELEASE"]
