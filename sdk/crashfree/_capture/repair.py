"""An event of any shape becomes one that servers take: field by field, or without that field.

Used for what scopes hold, for events that programs make themselves, and for what their callbacks
return. What can be read is converted (a number as a tag becomes text, `warn` becomes `warning`),
what is unknown moves into `extra`, what no server would take is left out.

Invariants: never raises; the input is not changed; the output is plain JSON of fresh containers.
Threads: any. Source: wire.md section 5.
"""

# What is walked here has no static type.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from crashfree._capture import foreign, httpdata, plain, rendering
from crashfree._capture.meta import Path
from crashfree._capture.normalize import TOP_BREADTH, Normalizer
from crashfree._capture.scope import LEVELS
from crashfree._capture.stacktrace import NEWEST, OLDEST
from crashfree._ground import ids, log
from crashfree._ground.typed import Any
from crashfree._protocol import fields
from crashfree._protocol.naming import repair_environment, valid_dist
from crashfree._protocol.timestamps import parse_timestamp
from crashfree.errors import InvalidRelease
from crashfree.release import Release
from crashfree.types import JSON, Event, Level

TAG_CHARACTERS = 200
USER_CHARACTERS = 128
EMAIL_CHARACTERS = 75
TYPE_CHARACTERS = 256
LOGGER_CHARACTERS = 64
TRANSACTION_CHARACTERS = 200
MAX_EXCEPTIONS = 50

_LEVELS: dict[str, Level] = {
    "fatal": "fatal",
    "critical": "fatal",
    "error": "error",
    "exception": "error",
    "warning": "warning",
    "warn": "warning",
    "info": "info",
    "debug": "debug",
    "notset": "debug",
    "trace": "debug",
}
_LAST_MOMENT = 253_402_300_800.0
"""The end of the year 9999; what comes after it no calendar holds."""
_EXACT = 1 << 53
_TAG_KEY = frozenset("_.:-")
_DROPPED_TAGS = frozenset(("release", "environment"))
_CRUMB_TEXTS = frozenset(("type", "category", "message", "event_id", "origin"))
_USER_TEXTS = ("id", "email", "username", "name", "segment")
_FRAME_TEXTS = ("filename", "abs_path", "module", "function", "context_line", "package")
_FRAME_LISTS = ("pre_context", "post_context")
_NO_DATA: dict[str, Any] = {}


class Repairer:
    """One event's worth of repairing."""

    __slots__ = ("_normalizer", "_now", "_personal")
    _normalizer: Normalizer
    _personal: bool
    _now: float

    def __init__(self, normalizer: Normalizer, *, personal: bool, now: float) -> None:
        self._normalizer = normalizer
        self._personal = personal
        self._now = now

    def repaired(self, event: Mapping[str, Any], *, trusted_frames: bool = False) -> Event:
        """Return `event` as servers want it.

        `trusted_frames`: its stack traces are our own, as they were built.
        """
        result: dict[str, Any] = {}
        unknown: dict[str, object] = {}
        items = (
            list(event.copy().items())[:1000]
            if type(event) is dict
            else foreign.attempt(lambda: list(event.items())[:1000]) or []
        )
        for key, value in items:
            if value is None:
                continue
            if trusted_frames and key in ("exception", "threads"):
                result[key] = value
                continue
            repair = _REPAIRS.get(key) if type(key) is str else None
            if repair is None:
                if key not in _LEFT_OUT:
                    unknown[rendering.text_of(key)] = value
                continue
            fixed = repair(self, value)
            if fixed is not None:
                result[key] = fixed
        if unknown:
            result["extra"] = {
                **self._normalizer.bag(unknown, (None, "extra")),
                **result.get("extra", {}),
            }
        return result  # type: ignore[return-value]

    # -- one method a field; None leaves it out

    def event_id(self, value: object) -> JSON:
        return event_id_of(value)

    def timestamp(self, value: object) -> JSON:
        return self._instant(value)

    def platform(self, value: object) -> JSON:
        return rendering.text_of(value)[:64] or None

    def level(self, value: object) -> JSON:
        return level_of(value)

    def logger(self, value: object) -> JSON:
        return one_line(value, LOGGER_CHARACTERS) or None

    def transaction(self, value: object) -> JSON:
        return one_line(value, TRANSACTION_CHARACTERS) or None

    def transaction_info(self, value: object) -> JSON:
        source = plain.members(value).get("source")
        return {"source": one_line(source, 32)} if type(source) is str and source else None

    def server_name(self, value: object) -> JSON:
        return one_line(value, TAG_CHARACTERS) or None

    def release(self, value: object) -> JSON:
        try:
            return Release.parse(rendering.text_of(value)).raw
        except InvalidRelease as error:
            log.warning(f"the release of an event is left out: {error}", key="event.release")
            return None

    def dist(self, value: object) -> JSON:
        text = rendering.text_of(value).strip()
        return text if valid_dist(text) else None

    def environment(self, value: object) -> JSON:
        return repair_environment(rendering.text_of(value))

    def message(self, value: object) -> JSON:
        entry = plain.members(value)
        text = (entry.get("formatted") or entry.get("message") or "") if entry else value
        return self._normalizer.text(rendering.text_of(text), (None, "message"))

    def logentry(self, value: object) -> JSON:
        path: Path = (None, "logentry")
        entry = foreign.mapping(value)
        if entry is None:
            entry = {"formatted": value}
        result: dict[str, JSON] = {}
        for key in ("message", "formatted"):
            if entry.get(key) is not None:
                text = rendering.text_of(entry[key])
                result[key] = self._normalizer.text(text, (path, key))
        params: object = entry.get("params")
        if params is not None:
            listed = params if _is_exactly(params, list, tuple, dict) else [params]
            result["params"] = self._normalizer.value(listed, (path, "params"))
        return result if "message" in result or "formatted" in result else None

    def tags(self, value: object) -> JSON:
        result: dict[str, JSON] = {}
        for key, entry in _pairs(value)[:TOP_BREADTH]:
            name = _tag_key(key)
            if not name or name in _DROPPED_TAGS or entry is None:
                continue
            text = entry if type(entry) is str else rendering.text_of(entry)
            if not text.isprintable() or len(text) > TAG_CHARACTERS or text[:1] == " ":
                text = one_line(text, TAG_CHARACTERS)
            if text:
                result[name] = text
        return result or None

    def extra(self, value: object) -> JSON:
        path: Path = (None, "extra")
        entries = foreign.mapping(value)
        return self._normalizer.bag({"value": value} if entries is None else entries, path) or None

    def contexts(self, value: object) -> JSON:
        result: dict[str, JSON] = {}
        for key, context in list((foreign.mapping(value) or {}).items())[:TOP_BREADTH]:
            if context is None:
                continue
            name = rendering.text_of(key)[:TAG_CHARACTERS]
            entries = foreign.mapping(context)
            result[name] = self._normalizer.bag(
                {"value": context} if entries is None else entries, ((None, "contexts"), name)
            )
        return result or None

    def user(self, value: object) -> JSON:
        entries = foreign.mapping(value)
        if entries is None:
            return {"id": one_line(value, USER_CHARACTERS)}
        result: dict[str, JSON] = {}
        more: dict[str, object] = {}
        path: Path = (None, "user")
        for key, entry in entries.items():
            if entry is None:
                continue
            if key in _USER_TEXTS:
                text = one_line(entry, EMAIL_CHARACTERS if key == "email" else USER_CHARACTERS)
                if text:
                    result[key] = text
            elif key == "ip_address":
                address = rendering.text_of(entry).strip()
                if address in ("auto", "{{auto}}"):
                    result[key] = "{{auto}}"
                elif is_address(address):
                    result[key] = address
            elif key == "data" and (data := foreign.mapping(entry)) is not None:
                more.update(data)
            elif key == "geo" and (geo := foreign.mapping(entry)) is not None:
                result[key] = self._normalizer.bag(geo, (path, key))
            else:
                more[key] = entry
        if more:
            result["data"] = self._normalizer.bag(more, (path, "data"))
        return result or None

    def request(self, value: object) -> JSON:
        entries = foreign.mapping(value)
        if entries is None:
            return None
        return httpdata.permitted(entries, self._normalizer, personal=self._personal) or None

    def breadcrumbs(self, value: object) -> JSON:
        listed = _listed(value)
        path: Path = ((None, "breadcrumbs"), "values")
        crumbs = [
            crumb
            for index, entry in enumerate(foreign.sequence(listed) or ())
            if (crumb := self.breadcrumb(entry, (path, index))) is not None
        ]
        return {"values": crumbs} if crumbs else None

    def breadcrumb(self, value: object, path: Path) -> JSON:
        """Return one breadcrumb, repaired; None for what is none."""
        if type(value) is dict:
            copy = plain_crumb(value, self._normalizer.short)
            if copy:
                return copy
        entries = foreign.mapping(value)
        if entries is None:
            return None
        result: dict[str, JSON] = {}
        data: dict[str, object] | None = None
        for key, entry in entries.items():
            if entry is None:
                continue
            if key == "timestamp":
                result[key] = self._instant(entry)
            elif key in _CRUMB_TEXTS:
                text = entry if type(entry) is str else rendering.text_of(entry)
                result[key] = self._normalizer.text(text, (path, key)) if len(text) > 100 else text
            elif key == "level":
                result[key] = level_of(entry)
            elif key == "data":
                below = foreign.mapping(entry) or {"value": entry}
                data = below if data is None else {**data, **below}
            else:
                data = {**(data or _NO_DATA), rendering.text_of(key): entry}
        if data:
            result["data"] = self._normalizer.bag(data, (path, "data"))
        return result or None

    def fingerprint(self, value: object) -> JSON:
        parts = [value] if type(value) is str else foreign.sequence(value)
        texts = [rendering.text_of(part)[:1000] for part in (parts or ())[:100] if part is not None]
        return texts or None

    def modules(self, value: object) -> JSON:
        return {
            rendering.text_of(name): rendering.text_of(version)[:200]
            for name, version in list((foreign.mapping(value) or {}).items())[:5000]
        } or None

    def sdk(self, value: object) -> JSON:
        entries = foreign.mapping(value)
        if entries is None or type(entries.get("name")) is not str:
            return None
        if type(entries.get("version")) is not str:
            return None
        return self._normalizer.bag(entries, (None, "sdk"))

    def exception(self, value: object) -> JSON:
        listed = foreign.sequence(_listed(value))
        if listed is None:
            listed = [value]
        path: Path = ((None, "exception"), "values")
        values = [
            fixed
            for index, entry in enumerate(listed[-MAX_EXCEPTIONS:])
            if (fixed := self._exception_value(entry, (path, index))) is not None
        ]
        return {"values": values} if values else None

    def _exception_value(self, value: object, path: Path) -> JSON:
        entries = foreign.mapping(value)
        if entries is None:
            return None
        result: dict[str, JSON] = {}
        if entries.get("value") is not None:
            text = rendering.text_of(entries["value"])
            result["value"] = self._normalizer.text(text, (path, "value"))
        for key in ("type", "module"):
            if entries.get(key) is not None:
                result[key] = one_line(entries[key], TYPE_CHARACTERS)
        if not result.get("type") and not result.get("value"):
            # Neither of them: servers drop it, and complain.
            return None
        if "module" in entries and entries["module"] is None:
            result["module"] = None
        mechanism = foreign.mapping(entries.get("mechanism"))
        if mechanism is not None:
            result["mechanism"] = self._mechanism(mechanism, (path, "mechanism"))
        thread = entries.get("thread_id")
        if _is_exactly(thread, int, str):
            result["thread_id"] = thread
        stacktrace = self._stacktrace(entries.get("stacktrace"), (path, "stacktrace"))
        if stacktrace is not None:
            result["stacktrace"] = stacktrace
        return result

    def _mechanism(self, mechanism: Mapping[str, Any], path: Path) -> JSON:
        result: dict[str, JSON] = {
            "type": rendering.text_of(mechanism.get("type") or "generic")[:128]
        }
        for key in ("handled", "synthetic", "is_exception_group"):
            if type(mechanism.get(key)) is bool:
                result[key] = mechanism[key]
        for key in ("exception_id", "parent_id"):
            if type(mechanism.get(key)) is int:
                result[key] = mechanism[key]
        for key in ("source", "description", "help_link"):
            if mechanism.get(key) is not None:
                text = rendering.text_of(mechanism[key])
                result[key] = self._normalizer.text(text, (path, key))
        for key in ("data", "meta"):
            entries = foreign.mapping(mechanism.get(key))
            if entries:
                result[key] = self._normalizer.bag(entries, (path, key))
        return result

    def threads(self, value: object) -> JSON:
        listed = _listed(value)
        threads: list[JSON] = []
        for index, entry in enumerate((foreign.sequence(listed) or [])[:1000]):
            entries = foreign.mapping(entry)
            if entries is None:
                continue
            path: Path = (((None, "threads"), "values"), index)
            thread: dict[str, JSON] = {
                key: entries[key]
                for key in ("crashed", "current", "main")
                if type(entries.get(key)) is bool
            }
            if _is_exactly(entries.get("id"), int, str):
                thread["id"] = entries["id"]
            for key in ("name", "state"):
                if entries.get(key) is not None:
                    thread[key] = rendering.text_of(entries[key])[:200]
            stacktrace = self._stacktrace(entries.get("stacktrace"), (path, "stacktrace"))
            if stacktrace is not None:
                thread["stacktrace"] = stacktrace
            threads.append(thread)
        return {"values": threads} if threads else None

    def _stacktrace(self, value: object, path: Path) -> JSON:
        entries = foreign.mapping(value)
        listed = foreign.sequence(None if entries is None else entries.get("frames")) or []
        if len(listed) > OLDEST + NEWEST:
            self._normalizer.notes.shortened((path, "frames"), len(listed))
            listed = listed[:OLDEST] + listed[-NEWEST:]
        frames: list[JSON] = []
        at: Path = (path, "frames")
        for entry in listed:
            frame = self._frame(entry, (at, len(frames)))
            if frame:
                frames.append(frame)
        # An empty list of frames is refused; so is a stack trace without one.
        return {"frames": frames} if frames else None

    def _frame(self, value: object, path: Path) -> JSON:
        entries = foreign.mapping(value)
        if entries is None:
            return None
        result: dict[str, JSON] = {}
        for key, entry in entries.items():
            kind: type[Any] = type(entry)
            if key in _FRAME_TEXTS:
                text = entry if kind is str else None if entry is None else rendering.text_of(entry)
                if text is not None:
                    result[key] = (
                        self._normalizer.text(text, (path, key)) if len(text) > 500 else text
                    )
            elif key in ("lineno", "colno"):
                if kind is int and 0 <= entry < 1 << 32:
                    result[key] = entry
            elif key == "in_app":
                if kind is bool:
                    result[key] = entry
            elif key in _FRAME_LISTS:
                lines = [
                    line
                    if type(line) is str and len(line) <= 500
                    else rendering.text_of(line)[:512]
                    for line in (foreign.sequence(entry) or [])[:10]
                ]
                if lines:
                    result[key] = lines
            elif key in ("vars", "data"):
                bag = foreign.mapping(entry)
                if bag:
                    result[key] = self._normalizer.bag(bag, (path, key))
        return result

    def _instant(self, value: object) -> float:
        if issubclass(type(value), datetime):
            seconds = foreign.attempt(datetime.timestamp, value)  # type: ignore[arg-type]
            return self._now if seconds is None else seconds
        if not _is_exactly(value, int, float, str):
            return self._now
        try:
            return parse_timestamp(value)
        except (ValueError, OverflowError):
            return self._now


_Repair = Callable[[Repairer, Any], JSON]

_REPAIRS: dict[str, _Repair] = {
    "event_id": Repairer.event_id,
    "timestamp": Repairer.timestamp,
    "platform": Repairer.platform,
    "level": Repairer.level,
    "logger": Repairer.logger,
    "transaction": Repairer.transaction,
    "transaction_info": Repairer.transaction_info,
    "server_name": Repairer.server_name,
    "release": Repairer.release,
    "dist": Repairer.dist,
    "environment": Repairer.environment,
    "message": Repairer.message,
    "logentry": Repairer.logentry,
    "tags": Repairer.tags,
    "extra": Repairer.extra,
    "contexts": Repairer.contexts,
    "user": Repairer.user,
    "request": Repairer.request,
    "breadcrumbs": Repairer.breadcrumbs,
    "fingerprint": Repairer.fingerprint,
    "modules": Repairer.modules,
    "sdk": Repairer.sdk,
    "exception": Repairer.exception,
    "threads": Repairer.threads,
}
# What only servers say; and the notes, which are taken over by whoever knows what they are about.
_LEFT_OUT = frozenset(
    ("errors", "type", "received", "project", "key_id", "site", "version", "_meta")
)


def event_id_of(value: object) -> str:
    """Return an event id in the wire's form; a new one for what is none."""
    return fields.hex_id(rendering.text_of(value)) or ids.event_id()


def _is_exactly(value: object, *kinds: type) -> bool:
    """Return whether the type of a value is one of these, compared by nothing but identity."""
    kind = type(value)
    return any(kind is one for one in kinds)


def level_of(value: object) -> Level:
    """Return a level of the wire for a word or a number of `logging`."""
    kind: type[Any] = type(value)
    if kind is int:
        number: int = value  # type: ignore[assignment]
        if number >= 50:
            return "fatal"
        if number >= 40:
            return "error"
        if number >= 30:
            return "warning"
        return "info" if number >= 20 else "debug"
    return _LEVELS.get(rendering.text_of(value).strip().lower(), "error")


def one_line(value: object, characters: int) -> str:
    """Return text without line ends, cut to a number of characters."""
    text = rendering.text_of(value)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text[: characters * 2])
    text = text.strip()
    return text if len(text) <= characters else text[: characters - 3] + "..."


def is_address(text: str) -> bool:
    """Return whether a text is an IPv4 or IPv6 address."""
    if ":" not in text:
        parts = text.split(".")
        return len(parts) == 4 and all(
            part.isascii() and part.isdigit() and len(part) <= 3 and int(part) <= 255
            for part in parts
        )
    if text.count("::") > 1 or text.strip("0123456789abcdefABCDEF:."):
        return False
    groups = text.split(":")
    last = groups[-1]
    if "." in text:
        if not is_address(last):
            return False
        groups[-1:] = ["0", "0"]
    if any(len(group) > 4 or "." in group for group in groups):
        return False
    return len(groups) <= 8 if "::" in text else len(groups) == 8 and all(groups)


def plain_crumb(crumb: dict[Any, Any], short: int) -> dict[str, JSON] | None:
    """Return a copy of a crumb that needs nothing but copying (nearly every one), else None."""
    data: dict[str, Any] | None = None
    try:
        for key, entry in crumb.items():
            kind: type[Any] = type(entry)
            if type(key) is not str:
                return None
            if kind is str:
                if len(entry) > short or (
                    entry not in LEVELS if key == "level" else key not in _CRUMB_TEXTS
                ):
                    return None
            elif kind is float:
                if key != "timestamp" or not 0.0 <= entry < _LAST_MOMENT:
                    return None
            elif kind is dict and key == "data":
                data = entry.copy()
            else:
                return None
        if data is None:
            return crumb.copy()
        for name, detail in data.items():
            kind = type(detail)
            if type(name) is not str or len(name) > TAG_CHARACTERS:
                return None
            if kind is str:
                if len(detail) > short:
                    return None
            elif kind is int:
                if not -_EXACT < detail < _EXACT:
                    return None
            elif kind is float:
                if detail - detail != 0.0:
                    return None
            elif detail is not None and kind is not bool:
                return None
    except RuntimeError:
        # Another thread changes it at this moment.
        return None
    return {**crumb, "data": data} if len(data) <= TOP_BREADTH else None


def _listed(value: object) -> object:
    """Return the list in `{"values": [...]}`; anything else as it is."""
    return plain.members(value).get("values", value)


def _tag_key(key: object) -> str:
    text = key if type(key) is str else rendering.text_of(key)
    if text.isidentifier() and text.isascii() and len(text) <= TAG_CHARACTERS:
        return text
    return "".join(
        char
        if (char.isascii() and char.isalnum()) or char in _TAG_KEY
        else "-"
        if char == " "
        else "_"
        for char in text.strip()[:TAG_CHARACTERS]
    )


def _pairs(value: object) -> list[tuple[object, object]]:
    entries = foreign.mapping(value)
    if entries is not None:
        return list(entries.items())
    return [
        (pair[0], pair[1])
        for pair in foreign.sequence(value) or ()
        if _is_exactly(pair, list, tuple) and len(pair) == 2
    ]
