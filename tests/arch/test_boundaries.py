"""The places where running errors stop can be listed, so they can be trusted."""

from __future__ import annotations

import ast

from tests.arch.test_floors import MODULES

EXPECTED = "boundaries.txt"


def boundaries() -> list[str]:
    found: list[str] = []
    for module, path in MODULES.items():
        if not module.startswith("crashfree.") or module.startswith(
            ("crashfree.server", "crashfree.management", "crashfree._cli.")
        ):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and any(
                "boundary" in ast.unparse(decorator) for decorator in node.decorator_list
            ):
                found.append(f"{module}.{node.name}")
    return sorted(found)


def test_the_list_of_boundaries_is_the_one_we_know() -> None:
    """A new boundary is a decision: add it to boundaries.txt and say why in its commit."""
    from pathlib import Path

    known = (Path(__file__).parent / EXPECTED).read_text(encoding="utf-8").split()
    assert boundaries() == known


def test_every_public_function_that_may_run_in_a_program_has_a_boundary() -> None:
    tree = ast.parse(MODULES["crashfree._api"].read_text(encoding="utf-8"))
    bare = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and not any("boundary" in ast.unparse(d) for d in node.decorator_list)
    }
    # init raises on purpose; the others only hand out what is there.
    assert bare == {
        "init", "last_event_id", "get_global_scope", "get_isolation_scope", "get_current_scope",
        "propagate_scope", "get_client", "is_initialized", "stats",
    }  # fmt: skip
