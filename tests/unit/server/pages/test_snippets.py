"""Every snippet of the setup is what it says: a program with the DSN in it."""

from __future__ import annotations

import shlex

import pytest

from crashfree.server.pages.snippets import SNIPPETS, Snippet, find

VALUES = {
    "dsn": "http://0123456789abcdef0123456789abcdef@127.0.0.1:8787/1",
    "package": "shop",
    "url": "http://127.0.0.1:8787",
    "organization": "crashfree",
    "project": "shop",
}


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda each: each.id)
def test_a_snippet_can_be_read_by_what_it_is_for(snippet: Snippet) -> None:
    text = snippet.filled(VALUES)
    assert (VALUES["url"] if snippet.id == "ci" else VALUES["dsn"]) in text
    assert "{" not in text.replace('{"', "").replace("{amount}", "")
    if snippet.language == "python":
        compile(text, snippet.id, "exec")
    else:
        for line in text.splitlines():
            assert shlex.split(line, comments=True)


def test_snippets_are_found_by_their_ids() -> None:
    assert find("") is SNIPPETS[0]
    assert find("flask") is SNIPPETS[1]
    assert find("cobol") is None
