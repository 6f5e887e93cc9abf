from __future__ import annotations

from typing import Any

import pytest

from crashfree.server.suspects import (
    Change,
    committers,
    frame_paths,
    matches,
    score,
    suggested,
    suspects,
)
from tests.support.vectors import load

VECTORS = load("suspect_commits.json")


@pytest.mark.parametrize("case", VECTORS["scores"], ids=str)
def test_a_score_counts_agreeing_trailing_parts(case: dict[str, Any]) -> None:
    assert score(case["a"], case["b"]) == case["score"]
    assert score(case["b"], case["a"]) == case["score"]


def numbered(scene: dict[str, Any]) -> tuple[list[Change], dict[int, int | None]]:
    changes = [Change(int(row["commit"][1:]), row["path"]) for row in scene["file_changes"]]
    authors = {
        int(row["id"][1:]): None if row["author"] is None else int(row["author"])
        for row in scene["commits"]
    }
    return changes, authors


@pytest.mark.parametrize("scene", VECTORS["scenarios"], ids=lambda scene: scene["name"])
def test_frames_find_their_commits(scene: dict[str, Any]) -> None:
    changes, _ = numbered(scene)
    for path, expected in scene["path_matches"].items():
        found = [
            {"commit": f"c{match.commit}", "score": match.score} for match in matches(path, changes)
        ]
        assert found == expected


@pytest.mark.parametrize("scene", VECTORS["scenarios"], ids=lambda scene: scene["name"])
def test_the_ranking_is_the_originals_turned_round(scene: dict[str, Any]) -> None:
    """Walking the frames as the original does, only the order of the answer differs."""
    changes, authors = numbered(scene)
    ranked = committers(scene["frames_oldest_first"], changes, authors)
    found = [
        {
            "author": str(entry.author),
            "commits": [
                {"id": f"c{match.commit}", "score": match.score} for match in entry.commits
            ],
        }
        for entry in reversed(ranked)
    ]
    assert found == scene["committers_in_server_order"]
    assert {str(author) for author in suggested(reversed(ranked))} == set(
        scene["suggested_owner_author_ids"]
    )


def test_the_newest_frame_weighs_most() -> None:
    event = {
        "exception": {
            "values": [
                {
                    "stacktrace": {
                        "frames": [
                            {"filename": "src/old.py", "in_app": True},
                            {"filename": "site-packages/x.py"},
                            {"filename": "src/new.py", "in_app": True},
                        ]
                    }
                }
            ]
        }
    }
    changes = [Change(1, "src/old.py"), Change(2, "src/new.py"), Change(3, "site-packages/x.py")]
    ranked = suspects(event, changes, {1: 10, 2: 20, 3: 30})
    assert [entry.author for entry in ranked] == [20, 10]
    assert suggested(ranked) == [20, 10]


def test_the_path_of_a_java_frame_comes_from_its_module() -> None:
    event = {
        "platform": "java",
        "threads": {
            "values": [
                {"stacktrace": {"frames": [{"filename": "no"}]}},
                {
                    "crashed": True,
                    "stacktrace": {
                        "frames": [
                            {"module": "com.x.Main", "filename": "Main.java"},
                            {"abs_path": "/a"},
                        ]
                    },
                },
            ]
        },
    }
    assert frame_paths(event) == ["com/x/Main.java", "/a"]


def test_only_the_last_25_frames_are_looked_at() -> None:
    frames = [{"filename": f"f{number}.py"} for number in range(40)]
    assert frame_paths({"stacktrace": {"frames": frames}}) == [f"f{n}.py" for n in range(15, 40)]
