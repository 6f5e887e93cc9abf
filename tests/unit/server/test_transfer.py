from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crashfree.server import LocalServer, transfer
from crashfree.server.running import open_store
from crashfree.server.store import Store
from tests.support.clock import FakeClock
from tests.support.serving import ask, envelope, rfc3339, send, session

_START = 1_790_000_000.0 // 86_400 * 86_400
_FIELDS = (
    "sum(session)",
    "count_unique(user)",
    "crash_free_rate(session)",
    "crash_free_rate(user)",
    "errored_rate(user)",
    "p50(session.duration)",
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    clock = FakeClock(_START + 3600)
    path = tmp_path_factory.mktemp("db") / "filled.db"
    with LocalServer(clock=clock, database=path, projects=("app", "web")) as server:
        for number in range(40):
            update = session(
                _START + 60.25 * number,
                release=f"shop@1.{number % 3}",
                environment="production" if number % 2 else None,
                init=True,
                **({"did": f"user-{number % 7}"} if number % 5 else {}),
                status="crashed" if number % 9 == 0 else "exited",
                duration=number * 1.5,
            )
            assert (
                send(
                    server, envelope(("session", update)), project=("app", "web")[number % 2]
                ).status
                == 200
            )
        buckets = {
            "attrs": {"release": "=shop@1.0"},
            "aggregates": [
                {"started": rfc3339(_START), "exited": 5, "crashed": 1, "did": "user-1"},
                {"started": rfc3339(_START + 60), "errored": 2},
            ],
        }
        assert send(server, envelope(("sessions", buckets))).status == 200
        event = {"message": "=1+1", "release": "shop@1.0", "level": "warning"}
        assert send(server, envelope(("event", event))).status == 200
        yield server


def _lines(store: Store, **options: Any) -> list[dict[str, Any]]:
    with store.read() as db:
        return list(transfer.export_lines(db, at=_START, **options))


def _encoded(lines: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(line).encode() for line in lines]


def _numbers(server: LocalServer) -> Any:
    answer = ask(
        server,
        "sessions/",
        start=rfc3339(_START),
        end=rfc3339(_START + 86_400),
        interval="1h",
        field=_FIELDS,
        groupBy=("release", "environment"),
    )
    assert answer.status == 200
    return answer.json["groups"]


def test_what_is_taken_in_elsewhere_says_the_same(filled: LocalServer, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    store = open_store(str(path))
    exported = _lines(filled.store)
    counts = transfer.import_lines(store, _encoded(exported), at=_START)
    assert counts == {"project": 2, "release": 4, "session": 40, "aggregate": 2, "event": 1}
    store.close()
    clock = FakeClock(_START + 7200)
    with LocalServer(clock=clock, database=path, projects=("app", "web")) as other:
        assert _numbers(other) == _numbers(filled)
        again = _lines(other.store)
        hidden = ("user", "type")
        strip = [{k: v for k, v in line.items() if k not in hidden} for line in again[1:]]
        assert strip == [
            {k: v for k, v in line.items() if k not in hidden} for line in exported[1:]
        ]


def test_the_same_export_is_taken_once(filled: LocalServer, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "x.db"))
    exported = _encoded(_lines(filled.store))
    transfer.import_lines(store, exported, at=_START)
    with pytest.raises(transfer.AlreadyTaken):
        transfer.import_lines(store, exported, at=_START)
    transfer.import_lines(store, exported, at=_START, again=True)
    with store.read() as db:
        assert db.execute("SELECT count(*) FROM sessions").fetchone()[0] == 40
        assert db.execute("SELECT count(*) FROM events").fetchone()[0] == 1
        assert db.execute("SELECT sum(exited) FROM aggregates").fetchone()[0] == 10
    store.close()


def test_no_user_is_readable_in_an_export(filled: LocalServer) -> None:
    assert "user-1" not in json.dumps(_lines(filled.store))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kinds": ["session"]}, {"session": 40}),
        ({"kinds": ["session"], "projects": {1: "app"}}, {"session": 20}),
        ({"kinds": ["session"], "since": _START + 60.25 * 30}, {"session": 10}),
        ({"kinds": ["session"], "until": _START + 60.25 * 30}, {"session": 30}),
        ({"kinds": ["aggregate", "project"]}, {"aggregate": 2, "project": 2}),
    ],
)
def test_a_part_can_be_exported(
    filled: LocalServer, options: dict[str, Any], expected: dict[str, int]
) -> None:
    found: dict[str, int] = {}
    for line in _lines(filled.store, **options)[1:]:
        found[line["type"]] = found.get(line["type"], 0) + 1
    assert found == expected


def test_csv_has_a_row_each_and_no_formula(filled: LocalServer) -> None:
    """A spreadsheet would run a cell that begins with `=`."""
    out = io.StringIO()
    assert transfer.write_csv(_lines(filled.store), "aggregate", out) == 2
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["release"] for row in rows] == ["'=shop@1.0"] * 2
    assert [row["exited"] for row in rows] == ["5", "0"]
    out = io.StringIO()
    assert transfer.write_csv(_lines(filled.store), "session", out) == 40


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1"),
        ([b"{}"], "line 1"),
        ([b"nonsense"], "line 1"),
        ([b'{"type":"export","format":99,"id":"x"}'], "line 1"),
        ([b'{"type":"export","format":1,"id":"x"}', b"[]"], "line 2"),
        ([b'{"type":"export","format":1,"id":"x"}', b"", b'{"type":"weather"}'], "line 3"),
        ([b'{"type":"export","format":1,"id":"x"}', b'{"type":"session"}'], "line 2"),
    ],
)
def test_a_file_that_is_no_export_is_refused_by_line(
    tmp_path: Path, lines: list[bytes], said: str
) -> None:
    store = open_store(str(tmp_path / "x.db"))
    with pytest.raises(transfer.BadExport, match=said):
        transfer.import_lines(store, lines, at=_START)
    store.close()


def test_a_backup_is_the_same_database(filled: LocalServer, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    transfer.backup(filled.store, str(copy))
    store = open_store(str(copy))
    assert _lines(store)[1:] == _lines(filled.store)[1:]
    store.close()
