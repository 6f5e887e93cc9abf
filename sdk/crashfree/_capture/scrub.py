"""Secrets leave the event before the event leaves the process.

Keys decide first: names from the deny list, compared without case, `-`, `_`, `.` and blanks, and
anything whose name holds a word such as `password` or `token`. Then texts: credentials in URLs (a
DSN is one), secret parameters of query strings, bearer tokens, and in data also `password='...'`
inside a repr. The scrubber works on the event's own copy and goes as deep as the event is.

Nothing is looked for in `contexts.trace`, `sdk`, `modules` and `_meta`. Never raises.
Threads: any. Source: wire.md section 9.
"""

# What is walked here has no static type.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from crashfree._capture import plain
from crashfree._capture.meta import FILTERED, Notes, Path
from crashfree._ground.typed import Any
from crashfree.types import Event

# Compared in their reduced form: `x_api_key`, `X-Api-Key` and `xApiKey` are one name.
_DENIED = frozenset((
    "password", "passwd", "pwd", "passphrase", "secret", "apikey", "auth", "credentials",
    "mysqlpwd", "privatekey", "token", "session", "csrftoken", "sessionid", "xcsrftoken",
    "setcookie", "cookie", "authorization", "proxyauthorization", "xapikey", "aiohttpsession",
    "connectsid", "csrf", "phpsessid", "symfony", "usersession", "xsrf", "xsrftoken", "dsn",
    "sentrydsn", "accesskey", "jwt", "bearer", "identity", "saml", "sso",
))  # fmt: skip
_DENIED_WORDS = (
    "password", "passwd", "secret", "token", "apikey", "privatekey", "authorization", "cookie",
    "credential",
)  # fmt: skip
_PERSONAL = frozenset((
    "xforwardedfor", "xrealip", "ipaddress", "remoteaddr", "forwarded", "cfconnectingip",
    "trueclientip", "xclientip", "remoteuser",
))  # fmt: skip
_SEPARATORS = str.maketrans("", "", "-_. ")
_REMEMBERED = 5000

_ENDS_URL = frozenset(" \t\r\n\"'<>`\\{}|^")
_ENDS_VALUE = frozenset("& \t\r\n\"'<>`#;)")
_SCHEMES = ("bearer ", "basic ", "token ", "digest ")
_SHORTEST_TOKEN = 8
_TEXT_WORDS = (
    "password", "passwd", "secret", "token", "api_key", "apikey", "api-key", "private_key",
    "authorization", "credential", "cookie",
)  # fmt: skip


class Scrubber:
    """The built-in scrubbing of one client."""

    __slots__ = ("_personal", "judged")
    _personal: bool
    judged: dict[str, bool]
    """Keys that were judged before; thrown away when there are too many."""

    def __init__(self, *, send_default_pii: bool) -> None:
        self._personal = not send_default_pii
        self.judged = {}

    def sensitive(self, key: str) -> bool:
        """Return whether the value under this key is to be hidden."""
        known = self.judged.get(key)
        if known is None:
            if len(self.judged) >= _REMEMBERED:
                self.judged = {}
            known = self.judged[key] = self._judge(key)
        return known

    def scrub(
        self,
        event: Event,
        notes: Notes,
        known: Set[str] = frozenset(),
        *,
        breadcrumbs: bool = True,
    ) -> None:
        """Hide what is secret in an event, in place, with a note at each place.

        `known`: names of contexts that hold what we put there ourselves. `breadcrumbs` False:
        each of them was found to be `harmless`.
        """
        walk = _Walk(self, notes)
        for key in ("extra", "tags", "request"):
            walk.mapping(plain.members(event.get(key)), (None, key))
        user = plain.members(event.get("user"))
        # We never set it ourselves: who it is that was set here is meant to be known.
        address = user.pop("ip_address", None)
        walk.mapping(user, (None, "user"))
        if address is not None:
            user["ip_address"] = address
        for name, context in plain.members(event.get("contexts")).items():
            if name != "trace" and name not in known:
                walk.mapping(plain.members(context), ((None, "contexts"), name))
        if breadcrumbs:
            path: Path = ((None, "breadcrumbs"), "values")
            for index, crumb in enumerate(plain.values(event.get("breadcrumbs"))):
                self._breadcrumb(crumb, walk, (path, index))
        self._stacks(event, walk)
        self._messages(event, walk)

    def _judge(self, key: str) -> bool:
        # A long key is a text that happens to be one; it can still hold a word.
        reduced = key[:200].lower().translate(_SEPARATORS)
        if reduced in _DENIED or any(word in reduced for word in _DENIED_WORDS):
            return True
        return self._personal and reduced.removeprefix("http") in _PERSONAL

    def harmless(self, crumb: dict[str, Any]) -> bool:
        """Return whether there is nothing to hide in a breadcrumb; if there was, it is hidden."""
        notes = Notes()
        self._breadcrumb(crumb, _Walk(self, notes), None)
        return not notes.tree

    def _breadcrumb(self, crumb: dict[str, Any], walk: _Walk, path: Path) -> None:
        judged = self.judged
        data = crumb.get("data")
        if data is not None:
            fields = plain.members(data)
            for key, value in fields.items():
                kind: type[Any] = type(value)
                if judged.get(key) is not False or (kind is str and _suspicious(value)):
                    walk.mapping(fields, (path, "data"))
                    break
                if kind is not str and kind is not int and kind is not float:
                    walk.mapping(fields, (path, "data"))
                    break
        message = crumb.get("message")
        if type(message) is str and _suspicious(message):
            walk.text_field(crumb, "message", path)

    def _stacks(self, event: Event, walk: _Walk) -> None:
        for key in ("exception", "threads"):
            for index, value in enumerate(plain.values(event.get(key))):
                at: Path = (((None, key), "values"), index)
                if key == "exception":
                    walk.text_field(value, "value", at)
                frames = plain.entries(plain.members(value.get("stacktrace")).get("frames"))
                for number, frame in enumerate(frames):
                    variables = plain.members(frame).get("vars")
                    if variables is not None:
                        below: Path = ((((at, "stacktrace"), "frames"), number), "vars")
                        walk.mapping(plain.members(variables), below)

    def _messages(self, event: Event, walk: _Walk) -> None:
        fields = plain.members(event)
        walk.text_field(fields, "message", None)
        walk.text_field(fields, "transaction", None)
        at: Path = (None, "logentry")
        entry = plain.members(fields.get("logentry"))
        walk.text_field(entry, "message", at)
        walk.text_field(entry, "formatted", at)
        walk.sequence(plain.entries(entry.get("params")), (at, "params"))


class _Walk:
    """One pass over an event."""

    __slots__ = ("_known", "_notes", "_sensitive")
    _notes: Notes
    _sensitive: Callable[[str], bool]
    _known: Mapping[str, bool]

    def __init__(self, scrubber: Scrubber, notes: Notes) -> None:
        self._sensitive = scrubber.sensitive
        self._known = scrubber.judged
        self._notes = notes

    def mapping(self, entries: dict[str, Any], path: Path) -> None:
        known = self._known
        for key, value in entries.items():
            # Nearly every key was seen before.
            hide = known.get(key)
            if self._sensitive(key) if hide is None else hide:
                if value not in _NOTHING_TO_HIDE:
                    entries[key] = FILTERED
                    self._notes.forget((path, key))
                    self._notes.filtered((path, key))
                continue
            kind: type[Any] = type(value)
            if kind is str:
                if len(value) > 6:
                    query = key in _QUERY_KEYS
                    clean = without_secrets(value, data=True, query=query)
                    if clean is not value:
                        entries[key] = clean
                        self._notes.filtered((path, key))
            elif kind is dict:
                self.mapping(value, (path, key))
            elif kind is list:
                self.sequence(value, (path, key))

    def sequence(self, entries: list[Any], path: Path) -> None:
        if len(entries) == 2 and type(entries[0]) is str and self._sensitive(_unquoted(entries[0])):
            # A header as a pair of name and value.
            entries[1] = FILTERED
            self._notes.filtered((path, 1))
            return
        for index, value in enumerate(entries):
            kind: type[Any] = type(value)
            if kind is str:
                clean = without_secrets(value, data=True)
                if clean is not value:
                    entries[index] = clean
                    self._notes.filtered((path, index))
            elif kind is dict:
                self.mapping(value, (path, index))
            elif kind is list:
                self.sequence(value, (path, index))

    def text_field(self, part: dict[str, Any], key: str, path: Path) -> None:
        value = part.get(key)
        if type(value) is not str:
            return
        clean = without_secrets(value)
        if clean is not value:
            part[key] = clean
            self._notes.filtered((path, key))


_NOTHING_TO_HIDE = (None, "", FILTERED)
_QUERY_KEYS = frozenset(("query_string", "query", "http.query", "fragment", "http.fragment"))


def without_secrets(text: str, *, data: bool = False, query: bool = False) -> str:
    """Return `text` with its secrets replaced; the very same object when there are none.

    `data`: also look for `password='...'` and the like, which a message to read may hold by
    chance. `query`: the text is a query string.
    """
    if not _suspicious(text):
        return text
    clean = text
    if "@" in text and "://" in text:
        clean = _without_userinfo(clean)
    if "=" in text and (query or "?" in text or "&" in text):
        clean = _without_parameters(clean, query)
    if len(text) > _SHORTEST_TOKEN + 6:
        lowered = _lowered(clean)
        if "bearer " in lowered or "authorization" in lowered:
            clean = _without_credentials(clean)
            lowered = _lowered(clean)
        if data and ("=" in text or ":" in text):
            for word in _TEXT_WORDS:
                if word in lowered:
                    clean = _without_assignments(clean, word)
                    lowered = _lowered(clean)
    return clean


def _suspicious(text: str) -> bool:
    """Return whether a text needs a closer look; most do not."""
    return "=" in text or ":" in text or "earer " in text


def _lowered(text: str) -> str:
    """Return `text` in lower case, character by character in the same places."""
    if text.isascii():
        return text.lower()
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def _without_userinfo(text: str) -> str:
    """Replace `user:password` in every URL of a text."""
    parts: list[str] = []
    start = 0
    while True:
        at = text.find("://", start)
        if at < 0:
            parts.append(text[start:])
            clean = "".join(parts)
            return text if clean == text else clean
        authority = at + 3
        end = authority
        while end < len(text) and text[end] not in "/?#" and text[end] not in _ENDS_URL:
            end += 1
        host = text.rfind("@", authority, end)
        if host < 0 or text[authority:host] == FILTERED:
            parts.append(text[start:end])
        else:
            parts += (text[start:authority], FILTERED, text[host:end])
        start = end


def _without_parameters(text: str, query: bool) -> str:
    """Replace the values of secret parameters in query strings."""
    parts: list[str] = []
    done = 0
    at = 0 if query else _next_parameter(text, 0)
    while at >= 0:
        equals = text.find("=", at)
        if equals < 0:
            break
        key = text[at:equals]
        end = equals + 1
        while end < len(text) and text[end] not in _ENDS_VALUE:
            end += 1
        secret = len(key) < 100 and _is_parameter(key) and _DEFAULT.sensitive(key)
        if secret and text[equals + 1 : end] not in ("", FILTERED):
            parts += (text[done : equals + 1], FILTERED)
            done = end
        at = _next_parameter(text, at)
    return text if not parts else "".join((*parts, text[done:]))


def _next_parameter(text: str, start: int) -> int:
    """Return where the next name after `?`, `&` or `;` begins; -1 when there is none."""
    found = [
        at
        for at in (text.find("?", start), text.find("&", start), text.find(";", start))
        if at >= 0
    ]
    return min(found) + 1 if found else -1


def _is_parameter(key: str) -> bool:
    return all(char.isalnum() or char in "_-.[]%+$" for char in key) and bool(key)


def _without_credentials(text: str) -> str:
    """Replace what follows `Bearer` and, in an Authorization header, any other scheme."""
    lowered = _lowered(text)
    header = "authorization" in lowered
    for scheme in _SCHEMES:
        if scheme != "bearer " and not header:
            continue
        start = lowered.find(scheme)
        while start >= 0:
            begin = start + len(scheme)
            end = begin
            while end < len(text) and text[end] not in " \t\r\n\"',;<>)}]":
                end += 1
            word = text[begin:end]
            if len(word) >= _SHORTEST_TOKEN and word != FILTERED and (header or not word.isalpha()):
                text = text[:begin] + FILTERED + text[end:]
                lowered = _lowered(text)
                end = begin + len(FILTERED)
            start = lowered.find(scheme, end)
    return text


def _without_assignments(text: str, word: str) -> str:
    """Replace the value in `...word...='value'`, `"...word...": "value"` and `word=value`."""
    lowered = _lowered(text)
    start = lowered.find(word)
    while start >= 0:
        at = start + len(word)
        while at < len(text) and (text[at].isalnum() or text[at] in "_-"):
            at += 1
        quoted = at < len(text) and text[at] in "\"'"
        if quoted:
            at += 1
        while at < len(text) and text[at] == " ":
            at += 1
        # `token: x` is a sentence, `'token': 'x'` and `token=x` are data.
        if at < len(text) and (text[at] == "=" or (text[at] == ":" and quoted)):
            at += 1
            while at < len(text) and text[at] == " ":
                at += 1
            end = _end_of_value(text, at)
            if end > at and text[at:end].strip("\"'") not in ("", FILTERED, "None", "null"):
                text = text[:at] + FILTERED + text[end:]
                lowered = _lowered(text)
                at += len(FILTERED)
        start = lowered.find(word, max(at, start + 1))
    return text


def _end_of_value(text: str, at: int) -> int:
    if at < len(text) and text[at] in "\"'":
        quote = text[at]
        end = at + 1
        while end < len(text) and text[end] != quote:
            end += 2 if text[end] == "\\" else 1
        return min(len(text), end + 1)
    end = at
    while end < len(text) and text[end] not in ",;&)}] \t\r\n":
        end += 1
    return end


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 2 and text[0] in "\"'" and text[0] == text[-1] else text


_DEFAULT = Scrubber(send_default_pii=True)
