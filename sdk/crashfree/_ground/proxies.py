"""Which proxy a request goes through: options first, then the environment, `no_proxy` respected.

A proxy given as an option is used always; one from the environment is not used for the hosts that
`no_proxy` names. Empty text as an option switches that option, and the environment's proxy of the
same kind, off. Pure; threads: any. Source: wire.md section 16.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground import log
from crashfree._ground.typed import NamedTuple
from crashfree.errors import ConfigurationError

_SCHEMES = frozenset(("http", "https", "socks4", "socks4a", "socks5", "socks5h"))
_V4_BITS = 32
_V6_BITS = 128


class Proxies(NamedTuple):
    """The proxies that were named, and by whom."""

    http: str | None = None
    """For every request; an option. Empty text: none, not the environment's either."""
    https: str | None = None
    """For https requests, before `http`; an option."""
    environment_http: str | None = None
    environment_https: str | None = None
    no_proxy: str = ""
    """Comma list: `*`, hosts, domains, `host:port`, addresses, networks (CIDR)."""

    def choose(self, scheme: str, host: str, port: int) -> str | None:
        """Return the URL of the proxy for this target; None to go directly."""
        exempt = is_exempt(self.no_proxy, host, port)
        chosen: str | None = None
        if scheme == "https" and self.https != "":
            chosen = self.https or (None if exempt else self.environment_https)
        if not chosen and self.http != "":
            chosen = self.http or (None if exempt else self.environment_http)
        return chosen or None


def resolve(
    variables: Mapping[str, str], *, http: str | None = None, https: str | None = None
) -> Proxies:
    """Check the options and read the environment.

    Raises ConfigurationError for an option that is no proxy; a variable that is none is warned
    about and ignored.
    """
    return Proxies(
        http=normalized(http, "http_proxy"),
        https=normalized(https, "https_proxy"),
        environment_http=_from_environment(variables, "http"),
        environment_https=_from_environment(variables, "https"),
        no_proxy=_either_case(variables, "no_proxy"),
    )


def normalized(text: str | None, name: str) -> str | None:
    """Return a proxy's URL with its scheme (`http` when there is none).

    None and empty text stay what they are. Raises ConfigurationError with `name` in the message.
    """
    if text is None:
        return None
    text = text.strip()
    if not text:
        return ""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    scheme = scheme.lower()
    if scheme not in _SCHEMES:
        raise ConfigurationError(
            f"{name} has the scheme {scheme!r}; a proxy is http, https or socks5"
        )
    address = rest.partition("/")[0].rpartition("@")[2]
    host, port = _split_port(address)
    if not host or not host.isprintable() or " " in host:
        raise ConfigurationError(f"{name} names no host; a proxy looks like http://proxy:3128")
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ConfigurationError(f"{name} has the port {port!r}; it must be from 1 to 65535")
    return f"{scheme}://{rest}"


def is_exempt(no_proxy: str, host: str, port: int) -> bool:
    """Return whether a `no_proxy` list names this host."""
    host = host.strip("[]").lower().rstrip(".")
    address = _address(host)
    for entry in no_proxy.replace(";", ",").split(","):
        entry = entry.strip().lower()
        if entry and _matches(entry, host, port, address):
            return True
    return False


def _matches(entry: str, host: str, port: int, address: tuple[int, int] | None) -> bool:
    if entry == "*":
        return True
    if address is not None and _in_network(entry, address):
        return True
    name, named_port = _split_port(entry)
    if named_port is not None and named_port != str(port):
        return False
    name = name.strip("[]").lstrip("*").strip(".")
    return bool(name) and (host == name or (address is None and host.endswith("." + name)))


def _in_network(entry: str, address: tuple[int, int]) -> bool:
    network, slash, length = entry.partition("/")
    wanted = _address(network.strip("[]"))
    if wanted is None or wanted[1] != address[1]:
        return False
    bits = address[1]
    prefix = bits
    if slash:
        if not length.isdigit() or int(length) > bits:
            return False
        prefix = int(length)
    return wanted[0] >> (bits - prefix) == address[0] >> (bits - prefix)


def _split_port(address: str) -> tuple[str, str | None]:
    """Return host and port of `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address."""
    if address.startswith("["):
        host, _, tail = address.partition("]")
        return host[1:], tail[1:] if tail.startswith(":") else None
    if address.count(":") > 1:
        return address, None
    host, colon, port = address.partition(":")
    return host, port if colon else None


def _address(text: str) -> tuple[int, int] | None:
    """Return an IP address as a number and its width in bits; None for a name.

    By hand: `ipaddress` and `socket` cost milliseconds at import and this runs before them.
    """
    if ":" in text:
        return _v6(text)
    value = _v4(text)
    return None if value is None else (value, _V4_BITS)


def _v4(text: str) -> int | None:
    parts = text.split(".")
    if len(parts) != 4 or not all(
        part.isascii() and part.isdigit() and len(part) <= 3 and int(part) < 256 for part in parts
    ):
        return None
    value = 0
    for part in parts:
        value = value << 8 | int(part)
    return value


def _v6(text: str) -> tuple[int, int] | None:
    text = text.partition("%")[0]
    if "." in text:
        head, _, tail = text.rpartition(":")
        low = _v4(tail)
        if low is None:
            return None
        text = f"{head}:{low >> 16:x}:{low & 0xFFFF:x}"
    left, gap, right = text.partition("::")
    before = left.split(":") if left else []
    after = right.split(":") if right else []
    missing = 8 - len(before) - len(after)
    if (missing < 0) if gap else (missing != 0):
        return None
    value = 0
    for group in [*before, *["0"] * (missing if gap else 0), *after]:
        if not 1 <= len(group) <= 4 or group.strip("0123456789abcdef"):
            return None
        value = value << 16 | int(group, 16)
    return value, _V6_BITS


def _from_environment(variables: Mapping[str, str], kind: str) -> str | None:
    if kind == "http" and "REQUEST_METHOD" in variables:
        # In a CGI program HTTP_PROXY is a request header of whoever calls it ("httpoxy").
        text = variables.get("http_proxy", "")
    else:
        text = _either_case(variables, f"{kind}_proxy")
    text = text or _either_case(variables, "all_proxy")
    try:
        return normalized(text, f"{kind.upper()}_PROXY") or None
    except ConfigurationError as error:
        log.warning(f"{error}; ignored")
        return None


def _either_case(variables: Mapping[str, str], name: str) -> str:
    return (variables.get(name, "") or variables.get(name.upper(), "")).strip()
