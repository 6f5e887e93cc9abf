"""What stands around every view: navigation, and the chooser of project, environment and range.

Everything chosen is in the address, under the names that the API uses, so that an address can be
shared and says the same to whoever opens it.

Threads: any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from crashfree.server import catalog_api, projects_api, ranges
from crashfree.server.endpoint import Call, Problem, iso
from crashfree.server.pages.asking import Query, ask
from crashfree.server.ranges import Range

NAVIGATION: Final = (
    ("Releases", "/releases"),
    ("Issues", "/issues"),
    ("Setup", "/setup"),
    ("Settings", "/settings"),
)
"""Name and address of each view of the navigation."""

PERIODS: Final = (
    ("1h", "Last hour"),
    ("24h", "Last 24 hours"),
    ("7d", "Last 7 days"),
    ("14d", "Last 14 days"),
    ("30d", "Last 30 days"),
    ("90d", "Last 90 days"),
)
DEFAULT_PERIOD: Final = "14d"
MICRO: Final = 1_000_000
_CHOSEN: Final = ("project", "environment", "statsPeriod", "start", "end")


class Chosen(NamedTuple):
    """What the chooser is set to."""

    project: str
    """A slug; empty: all."""
    environment: str
    period: str
    """Empty where start and end are given."""
    start: str
    end: str
    span: Range
    projects: Sequence[dict[str, Any]]
    environments: Sequence[str]

    @property
    def range(self) -> Query:
        """The parameters that the API takes for the range."""
        if self.period:
            return [("statsPeriod", self.period)]
        return [("start", self.start), ("end", self.end)]

    @property
    def where(self) -> Query:
        """The parameters that the API takes for project and environment."""
        named = (("project", self.project), ("environment", self.environment))
        return [(name, value) for name, value in named if value]

    @property
    def query(self) -> Query:
        """Everything chosen that is not the default, for addresses of views."""
        if self.period == DEFAULT_PERIOD:
            return self.where
        return [*self.where, *self.range]

    @property
    def range_name(self) -> str:
        """The range in words; a custom one by its ends, in UTC."""
        for period, name in PERIODS:
            if self.period == period:
                return name.lower()
        if self.period:
            return f"last {self.period}"
        return f"{self.start} to {self.end} UTC"

    @property
    def starts(self) -> str | None:
        """When the range begins, as the API writes it."""
        return iso(self.span.start_us / MICRO)

    @property
    def ends(self) -> str | None:
        """When the range ends."""
        return iso(self.span.end_us / MICRO)

    def address(self, path: str, /, **more: str) -> str:
        """Return the address of a view with what is chosen, and more."""
        return address(path, self.query, **more)


def address(path: str, query: Query = (), /, **more: str) -> str:
    """Return an address; empty values are left out."""
    pairs = [*query, *((name, value) for name, value in more.items() if value)]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def chosen(call: Call, *, default: str = DEFAULT_PERIOD) -> Chosen:
    """Read the chooser's parameters; Problem(400) in the API's words when they are wrong."""
    project = call.query.get("project", "").removeprefix("-1")
    environment = call.query.get("environment", "")
    start, end, period = (call.query.get(name, "") for name in ("start", "end", "statsPeriod"))
    if period and call.query.get("custom"):
        # The chooser stood at dates, and a period was picked instead.
        start = end = ""
    start, end = _with_seconds(start), _with_seconds(end)
    period = "" if start or end else period or default
    given = {"statsPeriod": period, "start": start, "end": end}
    span = ranges.parse_range(given, call.now)
    projects = ask(
        call, projects_api.list_projects, "/api/0/organizations/{organization}/projects/"
    )
    environments = ask(
        call, catalog_api.list_environments, "/api/0/organizations/{organization}/environments/"
    )
    for known in projects.data:
        if project == known["id"]:
            project = known["slug"]
    if project and all(project != known["slug"] for known in projects.data):
        raise Problem(400, f"Invalid project: {project[:60]!r}")
    names = [each["name"] for each in environments.data if each["name"]]
    return Chosen(project, environment, period, start, end, span, projects.data, names)


def _with_seconds(text: str) -> str:
    """Return a date, or what a browser's field for date and time gives, as an instant."""
    if text and "T" not in text:
        return f"{text}T00:00:00"
    return f"{text}:00" if text.count(":") == 1 else text


def kept(call: Call, *names: str) -> Query:
    """Return the parameters of an address that a form has to carry along."""
    return [
        (name, value)
        for name, value in call.query.multi_items()
        if name in names and name not in _CHOSEN and value
    ]
