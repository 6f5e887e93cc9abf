"""What leaves the program, a thread, a task or a finalizer uncaught: real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import environment, run
from tests.support.stub import Stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        yield server


def env(stub: Stub, spool: Path) -> dict[str, str]:
    return {"SENTRY_DSN": stub.dsn, "CRASHFREE_SPOOL_DIR": str(spool)}


def only_event(stub: Stub) -> dict[str, Any]:
    [event] = stub.items("event")
    return event  # type: ignore[no-any-return]


def mechanism(event: dict[str, Any]) -> tuple[str, bool]:
    how = event["exception"]["values"][-1]["mechanism"]
    return how["type"], how["handled"]


def status(stub: Stub) -> str:
    return stub.items("session")[-1]["status"]  # type: ignore[no-any-return]


def test_a_crash_needs_no_import_after_init(stub: Stub, tmp_path: Path) -> None:
    """An interpreter that crashes may not be able to import any more; the event must arrive.

    urllib3 is imported late on purpose, so the program asks for it beforehand.
    """
    ended = run(
        """
        import sys
        import crashfree
        crashfree.init(release="shop@1.0.0", with_locals=True, attach_stacktrace=True)
        import crashfree._ground.http as http
        import urllib3, ssl, certifi, gzip, encodings.idna, http.client, email.parser, socket, queue
        import urllib3.connection, urllib3.util.ssl_, stringprep, select, logging
        crashfree.flush()

        class Blocked:
            def find_spec(self, name, path=None, target=None):
                raise ImportError(f"blocked: {name}")

        sys.meta_path.insert(0, Blocked())

        def pay(amount):
            return 100 / amount

        try:
            pay(0)
        except ZeroDivisionError as error:
            raise ValueError("no money") from error
        """,
        env=env(stub, tmp_path),
    )
    assert ended.returncode == 1
    assert "blocked" not in ended.stderr, ended.stderr
    event = only_event(stub)
    assert [value["type"] for value in event["exception"]["values"]] == [
        "ZeroDivisionError", "ValueError",
    ]  # fmt: skip
    assert event["exception"]["values"][0]["stacktrace"]["frames"][-1]["vars"] == {"amount": "0"}
    assert status(stub) == "crashed"


def test_an_error_of_a_thread_is_survived(stub: Stub, tmp_path: Path) -> None:
    ended = run(
        """
        import threading
        import crashfree
        crashfree.init(release="shop@1.0.0")
        thread = threading.Thread(target=lambda: 1 / 0, name="counter")
        thread.start()
        thread.join()
        """,
        env=env(stub, tmp_path),
    )
    assert ended.returncode == 0
    assert "ZeroDivisionError" in ended.stderr, "the interpreter's own words are still printed"
    event = only_event(stub)
    assert mechanism(event) == ("threading", False)
    assert event["threads"]["values"][0]["name"] == "counter"
    assert status(stub) == "unhandled"


def test_an_error_of_a_task_that_nobody_asked_for_is_survived(stub: Stub, tmp_path: Path) -> None:
    ended = run(
        """
        import asyncio
        import gc
        import crashfree
        crashfree.init(release="shop@1.0.0")

        async def fail(number):
            raise ValueError(number)

        async def main():
            asked = asyncio.create_task(fail(1))
            lost = asyncio.create_task(fail(2), name="lost one")
            await asyncio.sleep(0)
            await asyncio.gather(asked, return_exceptions=True)
            del lost
            gc.collect()

        asyncio.run(main())
        """,
        env=env(stub, tmp_path),
    )
    assert ended.returncode == 0, ended.stderr
    assert "exception was never retrieved" in ended.stderr
    event = only_event(stub)
    assert mechanism(event) == ("asyncio", False)
    assert event["exception"]["values"][-1]["value"] == "2"
    assert status(stub) == "unhandled"


def test_an_error_of_a_task_that_ends_the_program_is_told_once_as_a_crash(
    stub: Stub, tmp_path: Path
) -> None:
    ended = run(
        """
        import asyncio
        import crashfree
        crashfree.init(release="shop@1.0.0")

        async def main():
            await asyncio.create_task(fail())

        async def fail():
            raise ValueError("out of the loop")

        asyncio.run(main())
        """,
        env=env(stub, tmp_path),
    )
    assert ended.returncode == 1
    assert mechanism(only_event(stub)) == ("excepthook", False)
    assert status(stub) == "crashed"


def test_an_error_in_a_finalizer_is_survived(stub: Stub, tmp_path: Path) -> None:
    ended = run(
        """
        import crashfree
        crashfree.init(release="shop@1.0.0")

        class Dying:
            def __del__(self):
                raise ValueError("in a finalizer")

        Dying()
        """,
        env=env(stub, tmp_path),
    )
    assert ended.returncode == 0
    assert "Exception ignored" in ended.stderr
    assert mechanism(only_event(stub)) == ("unraisablehook", False)
    assert status(stub) == "unhandled"


def test_an_error_that_was_captured_and_then_leaves_the_program_crashes_it(
    stub: Stub, tmp_path: Path
) -> None:
    """`capture(e); raise`: told once, and a crash all the same. Source: sessions.md section 3.3."""
    ended = run(
        """
        import crashfree
        crashfree.init(release="shop@1.0.0")
        try:
            1 / 0
        except ZeroDivisionError as error:
            crashfree.capture_exception(error)
            raise
        """,
        env=env(stub, tmp_path),
    )
    assert ended.returncode == 1
    assert mechanism(only_event(stub)) == ("generic", True)
    last = stub.items("session")[-1]
    assert (last["status"], last["errors"]) == ("crashed", 1)


@pytest.mark.parametrize("flag", ["-i", ""])
def test_an_interactive_shell_is_left_alone(stub: Stub, tmp_path: Path, flag: str) -> None:
    """Every typing error in a shell is uncaught; none of them is news."""
    command = [sys.executable, *([flag] if flag else []), "-q"]
    source = 'import crashfree\ncrashfree.init(release="shop@1.0.0")\n1 / 0\n'
    if not flag:
        # Without -i a pipe is a script: `code` makes the shell.
        command = [sys.executable, "-m", "code", "-q"]
    ended = subprocess.run(
        command, input=source, env=environment(env(stub, tmp_path)), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "ZeroDivisionError" in ended.stderr
    assert stub.items("event") == []
    assert status(stub) == "exited"


def test_hooks_of_the_program_keep_working_before_and_after(stub: Stub, tmp_path: Path) -> None:
    ended = run(
        """
        import sys
        import crashfree

        def mine(name, inner):
            def hook(kind, error, traceback):
                print(name, kind.__name__)
                if inner is not None:
                    inner(kind, error, traceback)
            return hook

        sys.excepthook = mine("before", None)
        crashfree.init(release="shop@1.0.0")
        sys.excepthook = mine("after", sys.excepthook)
        1 / 0
        """,
        env=env(stub, tmp_path),
    )
    assert ended.stdout.split() == ["after", "ZeroDivisionError", "before", "ZeroDivisionError"]
    assert mechanism(only_event(stub)) == ("excepthook", False)


def test_a_recursion_error_is_told(stub: Stub, tmp_path: Path) -> None:
    ended = run(
        """
        import crashfree
        crashfree.init(release="shop@1.0.0")
        def down():
            down()
        down()
        """,
        env=env(stub, tmp_path),
    )
    assert ended.returncode == 1
    event = only_event(stub)
    assert event["exception"]["values"][0]["type"] == "RecursionError"
    assert len(event["exception"]["values"][0]["stacktrace"]["frames"]) == 250
    assert status(stub) == "crashed"
