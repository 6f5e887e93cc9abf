from __future__ import annotations

from typing import Any

import pytest

from crashfree.server.filters import (
    NOT_BUILT,
    ORDER,
    Filters,
    FilterSettings,
    InvalidFilter,
    from_project_options,
    load,
    summaries,
)
from tests.support.vectors import load as vectors

VECTORS = vectors("filters.json")


def filters(**settings: Any) -> Filters:
    return Filters(FilterSettings(**settings))


@pytest.mark.parametrize("case", VECTORS["client_ip"]["cases"], ids=str)
def test_addresses_are_blocked(case: dict[str, Any]) -> None:
    found = filters(ip_addresses=tuple(case["blocked"])).event({}, client_ip=case["ip"])
    assert (found == "ip-address") is case["filtered"]


@pytest.mark.parametrize("case", VECTORS["release"]["cases"], ids=str)
def test_releases_are_blocked_for_events_and_sessions(case: dict[str, Any]) -> None:
    inbound = filters(releases=tuple(case["patterns"]))
    attrs = {"release": case["release"]}
    assert (inbound.event(attrs, client_ip=None) == "release-version") is case["filtered"]
    dropped = inbound.session(attrs, client_ip=None, user_agent=None)
    assert (dropped == "release-version") is case["filtered"]


@pytest.mark.parametrize("case", VECTORS["error_message"]["cases"], ids=str)
def test_messages_are_blocked_for_events_only(case: dict[str, Any]) -> None:
    inbound = filters(error_messages=tuple(case["patterns"]))
    if "session" in case:
        found = inbound.session(case["session"]["attrs"], client_ip=None, user_agent=None)
    else:
        found = inbound.event(case["event"], client_ip=None)
    assert (found == "error-message") is case["filtered"]


@pytest.mark.parametrize("case", VECTORS["localhost"]["cases"], ids=str)
def test_localhost_is_blocked(case: dict[str, Any]) -> None:
    inbound = filters(localhost=True)
    if "session" in case:
        found = inbound.session(case["session"]["attrs"], client_ip="127.0.0.1", user_agent=None)
    else:
        found = inbound.event(case["event"], client_ip="127.0.0.1")
    if case["filtered"] != "any":
        assert (found == "localhost") is case["filtered"]


def test_the_first_filter_in_order_is_the_one_that_counts() -> None:
    everything = filters(
        ip_addresses=("10.0.0.1",),
        releases=("*",),
        error_messages=("*",),
        localhost=True,
        legacy_browsers=("default",),
        web_crawlers=True,
    )
    event: dict[str, Any] = {
        "release": "a@1",
        "message": "x",
        "user": {"ip_address": "::1"},
        "request": {"headers": [["user-AGENT", "Googlebot/2.1 MSIE 6.0"]]},
    }
    order = [everything.event(event, client_ip="10.0.0.1"), everything.event(event, client_ip=None)]
    for gone in ("release", "message", "user"):
        del event[gone]
        order.append(everything.event(event, client_ip=None))
    event["request"] = {"headers": {"User-Agent": "Googlebot"}}
    order.append(everything.event(event, client_ip=None))
    assert tuple(order) == ORDER


def test_a_session_falls_back_to_the_user_agent_of_its_request() -> None:
    """Browser SDKs send sessions from the browser itself; a named agent wins over it."""
    inbound = filters(web_crawlers=True)
    assert inbound.session({}, client_ip=None, user_agent="Googlebot/2.1") == "web-crawlers"
    named = {"user_agent": "Firefox/130.0"}
    assert inbound.session(named, client_ip=None, user_agent="Googlebot/2.1") is None
    assert inbound.session({}, client_ip=None, user_agent="sentry.python/2.75.0") is None


@pytest.mark.parametrize(
    "event",
    [
        {"exception": "text", "request": "text", "user": 5, "logentry": [], "message": {"a": 1}},
        {"exception": {"values": [None, "x", {"type": 5}]}, "request": {"headers": [["a"], 3]}},
        {"request": {"url": "http://[bad/", "headers": {"User-Agent": 7}}},
    ],
)
def test_odd_events_are_kept(event: dict[str, Any]) -> None:
    everything = filters(
        ip_addresses=("10.0.0.1",),
        releases=("x",),
        error_messages=("*",),
        localhost=True,
        legacy_browsers=("default",),
        web_crawlers=True,
    )
    assert everything.event(event, client_ip="nonsense") is None


def test_settings_survive_their_own_json() -> None:
    settings = FilterSettings(
        ip_addresses=("10.0.0.0/8",),
        releases=("a@*",),
        error_messages=("x*",),
        localhost=True,
        legacy_browsers=("ie9", "edge_pre_79"),
        web_crawlers=True,
    )
    assert FilterSettings.parse(settings.to_json()) == settings
    assert FilterSettings.parse({}) == FilterSettings()


def test_lists_may_be_given_one_entry_a_line() -> None:
    settings = FilterSettings.parse({"releases": "a@*\n\n  b@1 \n", "legacy_browsers": True})
    assert settings.releases == ("a@*", "b@1")
    assert settings.legacy_browsers == ("default",)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"ip_addresses": ["10.0.0.300"]}, "ip_addresses"),
        ({"releases": ["[1"]}, "releases"),
        ({"releases": [1]}, "releases"),
        ({"releases": 5}, "releases"),
        ({"error_messages": {"a": 1}}, "error_messages"),
        ({"localhost": "yes"}, "localhost"),
        ({"legacy_browsers": ["netscape"]}, "legacy_browsers"),
        ({"legacy_browsers": 3}, "legacy_browsers"),
        ({"nonsense": True}, "nonsense"),
    ],
)
def test_an_unusable_setting_is_refused_by_name(data: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        FilterSettings.parse(data)
    assert caught.value.name == name


@pytest.mark.parametrize("name", NOT_BUILT)
def test_a_filter_that_is_not_built_says_so(name: str) -> None:
    with pytest.raises(InvalidFilter, match="not built"):
        FilterSettings.parse({name.replace("-", "_"): True})


def test_the_summary_tells_which_filters_see_sessions_and_what_they_dropped() -> None:
    settings = FilterSettings(releases=("a@*",))
    found = {
        entry.id: entry.to_json()
        for entry in summaries(settings, {"release-version": {"session": 3, "error": 1}})
    }
    assert list(found) == list(ORDER)
    assert found["release-version"]["active"] is True
    assert found["release-version"]["dropped"] == {"session": 3, "error": 1}
    assert found["error-message"]["appliesTo"] == {"events": True, "sessions": False}
    assert "cannot see sessions" in found["error-message"]["note"]
    assert found["web-crawlers"]["active"] is False


def test_stored_settings_that_cannot_be_read_are_left_out() -> None:
    """A damaged entry must not switch the others off, nor stop the ingest."""
    filters = load({"releases": ["["], "web_crawlers": True, "nonsense": 1})
    assert filters.settings == FilterSettings(web_crawlers=True)
    assert load({}).settings == FilterSettings()


def test_project_options_change_only_what_they_name() -> None:
    current = FilterSettings(localhost=True, releases=("a@*",))
    changed = from_project_options(
        current, {"filters:releases": "b@*\nc@*", "filters:legacy-browsers": True, "other": 1}
    )
    assert changed.releases == ("b@*", "c@*")
    assert changed.legacy_browsers == ("default",)
    assert changed.localhost is True
    for key in ("filters:browser-extensions", "filters:nonsense"):
        with pytest.raises(InvalidFilter):
            from_project_options(current, {key: True})
