"""From a script to a number: the first five minutes of a new user, as real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.program import environment, run
from tests.support.stub import Stub

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        yield server


def env(stub: Stub, spool: Path) -> dict[str, str]:
    return {"SENTRY_DSN": stub.dsn, "CRASHFREE_SPOOL_DIR": str(spool)}


def test_a_crash_arrives_as_one_envelope_with_event_and_session(stub: Stub, tmp_path: Path) -> None:
    ended = run(
        """
        import crashfree
        crashfree.init(release="shop@1.0.0")
        crashfree.set_user({"id": 42})
        def pay(amount):
            return 100 / amount
        pay(0)
        """,
        env=env(stub, tmp_path),
    )
    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr, "the program's own traceback is still printed"
    [request] = stub.requests
    assert [kind for kind, _ in request.items] == ["event", "session"]
    event, session = (payload for _, payload in request.items)
    [value] = event["exception"]["values"]
    assert value["type"] == "ZeroDivisionError"
    assert value["mechanism"] == {
        "type": "excepthook",
        "handled": False,
        "exception_id": 0,
    }
    assert [frame["function"] for frame in value["stacktrace"]["frames"]] == ["<module>", "pay"]
    assert event["release"] == "shop@1.0.0"
    assert event["level"] == "error"
    assert (session["status"], session["errors"], session["init"]) == ("crashed", 1, True)
    assert (session["did"], session["seq"]) == ("42", 0)
    assert session["attrs"] == {"release": "shop@1.0.0", "environment": "production"}
    assert session["duration"] >= 0
    assert request.envelope.sent_at is not None


def test_a_run_that_goes_well_sends_one_update(stub: Stub, tmp_path: Path) -> None:
    ended = run('import crashfree; crashfree.init(release="shop@1.0.0")', env=env(stub, tmp_path))
    assert (ended.returncode, ended.stderr) == (0, "")
    [request] = stub.requests
    [(kind, session)] = request.items
    assert kind == "session"
    assert (session["status"], session["errors"], session["init"]) == ("exited", 0, True)


@pytest.mark.parametrize("attempt", range(6))
def test_what_was_sent_is_not_left_on_disk_as_well(
    stub: Stub, tmp_path: Path, attempt: int
) -> None:
    """The last update must not go out again at the next start: its `init` would count twice."""
    ended = run(
        'import crashfree; crashfree.init(release="a@1"); crashfree.capture_message("x")',
        env=env(stub, tmp_path),
    )
    assert ended.returncode == 0
    assert len(stub.items("session")) == 1
    assert [path.name for path in tmp_path.rglob("*.envelope")] == []


def test_a_handled_error_and_a_message(stub: Stub, tmp_path: Path) -> None:
    ended = run(
        """
        import crashfree
        crashfree.init(release="shop@1.0.0")
        try:
            int("x")
        except ValueError as error:
            first = crashfree.capture_exception(error)
        second = crashfree.capture_message("almost")
        assert crashfree.last_event_id() == second != first
        """,
        env=env(stub, tmp_path),
    )
    assert ended.returncode == 0, ended.stderr
    error, message = stub.items("event")
    assert error["exception"]["values"][0]["mechanism"]["handled"] is True
    assert message["logentry"]["formatted"] == message["message"] == "almost"
    last = stub.items("session")[-1]
    assert (last["status"], last["errors"]) == ("exited", 1)
    assert [update.get("init", False) for update in stub.items("session")].count(True) == 1


@pytest.mark.parametrize(
    ("last_line", "status", "code"),
    [
        ("sys.exit(3)", "exited", 3),
        ("raise KeyboardInterrupt", "exited", None),
        ("raise SystemExit('no')", "exited", 1),
    ],
)
def test_ending_by_will_is_no_crash(
    stub: Stub, tmp_path: Path, last_line: str, status: str, code: int | None
) -> None:
    ended = run(
        f"import sys, crashfree\ncrashfree.init(release='shop@1.0.0')\n{last_line}",
        env=env(stub, tmp_path),
    )
    if code is not None:
        assert ended.returncode == code
    [session] = stub.items("session")
    assert session["status"] == status
    assert stub.items("event") == []


def test_without_a_release_events_go_and_sessions_do_not_and_one_warning_says_so(
    stub: Stub, tmp_path: Path
) -> None:
    ended = run(
        """
        import crashfree
        for _ in range(2):
            crashfree.init()
        crashfree.capture_message("still here")
        """,
        env=env(stub, tmp_path),
        cwd=tmp_path,
    )
    assert ended.returncode == 0
    assert stub.items("session") == []
    [event] = stub.items("event")
    assert "release" not in event
    assert ended.stderr.count("no release was found") == 1
    assert "crashfree.init(release='myapp@1.0.0')" in ended.stderr


def test_a_bad_argument_leaves_the_client_that_was_there_at_work(
    stub: Stub, tmp_path: Path
) -> None:
    ended = run(
        """
        import crashfree
        client = crashfree.init(release="shop@1.0.0")
        for wrong in ({"dsn": "http//"}, {"release": "a/b"}, {"realease": "a@1"}, {"debug": 1}):
            try:
                crashfree.init(**wrong)
            except crashfree.ConfigurationError as error:
                print(type(error).__name__, error)
        assert crashfree.get_client() is client
        crashfree.capture_message("still here")
        """,
        env=env(stub, tmp_path),
    )
    assert ended.returncode == 0, ended.stderr
    names = [line.split()[0] for line in ended.stdout.splitlines()]
    assert names == ["InvalidDsn", "InvalidRelease", "ConfigurationError", "ConfigurationError"]
    assert "did you mean release=" in ended.stdout
    assert [event["message"] for event in stub.items("event")] == ["still here"]
    assert len(stub.items("session")) == 1


def test_disabled_by_a_variable_nothing_happens(stub: Stub, tmp_path: Path) -> None:
    ended = run(
        "import crashfree; crashfree.init(release='a@1'); crashfree.capture_message('x')",
        env={**env(stub, tmp_path), "CRASHFREE_DISABLED": "1"},
    )
    assert ended.returncode == 0
    assert stub.requests == []


@pytest.mark.slow
def test_the_quickstart_agrees_with_the_truth(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    ended = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "quickstart.py")],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "server and truth agree" in ended.stdout
    rows = [line.split() for line in ended.stdout.splitlines()]
    assert any(row[:2] == ["shop@2.0.0", "server"] for row in rows)
