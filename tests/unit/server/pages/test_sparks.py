from __future__ import annotations

from crashfree.server.pages.sparks import spark
from tests.support.reading import read


def test_a_spark_line_says_its_figures() -> None:
    drawing = read(str(spark([1, 4, 0], "Sessions"))).one("svg")
    assert drawing["aria-label"] == "Sessions: 5, at most 4 in one of 3 parts of the range"
    heights = [float(point.split(",")[1]) for point in drawing.one("polyline")["points"].split()]
    assert heights.index(min(heights)) == 1
    assert heights.index(max(heights)) == 2


def test_nothing_is_no_line() -> None:
    assert read(str(spark([0, 0], "Sessions"))).text == "—"
    assert read(str(spark([], "Sessions"))).text == "—"
