"""Pages of a list: their `Link` header."""

from __future__ import annotations

import re
from urllib.parse import unquote

from tests.support.catalog import catalog


def test_the_next_page_of_any_name_can_be_asked_for() -> None:
    """A path may hold what a header may not: it is quoted there, and leads to the same place."""
    version = "shop@\u202e1.0 \u00fc\u20ac"
    with catalog() as shop:
        commits = [shop.commit(key, repository="acme/shop") for key in "ab"]
        shop.release(version, commits=commits)
        path = shop.of(version, "commits/", per_page=1)
        first = shop.answer("GET", path)
        assert first.status == 200
        found = re.search(
            r'<[^>]*?(/api/[^>]*)>; rel="next"; results="true"', first.headers["Link"]
        )
        assert found is not None
        assert version in unquote(found[1])
        second = shop.answer("GET", found[1])
        shown = [entry["id"] for entry in (*first.json, *second.json)]
        assert sorted(shown) == ["a" * 40, "b" * 40]
