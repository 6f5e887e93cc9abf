from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from crashfree.errors import ConfigurationError
from crashfree.server import LocalServer
from tests.support.serving import ask, request, send


def test_it_answers_inside_the_block_and_not_after_it() -> None:
    with LocalServer() as server:
        url = server.url
        assert send(server, b"{}\n").status == 200
        assert urlsplit(url).hostname == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        request(url, "GET", "/")


def test_its_dsn_is_one_that_every_client_can_read() -> None:
    with LocalServer() as server:
        dsn = urlsplit(server.dsn)
        assert dsn.scheme == "http"
        assert len(dsn.username or "") == 32
        assert dsn.path == "/1"
        assert f"http://127.0.0.1:{dsn.port}" == server.url


def test_two_servers_do_not_know_each_other() -> None:
    with LocalServer() as one, LocalServer() as other:
        assert one.url != other.url
        assert one.token != other.token
        answer = request(
            other.url,
            "GET",
            "/api/0/organizations/crashfree/projects/",
            headers=[("Authorization", f"Bearer {one.token}")],
        )
        assert answer.status == 401


def test_each_project_has_its_own_dsn() -> None:
    with LocalServer(projects=("app", "web")) as server:
        dsns = server.project_dsns
        assert set(dsns) == {"app", "web"}
        assert dsns["app"] == server.dsn
        assert dsns["web"] == server.dsn_of("web") != server.dsn
        with pytest.raises(ConfigurationError, match="nobody"):
            server.dsn_of("nobody")


def test_its_data_goes_with_it_unless_a_file_is_named(tmp_path: Path) -> None:
    with LocalServer() as server:
        temporary = server.store.path
        assert os.path.exists(temporary)
    assert not os.path.exists(os.path.dirname(temporary))
    with LocalServer(database=tmp_path / "kept.db"):
        pass
    assert (tmp_path / "kept.db").exists()


def test_starting_and_stopping_twice_is_fine() -> None:
    server = LocalServer()
    assert server.start() is server
    url = server.url
    assert server.start().url == url
    server.stop()
    server.stop()
    with pytest.raises(ConfigurationError, match="not been started"):
        assert server.url


def test_it_can_be_started_again_at_another_address() -> None:
    server = LocalServer()
    for _ in range(2):
        with server:
            assert send(server, b"{}\n").status == 200


def test_it_leaves_no_thread_behind() -> None:
    before = {thread.name for thread in threading.enumerate()}
    with LocalServer() as server:
        assert ask(server, "projects/").status == 200
    names = {thread.name for thread in threading.enumerate()} - before
    assert not any(name.startswith("crashfree-server") for name in names)


def test_its_organization_and_token_can_be_chosen() -> None:
    with LocalServer(organization="acme", token="secret-token") as server:
        assert (server.organization, server.token) == ("acme", "secret-token")
        assert ask(server, "projects/").status == 200


@pytest.mark.parametrize(
    "wish",
    [
        {"host": "0.0.0.0"},
        {"host": "0.0.0.0", "allow_remote": True},
        {"projects": ()},
        {"projects": ("Not A Slug",)},
        {"projects": ("123",)},
        {"settings": {"colour": "red"}},
        {"settings": {"retention_days": 0}},
        {"settings": {"max_events": -1}},
        {"organization": "../elsewhere"},
        {"organization": ""},
        {"forward": "nonsense"},
        {"database": "/nowhere/at/all.db"},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_at_the_start(wish: dict[str, object]) -> None:
    server = LocalServer(**wish)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        server.start()


def test_another_address_needs_a_flag_and_a_token() -> None:
    with LocalServer(host="0.0.0.0", allow_remote=True, token="t") as server:
        port = urlsplit(server.url).port
        assert request(f"http://127.0.0.1:{port}", "GET", "/nowhere").status == 404


def test_a_port_in_use_is_a_configuration_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)):
            LocalServer(port=port).start()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    file.write_bytes(b"not a database at all, but long enough to be read as one" * 50)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        LocalServer(database=file).start()


_WITHOUT = """
import sys
for name in ("starlette", "uvicorn"):
    sys.modules[name] = None
from crashfree.errors import ConfigurationError
from crashfree.server import LocalServer
try:
    LocalServer().start()
except ConfigurationError as error:
    print(error)
"""


def test_without_the_extra_it_says_which_one_is_missing() -> None:
    process = subprocess.run(
        [sys.executable, "-c", _WITHOUT], capture_output=True, text=True, timeout=60, check=True
    )
    assert "pip install 'crashfree[server]'" in process.stdout


_FORKED = """
import os, sys, threading
from crashfree.server import LocalServer
server = LocalServer().start()
pid = os.fork()
if not pid:
    server.stop()
    os._exit(0)
_, status = os.waitpid(pid, 0)
import urllib.request, urllib.error
try:
    urllib.request.urlopen(server.url + "/nowhere", timeout=10)
except urllib.error.HTTPError as error:
    print("alive", error.code, status)
server.stop()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_stop_its_parents_server() -> None:
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKED],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert process.stdout.strip() == "alive 404 0"
