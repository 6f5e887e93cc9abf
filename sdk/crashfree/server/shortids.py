"""Short ids of issues: `PROJECT-1A`, the project's slug and a number in base 32.

The alphabet leaves out I, L, O and U; O reads as 0, I and L as 1.

Pure; any thread. Source: releases.md section 6.2.
"""

from __future__ import annotations

from typing import NamedTuple

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_LARGEST = 2**63 - 1


class ShortId(NamedTuple):
    """A short id taken apart; the slug is in lower case."""

    project_slug: str
    number: int


def encode(number: int) -> str:
    """Return a number of 0 or more in base 32."""
    digits = ""
    while True:
        number, rest = divmod(number, 32)
        digits = _ALPHABET[rest] + digits
        if not number:
            return digits


def decode(text: str) -> int | None:
    """Return the number that `text` spells; None when it spells none a column could hold."""
    value = 0
    for char in text.upper():
        digit = _VALUES.get(char)
        if digit is None:
            return None
        value = value * 32 + digit
        if value > _LARGEST:
            return None
    return value if text else None


def short_id(project_slug: str, number: int) -> str:
    """Return the short id of an issue."""
    return f"{project_slug.upper()}-{encode(number)}"


def parse(text: str) -> ShortId | None:
    """Take a short id apart at its last hyphen, underscore or white space; None if it is none."""
    for index in range(len(text) - 1, -1, -1):
        if text[index] in "-_" or text[index].isspace():
            number = decode(text[index + 1 :])
            slug = text[:index].strip().lower()
            if number is None or not slug:
                return None
            return ShortId(slug, number)
    return None
