"""Plots as definitions: one serves the page and the pictures that can be taken away.

    plot = Plot("crash-free-sessions", "Crash-free sessions", PERCENT, LINES, frame, series)
    plot.definition(markers)                 Vega-Lite, as a plain dict
    plot.definition(markers, picture=True)   the same with a legend and a title of its own

A value that is None is a gap: nothing is drawn where nothing is known. Texts (names of
environments, titles of issues) are only ever data, never part of an expression.

Pure; threads: any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from crashfree.server.pages import figures

MICRO: Final = 1_000_000
_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"
_HEIGHT: Final = 190
_PICTURE_WIDTH: Final = 720
_PICTURE_HEIGHT: Final = 280
HIDDEN: Final = "hidden"
"""The parameter of a definition that lists the series not to show."""

_TIME: Final = {"field": "time", "type": "temporal", "title": None}

LINES: Final = "lines"
AREA: Final = "area"
STACK: Final = "stack"

TEAL, SLATE, INDIGO = "#0d9488", "#8795a5", "#6366f1"
GREEN, AMBER, ORANGE, VIOLET, RED = "#2ea36b", "#dfa021", "#e8743b", "#9a6bd8", "#dc4446"
_DEPLOY, _ISSUE = "#6366f1", "#dc4446"


class Unit(NamedTuple):
    """What a plot counts in."""

    name: str
    text: Callable[[float | None], str]
    axis: str
    """Vega's format of the axis."""


PERCENT: Final = Unit("percent", figures.percent, "")
COUNT: Final = Unit("count", figures.number, ",.0f")


def _seconds(value: float | None) -> str:
    return figures.duration(None if value is None else value * 1000)


SECONDS: Final = Unit("seconds", _seconds, "~s")


class Frame(NamedTuple):
    """The intervals of a plot, in microseconds; the first and last are cut by the range."""

    bounds: Sequence[tuple[int, int]]

    @property
    def domain(self) -> list[float]:
        return [self.bounds[0][0] / 1000, self.bounds[-1][1] / 1000]


class Series(NamedTuple):
    """One line, area or part of a stack."""

    name: str
    color: str
    values: Sequence[float | None]
    dashed: bool = False


class Marker(NamedTuple):
    """Something that happened at one moment."""

    kind: str
    """`deploy` or `issue`."""
    at: float
    title: str
    text: str


class Plot(NamedTuple):
    """One plot."""

    name: str
    """Its part of an address."""
    title: str
    unit: Unit
    shape: str
    frame: Frame
    series: Sequence[Series]
    about: str = ""

    @property
    def has_data(self) -> bool:
        """Whether anything can be drawn."""
        return any(value is not None for series in self.series for value in series.values)

    def rows(self) -> list[tuple[float, list[str]]]:
        """Return the figures as texts: when an interval begins (seconds), one text a series."""
        return [
            (start / MICRO, [self.unit.text(series.values[place]) for series in self.series])
            for place, (start, _) in enumerate(self.frame.bounds)
        ]

    def definition(
        self, markers: Sequence[Marker] = (), *, picture: bool = False
    ) -> dict[str, Any]:
        """Return the plot in Vega-Lite."""
        made: dict[str, Any] = {
            "$schema": _SCHEMA,
            "width": _PICTURE_WIDTH if picture else "container",
            "height": _PICTURE_HEIGHT if picture else _HEIGHT,
            "autosize": {"type": "fit", "contains": "padding"},
            "params": [{"name": HIDDEN, "value": []}],
            "layer": [*self._drawn(picture=picture), self._hover(), *self._marked(markers)],
            "config": {"background": None, "view": {"stroke": None}},
        }
        if picture:
            made["title"] = {"text": self.title, "anchor": "start"}
            made["config"] = PICTURE
            made["padding"] = 12
        return made

    def _drawn(self, *, picture: bool) -> list[dict[str, Any]]:
        return {LINES: self._lines, AREA: self._area, STACK: self._stack}[self.shape](picture)

    def _encoding(self, picture: bool, **more: Any) -> dict[str, Any]:
        names = [series.name for series in self.series]
        colors = [series.color for series in self.series]
        legend = {"orient": "bottom", "title": None} if picture and len(names) > 1 else None
        return {
            "x": self._x(),
            "color": {
                "field": "series",
                "type": "nominal",
                "scale": {"domain": names, "range": colors},
                "legend": legend,
            },
            **more,
        }

    def _x(self) -> dict[str, Any]:
        # No domain is said: the intervals to hover over cover the range from end to end.
        return _TIME | {
            "scale": {"nice": False},
            "axis": {
                "grid": False,
                "labelOverlap": "greedy",
                "labelSeparation": 8,
                "labelFlush": True,
                "tickCount": 6,
            },
        }

    def _y(self, **scale: Any) -> dict[str, Any]:
        axis: dict[str, Any] = {"tickCount": 4, "domain": False, "ticks": False}
        if self.unit.name == "percent":
            axis["labelExpr"] = "datum.label + '%'"
        elif self.unit.name == "seconds":
            axis["labelExpr"] = "datum.label + ' s'"
        if self.unit.axis:
            axis["format"] = self.unit.axis
        whole = self.unit.name == "count" and self._largest() < 4
        if whole:
            # No ticks at halves of a person.
            axis |= {"values": list(range(max(1, int(self._largest())) + 1))}
        return {
            "field": "value",
            "type": "quantitative",
            "title": None,
            "axis": axis,
            "scale": {"domain": self._domain(), "nice": self.unit.name != "percent"} | scale,
        }

    def _largest(self) -> float:
        known = [value for series in self.series for value in series.values if value is not None]
        return max(known, default=0.0)

    def _domain(self) -> list[float]:
        known = [value for series in self.series for value in series.values if value is not None]
        if self.shape == STACK:
            sums = [
                sum(series.values[place] or 0 for series in self.series)
                for place in range(len(self.frame.bounds))
            ]
            return [0, max([*sums, 1])]
        if self.unit.name == "percent" and self.shape == LINES:
            # Near the top, where the difference between good and bad is.
            lowest = min(known, default=100.0)
            return [max(0.0, lowest - max(0.2, (100 - lowest) * 0.25)), 100]
        if self.unit.name == "percent":
            return [0, 100]
        return [0, max([*known, 1])]

    def _data(self) -> dict[str, Any]:
        return {
            "values": [
                {
                    "time": start / 1000,
                    "end": end / 1000,
                    "series": series.name,
                    "value": series.values[place],
                    "order": number,
                }
                for number, series in enumerate(self.series)
                for place, (start, end) in enumerate(self.frame.bounds)
            ]
        }

    def _visible(self) -> list[dict[str, Any]]:
        return [{"filter": f"indexof({HIDDEN}, datum.series) < 0"}]

    def _lines(self, picture: bool) -> list[dict[str, Any]]:
        dash = {
            "field": "series",
            "type": "nominal",
            "scale": {
                "domain": [series.name for series in self.series],
                "range": [[4, 3] if series.dashed else [1, 0] for series in self.series],
            },
            "legend": None,
        }
        return [
            {
                "data": self._data(),
                "transform": self._visible(),
                "mark": {
                    "type": "line",
                    "strokeWidth": 2,
                    "interpolate": "linear",
                    "point": {"size": 22, "filled": True},
                    "clip": False,
                },
                "encoding": self._encoding(picture, y=self._y(), strokeDash=dash),
            }
        ]

    def _area(self, picture: bool) -> list[dict[str, Any]]:
        return [
            {
                "data": self._data(),
                "transform": self._visible(),
                "mark": {
                    "type": "area",
                    "line": {"strokeWidth": 2},
                    "point": {"size": 18, "filled": True},
                    "fillOpacity": 0.14,
                    "interpolate": "linear",
                },
                "encoding": self._encoding(picture, y=self._y() | {"stack": None}),
            }
        ]

    def _stack(self, picture: bool) -> list[dict[str, Any]]:
        # Stacked by hand: what is hidden leaves no hole.
        stacked = {
            "stack": "value",
            "groupby": ["time"],
            "sort": [{"field": "order"}],
            "as": ["low", "high"],
        }
        encoding = self._encoding(
            picture, x2={"field": "end"}, y=self._y() | {"field": "low"}, y2={"field": "high"}
        )
        return [
            {
                "data": self._data(),
                "transform": [*self._visible(), stacked],
                "mark": {"type": "rect", "xOffset": 1, "x2Offset": -1},
                "encoding": encoding,
            }
        ]

    def _hover(self) -> dict[str, Any]:
        """The values of an interval, shown wherever the pointer is within it."""
        names = [series.name for series in self.series]
        values = [
            {"time": start / 1000, "end": end / 1000, **dict(zip(names, texts, strict=True))}
            for (start, end), (_, texts) in zip(self.frame.bounds, self.rows(), strict=True)
        ]
        times = {"field": "time", "type": "temporal", "title": "From", "format": "%b %-d, %H:%M"}
        return {
            "data": {"values": values},
            "params": [
                {
                    "name": "hover",
                    "select": {"type": "point", "on": "pointerover", "clear": "pointerout"},
                }
            ],
            "mark": {"type": "rect", "fill": SLATE, "stroke": None},
            "encoding": {
                "x": _TIME,
                "x2": {"field": "end"},
                "fillOpacity": {
                    "condition": {"param": "hover", "empty": False, "value": 0.16},
                    "value": 0,
                },
                "tooltip": [times, *({"field": name, "type": "nominal"} for name in names)],
            },
        }

    def _marked(self, markers: Sequence[Marker]) -> list[dict[str, Any]]:
        low, high = self.frame.domain
        within = [marker for marker in markers if low <= marker.at * 1000 <= high]
        layers: list[dict[str, Any]] = []
        deploys = [marker for marker in within if marker.kind == "deploy"]
        issues = [marker for marker in within if marker.kind == "issue"]
        if deploys:
            layers += [
                self._rule(deploys),
                self._flag(deploys, "triangle-down", _DEPLOY, {"value": 0}),
            ]
        if issues:
            layers.append(self._flag(issues, "diamond", _ISSUE, {"value": _flat_bottom()}))
        return layers

    def _rule(self, markers: Sequence[Marker]) -> dict[str, Any]:
        return {
            "data": {"values": [{"time": marker.at * 1000} for marker in markers]},
            "mark": {"type": "rule", "strokeDash": [3, 3], "color": _DEPLOY, "opacity": 0.75},
            "encoding": {"x": _TIME},
        }

    def _flag(
        self, markers: Sequence[Marker], shape: str, color: str, y: Mapping[str, Any]
    ) -> dict[str, Any]:
        values = [
            {"time": marker.at * 1000, "title": marker.title, "text": marker.text}
            for marker in markers
        ]
        return {
            "data": {"values": values},
            "mark": {
                "type": "point",
                "shape": shape,
                "filled": True,
                "size": 90,
                "color": color,
                "opacity": 0.95,
            },
            "encoding": {
                "x": _TIME,
                "y": dict(y),
                "tooltip": [
                    {"field": "title", "type": "nominal", "title": "What"},
                    {"field": "text", "type": "nominal", "title": "Name"},
                    {"field": "time", "type": "temporal", "title": "At", "format": "%b %-d, %H:%M"},
                ],
            },
        }


def _flat_bottom() -> Any:
    """The lower edge of the view, whatever its height is."""
    return {"expr": "height"}


def _config(text: str, line: str, background: str | None) -> dict[str, Any]:
    font = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif'
    return {
        "background": background,
        "font": font,
        "view": {"stroke": None},
        "axis": {
            "labelColor": text,
            "labelFontSize": 11,
            "gridColor": line,
            "domainColor": line,
            "tickColor": line,
            "labelPadding": 6,
        },
        "legend": {"labelColor": text, "labelFontSize": 12, "symbolType": "circle"},
        "title": {"color": text, "fontSize": 14},
    }


THEMES: Final[Mapping[str, dict[str, Any]]] = {
    "light": _config("#566170", "#e3e7eb", None),
    "dark": _config("#9aa8b6", "#2a3540", None),
}
"""Colours of the page's two faces; the page's script takes the one that is shown."""
PICTURE: Final = _config("#3d4855", "#e3e7eb", "#ffffff")
"""Colours of a plot that is taken away."""
