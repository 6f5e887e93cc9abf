"""What a name on the wire may hold: trimming, forbidden characters, and how to print them.

Releases and environments follow one rule, and the server's parser trims a set of characters that
is not Python's: `str.strip()` also eats U+001C to U+001F, which the parser keeps and refuses.

Threads: any; pure. Source: releases.md section 1.2, steps 2 and 7.
"""

from __future__ import annotations

TRIMMED = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""The 25 code points that are cut at both ends; zero-width characters and the BOM are not."""

FORBIDDEN = frozenset(map(chr, (*range(0x20), 0x7F))) | frozenset("/\\")
"""The 35 characters that no release and no environment may hold."""


def trim(text: str) -> str:
    """Cut at both ends what servers cut."""
    return text.strip(TRIMMED)


def what_was_cut(text: str) -> str | None:
    """Return which characters `trim` cuts from `text`, to be read; None when it cuts none."""
    left = len(text) - len(text.lstrip(TRIMMED))
    cut = text[:left] + text[left:][len(trim(text)) :]
    if not cut:
        return None
    kinds = ", ".join(f"U+{ord(each):04X}" for each in dict.fromkeys(cut))
    return f"{len(cut)} blank character{'' if len(cut) == 1 else 's'} cut off ({kinds})"


def lone_surrogate(text: str) -> int | None:
    """Return the index of the first character that cannot be encoded; None when all can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def first_forbidden(text: str) -> int | None:
    """Return the index of the first forbidden character; None when there is none."""
    # isprintable() is False for every control character: nearly every name ends here.
    if text.isprintable() and "/" not in text and "\\" not in text:
        return None
    for index, character in enumerate(text):
        if character in FORBIDDEN:
            return index
    return None


def same_ascii(text: str, word: str) -> bool:
    """Return whether `text` is the lower-case ASCII `word` in any case of its letters."""
    return len(text) == len(word) and text.isascii() and text.lower() == word


def shown(character: str) -> str:
    """Return a character so that it can be read in a message: `U+002F "/"`, `U+000A`."""
    code = f"U+{ord(character):04X}"
    return f'{code} "{character}"' if character.isprintable() else code


def shortened(text: str, limit: int = 60) -> str:
    """Return `text` quoted and cut for a message; control characters appear as escapes."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}..."
