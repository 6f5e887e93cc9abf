"""`Settings`: which server, which token, which organization and projects, and who said so.

First hit wins, setting by setting:

    1. the caller's own arguments (flags of the command line)
    2. files named by CRASHFREE_DOTENV_PATH(S)
    3. CRASHFREE_NAME, then SENTRY_NAME, in the environment
    4. the nearest `.env`, unless CRASHFREE_LOAD_DOTENV is off
    5. the properties file that CRASHFREE_PROPERTIES names
    6. the nearest `.sentryclirc` or `sentrycli.ini` above the working directory
    7. `[tool.crashfree]` of the nearest `pyproject.toml`
    8. `.sentryclirc` of the home directory, else `sentry/sentrycli.ini` of the user's configuration
    9. the default

Address and organization in an organization's own token win over all of these. Blank counts as not
set, everywhere.

Invariant: a token that the user gave is sent to no address that only a file of the working
directory names. Whoever can change that file, say by a pull request, would be sent the token.

Threads: any; files are read when `resolve` is called. Source: releases.md section 5.2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from crashfree._ground import env
from crashfree.errors import ConfigurationError
from crashfree.management import ini, tokens
from crashfree.management.channel import checked_address
from crashfree.management.payloads import Payload, array, mapping
from crashfree.management.retries import RetryPolicy

if sys.version_info >= (3, 11):
    import tomllib

DEFAULT_URL = "https://sentry.io"

Name = str
"""One of `NAMES`."""
NAMES: tuple[Name, ...] = (
    "url",
    "token",
    "org",
    "project",
    "release",
    "environment",
    "dsn",
    "vcs_remote",
    "pipeline",
    "header",
    "retries",
    "timeout",
    "proxy",
    "ca_certs",
)
SECRETS: frozenset[Name] = frozenset(("token", "header", "dsn"))
_VARIABLES: Mapping[Name, str] = {
    "url": "URL",
    "token": "AUTH_TOKEN",
    "org": "ORG",
    "project": "PROJECT",
    "release": "RELEASE",
    "environment": "ENVIRONMENT",
    "dsn": "DSN",
    "vcs_remote": "VCS_REMOTE",
    "pipeline": "PIPELINE",
    "header": "CUSTOM_HEADER",
    "retries": "HTTP_MAX_RETRIES",
    "timeout": "TIMEOUT",
    "proxy": "PROXY_URL",
    "ca_certs": "CA_CERTS",
}
_KEYS: Mapping[Name, str] = {
    "url": "defaults.url",
    "token": "auth.token",
    "org": "defaults.org",
    "project": "defaults.project",
    "environment": "defaults.environment",
    "dsn": "auth.dsn",
    "vcs_remote": "defaults.vcs_remote",
    "pipeline": "defaults.pipeline",
    "header": "defaults.custom_header",
    "retries": "http.max_retries",
    "proxy": "http.proxy_url",
}
_TOML_KEYS: Mapping[str, Name] = {
    "url": "url",
    "org": "org",
    "organization": "org",
    "project": "project",
    "projects": "project",
    "environment": "environment",
    "vcs-remote": "vcs_remote",
    "vcs_remote": "vcs_remote",
    "max-retries": "retries",
    "max_retries": "retries",
    "timeout": "timeout",
    "ca-certs": "ca_certs",
    "ca_certs": "ca_certs",
}
_RC_NAMES = (".sentryclirc", "sentrycli.ini")
_MAX_FILE = 1 << 20


class Origin(NamedTuple):
    """Where a value came from; `yours` when the user said it, not a file of the project."""

    where: str
    yours: bool


class Value(NamedTuple):
    """A setting and its origin."""

    text: str
    origin: Origin


class Source(NamedTuple):
    """One place that was looked at, and what it says."""

    origin: Origin
    values: Mapping[Name, str]


@dataclass
class Settings:
    """What was found, in the order of precedence. `notes` is what the user should be told."""

    sources: list[Source]
    notes: list[str] = field(default_factory=list[str])

    def all(self, name: Name) -> list[Value]:
        """Return every value of a setting, the one that wins first."""
        return [
            Value(source.values[name].strip(), source.origin)
            for source in self.sources
            if source.values.get(name, "").strip()
        ]

    def get(self, name: Name) -> Value | None:
        """Return the value of a setting that wins; None when nobody set it."""
        return next(iter(self.all(name)), None)

    def text(self, name: Name) -> str | None:
        """Return the text of a setting; None when nobody set it."""
        found = self.get(name)
        return None if found is None else found.text

    def projects(self) -> tuple[str, ...]:
        """Return the projects, several of one place parted by commas or blanks."""
        found = self.get("project")
        return tuple(found.text.replace(",", " ").split()) if found is not None else ()

    def headers(self) -> dict[str, str]:
        """Return the extra headers of every request; ConfigurationError for what is none."""
        found = self.get("header")
        answer: dict[str, str] = {}
        for line in found.text.splitlines() if found is not None else ():
            name, colon, value = line.partition(":")
            if not colon or not name.strip() or not name.strip().isascii():
                raise ConfigurationError(f"the header {line!r} needs the form 'Name: value'")
            answer[name.strip()] = value.strip()
        return answer

    def policy(self) -> RetryPolicy:
        """Return how often and how long to try; ConfigurationError for what is no number."""
        default = RetryPolicy()
        retries, timeout = self.get("retries"), self.get("timeout")
        budget = default.budget if timeout is None else _number(timeout, "timeout")
        return RetryPolicy(
            retries=default.retries if retries is None else int(_number(retries, "retries")),
            budget=budget,
            conflict_budget=min(default.conflict_budget, budget),
        )

    def connection(self) -> Connection:
        """Return server, token and organization, checked together.

        Raises ConfigurationError when one is missing, or when the token must not go there.
        """
        token = self.get("token")
        if token is None:
            raise MissingSetting(
                "token",
                "an auth token is required",
                "give --auth-token, or set CRASHFREE_AUTH_TOKEN or SENTRY_AUTH_TOKEN",
            )
        claims = tokens.claims(token.text)
        if claims is None and not tokens.well_formed(token.text) and token.origin.where[:2] == "--":
            self.notes.append("the auth token has no known form; is it copied whole?")
        url = self._address(token, claims)
        organization = self._organization(claims)
        return Connection(url, Value(tokens.trimmed(token.text), token.origin), organization)

    def _address(self, token: Value, claims: tokens.OrganizationToken | None) -> Value:
        configured = self.get("url")
        if claims is not None and claims.url is not None:
            url = Value(claims.url, Origin("the token", True))
            if configured is not None and not _same_address(configured.text, url.text):
                self.notes.append(
                    f"using {url.text} of the token, not {configured.text} of "
                    f"{configured.origin.where}: an organization's token belongs to one server"
                )
            return url
        url = configured or Value(DEFAULT_URL, Origin("default", True))
        if token.origin.yours and not self._vouched_for(url):
            raise UntrustedAddress(url, token)
        return url

    def _vouched_for(self, url: Value) -> bool:
        if url.origin.yours or _same_address(url.text, DEFAULT_URL):
            return True
        return any(
            other.origin.yours and _same_address(other.text, url.text) for other in self.all("url")
        )

    def _organization(self, claims: tokens.OrganizationToken | None) -> Value | None:
        configured = self.get("org")
        if claims is None or claims.organization is None:
            return configured
        found = Value(claims.organization, Origin("the token", True))
        if configured is not None and configured.text != found.text:
            self.notes.append(
                f"using organization {found.text!r} of the token, not {configured.text!r} of "
                f"{configured.origin.where}: the token belongs to one organization"
            )
        return found


class Connection(NamedTuple):
    """Where requests go, and as whom."""

    url: Value
    token: Value
    organization: Value | None


class MissingSetting(ConfigurationError):
    """A setting that is needed and that nobody gave; `code` is `missing_` and its name."""

    code: str
    remedy: str

    def __init__(self, name: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = f"missing_{name}"
        self.remedy = remedy


class UntrustedAddress(ConfigurationError):
    """A token of the user, an address that only a file of the project names."""

    code: str = "untrusted_address"
    remedy: str

    def __init__(self, url: Value, token: Value) -> None:
        super().__init__(
            f"the token of {token.origin.where} is not sent to {url.text}, "
            f"an address that only {url.origin.where} names"
        )
        self.remedy = (
            f"if that is your server, say so: set CRASHFREE_URL={url.text} or pass --url {url.text}"
        )


def resolve(
    flags: Mapping[Name, str] | None = None,
    *,
    variables: Mapping[str, str] | None = None,
    directory: str = ".",
    home: str | None = None,
) -> Settings:
    """Look at all places and return what they say.

    `flags` are the caller's own values; `variables` defaults to the environment, `home` to the
    user's directory. Files that cannot be read are skipped with a note.
    """
    variables = env.environ() if variables is None else variables
    finder = _Finder(variables, os.path.abspath(directory), home or os.path.expanduser("~"))
    given = {name: value for name, value in (flags or {}).items() if value.strip()}
    sources = [Source(Origin(_flag(name), True), {name: value}) for name, value in given.items()]
    sources.extend(finder.sources())
    settings = Settings(sources, finder.notes)
    _drop_unsafe_proxy(settings)
    return settings


def _number(value: Value, name: str) -> float:
    found = env.number(value.text)
    if found is None or not 0.0 <= found < 1e9:
        raise ConfigurationError(f"{value.origin.where}: {value.text!r} is no number for {name}")
    return found


def _flag(name: Name) -> str:
    return {"token": "--auth-token", "header": "--header"}.get(name, f"--{name.replace('_', '-')}")


class _Finder:
    """Reads the places, in order."""

    def __init__(self, variables: Mapping[str, str], directory: str, home: str) -> None:
        self._variables = variables
        self._directory = directory
        self._home = home
        self.notes: list[str] = []

    def sources(self) -> Iterator[Source]:
        named, found = self._dotenv_files()
        for path in named:
            yield from self._dotenv(path)
        yield from _from_variables(self._variables, yours=True)
        if found is not None:
            yield from self._dotenv(found)
        yield from self._properties()
        yield from self._nearest_rc()
        yield from self._pyproject()
        yield from self._home_rc()

    def _switch(self, name: str) -> str | None:
        found = env.setting(self._variables, name)
        return None if found is None else found.value

    def _dotenv_files(self) -> tuple[list[str], str | None]:
        named = self._switch("DOTENV_PATHS") or self._switch("DOTENV_PATH")
        if named is not None:
            return [self._path(part) for part in named.split(os.pathsep) if part.strip()], None
        wanted = self._switch("LOAD_DOTENV")
        if wanted is not None and env.boolean(wanted) is not True:
            return [], None
        return [], self._nearest((".env",))

    def _dotenv(self, path: str) -> Iterator[Source]:
        text = self._read(path)
        if text is not None:
            values = ini.read_dotenv(text)
            for source in _from_variables(values, yours=False):
                where = f"{source.origin.where} in {path}"
                yield Source(Origin(where, False), source.values)

    def _properties(self) -> Iterator[Source]:
        name = self._switch("PROPERTIES")
        if name is None:
            return
        path = self._path(name)
        if not os.path.isfile(path):
            self.notes.append(f"the properties file {name!r} does not exist")
            return
        text = self._read(path)
        if text is not None:
            yield _from_keys(path, ini.read_properties(text), yours=False)

    def _nearest_rc(self) -> Iterator[Source]:
        path = self._nearest(_RC_NAMES)
        if path is None or os.path.dirname(path) == os.path.abspath(self._home):
            return  # the home directory's own file is the user's, and comes last
        text = self._read(path)
        if text is not None:
            yield _from_keys(path, ini.read_ini(text), yours=False)

    def _home_rc(self) -> Iterator[Source]:
        for path in self._user_files():
            if os.path.isfile(path):
                text = self._read(path)
                if text is not None:
                    yield _from_keys(path, ini.read_ini(text), yours=True)
                return

    def _user_files(self) -> Sequence[str]:
        if sys.platform == "win32":
            base = self._variables.get("APPDATA") or os.path.join(self._home, "AppData", "Roaming")
        elif sys.platform == "darwin":
            base = os.path.join(self._home, "Library", "Application Support")
        else:
            base = self._variables.get("XDG_CONFIG_HOME") or os.path.join(self._home, ".config")
        return (
            os.path.join(self._home, ".sentryclirc"),
            os.path.join(base, "sentry", "sentrycli.ini"),
        )

    def _pyproject(self) -> Iterator[Source]:
        path = self._nearest(("pyproject.toml",))
        text = None if path is None else self._read(path)
        if path is None or text is None or "tool.crashfree" not in text.replace(" ", ""):
            return
        table = self._toml(path, text)
        values: dict[Name, str] = {}
        for key, value in table.items():
            name = _TOML_KEYS.get(key)
            if name is None:
                if "token" in key:
                    self.notes.append(f"{key} in {path} is ignored: a secret is no project setting")
                continue
            entries = array(value) or [value]
            values[name] = " ".join(str(entry) for entry in entries)
        yield Source(Origin(f"[tool.crashfree] in {path}", False), values)

    def _toml(self, path: str, text: str) -> Payload:
        if sys.version_info >= (3, 11):
            try:
                document = tomllib.loads(text)
            except tomllib.TOMLDecodeError as error:
                self.notes.append(f"{path} cannot be read: {error}")
                return {}
            return mapping(mapping(document.get("tool")).get("crashfree"))
        else:
            # Half a TOML reader of our own would read some files wrongly, and say nothing.
            self.notes.append(
                f"[tool.crashfree] in {path} is not read: Python before 3.11 has no TOML reader"
            )
            return {}

    def _nearest(self, names: Sequence[str]) -> str | None:
        """Return the first file of these names, from the working directory upwards."""
        directory = self._directory
        while True:
            for name in names:
                path = os.path.join(directory, name)
                if os.path.isfile(path):
                    return path
            parent = os.path.dirname(directory)
            if parent == directory:
                return None
            directory = parent

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, os.path.expanduser(name.strip()))

    def _read(self, path: str) -> str | None:
        try:
            with open(path, "rb") as file:
                return file.read(_MAX_FILE).decode("utf-8", "replace")
        except OSError as error:
            self.notes.append(f"{path} cannot be read: {error.strerror}")
            return None


def _from_variables(variables: Mapping[str, str], *, yours: bool) -> Iterator[Source]:
    """Return one source for each variable that is set, so that each can be named."""
    for prefix in env.PREFIXES:
        for name, suffix in _VARIABLES.items():
            found = env.variable(variables, prefix + suffix)
            if found is not None:
                yield Source(Origin(found.variable, yours), {name: found.value})
    found = env.variable(variables, "CUSTOM_HEADER")
    if found is not None:
        yield Source(Origin(found.variable, yours), {"header": found.value})


def _from_keys(path: str, keys: Mapping[str, str], *, yours: bool) -> Source:
    values: dict[Name, str] = {}
    for name, key in _KEYS.items():
        value = keys.get(key, "").strip()
        if value:
            values[name] = value
    return Source(Origin(path, yours), values)


def _drop_unsafe_proxy(settings: Settings) -> None:
    """Forget a proxy that a file of the project names for a token that the user gave.

    Over plain http it would read the token.
    """
    token = settings.get("token")
    if token is None or not token.origin.yours:
        return
    for index, source in enumerate(settings.sources):
        if "proxy" in source.values and not source.origin.yours:
            settings.notes.append(
                f"the proxy of {source.origin.where} is ignored: "
                "the token is yours, the file is the project's; set CRASHFREE_PROXY_URL to use it"
            )
            values = {name: value for name, value in source.values.items() if name != "proxy"}
            settings.sources[index] = Source(source.origin, values)


def _same_address(one: str, other: str) -> bool:
    try:
        return checked_address(one).lower() == checked_address(other).lower()
    except ConfigurationError:
        return False
