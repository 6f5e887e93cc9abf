"""What is true of every view: the policy, the frame, and what is said when something is wrong."""

from __future__ import annotations

import re

import pytest

from crashfree.server import LocalServer
from tests.support.reading import Reader


@pytest.fixture(scope="module")
def visitor(server: LocalServer) -> Reader:
    return Reader(server)


VIEWS = ["/releases", "/counts", "/issues", "/setup", "/settings"]


@pytest.mark.parametrize("path", VIEWS)
def test_a_view_brings_no_script_or_style_of_its_own(visitor: Reader, path: str) -> None:
    page = visitor.open(path)
    policy = page.answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for node in page.root.walk():
        assert "style" not in node.attributes, node.tag
        assert not [name for name in node.attributes if name.startswith("on")], node.tag
        if node.tag == "script":
            assert node.attributes.get("type") == "application/json" or node["src"]
    assert not page.root.all("style")


@pytest.mark.parametrize("path", VIEWS)
def test_everything_a_view_loads_comes_from_this_server(visitor: Reader, path: str) -> None:
    for node in visitor.open(path).root.walk():
        for name in ("src", "href", "action"):
            value = node.attributes.get(name, "/")
            if node.tag != "a":
                assert re.match(r"/(?!/)", value), (node.tag, value)


@pytest.mark.parametrize("path", VIEWS)
def test_a_view_can_be_found_one_s_way_in_by_keyboard_and_ear(visitor: Reader, path: str) -> None:
    root = visitor.open(path).root
    assert root.one("html")["lang"] == "en"
    assert len(root.all("h1")) == 1
    assert root.one("a", class_="skip")["href"] == "#" + root.one("main")["id"]
    assert root.one("nav", aria_label="Views").one(aria_current="page").text
    for table in root.all("table"):
        assert table.one("caption").text
        assert all("scope" in head.attributes for head in table.all("th"))
    labelled = {node["for"] for node in root.all("label") if "for" in node.attributes}
    within = {id(node) for label in root.all("label") for node in label.walk()}
    for field in [*root.all("input"), *root.all("select"), *root.all("textarea")]:
        if field.attributes.get("type") != "hidden":
            named = "aria-label" in field.attributes or field.attributes.get("id") in labelled
            assert named or id(field) in within, field.attributes


def test_an_address_that_is_not_there_is_a_page_that_says_so(visitor: Reader) -> None:
    answer = visitor.ask("/nowhere", "GET", ("Accept", "text/html"))
    assert answer.status == 404
    assert b"There is no such page" in answer.body


def test_a_program_gets_json_for_an_address_that_is_not_there(visitor: Reader) -> None:
    answer = visitor.ask("/nowhere")
    assert (answer.status, answer.json["detail"]) == (404, "The requested resource does not exist")


def test_a_release_that_is_not_there_is_said_so(visitor: Reader) -> None:
    page = visitor.open("/releases/nothing@1", 404)
    assert page.root.one(role="alert").text == "The requested resource does not exist"


def test_a_wrong_range_is_told_in_the_api_s_words(visitor: Reader) -> None:
    page = visitor.open("/releases?statsPeriod=2x", 400)
    assert page.root.one(role="alert").text == "Invalid statsPeriod: '2x'"


def test_an_asset_is_kept_for_as_long_as_it_is_true(visitor: Reader) -> None:
    (style, *_) = visitor.open("/releases").root.all("link", rel="stylesheet")
    kept = visitor.ask(style["href"])
    assert "immutable" in kept.headers["Cache-Control"]
    assert kept.headers["Content-Type"].startswith("text/css")
    other = visitor.ask(style["href"].partition("?")[0])
    assert other.headers["Cache-Control"] == "no-cache"


def test_there_is_nothing_else_among_the_assets(visitor: Reader) -> None:
    assert visitor.ask("/static/..%2fapp.py").status == 404
    assert visitor.ask("/static/secret.txt").status == 404
