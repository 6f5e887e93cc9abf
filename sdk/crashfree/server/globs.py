"""Glob patterns of the inbound filters, matched in linear time.

`*` any run, `?` one character, `[a-c]` and `[!a-c]` classes, `{a,b*}` alternatives without
nesting, `\\x` the character x. A pattern is compiled once; what cannot be read or is too complex
compiles to None and so never matches. No backtracking regular expression is involved: a pattern of
literals and stars is a row of plain searches, any other one a set of states in one integer.

Pure; any thread. Source: ingest.md section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

MAX_LENGTH = 256
MAX_STARS = 32


class _Any(NamedTuple):
    """`?`: one character, whichever."""


class _Star(NamedTuple):
    """`*`: any run."""


class _Literal(NamedTuple):
    char: str


class _Class(NamedTuple):
    negated: bool
    ranges: tuple[tuple[str, str], ...]


class _Alternatives(NamedTuple):
    branches: tuple[tuple[_Any | _Star | _Literal | _Class, ...], ...]


_Simple = _Any | _Star | _Literal | _Class
_Token = _Simple | _Alternatives


class Glob:
    """A readable pattern; `matches` compares it with a whole text."""

    __slots__ = ("_match", "_simplify", "pattern")

    pattern: str
    _match: Callable[[str], bool]
    _simplify: Callable[[str], str]

    def __init__(self, pattern: str, tokens: list[_Token], *, ignore_case: bool) -> None:
        self.pattern = pattern
        self._simplify = _folded if ignore_case else _unchanged
        pieces = _literal_pieces(tokens)
        self._match = _Automaton(tokens).match if pieces is None else _Pieces(pieces).match

    @classmethod
    def compile(cls, pattern: str, *, ignore_case: bool = True) -> Glob | None:
        """Return the compiled pattern; None when it is empty, unreadable or too complex."""
        if not pattern or len(pattern) > MAX_LENGTH:
            return None
        tokens = _Reader(_folded(pattern) if ignore_case else pattern).read()
        if tokens is None or _stars(tokens) > MAX_STARS:
            return None
        return cls(pattern, tokens, ignore_case=ignore_case)

    @classmethod
    def plain(cls, pattern: str, *, ignore_case: bool = True) -> Glob:
        """Return a pattern in which only `*` and `?` are special; readable at any length."""
        text = _folded(pattern) if ignore_case else pattern
        special: dict[str, _Token] = {"*": _Star(), "?": _Any()}
        tokens = [special[char] if char in special else _Literal(char) for char in text]
        # A run of stars says no more than one does.
        tokens = [
            token
            for index, token in enumerate(tokens)
            if not (index and text[index] == text[index - 1] == "*")
        ]
        return cls(pattern, tokens, ignore_case=ignore_case)

    def matches(self, text: str) -> bool:
        """Say whether the pattern describes the whole of `text`."""
        return self._match(self._simplify(text))


class GlobSet:
    """Several patterns; unreadable ones are left out."""

    __slots__ = ("_globs",)

    _globs: tuple[Glob, ...]

    def __init__(self, patterns: Iterable[str]) -> None:
        compiled = (Glob.compile(pattern) for pattern in patterns)
        self._globs = tuple(glob for glob in compiled if glob is not None)

    def __bool__(self) -> bool:
        return bool(self._globs)

    def matches(self, text: str | None) -> bool:
        """Say whether any pattern describes the whole text; a missing text never matches."""
        if text is None:
            return False
        return any(glob.matches(text) for glob in self._globs)


def _unchanged(text: str) -> str:
    return text


def _folded(text: str) -> str:
    """Lower case, one character for one, so that `?` keeps counting characters."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def _stars(tokens: Iterable[_Token]) -> int:
    total = 0
    for token in tokens:
        if isinstance(token, _Star):
            total += 1
        elif isinstance(token, _Alternatives):
            total += sum(_stars(branch) for branch in token.branches)
    return total


class _Reader:
    """Pattern text to tokens; None for what cannot be read."""

    __slots__ = ("_at", "_text")

    _text: str
    _at: int

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> list[_Token] | None:
        tokens: list[_Token] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "{":
                self._at += 1
                token: _Token | None = self._alternatives()
            elif char == "}":
                return None
            else:
                token = self._simple()
            if token is None:
                return None
            tokens.append(token)
        return tokens

    def _simple(self) -> _Simple | None:
        char = self._text[self._at]
        self._at += 1
        if char == "*":
            return _Star()
        if char == "?":
            return _Any()
        if char == "[":
            return self._class()
        if char == "]":
            return None
        if char == "\\":
            escaped = self._next()
            return None if escaped is None else _Literal(escaped)
        return _Literal(char)

    def _next(self) -> str | None:
        if self._at >= len(self._text):
            return None
        char = self._text[self._at]
        self._at += 1
        return char

    def _class(self) -> _Class | None:
        negated = self._text[self._at : self._at + 1] == "!"
        if negated:
            self._at += 1
        ranges: list[tuple[str, str]] = []
        while True:
            char = self._next()
            if char is None or char == "[":
                return None
            if char == "]":
                return _Class(negated, tuple(ranges))
            if char == "\\":
                char = self._next()
                if char is None:
                    return None
            last = char
            if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 :][
                :1
            ] not in (
                "",
                "]",
            ):
                self._at += 1
                end = self._next()
                if end == "\\":
                    end = self._next()
                if end is None or end < char:
                    return None
                last = end
            ranges.append((char, last))

    def _alternatives(self) -> _Alternatives | None:
        branches: list[tuple[_Simple, ...]] = []
        branch: list[_Simple] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "{":
                return None
            if char in ",}":
                self._at += 1
                branches.append(tuple(branch))
                branch = []
                if char == "}":
                    return _Alternatives(tuple(branches))
                continue
            token = self._simple()
            if token is None:
                return None
            branch.append(token)
        return None


def _literal_pieces(tokens: Iterable[_Token]) -> list[str] | None:
    """The texts between the stars; None when the pattern has more than literals and stars."""
    pieces = [""]
    for token in tokens:
        if isinstance(token, _Star):
            pieces.append("")
        elif isinstance(token, _Literal):
            pieces[-1] += token.char
        else:
            return None
    return pieces


class _Pieces:
    """Literals and stars: the first piece begins the text, the last ends it, others in order."""

    __slots__ = ("_pieces",)

    _pieces: list[str]

    def __init__(self, pieces: list[str]) -> None:
        self._pieces = pieces

    def match(self, text: str) -> bool:
        pieces = self._pieces
        if len(pieces) == 1:
            return text == pieces[0]
        first, last = pieces[0], pieces[-1]
        if not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for piece in pieces[1:-1]:
            found = text.find(piece, at, max(at, end))
            if found < 0:
                return False
            at = found + len(piece)
        return at <= end


class _Automaton:
    """Any pattern as states in the bits of one integer.

    State n stands before the n-th character test. A test moves its bit one up; stars and
    alternatives are edges without a character, all of them forward, so that one pass over them in
    order of their source closes the set. A step costs a fixed number of integer operations.
    """

    __slots__ = ("_accepting", "_edges", "_loops", "_size", "_tests")

    _tests: list[_Any | _Literal | _Class | None]
    _edges: list[tuple[int, int]]
    _loops: int
    _size: int
    _accepting: int

    def __init__(self, tokens: Iterable[_Token]) -> None:
        self._tests = []
        self._edges = []
        self._loops = 0
        self._size = 0
        for token in tokens:
            if isinstance(token, _Alternatives):
                self._add_alternatives(token)
            else:
                self._add(token)
        self._accepting = 1 << self._size
        self._edges.sort()

    def _add(self, token: _Simple) -> None:
        if isinstance(token, _Star):
            self._loops |= 1 << self._size
            self._edges.append((1 << self._size, 1 << self._size + 1))
            self._tests.append(None)
        else:
            self._tests.append(token)
        self._size += 1

    def _add_alternatives(self, token: _Alternatives) -> None:
        # The entry and the end of each branch are states that no character leads out of; the end
        # of the last branch is not needed before the exit, but keeps all branches alike.
        entry = 1 << self._size
        self._tests.append(None)
        self._size += 1
        ends: list[int] = []
        for branch in token.branches:
            self._edges.append((entry, 1 << self._size))
            for simple in branch:
                self._add(simple)
            ends.append(1 << self._size)
            self._tests.append(None)
            self._size += 1
        self._edges.extend((end, 1 << self._size) for end in ends)

    def match(self, text: str) -> bool:
        states = self._closed(1)
        passing: dict[str, int] = {}
        for char in text:
            mask = passing.get(char)
            if mask is None:
                mask = passing[char] = self._passing(char)
            states = self._closed((states & mask) << 1 | states & self._loops)
            if not states:
                return False
        return bool(states & self._accepting)

    def _closed(self, states: int) -> int:
        for source, target in self._edges:
            if states & source:
                states |= target
        return states

    def _passing(self, char: str) -> int:
        mask = 0
        for index, test in enumerate(self._tests):
            if test is not None and _passes(test, char):
                mask |= 1 << index
        return mask


def _passes(test: _Any | _Literal | _Class, char: str) -> bool:
    if isinstance(test, _Literal):
        return test.char == char
    if isinstance(test, _Class):
        inside = any(low <= char <= high for low, high in test.ranges)
        return inside is not test.negated
    return True
