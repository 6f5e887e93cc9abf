"""Integrations: found, installed when their framework is there, undone without a trace."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import crashfree
from crashfree.errors import IntegrationError
from crashfree.integration import Kit
from crashfree.testing import capture


class Recording:
    """An integration that wraps a function of a framework."""

    name = "recording"
    mode = None

    def __init__(self, framework: Any) -> None:
        self.framework = framework
        self.uninstalled = 0

    def install(self, kit: Kit) -> None:
        def wrapper(original: Callable[..., object]) -> Callable[..., object]:
            def wrapped(*args: object) -> object:
                with kit.unit(mechanism="recording"):
                    return original(*args)

            return wrapped

        kit.wrap(self.framework, "handle", wrapper)

    def uninstall(self) -> None:
        self.uninstalled += 1


def test_a_wrapped_function_counts_units_and_is_put_back() -> None:
    def handle(number: int) -> float:
        return 1 / number

    framework = SimpleNamespace(handle=handle)
    integration = Recording(framework)
    with capture(integrations=[integration], session_mode="request") as seen:
        assert framework.handle is not handle
        assert framework.handle(2) == 0.5
        with pytest.raises(ZeroDivisionError):
            framework.handle(0)
    assert framework.handle is handle
    assert integration.uninstalled == 1
    [aggregates] = seen.aggregates
    [bucket] = aggregates["aggregates"]
    assert (bucket.get("exited"), bucket.get("crashed")) == (1, 1)
    [event] = seen.events
    [value] = event["exception"]["values"]
    assert value["mechanism"]["type"] == "recording"
    assert value["mechanism"]["handled"] is False


def test_static_and_class_methods_keep_their_kind_and_inherited_ones_vanish_again() -> None:
    class Base:
        def inherited(self) -> str:
            return "base"

    class Framework(Base):
        @staticmethod
        def static(value: int) -> int:
            return value

        @classmethod
        def klass(cls) -> type:
            return cls

    before = dict(vars(Framework))
    kit = Kit(crashfree.get_client(), "test")

    def shout(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> tuple[str, Any]:
            return ("wrapped", original(*args))

        return wrapped

    for name in ("static", "klass", "inherited"):
        kit.wrap(Framework, name, shout)
    assert Framework.static(1) == ("wrapped", 1)
    assert Framework.klass() == ("wrapped", Framework)
    assert Framework().inherited() == ("wrapped", "base")
    kit.undo()
    assert {name: vars(Framework)[name] for name in before} == before
    assert "inherited" not in vars(Framework)


def test_who_wrapped_after_us_stays() -> None:
    framework = SimpleNamespace(handle=lambda: 1)
    kit = Kit(crashfree.get_client(), "test")
    kit.wrap(framework, "handle", lambda original: lambda: original())
    theirs = framework.handle = lambda: 2
    kit.undo()
    assert framework.handle is theirs


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of somebody else that ships an integration for a framework `spider`."""
    (tmp_path / "spider.py").write_text("VERSION = 1\n\ndef crawl():\n    return 'page'\n")
    (tmp_path / "spider_crashfree.py").write_text(
        """
class SpiderIntegration:
    name = "spider"
    mode = "request"

    def install(self, kit):
        import spider

        def wrapper(original):
            def crawl():
                with kit.unit(mechanism="spider"):
                    return original()
            return crawl

        kit.wrap(spider, "crawl", wrapper)

    def uninstall(self):
        pass

class TooOld:
    name = "old"
    mode = None

    def install(self, kit):
        from crashfree.errors import IntegrationError
        raise IntegrationError("spider 1 is too old, 2 is needed")

    def uninstall(self):
        pass
"""
    )
    info = tmp_path / "spider_crashfree-1.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(
        "[crashfree.integrations]\n"
        "spider = spider_crashfree:SpiderIntegration\n"
        "old = spider_crashfree:TooOld\n"
        "gone = spider_crashfree:NoSuchClass\n"
        "[crashfree.auto]\n"
        "spider = spider_crashfree:SpiderIntegration\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("spider", "spider_crashfree"):
        sys.modules.pop(name, None)


def test_an_automatic_integration_waits_for_its_framework(third_party: Path) -> None:
    with capture(auto_integrations=True) as seen:
        assert "spider_crashfree" not in sys.modules
        import spider  # type: ignore[import-not-found]

        assert spider.crawl() == "page"
        assert not seen.client.application_mode
        wrapped = spider.crawl
    assert spider.crawl is not wrapped
    assert seen.aggregates[0]["aggregates"][0].get("exited") == 1
    assert seen.sessions == []


def test_a_disabled_one_is_left_out(third_party: Path) -> None:
    with capture(auto_integrations=True, disabled_integrations=["spider"]) as seen:
        import spider

        spider.crawl()
    assert seen.aggregates == []


def test_a_named_one_is_found_and_a_missing_one_is_an_error(third_party: Path) -> None:
    with capture(integrations=["spider"]):
        import spider

        assert spider.crawl.__module__ == "spider_crashfree"
    outer = crashfree.get_client()
    for name, words in (
        ("spyder", ["'spyder'", "known:", "spider"]),
        ("old", ["too old", "2 is needed"]),
        ("gone", ["NoSuchClass", "install its framework"]),
    ):
        with pytest.raises(IntegrationError) as caught:
            crashfree.init(release="a@1", integrations=["spider", name], spool=False)
        assert all(word in str(caught.value) for word in words)
        assert crashfree.get_client() is outer
        assert spider.crawl.__module__ == "spider", "what was installed before is taken back"


def test_an_automatic_one_that_does_not_fit_breaks_nothing(
    third_party: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (third_party / "spider_crashfree-1.dist-info" / "entry_points.txt").write_text(
        "[crashfree.auto]\nspider = spider_crashfree:TooOld\n"
    )
    from crashfree._client import setup

    with capture(auto_integrations=True):
        module = __import__("spider")
        assert isinstance(module, ModuleType)
        registry = setup.registry()
        assert registry is not None
        assert registry.problems == {"spider": "spider 1 is too old, 2 is needed"}


def test_a_framework_that_has_changed_under_its_integration_breaks_nothing(
    third_party: Path,
) -> None:
    (third_party / "spider.py").write_text("def crawl_anew():\n    return 'page'\n")
    from crashfree._client import setup

    # A framework that an earlier test has imported would have its integration, and its mode, too.
    others = sorted({point.name for point in entry_points(group="crashfree.auto")} - {"spider"})
    with capture(auto_integrations=True, disabled_integrations=others) as seen:
        assert __import__("spider").crawl_anew() == "page"
        registry = setup.registry()
        assert registry is not None
        assert "crawl" in registry.problems["spider"]
        assert "spider" not in registry.names
    assert [up["status"] for up in seen.sessions] == ["exited"]
