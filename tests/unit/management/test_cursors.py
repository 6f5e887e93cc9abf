"""The Link header. Source: releases.md section 4.2."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crashfree.management.cursors import next_cursor


def link(rel: str, results: str, cursor: str) -> str:
    url = f"<https://s/api/0/x/?a=1,2&cursor={cursor}>"
    return f'{url}; rel="{rel}"; results="{results}"; cursor="{cursor}"'


def test_the_next_page_is_named_by_its_cursor() -> None:
    header = f"{link('previous', 'false', '100:0:1')}, {link('next', 'true', '100:1:0')}"
    assert next_cursor(header) == "100:1:0"


def test_a_next_page_without_results_is_none() -> None:
    assert next_cursor(link("next", "false", "100:1:0")) is None


def test_commas_inside_an_address_do_not_part_the_header() -> None:
    assert next_cursor(f"{link('next', 'true', '100:2:0')}") == "100:2:0"


def test_no_header_is_the_last_page() -> None:
    assert next_cursor(None) is None
    assert next_cursor("") is None


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    found = next_cursor(text)
    assert found is None or found
