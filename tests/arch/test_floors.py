"""Imports go down the floors only, type-only and function-local ones included."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from tests.arch.floors import FLOORS, WORKSHOPS

ROOT = Path(__file__).parents[2]
ROOTS = (ROOT / "sdk", ROOT / "integrations")
OURS = ("crashfree", "crashfree_integrations")


def modules() -> Iterator[tuple[str, Path]]:
    for root in ROOTS:
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, path


MODULES = dict(modules())


def floor_of(module: str) -> tuple[int, str] | None:
    """The floor and the table's entry that says so."""
    probe = module
    while probe:
        if probe in FLOORS and (probe != "crashfree" or module == "crashfree"):
            return FLOORS[probe], probe
        probe = probe.rpartition(".")[0]
    return None


def imports(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in MODULES else node.module


def graph() -> Iterator[tuple[str, int, str]]:
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for line, target in imports(path, tree):
            if target.partition(".")[0] in OURS and target != name:
                yield name, line, target


def violations(edges: list[tuple[str, int, str]]) -> list[str]:
    found: list[str] = []
    for source, line, target in edges:
        here, there = floor_of(source), floor_of(target)
        assert here is not None, f"{source} has no floor: add it to tests/arch/floors.py"
        assert there is not None, f"{target} has no floor: add it to tests/arch/floors.py"
        if source == "crashfree" or here[1] == there[1]:
            continue
        if there[0] > here[0]:
            found.append(
                f"{source}:{line} (floor {here[0]}) reaches up to {target} (floor {there[0]})"
            )
        if there[0] == here[0] == WORKSHOPS:
            found.append(f"{source}:{line} visits its neighbour {target}")
        if source.startswith("crashfree_integrations") and any(
            part.startswith("_") for part in target.split(".")
        ):
            found.append(f"{source}:{line} imports the private {target}")
    return found


def test_every_module_has_a_floor() -> None:
    missing = [name for name in MODULES if floor_of(name) is None]
    assert not missing


def test_imports_go_down_the_floors() -> None:
    assert not violations(list(graph()))


def test_an_upward_import_is_noticed() -> None:
    edges = [("crashfree._protocol.envelope", 1, "crashfree._client.client")]
    assert violations(edges) == [
        "crashfree._protocol.envelope:1 (floor 1) reaches up to crashfree._client.client (floor 3)"
    ]
    assert violations([("crashfree._sessions.ledger", 1, "crashfree._delivery.spool")])
    assert violations([("crashfree_integrations.wsgi", 1, "crashfree._client.client")])


def test_the_import_graph_has_no_cycle() -> None:
    edges: dict[str, set[str]] = {}
    for source, _, target in graph():
        # A name taken from its own package's __init__ is the package's door, not an edge.
        if source != "crashfree":
            edges.setdefault(source, set()).add(target)
    done: set[str] = set()
    path: list[str] = []
    cycles: list[str] = []

    def visit(module: str) -> None:
        if module in path:
            cycles.append(" -> ".join([*path[path.index(module) :], module]))
            return
        if module in done:
            return
        path.append(module)
        for target in sorted(edges.get(module, ())):
            visit(target)
        path.pop()
        done.add(module)

    for module in sorted(edges):
        visit(module)
    assert len(done) > 200
    assert not cycles


def test_type_checking_blocks_stand_only_at_the_door() -> None:
    found = [
        name
        for name, path in MODULES.items()
        if name not in ("crashfree", "crashfree._ground.typed")
        and not name.startswith("crashfree_integrations")
        and "if TYPE_CHECKING" in path.read_text(encoding="utf-8")
    ]
    assert not found


def test_both_packages_are_importable_as_installed() -> None:
    for package in OURS:
        assert importlib.util.find_spec(package) is not None
