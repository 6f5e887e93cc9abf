"""The two old configuration formats: ini files (`.sentryclirc`) and Java properties.

Both read to one flat table, `section.key` → value, keys in lower case. Broken lines are skipped: a
file that another tool wrote must not stop this one.

Pure; threads: any. Source: releases.md section 5.2.
"""

from __future__ import annotations


def read_ini(text: str) -> dict[str, str]:
    """Return the settings of an ini file; a later value replaces an earlier one."""
    found: dict[str, str] = {}
    section = ""
    for raw in text.lstrip("\ufeff").splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and "]" in line:
            section = line[1 : line.index("]")].strip().lower()
            continue
        key, equals, value = _divided(line)
        if equals and key:
            found[f"{section}.{key.lower()}" if section else key.lower()] = _unquoted(value)
    return found


def read_properties(text: str) -> dict[str, str]:
    """Return the settings of a Java properties file: continuation lines and escapes included."""
    found: dict[str, str] = {}
    for line in _logical_lines(text.lstrip("\ufeff")):
        key, value = _property(line)
        if key:
            found[key.lower()] = value
    return found


def read_dotenv(text: str) -> dict[str, str]:
    """Return the variables of a `.env` file: `KEY=value`, quotes and `export` allowed."""
    found: dict[str, str] = {}
    for raw in text.lstrip("\ufeff").splitlines():
        line = raw.strip().removeprefix("export ").lstrip()
        if not line or line[0] == "#":
            continue
        key, equals, value = line.partition("=")
        if equals and key.strip().isidentifier():
            found[key.strip()] = _dotenv_value(value.strip())
    return found


def _divided(line: str) -> tuple[str, str, str]:
    at = min((line.find(mark) for mark in "=:" if mark in line), default=-1)
    if at < 0:
        return line, "", ""
    return line[:at].strip(), line[at], line[at + 1 :].strip()


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def _dotenv_value(value: str) -> str:
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        if end > 0:
            return value[1:end]
    return value.partition(" #")[0].strip()


def _logical_lines(text: str) -> list[str]:
    lines: list[str] = []
    pending = ""
    for raw in text.splitlines():
        line = raw.lstrip(" \t\f")
        if not pending and (not line or line[0] in "#!"):
            continue
        slashes = len(line) - len(line.rstrip("\\"))
        if slashes % 2:
            pending += line[:-1]
            continue
        lines.append(pending + line)
        pending = ""
    if pending:
        lines.append(pending)
    return lines


def _property(line: str) -> tuple[str, str]:
    """Split at the first `=`, `:` or blank that is not escaped."""
    index = 0
    while index < len(line) and line[index] not in "=: \t\f":
        index += 2 if line[index] == "\\" else 1
    key, rest = line[:index], line[index:].lstrip(" \t\f")
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(" \t\f")
    return _unescaped(key), _unescaped(rest)


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    answer: list[str] = []
    index = 0
    while index < len(text):
        char = text[index]
        if char != "\\" or index + 1 == len(text):
            answer.append(char)
            index += 1
            continue
        code = text[index + 1]
        digits = text[index + 2 : index + 6]
        if code == "u" and len(digits) == 4 and all(d in "0123456789abcdefABCDEF" for d in digits):
            answer.append(chr(int(digits, 16)))
            index += 6
            continue
        answer.append({"t": "\t", "n": "\n", "r": "\r", "f": "\f"}.get(code, code))
        index += 2
    return "".join(answer)
