"""What the machine says."""

from __future__ import annotations

from pathlib import Path

import pytest

from crashfree._sessions.evidence import Evidence, decode_record, read, run_record
from tests.support.units import ATTRIBUTES


def machine(root: Path, files: dict[str, str]) -> Evidence:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read(str(root))


BOOT = {"proc/sys/kernel/random/boot_id": "b1\n"}


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    assert machine(tmp_path, {}) == Evidence(None, None, None)


def test_the_counter_of_the_own_control_group(tmp_path: Path) -> None:
    files = BOOT | {
        "proc/self/cgroup": "0::/user.slice/app\n",
        "sys/fs/cgroup/user.slice/app/memory.events": "low 0\noom 4\noom_kill 3\n",
        "sys/fs/cgroup/memory.events": "oom_kill 9\n",
    }
    assert machine(tmp_path, files) == Evidence("b1", 3, "/user.slice/app")


def test_inside_a_container_the_group_is_the_root(tmp_path: Path) -> None:
    files = BOOT | {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.events": "oom_kill 2\n",
    }
    assert machine(tmp_path, files) == Evidence("b1", 2, "/")


def test_the_first_version_of_control_groups(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:cpu:/a\n4:blkio,memory:/docker/x\n",
        "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    }
    assert machine(tmp_path, files) == Evidence(None, 1, "/docker/x")


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill many\n", "oom 3\n"])
def test_a_counter_that_cannot_be_read_is_not_known(tmp_path: Path, text: str) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.events": text}
    assert machine(tmp_path, files).oom_kills is None


def test_a_record_is_read_as_it_was_written() -> None:
    evidence = Evidence("b1", 3, "/app")
    data = run_record(ATTRIBUTES, evidence, started=12.5, defaults={"dist": "1"}, clean=True)
    record = decode_record(data)
    assert record is not None
    assert record.evidence == evidence
    assert (record.started, record.attributes, record.clean) == (12.5, ATTRIBUTES, True)
    assert record.defaults == {"dist": "1"}


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'"x"', b'{"format":"crashfree run 1"}'])
def test_other_bytes_are_no_record(data: bytes) -> None:
    assert decode_record(data) is None
