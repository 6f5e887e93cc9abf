"""`Parser`: argparse with our manners.

Every parser of the command line is one of these (argparse builds sub-parsers of the same class),
so that the switches every command has (`--json`, `--quiet`, `--log-level`, `--allow-failure`) may
stand before or after the command's name, a wrong word is answered with the nearest right one, and
nothing but `run` in `crashfree._cli` ends the process.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TypeAlias

from crashfree._cli.failure import UsageFailure

LOG_LEVELS = ("trace", "debug", "info", "warn", "error")
_DASHED = "\0"  # cannot stand in a real argument


def common_defaults() -> argparse.Namespace:
    """Return what the switches of every command say when they are not given."""
    return argparse.Namespace(json=False, quiet=False, log_level=None, allow_failure=False)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # pyright: ignore[reportPrivateUsage]
"""What `add_subparsers` returns: where a command's module registers its parser."""


class Parser(argparse.ArgumentParser):
    """A parser that raises `UsageFailure` where argparse would print and exit."""

    takes_dashed_names: bool
    """Whether a positional argument may start with a dash, as release names may."""

    def __init__(self, *args: Any, takes_dashed_names: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        # A command may word one of the common switches anew.
        kwargs.setdefault("conflict_handler", "resolve")
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)
        self.takes_dashed_names = takes_dashed_names
        _add_common(self)

    def parse_known_args(  # type: ignore[override]  # one signature in place of the overloads
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        given = list(args) if args is not None else []
        if self.takes_dashed_names:
            given = [self._marked(given, index) for index in range(len(given))]
        found = namespace if namespace is not None else argparse.Namespace()
        _, left = super().parse_known_args(given, found)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}{self._nearest_option(left)}")
        return found, left

    def error(self, message: str) -> NoReturn:
        raise UsageFailure(message, usage=self.format_usage().strip())

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action, f"unknown value {value!r}{did_you_mean(str(value), choices)}"
            )

    def _nearest_option(self, left: Sequence[str]) -> str:
        word = next((part for part in left if part.startswith("-")), "").partition("=")[0]
        if not word:
            return ""
        options = [
            option
            for action in self._actions
            if action.help != argparse.SUPPRESS
            for option in action.option_strings
        ]
        return did_you_mean(word, options, listing=False)

    def _marked(self, given: Sequence[str], index: int) -> str:
        """Return the argument, marked as a name when it starts with a dash but is no option."""
        word = given[index]
        if len(word) < 3 or word[0] != "-" or word[1] == "-" or "--" in given[:index]:
            return word
        actions = self._option_string_actions
        if word.partition("=")[0] in actions:
            return word
        if index and self._awaits_value(given[index - 1]):
            return _DASHED + word
        first = actions.get(word[:2])
        if first is not None and first.nargs != 0:
            return word
        if all(f"-{letter}" in actions for letter in word[1:]):
            return word
        return _DASHED + word

    def _awaits_value(self, word: str) -> bool:
        action = self._option_string_actions.get(word)
        return action is not None and action.nargs != 0


def plain(text: str) -> str:
    """Return an argument as it was typed; the `type` of arguments that may start with a dash."""
    return text.removeprefix(_DASHED)


def did_you_mean(word: str, known: Iterable[str], *, listing: bool = True) -> str:
    """Return the rest of a sentence: the nearest known word, else the list of all."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f" (known: {', '.join(names)})" if listing and names else ""


def _add_common(parser: argparse.ArgumentParser) -> None:
    suppress: Any = argparse.SUPPRESS
    group = parser.add_argument_group("common switches")
    group.add_argument(
        "--json", action="store_true", default=suppress, help="one JSON value on standard output"
    )
    group.add_argument(
        "--quiet",
        "--silent",
        action="store_true",
        default=suppress,
        help="say nothing but results and errors",
    )
    group.add_argument(
        "--log-level", choices=LOG_LEVELS, default=suppress, help="how much to tell about requests"
    )
    group.add_argument(
        "--allow-failure",
        action="store_true",
        default=suppress,
        help="exit with 0 even when the command fails, with a note",
    )
