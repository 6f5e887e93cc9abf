"""In-app or not: the first rule that hits decides. Source: wire.md section 6.4."""

from __future__ import annotations

import os

import pytest

from crashfree._capture.inapp import InApp

STDLIB = os.path.dirname(os.__file__)


@pytest.mark.parametrize(
    ("module", "path", "expected"),
    [
        ("shop.cart", "/srv/shop/cart.py", True),
        (None, "/srv/shop/cart.py", True),
        ("flask.app", "/venv/lib/python3.11/site-packages/flask/app.py", False),
        ("flask.app", "/usr/lib/python3/dist-packages/flask/app.py", False),
        ("flask.app", "C:\\venv\\Lib\\site-packages\\flask\\app.py", False),
        ("json.decoder", f"{STDLIB}/json/decoder.py", False),
        ("importlib._bootstrap", "<frozen importlib._bootstrap>", False),
        ("__main__", "<string>", True),
        ("crashfree._client.client", "/home/me/crashfree/sdk/crashfree/_client/client.py", False),
        ("crashfree_tools.run", "/srv/crashfree_tools/run.py", True),
        ("mylib", "/venv/site-packages/mylib/__init__.py", True),
        ("mylib.sub", "/venv/site-packages/mylib/sub.py", True),
        ("mylibrary", "/venv/site-packages/mylibrary/__init__.py", False),
        ("noisy.inner", "/srv/noisy/inner.py", False),
        ("noisyneighbour", "/srv/noisyneighbour.py", True),
    ],
)
def test_a_frame_is_in_app_by_the_first_rule_that_hits(
    module: str | None, path: str, expected: bool
) -> None:
    assert InApp(("mylib",), ("noisy",))(module, path) is expected


def test_whole_names_are_compared_not_their_beginnings() -> None:
    """`/srv/python` is not inside `/srv/py`. Source: complaints-transport.md, 55."""
    in_app = InApp(("py",), ())
    assert in_app("python", "/venv/site-packages/python/x.py") is False


def test_an_include_wins_over_an_exclude() -> None:
    assert InApp(("a.b",), ("a",))("a.b.c", "/x/a/b/c.py") is True
    assert InApp(("a.b",), ("a",))("a.c", "/x/a/c.py") is False


def test_the_memory_of_decisions_stays_bounded() -> None:
    in_app = InApp((), ())
    for number in range(5000):
        assert in_app(f"m{number}", f"/srv/m{number}.py")
    assert len(in_app._decided) <= 2000
