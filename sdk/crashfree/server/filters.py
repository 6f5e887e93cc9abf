"""Inbound filters: what a project does not want to receive.

Settings are plain data, kept as JSON with the project; `Filters` is their compiled form.
The first filter that hits decides and is the only one counted. Filters see payloads as they
arrived, before anything was trimmed.

Sessions carry less than events, so three filters cannot see them (`SESSION_FILTERS` names those
that can): an error that the message filter drops has still happened to its session.

Pure; any thread. Source: ingest.md section 4.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from crashfree.server.frames import as_mapping, as_text, exceptions, pairs
from crashfree.server.globs import Glob, GlobSet
from crashfree.server.useragents import DEFAULT_RULE, LEGACY_RULES, is_crawler, is_legacy

FilterReason = Literal[
    "ip-address",
    "release-version",
    "error-message",
    "localhost",
    "legacy-browsers",
    "web-crawlers",
]
ORDER: tuple[FilterReason, ...] = (
    "ip-address",
    "release-version",
    "error-message",
    "localhost",
    "legacy-browsers",
    "web-crawlers",
)
SESSION_FILTERS: Mapping[FilterReason, bool] = {
    "ip-address": True,
    "release-version": True,
    "error-message": False,
    "localhost": True,
    "legacy-browsers": True,
    "web-crawlers": True,
}
"""Which filters can drop a session, and which only events."""

SESSION_NOTES: Mapping[str, str] = {
    "ip-address": "drops sessions sent from the address",
    "release-version": "drops sessions of the release",
    "error-message": "cannot see sessions: a dropped error still counts for its session",
    "localhost": "drops a session only by its own ip_address attribute",
    "legacy-browsers": "drops sessions by their user agent; aggregates rarely carry one",
    "web-crawlers": "drops sessions by their user agent; aggregates rarely carry one",
    "browser-extensions": "cannot see sessions, and is not built: it reads JavaScript errors",
    "invalid-csp": "not built: this server takes no CSP reports",
    "filtered-transaction": "not built: this server takes no transactions",
}
NOT_BUILT: tuple[str, ...] = ("browser-extensions", "invalid-csp", "filtered-transaction")
"""Names that other servers know; asking for one is an error that says so."""

_LOOPBACK = ("127.0.0.1", "::1")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class InvalidFilter(ValueError):
    """A filter setting that cannot be used; `name` is the setting."""

    name: str

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class FilterSettings:
    """What one project filters; an empty value switches a filter off."""

    ip_addresses: tuple[str, ...] = ()
    """Addresses and networks in CIDR form, of the sender."""
    releases: tuple[str, ...] = ()
    """Globs over whole release names."""
    error_messages: tuple[str, ...] = ()
    """Globs over error messages."""
    localhost: bool = False
    legacy_browsers: tuple[str, ...] = ()
    """Ids of `LEGACY_RULES`, or `default`."""
    web_crawlers: bool = False

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> FilterSettings:
        """Read settings of a request or of the store.

        Lists may be given as text, one entry a line. Raises InvalidFilter for an unknown name or
        an unusable value; a single unreadable address or pattern is refused too, because
        whoever types it wants to know.
        """
        known = {entry.name for entry in fields(cls)}
        for name in data:
            if name.replace("_", "-") in NOT_BUILT:
                raise InvalidFilter(name, SESSION_NOTES[name.replace("_", "-")])
            if name not in known:
                raise InvalidFilter(name, f"unknown filter; known are {', '.join(sorted(known))}")
        return cls(
            ip_addresses=_checked(data, "ip_addresses", _readable_network),
            releases=_checked(data, "releases", _readable_glob),
            error_messages=_checked(data, "error_messages", _readable_glob),
            localhost=_flag(data, "localhost"),
            legacy_browsers=_legacy(data),
            web_crawlers=_flag(data, "web_crawlers"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON data, `parse`'s inverse."""
        return {
            "ip_addresses": list(self.ip_addresses),
            "releases": list(self.releases),
            "error_messages": list(self.error_messages),
            "localhost": self.localhost,
            "legacy_browsers": list(self.legacy_browsers),
            "web_crawlers": self.web_crawlers,
        }

    def active(self, reason: FilterReason) -> bool:
        """Say whether the filter of that name does anything."""
        return bool(
            {
                "ip-address": self.ip_addresses,
                "release-version": self.releases,
                "error-message": self.error_messages,
                "localhost": self.localhost,
                "legacy-browsers": self.legacy_browsers,
                "web-crawlers": self.web_crawlers,
            }[reason]
        )


def lines(value: object) -> tuple[str, ...] | None:
    """Read a list of texts, given as such or one a line; None for anything else."""
    if isinstance(value, str):
        entries: Iterable[object] = value.splitlines()
    elif isinstance(value, (list, tuple)):
        entries = cast("Iterable[object]", value)
    else:
        return None
    found: list[str] = []
    for entry in entries:
        if not isinstance(entry, str):
            return None
        if entry.strip():
            found.append(entry.strip())
    return tuple(found)


def _checked(data: Mapping[str, Any], name: str, readable: Any) -> tuple[str, ...]:
    found = lines(data.get(name, ()))
    if found is None:
        raise InvalidFilter(name, "expected a list of texts")
    for entry in found:
        if not readable(entry):
            raise InvalidFilter(name, f"cannot read {entry!r}")
    return found


def _readable_network(entry: str) -> bool:
    return _network(entry) is not None


def _readable_glob(entry: str) -> bool:
    return Glob.compile(entry) is not None


def _flag(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise InvalidFilter(name, "expected true or false")
    return value


def _legacy(data: Mapping[str, Any]) -> tuple[str, ...]:
    value = data.get("legacy_browsers", ())
    if isinstance(value, bool):
        return (DEFAULT_RULE,) if value else ()
    found = lines(value)
    if found is None:
        raise InvalidFilter("legacy_browsers", "expected a list of texts")
    for entry in found:
        if entry != DEFAULT_RULE and entry not in LEGACY_RULES:
            raise InvalidFilter(
                "legacy_browsers",
                f"unknown rule {entry!r}; known are default, {', '.join(LEGACY_RULES)}",
            )
    return found


class Filters:
    """The compiled filters of one project."""

    __slots__ = ("_messages", "_networks", "_releases", "settings")

    settings: FilterSettings
    _networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    _releases: GlobSet
    _messages: GlobSet

    def __init__(self, settings: FilterSettings) -> None:
        self.settings = settings
        networks = (_network(entry) for entry in settings.ip_addresses)
        self._networks = tuple(network for network in networks if network is not None)
        self._releases = GlobSet(settings.releases)
        self._messages = GlobSet(settings.error_messages)

    def event(self, event: Mapping[str, Any], *, client_ip: str | None) -> FilterReason | None:
        """Return the filter that drops the event; None when it is wanted."""
        if self._blocks(client_ip):
            return "ip-address"
        if self._releases.matches(as_text(event.get("release"))):
            return "release-version"
        if self._messages and any(map(self._messages.matches, error_messages(event))):
            return "error-message"
        if self.settings.localhost and _event_is_local(event):
            return "localhost"
        return self._by_user_agent(event_user_agent(event))

    def session(
        self, attrs: Mapping[str, Any], *, client_ip: str | None, user_agent: str | None
    ) -> FilterReason | None:
        """Return the filter that drops a session, or a whole item of aggregates.

        `attrs` are the item's; `user_agent` is the ingest request's own, which stands in when
        they name none.
        """
        if self._blocks(client_ip):
            return "ip-address"
        if self._releases.matches(as_text(attrs.get("release"))):
            return "release-version"
        if self.settings.localhost and attrs.get("ip_address") in _LOOPBACK:
            return "localhost"
        own = as_text(attrs.get("user_agent"))
        return self._by_user_agent(user_agent if own is None else own)

    def _by_user_agent(self, user_agent: str | None) -> FilterReason | None:
        if self.settings.legacy_browsers and is_legacy(user_agent, self.settings.legacy_browsers):
            return "legacy-browsers"
        if self.settings.web_crawlers and is_crawler(user_agent):
            return "web-crawlers"
        return None

    def _blocks(self, client_ip: str | None) -> bool:
        if not self._networks or client_ip is None:
            return False
        try:
            address = ipaddress.ip_address(client_ip)
        except ValueError:
            return False
        # Families are compared strictly: `in` is False across them.
        return any(address in network for network in self._networks)


def load(options: Mapping[str, object]) -> Filters:
    """Return the filters of a project's stored settings; what cannot be read is left out."""
    try:
        return Filters(FilterSettings.parse(options))
    except InvalidFilter:
        readable: dict[str, object] = {}
        for name, value in options.items():
            try:
                FilterSettings.parse({name: value})
            except InvalidFilter:
                continue
            readable[name] = value
        return Filters(FilterSettings.parse(readable))


_PROJECT_OPTIONS = {
    "filters:blacklisted_ips": "ip_addresses",
    "filters:releases": "releases",
    "filters:error_messages": "error_messages",
    "filters:localhost": "localhost",
    "filters:legacy-browsers": "legacy_browsers",
    "filters:web-crawlers": "web_crawlers",
}


def from_project_options(current: FilterSettings, options: Mapping[str, object]) -> FilterSettings:
    """Return `current` changed by the `filters:...` keys of a project's options.

    Other keys are left to their owners. Raises InvalidFilter.
    """
    changed = current.to_json()
    for key, value in options.items():
        name = _PROJECT_OPTIONS.get(key)
        if name is not None:
            changed[name] = value
        elif key.startswith("filters:"):
            raise InvalidFilter(key, SESSION_NOTES.get(key[8:], "unknown filter"))
    return FilterSettings.parse(changed)


@dataclass(frozen=True)
class FilterSummary:
    """One filter as the API and the command line show it."""

    id: str
    active: bool
    sessions: bool
    note: str
    settings: Any
    dropped: Mapping[str, int]
    """Items dropped, by data category."""

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON data."""
        return {
            "id": self.id,
            "active": self.active,
            "appliesTo": {"events": True, "sessions": self.sessions},
            "note": self.note,
            "settings": self.settings,
            "dropped": dict(self.dropped),
        }


def summaries(
    settings: FilterSettings, dropped: Mapping[str, Mapping[str, int]]
) -> list[FilterSummary]:
    """Describe every filter: on or off, whether sessions are seen, how much each dropped."""
    values: Mapping[FilterReason, Any] = {
        "ip-address": list(settings.ip_addresses),
        "release-version": list(settings.releases),
        "error-message": list(settings.error_messages),
        "localhost": settings.localhost,
        "legacy-browsers": list(settings.legacy_browsers),
        "web-crawlers": settings.web_crawlers,
    }
    return [
        FilterSummary(
            id=reason,
            active=settings.active(reason),
            sessions=SESSION_FILTERS[reason],
            note=SESSION_NOTES[reason],
            settings=values[reason],
            dropped=dropped.get(reason, {}),
        )
        for reason in ORDER
    ]


def error_messages(event: Mapping[str, Any]) -> list[str]:
    """Return the texts that the message filter compares."""
    found = [message] if (message := _message(event)) else []
    for value in exceptions(event):
        parts = (as_text(value.get("type")), as_text(value.get("value")))
        text = ": ".join(part for part in parts if part)
        if text:
            found.append(text)
    return found


def _message(event: Mapping[str, Any]) -> str | None:
    logentry, message = as_mapping(event.get("logentry")), event.get("message")
    nested = as_mapping(message)
    for text in (
        logentry.get("formatted"),
        logentry.get("message"),
        message,
        nested.get("formatted"),
        nested.get("message"),
    ):
        if isinstance(text, str) and text:
            return text
    return None


def event_user_agent(event: Mapping[str, Any]) -> str | None:
    """Return the visitor's user agent: the first such header of the event's own request."""
    headers = as_mapping(event.get("request")).get("headers")
    for name, value in pairs(headers):
        if name.lower() == "user-agent":
            return as_text(value)
    return None


def _event_is_local(event: Mapping[str, Any]) -> bool:
    if as_mapping(event.get("user")).get("ip_address") in _LOOPBACK:
        return True
    url = as_text(as_mapping(event.get("request")).get("url"))
    if url is None:
        return False
    try:
        return urlsplit(url).hostname in _LOCAL_HOSTS
    except ValueError:
        return False


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry.strip(), strict=False)
    except ValueError:
        return None
