"""`crashfree run`: a program that has never heard of crashfree gets right numbers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.program import environment
from tests.support.stub import Stub
from tests.support.waiting import wait_until


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        yield server


def launch(
    stub: Stub, folder: Path, source: str, *options: str, python: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start `source` under `crashfree run`."""
    program = folder / "program.py"
    program.write_text(source)
    command = [sys.executable, "-m", "crashfree", "run", "--dsn", stub.dsn, *options]
    command += ["--release", "plain@1.0.0", "--spool-dir", str(folder / "spool"), "--"]
    return subprocess.Popen(
        [*command, sys.executable, *python, str(program)],
        cwd=folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def statuses(stub: Stub) -> list[str]:
    return [update["status"] for update in stub.items("session")]


def test_a_script_is_a_session(stub: Stub, tmp_path: Path) -> None:
    code, out, err = ended(launch(stub, tmp_path, "print('hello')"))
    assert (code, out, err) == (0, "hello\n", "")
    assert statuses(stub) == ["exited"]


def test_a_crash_is_reported_and_the_exit_status_stays(stub: Stub, tmp_path: Path) -> None:
    code, _, err = ended(launch(stub, tmp_path, "1/0"))
    assert code == 1
    assert err.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "sitecustomize" not in err
    assert statuses(stub) == ["crashed"]
    [event] = stub.items("event")
    assert event["release"] == "plain@1.0.0"


def test_a_program_that_calls_init_itself_is_one_session(stub: Stub, tmp_path: Path) -> None:
    code, _, err = ended(
        launch(stub, tmp_path, "import crashfree; crashfree.init(release='own@2.0.0')")
    )
    assert (code, err) == (0, "")
    assert [u["attrs"]["release"] for u in stub.items("session")] == ["own@2.0.0"]


def test_the_sitecustomize_of_the_installation_is_still_loaded(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("MARK = 'theirs'\n")
    source = "import sitecustomize; print(sitecustomize.MARK)"
    program = tmp_path / "program.py"
    program.write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "crashfree", "run", "--dsn", stub.dsn, "--release", "a@1", "--",
         sys.executable, str(program)],
        env=environment({"PYTHONPATH": str(tmp_path / "site"),
                         "CRASHFREE_SPOOL_DIR": str(tmp_path / "spool")}),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "theirs\n"), done.stderr
    assert statuses(stub) == ["exited"]


def test_children_are_covered_and_helpers_of_multiprocessing_are_not(
    stub: Stub, tmp_path: Path
) -> None:
    source = """
import multiprocessing
def work():
    raise ValueError("in a child")
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
"""
    code, _, err = ended(launch(stub, tmp_path, source))
    assert code == 0, err
    assert statuses(stub) == ["exited"], "one session: the program's"
    [event] = stub.items("event")
    assert event["exception"]["values"][-1]["value"] == "in a child"


def run(
    stub: Stub, folder: Path, *command: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command under `crashfree run`, in `folder`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "crashfree", "run", "--dsn", stub.dsn, "--release", "plain@1.0.0",
         "--spool-dir", str(folder / "spool"), "--", *command],
        cwd=folder, env=environment(variables), capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip


def test_a_module_is_run_as_it_is_without_the_launcher(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(
        "import sys; print(__name__, sys.argv[1:]); 1/0"
    )
    done = run(stub, tmp_path, sys.executable, "-m", "package", "--flag", "-x")
    assert done.returncode == 1
    assert done.stdout == "__main__ ['--flag', '-x']\n"
    assert statuses(stub) == ["crashed"]


def test_a_console_script_is_found_on_the_path(stub: Stub, tmp_path: Path) -> None:
    script = tmp_path / "bin" / "tool"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport sys\nprint('tool')\nsys.exit(3)\n")
    script.chmod(0o755)
    path = os.pathsep.join([str(script.parent), os.environ["PATH"]])
    done = run(stub, tmp_path, "tool", PATH=path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "tool\n", "")
    assert statuses(stub) == ["exited"]


def test_a_program_behind_another_one_is_reached(stub: Stub, tmp_path: Path) -> None:
    """A shell, `env`, `uv run`: whatever ends in a Python interpreter."""
    (tmp_path / "program.py").write_text("1/0")
    done = run(stub, tmp_path, "sh", "-c", f"{sys.executable} program.py")
    assert done.returncode == 1
    assert statuses(stub) == ["crashed"]


def test_uv_run(stub: Stub, tmp_path: Path) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("uv is not installed")
    (tmp_path / "program.py").write_text("import sys; print(sys.prefix); 1/0")
    done = run(
        stub, tmp_path, uv, "run", "--no-project", "--offline", "--python", sys.executable,
        "program.py", UV_CACHE_DIR=str(tmp_path / "cache"), VIRTUAL_ENV=sys.prefix,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.strip() == sys.prefix
    assert "ZeroDivisionError" in done.stderr
    assert statuses(stub) == ["crashed"]


def test_an_environment_without_crashfree_runs_its_program_in_silence(
    stub: Stub, tmp_path: Path
) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = str(tmp_path / "bare" / "bin" / "python")
    done = run(stub, tmp_path, python, "-c", "print('bare')", PYTHONPATH="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "bare\n", "")
    assert stub.requests == []
    done = run(stub, tmp_path, python, "-c", "1", CRASHFREE_DEBUG="1")
    assert "not started: ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.9"])
def test_older_interpreters_among_the_children_are_left_alone(
    stub: Stub, tmp_path: Path, version: str
) -> None:
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    python = str(found[0]) if found else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    done = run(stub, tmp_path, python, "-c", "print('old')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "old\n", "")
    assert stub.requests == []


def test_an_error_in_the_other_sitecustomize_is_told_as_python_tells_it(
    stub: Stub, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import no_such_module_of_theirs\n")
    done = run(stub, tmp_path, sys.executable, "-c", "print(1)", PYTHONPATH=str(tmp_path / "site"))
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "no_such_module_of_theirs" in done.stderr
    assert statuses(stub) == ["exited"]


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_interpreters_that_ignore_the_environment_run_alone(
    stub: Stub, tmp_path: Path, flag: str
) -> None:
    done = run(stub, tmp_path, sys.executable, flag, "-c", "print(1)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert stub.requests == []


def test_a_supervisor_tells_at_once_what_killed_the_program(stub: Stub, tmp_path: Path) -> None:
    process = launch(
        stub,
        tmp_path,
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "--supervise",
    )
    code, _, err = ended(process)
    assert code == 128 + signal.SIGKILL, err
    assert statuses(stub) == ["abnormal"]


def test_a_supervisor_tells_of_a_segfault_with_its_frames(stub: Stub, tmp_path: Path) -> None:
    source = """
import os, signal
def deep():
    os.kill(os.getpid(), signal.SIGSEGV)
deep()
"""
    code, _, err = ended(launch(stub, tmp_path, source, "--supervise"))
    assert code == 128 + signal.SIGSEGV, err
    assert statuses(stub) == ["crashed"]
    [event] = stub.items("event")
    assert "SIGSEGV" in str(event["exception"]["values"])
    assert "deep" in str(event)


def test_a_supervisor_hands_signals_on(stub: Stub, tmp_path: Path) -> None:
    source = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
signal.pause()
"""
    process = launch(stub, tmp_path, source, "--supervise")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGTERM)
    code, _, err = ended(process)
    assert code == 7, err
    wait_until(lambda: statuses(stub) == ["exited"])


def test_disabled_by_a_variable_the_program_runs_alone(stub: Stub, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import crashfree; print(crashfree.is_initialized())")
    done = subprocess.run(
        [sys.executable, "-m", "crashfree", "run", "--dsn", stub.dsn, "--release", "a@1", "--",
         sys.executable, str(program)],
        env=environment({"CRASHFREE_DISABLED": "1"}),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "False\n"
    assert stub.requests == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "needs a program"),
        (["--", "no-such-program-at-all"], 127, "command not found"),
        (["--release", "a/b", "--", sys.executable, "-c", "1"], 2, "a-b"),
        (["--dsn", "nonsense", "--", sys.executable, "-c", "1"], 2, "dsn"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(arguments: list[str], code: int, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crashfree", "run", *arguments],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert words.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
