from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crashfree.errors import InvalidDsn
from crashfree.server import discovery

_READY = {"dsn": "http://k@127.0.0.1:1/1", "token": "t"}


def test_a_server_that_announced_itself_is_found(tmp_path: Path) -> None:
    directory = str(tmp_path / "state")
    path = discovery.announce(directory, _READY)
    assert discovery.local_dsn(directory) == _READY["dsn"]
    if os.name == "posix":
        assert os.stat(path).st_mode & 0o777 == 0o600
    discovery.withdraw(directory)
    with pytest.raises(InvalidDsn, match="crashfree serve"):
        discovery.local_dsn(directory)


def test_without_a_server_the_way_to_start_one_is_told(tmp_path: Path) -> None:
    for directory in (None, str(tmp_path / "nowhere")):
        with pytest.raises(InvalidDsn, match="crashfree serve"):
            discovery.local_dsn(directory)


@pytest.mark.skipif(os.name != "posix", reason="asks for a process by its number")
def test_a_server_that_died_without_a_word_is_not_found(tmp_path: Path) -> None:
    code = (
        f"from crashfree.server import discovery;discovery.announce({str(tmp_path)!r}, {_READY!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(InvalidDsn, match="has ended"):
        discovery.local_dsn(str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_server_whose_parent_has_not_asked_for_its_end_is_not_found(tmp_path: Path) -> None:
    """As in a container without an init: its number stays taken."""
    code = (
        f"from crashfree.server import discovery;discovery.announce({str(tmp_path)!r}, {_READY!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(InvalidDsn, match="has ended"):
            discovery.local_dsn(str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_another_process_with_the_number_of_the_server_is_not_the_server(tmp_path: Path) -> None:
    path = Path(discovery.announce(str(tmp_path), _READY))
    told = json.loads(path.read_bytes())
    assert discovery.local_dsn(str(tmp_path)) == _READY["dsn"]
    path.write_text(json.dumps({**told, "began": told["began"] + 1}))
    with pytest.raises(InvalidDsn, match="has ended"):
        discovery.local_dsn(str(tmp_path))


def test_another_servers_word_is_not_taken_back(tmp_path: Path) -> None:
    file = tmp_path / discovery.FILE
    file.write_text('{"dsn":"http://k@127.0.0.1:1/1","pid":1}')
    discovery.withdraw(str(tmp_path))
    assert file.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"dsn":5,"pid":1}', "\udcff"])
def test_a_file_that_says_nothing_is_no_server(tmp_path: Path, text: str) -> None:
    (tmp_path / discovery.FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidDsn):
        discovery.local_dsn(str(tmp_path))
