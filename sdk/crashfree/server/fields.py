"""Fields of request bodies: checked values in, Sentry's own error texts out.

A body is an `Object` of named fields. `read` returns the accepted values, unknown keys left out, or
raises `Invalid`, whose `errors` are exactly the body of a 400 answer. `schema` describes the same
field for the API description, so that the two cannot drift apart.

Pure; any thread. Source: releases.md sections 1.3 and 4.1, release_api_validation.json.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

REQUIRED = "This field is required."
NOT_NULL = "This field may not be null."
NOT_BLANK = "This field may not be blank."
NO_TEXT = "Not a valid string."
NO_NUL = "Null characters are not allowed."
NO_URL = "Enter a valid URL."
NO_DATETIME = (
    "Datetime has wrong format. Use one of these formats instead: "
    "YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)

_DATETIME = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[T ](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d{1,9}))?)?\s*(Z|[+-]\d{2}(?::?\d{2})?)?)?\Z"
)
_HOST = re.compile(r"(?:[^\s.@:/?#\[\]]+\.?)(?:[^\s@:/?#\[\]]+)?\Z|\[[0-9A-Fa-f:.]+\]\Z")
_SCHEMES = ("http", "https", "ftp", "ftps")


class Invalid(ValueError):
    """A body, or a part of one, that is refused; `errors` go into the answer as they are."""

    errors: Any

    def __init__(self, errors: Any) -> None:
        super().__init__(str(errors))
        self.errors = errors


class Field(Protocol):
    """One checked value."""

    required: bool
    nullable: bool

    def read(self, value: Any) -> Any:
        """Return the accepted value; raise Invalid."""
        ...

    def schema(self) -> dict[str, Any]:
        """Describe the field as JSON Schema."""
        ...


def too_long(limit: int) -> str:
    """Return the text for a value over `limit` characters."""
    return f"Ensure this field has no more than {limit} characters."


class Text:
    """A text; numbers are taken as their digits, as the original does."""

    __slots__ = ("_blank", "_check", "_most", "_trim", "nullable", "required")

    required: bool
    nullable: bool
    _most: int | None
    _blank: bool
    _trim: bool
    _check: Callable[[str], str] | None

    def __init__(
        self,
        *,
        most: int | None = None,
        blank: bool = True,
        nullable: bool = True,
        required: bool = False,
        trim: bool = True,
        check: Callable[[str], str] | None = None,
    ) -> None:
        """`check` returns the accepted text or raises Invalid with a list of texts."""
        self._most = most
        self._blank = blank
        self._trim = trim
        self._check = check
        self.nullable = nullable
        self.required = required

    def read(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise Invalid([NO_TEXT])
        text = str(value)
        if self._trim:
            text = text.strip()
        if not text.strip():
            if not self._blank:
                raise Invalid([NOT_BLANK])
            return text
        if "\0" in text:
            raise Invalid([NO_NUL])
        if self._most is not None and len(text) > self._most:
            raise Invalid([too_long(self._most)])
        return text if self._check is None else self._check(text)

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "string"}
        if self._most is not None:
            found["maxLength"] = self._most
        if not self._blank:
            found["minLength"] = 1
        return found


class Url(Text):
    """A web address, or nothing."""

    __slots__ = ()

    def read(self, value: Any) -> Any:
        text = super().read(value)
        if text and not is_url(text):
            raise Invalid([NO_URL])
        return text

    def schema(self) -> dict[str, Any]:
        # Not `format: uri`: the empty text is accepted.
        return super().schema()


class DateTime:
    """An instant; without a zone it is UTC. A date alone is its midnight; numbers are refused."""

    __slots__ = ("nullable", "required")

    required: bool
    nullable: bool

    def __init__(self, *, required: bool = False, nullable: bool = True) -> None:
        self.required = required
        self.nullable = nullable

    def read(self, value: Any) -> Any:
        found = parse_datetime(value) if isinstance(value, str) else None
        if found is None:
            raise Invalid([NO_DATETIME])
        return found

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


class Choice:
    """One of a few words, each read as a value of ours."""

    __slots__ = ("_choices", "_message", "nullable", "required")

    required: bool
    nullable: bool
    _choices: Mapping[str, Any]
    _message: str

    def __init__(self, choices: Mapping[str, Any], *, message: str, required: bool = False) -> None:
        """`message` has a `{}` for the refused value."""
        self._choices = choices
        self._message = message
        self.required = required
        self.nullable = False

    def read(self, value: Any) -> Any:
        if not isinstance(value, str) or value not in self._choices:
            raise Invalid([self._message.format(value)])
        return self._choices[value]

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self._choices)}


class Flag:
    """True or false."""

    __slots__ = ("nullable", "required")

    required: bool
    nullable: bool

    def __init__(self, *, required: bool = False) -> None:
        self.required = required
        self.nullable = False

    def read(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise Invalid(["Must be a valid boolean."])
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Slug:
    """A project: its slug or its number."""

    __slots__ = ("nullable", "required")

    required: bool
    nullable: bool

    def __init__(self) -> None:
        self.required = True
        self.nullable = False

    def read(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise Invalid([NO_TEXT])
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "integer"]}


class Free:
    """Anything; for whom it concerns."""

    __slots__ = ("nullable", "required")

    required: bool
    nullable: bool

    def __init__(self, *, required: bool = False) -> None:
        self.required = required
        self.nullable = True

    def read(self, value: Any) -> Any:
        return value

    def schema(self) -> dict[str, Any]:
        return {}


class ListOf:
    """A list; errors of its entries are named by their index, a text."""

    __slots__ = ("_entry", "_least", "nullable", "required")

    required: bool
    nullable: bool
    _entry: Field
    _least: int

    def __init__(
        self, entry: Field, *, required: bool = False, nullable: bool = False, least: int = 0
    ) -> None:
        self._entry = entry
        self._least = least
        self.required = required
        self.nullable = nullable

    def read(self, value: Any) -> Any:
        entries: Any = value
        if not isinstance(value, list):
            raise Invalid([f'Expected a list of items but got type "{_type_name(value)}".'])
        if len(entries) < self._least:
            raise Invalid(["This list may not be empty."])
        accepted: list[Any] = []
        errors: dict[str, Any] = {}
        for index, entry in enumerate(entries):
            try:
                accepted.append(_read(self._entry, entry))
            except Invalid as refusal:
                errors[str(index)] = refusal.errors
        if errors:
            raise Invalid(errors)
        return accepted

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": described(self._entry)}


class Object:
    """Named fields; other keys are left out."""

    __slots__ = ("_closed", "_fields", "nullable", "required")

    required: bool
    nullable: bool
    _fields: Mapping[str, Field]
    _closed: bool

    def __init__(
        self,
        fields: Mapping[str, Field],
        *,
        required: bool = False,
        nullable: bool = False,
        closed: bool = False,
    ) -> None:
        """`closed`: another key is an error, not ignored."""
        self._fields = fields
        self._closed = closed
        self.required = required
        self.nullable = nullable

    def read(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            message = f"Invalid data. Expected a dictionary, but got {_type_name(value)}."
            raise Invalid({"non_field_errors": [message]})
        given = cast("Mapping[str, Any]", value)
        accepted: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for name, field in self._fields.items():
            if name not in given:
                if field.required:
                    errors[name] = [REQUIRED]
                continue
            try:
                accepted[name] = _read(field, given[name])
            except Invalid as refusal:
                errors[name] = refusal.errors
        if self._closed:
            for name in given:
                if name not in self._fields:
                    errors[name] = ["Unknown field."]
        if errors:
            raise Invalid(errors)
        return accepted

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "type": "object",
            "properties": {name: described(field) for name, field in self._fields.items()},
        }
        required = [name for name, field in self._fields.items() if field.required]
        if required:
            found["required"] = required
        if self._closed:
            found["additionalProperties"] = False
        return found


def described(field: Field) -> dict[str, Any]:
    """Return a field's JSON Schema with its null, if it may be that."""
    found = field.schema()
    if not field.nullable or "type" not in found:
        return found
    kinds: Any = found["type"]
    return found | {"type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}


def _read(field: Field, value: Any) -> Any:
    if value is None:
        if not field.nullable:
            raise Invalid([NOT_NULL])
        return None
    return field.read(value)


def _type_name(value: object) -> str:
    return type(value).__name__


def parse_datetime(text: str) -> datetime | None:
    """Return the instant a text spells, in UTC; None when it spells none."""
    found = _DATETIME.match(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    microsecond = int((fraction or "").ljust(6, "0")[:6])
    try:
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            microsecond,
            tzinfo=timezone.utc,
        )
        # An offset can lead out of the years that a datetime knows.
        return datetime.fromtimestamp(moment.timestamp() - _offset(zone), timezone.utc).replace(
            microsecond=microsecond
        )
    except (ValueError, OverflowError, OSError):
        return None


def _offset(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    minutes = int(digits[2:4] or 0)
    if minutes > 59 or int(digits[:2]) > 23:
        raise ValueError(zone)
    seconds = int(digits[:2]) * 3600 + minutes * 60
    return -seconds if zone[0] == "-" else seconds


def is_url(text: str) -> bool:
    """Say whether the text is an absolute web address."""
    if any(char.isspace() for char in text):
        return False
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.scheme.lower() not in _SCHEMES or not host:
        return False
    if "[" in parts.netloc:
        return True
    return _HOST.match(host) is not None and not host.startswith((".", "-"))
