from __future__ import annotations

import re
from typing import Any

import pytest

from crashfree.server import catalog_api
from crashfree.server.app import routes
from crashfree.server.openapi import PATH, describe, described
from tests.support.catalog import catalog

ROUTES = routes()
DESCRIPTION = describe(ROUTES, catalog_api.BODIES, catalog_api.QUERIES)
OPERATIONS = [
    (path, method, operation)
    for path, entry in DESCRIPTION["paths"].items()
    for method, operation in entry.items()
    if method != "parameters"
]


def test_every_route_of_the_api_is_described_and_nothing_else() -> None:
    served = {
        (path, method.lower())
        for path, handlers in described(ROUTES).items()
        for method in handlers
    }
    assert {(path, method) for path, method, _ in OPERATIONS} == served
    assert (PATH, "get") in served
    assert len(served) > 80


def test_every_operation_has_a_summary_and_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))
    for path, method, operation in OPERATIONS:
        assert operation["summary"], (path, method)
        assert "401" in operation["responses"]


def test_every_parameter_of_a_path_is_declared() -> None:
    for path, entry in DESCRIPTION["paths"].items():
        named = re.findall(r"\{(\w+)\}", path)
        assert [parameter["name"] for parameter in entry.get("parameters", [])] == named
        for parameter in entry.get("parameters", []):
            assert parameter["description"] != parameter["name"], "say what it is"


def test_every_body_belongs_to_an_operation() -> None:
    known = {(method.upper(), path) for path, method, _ in OPERATIONS}
    assert set(catalog_api.BODIES) <= known
    assert set(catalog_api.QUERIES) <= known
    for path, method, operation in OPERATIONS:
        if (method.upper(), path) in catalog_api.BODIES:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            assert schema["type"] == "object"


def test_references_lead_somewhere() -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if "$ref" in value else []
            return own + [found for entry in value.values() for found in references(entry)]
        if isinstance(value, list):
            return [found for entry in value for found in references(entry)]
        return []

    for reference in set(references(DESCRIPTION)):
        target: Any = DESCRIPTION
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


@pytest.mark.slow
def test_every_described_path_is_served() -> None:
    """Asked with names that do not exist, each answers in its own words, never with a 405."""
    with catalog() as c:
        shown = c.get(PATH)
        assert set(shown["paths"]) == set(DESCRIPTION["paths"])
        assert shown["servers"] == [{"url": c.server.url}]
        c.release("a@1")
        names = {"organization": c.server.organization, "project": "web", "version": "a@1"}
        for path, method, _ in OPERATIONS:
            concrete = re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], "0"), path)
            answer = c.answer(method.upper(), concrete)
            assert answer.status in (200, 201, 202, 204, 208, 400, 404), (method, path, answer.body)
            if answer.status == 404:
                assert answer.json["detail"] != "not found", (method, path)
