"""Pictures are made in a process apart; what goes wrong there is told in one line."""

from __future__ import annotations

import pytest

from crashfree.server.endpoint import Problem
from crashfree.server.pages.drawing import Bundle, draw

pytestmark = pytest.mark.slow


def test_what_cannot_be_drawn_is_told_and_breaks_nothing() -> None:
    with pytest.raises(Problem) as caught:
        draw({"mark": "no such mark"}, "svg")
    assert caught.value.status == 500
    assert "the plot could not be drawn" in str(caught.value.body)


def test_the_script_is_made_once() -> None:
    bundle = Bundle()
    assert bundle.get() is bundle.get()
