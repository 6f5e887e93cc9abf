"""Who a session belongs to."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from crashfree._sessions.identity import did_of, installation_id


@pytest.mark.parametrize(
    ("user", "did"),
    [
        (None, None),
        ({}, None),
        ({"id": 42}, "42"),
        ({"id": 0}, "0"),
        ({"id": "u", "email": "e", "username": "n"}, "u"),
        ({"id": None, "email": "a@example.com"}, "a@example.com"),
        ({"id": "", "email": "  ", "username": "n"}, "n"),
        ({"name": "Ann", "ip_address": "10.0.0.1"}, None),
        ({"id": "00000000-0000-0000-0000-000000000000"}, None),
        ({"id": "0" * 32, "username": "n"}, "n"),
        ({"id": ["no", "text"], "username": "n"}, "n"),
        ({"id": True}, None),
        ({"id": "x" * 500}, "x" * 200),
    ],
)
def test_the_first_of_id_email_and_username_that_says_something(
    user: dict[str, object] | None, did: str | None
) -> None:
    """W17: a user with the number 0 is somebody."""
    assert did_of(user) == did


def test_an_installation_keeps_its_id(tmp_path: Path) -> None:
    path = tmp_path / "installation"
    first = installation_id(str(path))
    assert first is not None
    assert len(first) == 36
    assert installation_id(str(path)) == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["installation"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_processes_that_make_it_at_the_same_moment_agree(tmp_path: Path) -> None:
    for number in range(20):
        path = str(tmp_path / str(number))
        barrier = threading.Barrier(4)
        found: list[str | None] = []

        def make(
            path: str = path,
            barrier: threading.Barrier = barrier,
            found: list[str | None] = found,
        ) -> None:
            barrier.wait()
            found.append(installation_id(path))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(found)) == 1


def test_a_damaged_id_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "installation"
    path.write_text("garbage")
    made = installation_id(str(path))
    assert made is None or len(made) == 36


def test_without_a_place_there_is_none(tmp_path: Path) -> None:
    assert installation_id(str(tmp_path / "missing" / "installation")) is None


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symlinks here")
def test_a_planted_symlink_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("7b9a5c0e-0000-4000-8000-000000000001")
    path = tmp_path / "installation"
    path.symlink_to(target)
    assert installation_id(str(path)) != target.read_text()
