"""Release names: the one validator, the parser and the order, for SDK, command line and server.

A name is trimmed once and checked by seven rules whose first broken one names the error. A valid
name splits into `package@version`; only a version behind a package is read as numbers, and only
then do servers order the release by version instead of by date.

Invariants: parsing raises nothing but InvalidRelease; a valid name parses to itself; the sort key
is total (no two different names are equal in it) although the servers' own comparison of mixed
build codes runs in circles.

Threads: any; pure, values are immutable. Source: releases.md sections 1.2, 1.3, 3.1, 3.2 and 3.4.
"""

from __future__ import annotations

from crashfree._ground.text import (
    FORBIDDEN,
    TRIMMED,
    first_forbidden,
    lone_surrogate,
    same_ascii,
    shortened,
    shown,
    trim,
)
from crashfree._ground.typed import Literal, NamedTuple, NoReturn, TypedDict
from crashfree.errors import InvalidRelease

MAX_BYTES = 200
"""Servers count UTF-8 bytes when they take events, characters when they create releases."""

_EXAMPLE = "myapp@1.0.0"
_MAX_U64 = 2**64 - 1
_MAX_I64 = 2**63 - 1
_DIGITS = "0123456789"
_HEX = "0123456789abcdefABCDEF"
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_WORD = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
_HASH_LENGTHS = (12, 16, 20, 32, 40, 64)
_FAILED_LOOKUPS = frozenset(
    ("HEAD", "main", "master", "undefined", "null", "None", "unknown", "{{auto}}")
)

ReleaseKind = Literal["semver", "calver", "hash", "other"]
SortKey = tuple[object, ...]
"""Compare keys of the same mode only with each other; see `Release.sort_key`."""


class Hint(NamedTuple):
    """Why a valid name may still be a poor one."""

    code: Literal["no_package", "parentheses", "inner_space", "invisible", "failed_lookup"]
    message: str


class Version(NamedTuple):
    """What stands behind `package@`, read as numbers. A number above 2**64 - 1 reads 0."""

    raw: str
    major: int
    minor: int
    patch: int
    revision: int
    raw_quad: tuple[str | None, str | None, str | None, str | None]
    """The four numbers as written; None where they are missing."""
    pre: str | None
    build: str | None

    @property
    def components(self) -> int:
        """How many of the four numbers are written, 1 to 4."""
        return 4 - self.raw_quad.count(None)

    @property
    def raw_short(self) -> str:
        """The version without its build code."""
        return self.raw.partition("+")[0]

    @property
    def quad(self) -> tuple[int, int, int, int]:
        """All four numbers."""
        return (self.major, self.minor, self.patch, self.revision)

    def sort_key(self, *, semver_precedence: bool = False) -> SortKey:
        """Return a key for sorting; equal versions in different spellings have equal keys.

        With `semver_precedence` prereleases follow the rules of semver (`rc.2` before `rc.10`),
        else those of the servers (`rc.10` before `rc.2`). Build codes: none, numbers, texts.
        """
        if semver_precedence:
            return (*self.quad[:3], *_precedence(self.pre), self.revision, *_build_key(self.build))
        return (*self.quad, self.pre is None, self.pre or "", *_build_key(self.build))


class ParsedVersionInfo(TypedDict, total=False):
    """The `version` part of `VersionInfo`; all but `raw` only when the version was read."""

    raw: str
    major: int
    minor: int
    patch: int
    pre: str | None
    buildCode: str | None
    components: int


class VersionInfo(TypedDict):
    """A server's `versionInfo` of a release. Source: releases.md section 4.3."""

    package: str | None
    version: ParsedVersionInfo
    description: str
    buildHash: str | None


class Release:
    """A valid release name and its parts; immutable, equal when the names are equal.

    Made by `Release.parse`. Sorting a list of releases uses `sort_key()`.
    """

    __slots__ = ("package", "parsed", "raw", "version")

    raw: str
    """The trimmed name: what is sent, identical in events and sessions."""
    package: str | None
    """The part before the first `@` that has something before it; None without one."""
    version: str
    """The part behind the package, or the whole name."""
    parsed: Version | None
    """The version as numbers; None without a package, for a hash, or for any other text."""

    def __init__(
        self, raw: str, *, package: str | None, version: str, parsed: Version | None
    ) -> None:
        put = object.__setattr__
        put(self, "raw", raw)
        put(self, "package", package)
        put(self, "version", version)
        put(self, "parsed", parsed)

    @classmethod
    def parse(cls, text: str, *, setting: str = "release") -> Release:
        """Check `text` and take it apart.

        `setting` says where the text came from and is used in messages only.

        Raises: InvalidRelease, with the code of the first broken rule, and the offending
        character, its index in `text` and a suggested name where there are such.
        """
        name = _validated(text, setting)
        package, version = _split(name)
        parsed = None
        if package is not None and not _is_hash(version):
            parsed = parse_version(version)
        return cls(name, package=package, version=version, parsed=parsed)

    @staticmethod
    def suggest(text: str) -> str | None:
        """Return a valid name close to `text`: itself when it is valid, None when hopeless.

        Every forbidden character becomes `-`, and the name is cut after 200 bytes.
        """
        return _suggested(text)

    @property
    def kind(self) -> ReleaseKind:
        """How servers treat the name.

        `semver` and `calver` (a version that starts with a year or a date) are ordered by version;
        `hash` and `other` by date only. Source: releases.md section 3.2.
        """
        if self.parsed is not None and max(self.parsed.quad) <= _MAX_I64:
            return "calver" if _starts_with_date(self.parsed) else "semver"
        return "hash" if self.build_hash is not None else "other"

    @property
    def is_semver(self) -> bool:
        """Whether servers order this release by its version instead of its date."""
        return self.kind in ("semver", "calver")

    @property
    def major(self) -> int | None:
        """The first number; None when there is no parsed version. The others likewise."""
        return None if self.parsed is None else self.parsed.major

    @property
    def minor(self) -> int | None:
        """The second number."""
        return None if self.parsed is None else self.parsed.minor

    @property
    def patch(self) -> int | None:
        """The third number."""
        return None if self.parsed is None else self.parsed.patch

    @property
    def revision(self) -> int | None:
        """The fourth number."""
        return None if self.parsed is None else self.parsed.revision

    @property
    def pre(self) -> str | None:
        """The prerelease: `rc.1` of `app@1.0-rc.1`."""
        return None if self.parsed is None else self.parsed.pre

    @property
    def build(self) -> str | None:
        """The build code: `57` of `app@1.0+57`."""
        return None if self.parsed is None else self.parsed.build

    @property
    def build_hash(self) -> str | None:
        """The build code or the version, when it looks like a hash (12 to 64 hex digits)."""
        if self.build is not None and _is_hash(self.build):
            return self.build
        return self.version if _is_hash(self.version) else None

    @property
    def short(self) -> str:
        """The release version: the name without its package, or the short version of a hash."""
        return self._described(self.version)

    @property
    def description(self) -> str:
        """The name as Sentry shows it: like `short`, but in full when nothing could be read."""
        return self._described(self.raw)

    def version_info(self) -> VersionInfo:
        """Return what a server says in `versionInfo`."""
        version: ParsedVersionInfo = {"raw": self.version}
        if self.parsed is not None:
            version["major"] = self.parsed.major
            version["minor"] = self.parsed.minor
            version["patch"] = self.parsed.patch
            version["pre"] = self.parsed.pre
            version["buildCode"] = self.parsed.build
            version["components"] = self.parsed.components
        return {
            "package": self.package,
            "version": version,
            "description": self.description,
            "buildHash": self.build_hash,
        }

    def sort_key(self, *, semver_precedence: bool = False) -> SortKey:
        """Return a total order: package, then names without a version, then by version.

        Two different names never have equal keys. For people, sort with `semver_precedence=True`;
        the default is the servers' order, made transitive. Source: releases.md section 3.4.
        """
        package = self.package or ""
        if self.parsed is None:
            return (package, False, self.raw)
        key = self.parsed.sort_key(semver_precedence=semver_precedence)
        return (package, True, *key, self.raw)

    def hints(self) -> tuple[Hint, ...]:
        """Return what may be wrong with this valid name. Source: releases.md section 1.2."""
        return tuple(_hints(self))

    def _described(self, unreadable: str) -> str:
        hashed = self.build_hash
        if self.parsed is None:
            return unreadable if hashed is None else hashed[:12]
        if hashed is not None:
            return f"{self.parsed.raw_short} ({hashed[:12]})"
        build = self.parsed.build
        return self.parsed.raw_short if build is None else f"{self.parsed.raw_short} ({build})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Release is immutable; cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Release is immutable; cannot delete {name!r}")

    def __reduce__(self) -> tuple[object, ...]:
        return (Release.parse, (self.raw,))

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, Release) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.raw)

    def __lt__(self, other: Release) -> bool:
        return self.sort_key() < other.sort_key()

    def __le__(self, other: Release) -> bool:
        return self.sort_key() <= other.sort_key()

    def __gt__(self, other: Release) -> bool:
        return self.sort_key() > other.sort_key()

    def __ge__(self, other: Release) -> bool:
        return self.sort_key() >= other.sort_key()

    def __str__(self) -> str:
        return self.raw

    def __repr__(self) -> str:
        return f"Release({self.raw!r})"


def compare_versions(
    a: Version, b: Version, *, semver_precedence: bool = False
) -> Literal[-1, 0, 1]:
    """Compare as servers compare two versions, pair by pair.

    Never sort by this: `1+2 < 1+10 < 1+1a < 1+2`. With `semver_precedence` the build code and the
    fourth number do not count, and prereleases follow the rules of semver.
    """
    if semver_precedence:
        return _sign((*a.quad[:3], *_precedence(a.pre)), (*b.quad[:3], *_precedence(b.pre)))
    order = _sign(
        (*a.quad, a.pre is None, a.pre or ""),
        (*b.quad, b.pre is None, b.pre or ""),
    )
    return order or _compare_builds(a.build, b.build)


def parse_version(text: str) -> Version | None:
    """Read `1.2.3.4-pre+build`; None when `text` is not written so.

    This is the part behind the package; a hash that happens to be digits is read as a number here.
    """
    core, plus, build = text.partition("+")
    if plus and not all(_is_word(part) for part in build.split(".")):
        return None
    numbers, end = _numbers(core)
    if not numbers:
        return None
    pre = core[end:]
    if pre and not _is_prerelease(pre, after=len(numbers)):
        return None
    major, minor, patch, revision = (*map(_u64, numbers), 0, 0, 0)[:4]
    first, second, third, fourth = (*numbers, None, None, None)[:4]
    return Version(
        raw=text,
        major=major,
        minor=minor,
        patch=patch,
        revision=revision,
        raw_quad=(first, second, third, fourth),
        pre=pre.removeprefix("-") or None,
        build=build if plus else None,
    )


def _validated(text: object, setting: str) -> str:
    if not isinstance(text, str):
        raise InvalidRelease(
            f"{setting}: a release name is a text such as {_EXAMPLE!r}, not {type(text).__name__}",
            code="not_a_string",
        )
    name = trim(text)
    if not name:
        raise InvalidRelease(
            f"{setting}: the release name is blank; write one such as {_EXAMPLE!r}", code="empty"
        )
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise _bad_unicode(text, name, error.start, setting) from None
    if size > MAX_BYTES:
        raise _too_long(name, size, setting)
    if name in (".", "..") or same_ascii(name, "latest"):
        raise _restricted(name, setting)
    index = first_forbidden(name)
    if index is not None:
        raise _bad_characters(text, name, index, setting)
    return name


def _bad_unicode(text: str, name: str, at: int, setting: str) -> InvalidRelease:
    index = _cut_before(text) + at
    return InvalidRelease(
        f"{setting}: release name {shortened(name)} has half a character (a lone surrogate, "
        f"U+{ord(name[at]):04X}) at index {index}{_try(name)}",
        code="bad_unicode",
        character=name[at],
        index=index,
        suggestion=_suggested(name),
    )


def _too_long(name: str, size: int, setting: str) -> InvalidRelease:
    return InvalidRelease(
        f"{setting}: release name {shortened(name, 40)} has {size} bytes ({len(name)} characters); "
        f"the limit is {MAX_BYTES} UTF-8 bytes, and servers drop sessions of longer ones",
        code="too_long",
        suggestion=_suggested(name),
    )


def _restricted(name: str, setting: str) -> InvalidRelease:
    why = (
        "cannot be used in addresses"
        if name.startswith(".")
        else 'means "the newest release" in searches'
    )
    return InvalidRelease(
        f"{setting}: {name!r} cannot name a release: it {why}; write one such as {_EXAMPLE!r}",
        code="restricted",
    )


def _bad_characters(text: str, name: str, at: int, setting: str) -> InvalidRelease:
    index = _cut_before(text) + at
    others = ", ".join(
        shown(each) for each in dict.fromkeys(name) if each in FORBIDDEN and each != name[at]
    )
    more = f" (also {others})" if others else ""
    return InvalidRelease(
        f"{setting}: release name {shortened(name)} holds {shown(name[at])} at index {index}{more};"
        f" no / \\ or control characters{_try(name)}",
        code="bad_characters",
        character=name[at],
        index=index,
        suggestion=_suggested(name),
    )


def _try(name: str) -> str:
    suggestion = _suggested(name)
    return "" if suggestion is None else f"; try {suggestion!r}"


def _cut_before(text: str) -> int:
    return len(text) - len(text.lstrip(TRIMMED))


def _suggested(text: str) -> str | None:
    name = trim(text)
    broken = lone_surrogate(name)
    if broken is not None:
        # "replace" would write a question mark, which reads as if the program did not know.
        name = "".join("-" if "\ud800" <= each <= "\udfff" else each for each in name)
    if first_forbidden(name) is not None:
        name = "".join("-" if each in FORBIDDEN else each for each in name)
    if len(name.encode()) > MAX_BYTES:
        name = trim(name.encode()[:MAX_BYTES].decode("utf-8", "ignore"))
    if not name or name in (".", "..") or same_ascii(name, "latest"):
        return None
    if name != trim(text) and not name.strip("-"):
        return None
    return name


def _split(name: str) -> tuple[str | None, str]:
    start = 1 if name.startswith("@") else 0
    at = name.find("@", start)
    if at <= start or at == len(name) - 1:
        return None, name
    return name[:at], name[at + 1 :]


def _is_hash(text: str) -> bool:
    return len(text) in _HASH_LENGTHS and not text.strip(_HEX)


def _is_word(text: str) -> bool:
    return bool(text) and not text.strip(_WORD)


def _numbers(core: str) -> tuple[list[str], int]:
    """Return the leading numbers (at most four) and where they end."""
    numbers: list[str] = []
    end = 0
    start = 0
    while len(numbers) < 4:
        stop = _end_of_digits(core, start)
        if stop == start:
            break
        numbers.append(core[start:stop])
        end = stop
        if core[stop : stop + 1] != ".":
            break
        start = stop + 1
    return numbers, end


def _end_of_digits(text: str, start: int) -> int:
    end = start
    while end < len(text) and text[end] in _DIGITS:
        end += 1
    return end


def _is_prerelease(text: str, *, after: int) -> bool:
    # A lone number needs the dash: `1-a1` is a prerelease of 1, `1a1` is some other word.
    if text[0] != "-" and (after == 1 or text[0] not in _LOWER):
        return False
    first, *rest = text[1:].split(".")
    return (not first or _is_identifier(first)) and all(_is_identifier(part) for part in rest)


def _is_identifier(text: str) -> bool:
    if not _is_word(text):
        return False
    return text == "0" or text[0] != "0" or bool(text.strip(_DIGITS))


def _u64(digits: str) -> int:
    value = _whole(digits)
    return 0 if value is None else value


def _starts_with_date(version: Version) -> bool:
    first = version.raw_quad[0] or ""
    if len(first) not in (4, 6, 8) or not 1990 <= int(first[:4]) <= 2199:
        return False
    return (len(first) == 4 or 1 <= int(first[4:6]) <= 12) and (
        len(first) < 8 or 1 <= int(first[6:]) <= 31
    )


def _whole(text: str) -> int | None:
    """Return an unsigned 64-bit number; None for anything else."""
    # Not more than 20 digits count, and Python refuses to convert thousands of them.
    if text.strip(_DIGITS) or len(text.lstrip("0")) > 20:
        return None
    value = int(text)
    return value if value <= _MAX_U64 else None


def _build_key(build: str | None) -> tuple[int, int, str]:
    if build is None:
        return (0, 0, "")
    number = _whole(build)
    return (2, 0, build) if number is None else (1, number, "")


def _compare_builds(a: str | None, b: str | None) -> Literal[-1, 0, 1]:
    left, right = _build_key(a), _build_key(b)
    if left[0] == 1 and right[0] == 1:
        return _sign(left, right)
    # Texts, or a number beside a text: as they are written, none below any.
    return _sign((a is not None, a or ""), (b is not None, b or ""))


def _precedence(pre: str | None) -> tuple[bool, tuple[tuple[bool, int, str], ...]]:
    parts = pre.split(".") if pre else []
    if not parts or not all(_is_identifier(part) for part in parts):
        return (True, ())
    return (False, tuple(map(_identifier_key, parts)))


def _identifier_key(part: str) -> tuple[bool, int, str]:
    # Numbers of any size, without leading zeros: the longer one is the greater one.
    return (True, 0, part) if part.strip(_DIGITS) else (False, len(part), part)


def _sign(a: SortKey, b: SortKey) -> Literal[-1, 0, 1]:
    if a == b:
        return 0
    return -1 if a < b else 1


def _hints(release: Release) -> list[Hint]:
    found: list[Hint] = []
    name = release.raw
    if name in _FAILED_LOOKUPS:
        found.append(
            Hint("failed_lookup", f"{name!r} is usually the result of a look-up that failed")
        )
    if release.package is None:
        by_date = "" if release.kind == "hash" else ", and servers order it by date only"
        found.append(
            Hint(
                "no_package",
                "no package before the version: all projects of an organization share the name"
                f"{by_date}; write such as {'myapp@' + name!r}",
            )
        )
    if name.endswith(")") and " (" in name:
        found.append(
            Hint("parentheses", "'X.Y (BUILD)' is how 'X.Y+BUILD' is shown; write the latter")
        )
    elif any(each in TRIMMED for each in name):
        found.append(Hint("inner_space", "white space inside a name is easily mistyped"))
    hidden = next((each for each in name if _is_invisible(each)), None)
    if hidden is not None:
        found.append(
            Hint("invisible", f"holds {shown(hidden)}, which cannot be seen; names may look alike")
        )
    return found


def _is_invisible(character: str) -> bool:
    return not character.isprintable() and character not in TRIMMED
