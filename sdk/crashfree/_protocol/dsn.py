"""The DSN: where envelopes go, and the key that lets them in.

A `Dsn` that exists is valid, and `Dsn.parse(str(dsn)) == dsn`. Neither an error message nor the
repr nor the redacted form holds the secret. Parsed by hand: `urllib.parse` costs a millisecond at
import and percent-decodes what must be taken as it is. Pure; threads: any.

Source: wire.md sections 1 and 2.1.
"""

from __future__ import annotations

from crashfree._ground.typed import NamedTuple
from crashfree.errors import InvalidDsn

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOT_IN_HOSTS = "[]<>\"'`{}|\\^%,;"
_FORM = "https://<public key>@<host>/<project id>"


class Dsn(NamedTuple):
    """A parsed DSN. `host` is lower case, an IPv6 address in its brackets."""

    scheme: str
    public_key: str
    secret_key: str | None
    host: str
    port: int
    path: str
    project_id: str

    @classmethod
    def parse(cls, text: str) -> Dsn:
        """Read a DSN; whitespace around it, query and fragment are ignored.

        Raises InvalidDsn with the rule that was broken.
        """
        scheme, rest = _split_scheme(text.strip())
        rest = rest.partition("#")[0].partition("?")[0]
        authority, slash, path = rest.partition("/")
        userinfo, at, address = authority.rpartition("@")
        if not at:
            raise _invalid("it has no public key in front of the host")
        public_key, secret_key = _split_keys(userinfo)
        host, port = _split_address(address, _DEFAULT_PORTS[scheme])
        prefix, _, project_id = path.rpartition("/")
        if not slash or not project_id:
            raise _invalid("it does not end in a project id")
        if not (project_id.isascii() and project_id.isdigit()):
            raise _invalid("its project id, the last part of the path, must consist of digits")
        if not _printable(prefix):
            raise _invalid("its path holds a blank or a character that no URL may hold")
        prefix = "/" + prefix if prefix else ""
        return cls(scheme, public_key, secret_key, host, port, prefix, project_id)

    @property
    def base_url(self) -> str:
        """Scheme, host, port unless it is the default, and path; no slash at the end."""
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"

    @property
    def envelope_url(self) -> str:
        """Where envelopes are posted."""
        return f"{self.base_url}/api/{self.project_id}/envelope/"

    @property
    def org_id(self) -> str | None:
        """The organization's number, where the host says it (`o123.ingest.…`)."""
        first, dot, _ = self.host.partition(".")
        digits = first[1:]
        if dot and first[:1] == "o" and digits.isascii() and digits.isdigit():
            return digits
        return None

    def auth_header(self, client: str) -> str:
        """Return the value of `X-Sentry-Auth`; `client` is name and version, as `name/1.0`."""
        value = f"Sentry sentry_key={self.public_key}, sentry_version=7, sentry_client={client}"
        return value if self.secret_key is None else f"{value}, sentry_secret={self.secret_key}"

    def redacted(self) -> str:
        """Return the DSN as logs may show it: the secret is `***`."""
        return self._spell(None if self.secret_key is None else "***")

    def __str__(self) -> str:
        return self._spell(self.secret_key)

    def __repr__(self) -> str:
        return f"Dsn({self.redacted()!r})"

    def _spell(self, secret: str | None) -> str:
        keys = self.public_key if secret is None else f"{self.public_key}:{secret}"
        where = self.base_url[len(self.scheme) + 3 :]
        return f"{self.scheme}://{keys}@{where}/{self.project_id}"


def _invalid(reason: str) -> InvalidDsn:
    # Never the text itself: whichever part is misplaced may be the secret.
    return InvalidDsn(f"this DSN cannot be used: {reason}; a DSN looks like {_FORM}")


def _split_scheme(text: str) -> tuple[str, str]:
    if not text:
        raise _invalid("it is empty")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _DEFAULT_PORTS:
        raise _invalid("it does not begin with https:// or http://")
    return scheme, rest


def _split_keys(userinfo: str) -> tuple[str, str | None]:
    public_key, _, secret_key = userinfo.partition(":")
    if not public_key:
        raise _invalid("its public key is empty")
    # Both go into an HTTP header, as a value that ends at a comma.
    if not _printable(userinfo) or "," in userinfo:
        raise _invalid("its key holds a blank, a comma or a character that no header may hold")
    return public_key, secret_key or None


def _split_address(address: str, default_port: int) -> tuple[str, int]:
    if address.startswith("["):
        host, bracket, tail = address.partition("]")
        inner = host[1:].lower()
        if not bracket or ":" not in inner or inner.strip("0123456789abcdef:."):
            raise _invalid("its host begins like an IPv6 address and is none")
        host += bracket
        if tail and not tail.startswith(":"):
            raise _invalid("only a port may follow its IPv6 address")
        port_text = tail[1:] if tail else None
    else:
        host, colon, tail = address.partition(":")
        port_text = tail if colon else None
    if not host:
        raise _invalid("it has no host")
    if not host.isascii():
        raise _invalid("its host is not ASCII; write an international name in its xn-- form")
    if not _printable(host) or any(char in _NOT_IN_HOSTS for char in host[1:-1]):
        raise _invalid("its host holds a character that no host name may hold")
    return host.lower(), default_port if port_text is None else _port(port_text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 1 <= int(text) <= 65_535:
        raise _invalid("its port must be a number from 1 to 65535")
    return int(text)


def _printable(text: str) -> bool:
    """Return whether every character is visible ASCII."""
    return text.isascii() and text.isprintable() and " " not in text
