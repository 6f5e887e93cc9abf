"""User agents, read as far as the inbound filters need: crawlers and legacy browsers.

No user-agent package: the browsers that the filter names are told apart by the tokens they send,
and a crawler is found in the raw text.

Pure; any thread. Source: ingest.md sections 4.6 and 4.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Browser(NamedTuple):
    """A browser family and its major version."""

    family: str
    major: int


_CRAWLERS = (
    "Mediapartners-Google",
    "AdsBot-Google",
    "Googlebot",
    "FeedFetcher-Google",
    "Storebot-Google",
    "BingBot",
    "BingPreview",
    "Baiduspider",
    "Slurp",
    "Sogou",
    "facebook",
    "meta-",
    "ia_archiver",
    "Slack",
    "Calypso AppCrawler",
    "pingdom",
    "lyticsbot",
    "AWS Security Scanner",
    "HubSpot Crawler",
    "Bytespider",
    "Better Uptime",
    "Cloudflare-Healthchecks",
    "GTmetrix",
    "BrightEdgeOnCrawl",
    "ELB-HealthChecker",
    "naver.me/spd",
    "ClaudeBot",
    "CCBot",
    "OAI-SearchBot",
    "GPTBot",
    "PerplexityBot",
    "Applebot",
    "DuckDuckBot",
)
# The last alternative catches crawlers nobody has listed yet: "...bot/1.0", "...spider)".
_DENIED = re.compile(
    "|".join(map(re.escape, _CRAWLERS)) + r"|(?:bots?|spider)(?:[/\s);]|$)", re.IGNORECASE
)
_ALLOWED = re.compile(r"Slackbot\s1\.\d+|SentryUptimeBot|ChatGPT-User", re.IGNORECASE)

# In order of trying: Chromium names its ancestors, so the newer name goes first.
_BROWSERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("IE", re.compile(r"MSIE (\d+)")),
    ("IE", re.compile(r"Trident/.*rv:(\d+)")),
    ("IE", re.compile(r"IEMobile/(\d+)")),
    ("Edge", re.compile(r"\b(?:Edge|EdgA|EdgiOS|Edg)/(\d+)")),
    ("Opera Mini", re.compile(r"Opera Mini/(\d+)")),
    ("Opera", re.compile(r"\bOPR/(\d+)")),
    ("Opera", re.compile(r"\bOpera\b.*Version/(\d+)")),
    ("Opera", re.compile(r"\bOpera[/ ](\d+)")),
    ("Chrome", re.compile(r"\b(?:Chrome|CriOS)/(\d+)")),
    ("Firefox", re.compile(r"\b(?:Firefox|FxiOS)/(\d+)")),
    ("Android", re.compile(r"Android (\d+).*Version/")),
    ("Safari", re.compile(r"Version/(\d+).*Safari/")),
)

# Rule id -> family and the majors it drops, both ends included.
LEGACY_RULES: dict[str, tuple[str, int, int]] = {
    "ie_pre_9": ("IE", 0, 8),
    "ie9": ("IE", 9, 9),
    "ie10": ("IE", 10, 10),
    "ie11": ("IE", 11, 11),
    "opera_pre_15": ("Opera", 0, 14),
    "opera_mini_pre_8": ("Opera Mini", 0, 7),
    "android_pre_4": ("Android", 0, 3),
    "safari_pre_6": ("Safari", 0, 5),
    "edge_pre_79": ("Edge", 0, 78),
    "ie": ("IE", 0, 11),
    "safari": ("Safari", 0, 15),
    "opera": ("Opera", 0, 99),
    "opera_mini": ("Opera Mini", 0, 34),
    "android": ("Android", 0, 3),
    "firefox": ("Firefox", 0, 110),
    "chrome": ("Chrome", 0, 110),
    "edge": ("Edge", 0, 110),
}
DEFAULT_RULE = "default"
_DEFAULT_FLOORS = {"IE": 10, "Safari": 6, "Opera": 15, "Android": 4, "Opera Mini": 8}
# Far above any honest user agent; keeps the searches bounded.
_MAX_LENGTH = 2048


def is_crawler(user_agent: str | None) -> bool:
    """Say whether the user agent is a web crawler's."""
    if not user_agent:
        return False
    text = user_agent[:_MAX_LENGTH]
    return _DENIED.search(text) is not None and _ALLOWED.search(text) is None


def browser(user_agent: str | None) -> Browser | None:
    """Return family and major version; None when either cannot be told."""
    if not user_agent:
        return None
    text = user_agent[:_MAX_LENGTH]
    for family, pattern in _BROWSERS:
        found = pattern.search(text)
        if found is not None:
            return Browser(family, int(found[1]))
    return None


def is_legacy(user_agent: str | None, rules: Iterable[str]) -> bool:
    """Say whether one of the `rules` drops the browser; `default` among them stands alone."""
    found = browser(user_agent)
    if found is None:
        return False
    rules = tuple(rules)
    if DEFAULT_RULE in rules:
        return found.major < _DEFAULT_FLOORS.get(found.family, 0)
    for rule in rules:
        family, lowest, highest = LEGACY_RULES.get(rule, ("", 0, -1))
        if family == found.family and lowest <= found.major <= highest:
            return True
    return False
