"""Definitions of plots: gaps, ranges of axes, markers, and text that is never more than text."""

from __future__ import annotations

import json

import pytest

from crashfree.server.pages.plots import (
    AREA,
    COUNT,
    HIDDEN,
    LINES,
    PERCENT,
    SECONDS,
    STACK,
    Frame,
    Marker,
    Plot,
    Series,
    Unit,
)

FRAME = Frame([(0, 10_000_000), (10_000_000, 20_000_000), (20_000_000, 25_000_000)])


def _plot(
    *values: list[float | None], unit: Unit = PERCENT, shape: str = LINES, name: str = "A"
) -> Plot:
    series = [Series(f"{name}{n}", "#123456", each) for n, each in enumerate(values)]
    return Plot("name", "Title", unit, shape, FRAME, series)


def test_nothing_known_is_a_gap_and_a_dash() -> None:
    plot = _plot([99.0, None, 100.0])
    values = plot.definition()["layer"][0]["data"]["values"]
    assert [each["value"] for each in values] == [99.0, None, 100.0]
    assert [texts for _, texts in plot.rows()] == [["99%"], ["—"], ["100%"]]


def test_what_is_hovered_over_says_the_figures_of_the_table() -> None:
    plot = _plot([99.0, None, 0.0], [1.0, 2.0, 3.0])
    (hover,) = [layer for layer in plot.definition()["layer"] if layer["mark"]["type"] == "rect"]
    assert [(each["A0"], each["A1"]) for each in hover["data"]["values"]] == [
        tuple(texts) for _, texts in plot.rows()
    ]
    # From end to end of the range, so that the axis needs no other domain.
    assert hover["data"]["values"][0]["time"] == 0
    assert hover["data"]["values"][-1]["end"] == 25_000


@pytest.mark.parametrize(
    ("plot", "domain"),
    [
        (_plot([99.0, None, 100.0]), [98.75, 100]),
        (_plot([100.0, 100.0, 100.0]), [99.8, 100]),
        (_plot([0.0, 50.0, None]), [0, 100]),
        (_plot([None, None, None]), [99.8, 100]),
        (_plot([10.0, None, None], shape=AREA), [0, 100]),
        (_plot([4, 9, 1], [1, 2, 3], unit=COUNT, shape=STACK), [0, 11]),
        (_plot([0, 0, 0], unit=COUNT), [0, 1]),
        (_plot([2.5, None, 1.0], unit=SECONDS), [0, 2.5]),
    ],
)
def test_the_axis_shows_what_matters(plot: Plot, domain: list[float]) -> None:
    scale = plot.definition()["layer"][0]["encoding"]["y"]["scale"]
    assert scale["domain"] == pytest.approx(domain)


def test_a_few_people_are_not_counted_in_halves() -> None:
    axis = _plot([0, 2, 1], unit=COUNT).definition()["layer"][0]["encoding"]["y"]["axis"]
    assert axis["values"] == [0, 1, 2]


def test_hidden_series_are_left_out_before_they_are_stacked() -> None:
    transform = _plot([1, 2, 3], unit=COUNT, shape=STACK).definition()["layer"][0]["transform"]
    assert list(transform[0]) == ["filter"]
    assert HIDDEN in transform[0]["filter"]
    assert "stack" in transform[1]


def test_markers_within_the_range_are_drawn_and_no_others() -> None:
    markers = [
        Marker("deploy", 5.0, "Deploy", "production"),
        Marker("issue", 12.0, "First seen", "WEB-1"),
        Marker("deploy", 26.0, "Deploy", "too late"),
    ]
    drawn = json.dumps(_plot([1, 2, 3]).definition(markers))
    assert "production" in drawn
    assert "WEB-1" in drawn
    assert "too late" not in drawn


def test_a_client_s_text_is_never_part_of_an_expression() -> None:
    """Only the names of series and our own words may stand outside of data."""
    hostile = "'] + alert(1) + datum['"
    plot = _plot([1, 2, 3])
    definition = plot.definition([Marker("issue", 5.0, hostile, hostile)])
    for layer in definition["layer"]:
        layer["data"] = {}
    assert "alert" not in json.dumps(definition)


def test_the_picture_is_the_same_plot_with_a_title_of_its_own() -> None:
    plot = _plot([1, 2, 3], [3, 2, 1])
    shown, picture = plot.definition(), plot.definition(picture=True)
    assert picture["title"]["text"] == "Title"
    assert isinstance(picture["width"], int)
    for mine, its in zip(shown["layer"], picture["layer"], strict=True):
        assert mine["data"] == its["data"]
    assert picture["layer"][0]["encoding"]["color"]["legend"] is not None
    assert shown["layer"][0]["encoding"]["color"]["legend"] is None
