"""What to change in uWSGI's settings; complaints-transport row 6."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from crashfree._delivery.uwsgi import complaint


def test_without_uwsgi_there_is_nothing_to_say() -> None:
    assert complaint({}) is None
    assert complaint({"uwsgi": SimpleNamespace()}) is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "enable-threads"),
        ({b"enable-threads": b"false"}, "enable-threads"),
        ({b"lazy-apps": True}, "enable-threads"),
        ({b"enable-threads": True}, "lazy-apps"),
        ({"enable-threads": b"true", "master": b"true"}, "lazy-apps"),
        ({b"threads": b"4"}, "lazy-apps"),
        ({b"enable-threads": True, b"lazy-apps": True}, None),
        ({b"threads": b"4", b"py-call-uwsgi-fork-hooks": b"true"}, None),
        ({b"enable-threads": True, b"py-call-osafterfork": True}, None),
    ],
)
def test_what_is_missing_is_named(options: dict[object, object], word: str | None) -> None:
    said = complaint({"uwsgi": SimpleNamespace(opt=options)})
    assert (said is None) if word is None else (said is not None and f"'{word}" in said)


def test_a_hook_after_the_fork_is_as_good_as_telling_python() -> None:
    options = {b"threads": b"4"}
    assert complaint({"uwsgi": SimpleNamespace(opt=options)}) is not None
    assert complaint({"uwsgi": SimpleNamespace(opt=options, post_fork_hook=print)}) is None
