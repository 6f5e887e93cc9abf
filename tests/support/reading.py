"""A reader of the page without a browser: asks with the cookie, and finds things in the HTML."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import NamedTuple

from tests.support.serving import Answer, request
from tests.support.visitor import Visitor

_VOID = frozenset(("meta", "link", "input", "img", "br", "wbr", "hr"))
_UNREAD = frozenset(("script", "noscript", "style"))


class Node:
    """An element of a page."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Node | str] = []

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    def walk(self) -> Iterator[Node]:
        """This element and all in it, in the order of the page."""
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def all(self, tag: str = "", **attributes: str) -> list[Node]:
        """The elements of a tag whose attributes are these (`class_` has the word among others)."""
        return [
            node for node in self.walk() if (not tag or node.tag == tag) and node.fits(attributes)
        ]

    def one(self, tag: str = "", **attributes: str) -> Node:
        (found,) = self.all(tag, **attributes)
        return found

    def fits(self, attributes: dict[str, str]) -> bool:
        for name, value in attributes.items():
            if name == "class_":
                if value not in self.attributes.get("class", "").split():
                    return False
            elif self.attributes.get(name.replace("_", "-")) != value:
                return False
        return True

    @property
    def text(self) -> str:
        """What it says, with single spaces, without what only a machine reads."""
        return " ".join("".join(self._pieces()).split())

    @property
    def raw(self) -> str:
        """The text in it as it is."""
        return "".join(child for child in self.children if isinstance(child, str))

    def _pieces(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            elif child.tag not in _UNREAD:
                yield from child._pieces()


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = self._add(tag, attrs)
        if tag not in _VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
            self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def _add(self, tag: str, attrs: list[tuple[str, str | None]]) -> Node:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(node)
        return node


def read(text: str) -> Node:
    """Read HTML; an element that is not closed in order is an error."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    return parser.root


class Page(NamedTuple):
    """One view, as it was answered."""

    answer: Answer
    root: Node


class Reader(Visitor):
    """A visitor who reads what is shown."""

    def ask(self, path: str, method: str = "GET", *headers: tuple[str, str]) -> Answer:
        """Ask for anything."""
        return request(self.server.url, method, path, headers=[("Cookie", self.cookie), *headers])

    def open(self, path: str, status: int = 200) -> Page:
        """Open a view."""
        answer = self.ask(path)
        assert answer.status == status, (answer.status, answer.body)
        return Page(answer, read(answer.body.decode()))
