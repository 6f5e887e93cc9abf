"""HTTP: one request in, one reply or `Unreachable` out.

The only importer of urllib3, certifi and ssl: at the first request, behind the fork gate. What is
guarded here: one deadline per request, name resolution excepted, however slowly the other side
drips; no redirects; no hidden retries; a bounded read of the body; and the difference between "not
one byte was written" and "written, no answer", on which counting sessions once depends.

Threads: any; each request has a connection of its own, and idle ones are kept for the next. Fork:
`forget` in the child. Source: wire.md section 16.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from crashfree._ground import forkgate, log, proxies
from crashfree._ground.clock import SYSTEM_CLOCK, Clock
from crashfree._ground.env import environ, variable
from crashfree._ground.proxies import Proxies
from crashfree._ground.typed import Any, NamedTuple, TypeAlias
from crashfree.errors import ConfigurationError, Unreachable

SocketOption: TypeAlias = "tuple[int, int, int | bytes]"

MAX_BODY = 8 * 1024
MAX_IDLE = 60.0
_MOST_IDLE = 5
_SEND_CHUNK = 64 * 1024
# Probes on an idle connection, so that a middlebox does not forget it: first after 45 s of
# silence, then every 10 s, given up after 6.
_KEEP_ALIVE = (("TCP_KEEPIDLE", 45), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))


class HttpSettings(NamedTuple):
    """How to reach servers. Times in seconds."""

    connect_timeout: float = 5.0
    timeout: float = 15.0
    """For a whole request, from connecting to the last byte that is read."""
    proxies: Proxies = Proxies()
    proxy_headers: Mapping[str, str] | None = None
    ca_certs: str | None = None
    """A file or a directory of certificates; None: those of certifi."""
    cert_file: str | None = None
    key_file: str | None = None
    keep_alive: bool = True
    """Whether TCP probes idle connections."""
    socket_options: Sequence[SocketOption] | None = None
    """Win over ours by level and name; an empty sequence: none at all."""


DEFAULTS = HttpSettings()


class Reply(NamedTuple):
    """An HTTP answer. Header names are lower case; the body is cut at `max_body`."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def resolve_settings(
    variables: Mapping[str, str] | None = None,
    *,
    http_proxy: str | None = None,
    https_proxy: str | None = None,
    proxy_headers: Mapping[str, str] | None = None,
    ca_certs: str | None = None,
    cert_file: str | None = None,
    key_file: str | None = None,
    keep_alive: bool = True,
    socket_options: Sequence[SocketOption] | None = None,
) -> HttpSettings:
    """Return the settings that options and environment make together; options first.

    Raises ConfigurationError for a proxy that is none, and for a SOCKS proxy without PySocks.
    """
    variables = environ() if variables is None else variables
    chosen = proxies.resolve(variables, http=http_proxy, https=https_proxy)
    if any((proxy or "").startswith("socks") for proxy in (chosen.http, chosen.https)):
        _require_socks()
    return HttpSettings(
        proxies=chosen,
        proxy_headers=proxy_headers,
        ca_certs=ca_certs or _first(variables, "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
        cert_file=cert_file or _first(variables, "CLIENT_CERT_FILE"),
        key_file=key_file or _first(variables, "CLIENT_KEY_FILE"),
        keep_alive=keep_alive,
        socket_options=socket_options,
    )


class HttpClient:
    """Makes requests over kept-alive connections."""

    __slots__ = ("_clock", "_idle", "_inherited", "_keeping", "_library", "_settings")
    _settings: HttpSettings
    _clock: Clock
    _idle: deque[_Idle]
    _inherited: deque[_Idle] | None
    _keeping: bool
    _library: _Library | None

    def __init__(self, settings: HttpSettings = DEFAULTS, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self._idle = deque()
        self._inherited = None
        self._keeping = True
        self._library = None

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
        max_body: int = MAX_BODY,
        max_idle: float = MAX_IDLE,
        repeatable: bool = True,
        may_write: Callable[[], bool] | None = None,
    ) -> Reply:
        """Make one request and return its answer, whatever the status.

        `timeout` bounds all of it (default: the settings'). A kept connection that was idle for
        more than `max_idle` seconds is not used. When a kept connection turns out to be dead
        before it answered one byte, a `repeatable` request is made once more on a new one.
        `may_write` is asked right before the first byte is written; when it says False nothing
        is.

        Raises Unreachable when there is no complete answer; its `sent` is False when nothing was
        written.
        """
        library = self._loaded()
        self._keeping = True
        total = self._settings.timeout if timeout is None else timeout
        exchange = _Exchange(
            method=method,
            target=_target(library, url),
            headers=dict(headers or {}),
            body=body,
            deadline=self._clock.monotonic() + total,
            max_body=max_body,
            may_write=may_write,
        )
        line = self._taken(exchange.target, max_idle)
        if line is not None:
            try:
                return self._run(library, exchange, line)
            except _Stale as stale:
                if not repeatable:
                    raise Unreachable(str(stale), sent=True) from None
                log.debug(f"a kept connection was dead ({stale}); trying a new one")
        try:
            return self._run(library, exchange, None)
        except _Stale as stale:
            raise Unreachable(str(stale), sent=True) from None

    def load(self) -> None:
        """Import what requests need, now; they would do it themselves."""
        self._loaded()

    def close(self) -> None:
        """Close the idle connections, and those in use when they are done.

        The client can be used again.
        """
        self._keeping = False
        while True:
            try:
                idle = self._idle.pop()
            except IndexError:
                return
            idle.connection.close()

    def forget(self) -> None:
        """Leave the connections to the parent, in a forked child: nothing is shut down."""
        # Kept referenced: a collected socket would be closed, and with some green libraries that
        # talks to an event loop that is the parent's.
        self._inherited = self._idle
        self._idle = deque()
        if self._library is not None:
            self._library.forget()

    def _loaded(self) -> _Library:
        library = self._library
        if library is None:
            try:
                with forkgate.importing():
                    library = self._library = _Library(self._settings)
            except ImportError as error:
                raise Unreachable(f"HTTP cannot be loaded here: {error}", sent=False) from None
        return library

    def _taken(self, target: _Target, max_idle: float) -> _Idle | None:
        """Return a kept connection to this target that is young and still open."""
        now = self._clock.monotonic()
        me = threading.get_ident()
        others: list[_Idle] = []
        found: _Idle | None = None
        while found is None:
            try:
                idle = self._idle.pop()
            except IndexError:
                break
            if idle.owner not in (None, me):
                if now - idle.since <= MAX_IDLE:
                    others.append(idle)
            elif now - idle.since > MAX_IDLE or not idle.connection.is_connected:
                idle.connection.close()
            elif idle.key != target.key or now - idle.since > max_idle:
                others.append(idle)
            else:
                found = idle
        self._idle.extend(others)
        return found

    def _run(self, library: _Library, exchange: _Exchange, kept: _Idle | None) -> Reply:
        if kept is None:
            connection = self._connected(library, exchange)
            # What was readable before would be the answer to nothing.
            link = _BoundedSocket(connection.sock, self._clock)
            connection.sock = link
        else:
            connection = kept.connection
            link = kept.link
        link.begin(exchange.deadline)
        try:
            if exchange.may_write is not None and not exchange.may_write():
                raise Unreachable("given up before it was written", sent=False)
            # Asked once: a second attempt is the same request.
            exchange.may_write = None
            reply, complete = self._exchanged(exchange, connection)
        except library.failures as error:
            connection.close()
            message = library.describe(error)
            if kept is not None and link.received == 0 and not isinstance(error, TimeoutError):
                raise _Stale(message) from None
            raise Unreachable(message, sent=True) from error
        except BaseException:
            connection.close()
            raise
        if complete and connection.sock is not None:
            now = self._clock.monotonic()
            self._keep(_Idle(exchange.target.key, connection, link, now, link.owner()))
        else:
            connection.close()
        return reply

    def _connected(self, library: _Library, exchange: _Exchange) -> Any:
        left = exchange.deadline - self._clock.monotonic()
        if left <= 0:
            raise Unreachable("no time left to connect", sent=False)
        connection: Any = None
        try:
            connection = library.connection(exchange, min(left, self._settings.connect_timeout))
            connection.connect()
        except library.failures as error:
            if connection is not None:
                connection.close()
            raise Unreachable(library.describe(error), sent=False) from error
        return connection

    def _exchanged(self, exchange: _Exchange, connection: Any) -> tuple[Reply, bool]:
        early: OSError | None = None
        try:
            connection.request(
                exchange.method,
                exchange.path,
                body=exchange.body,
                headers=exchange.headers,
                preload_content=False,
                decode_content=False,
            )
        except (BrokenPipeError, ConnectionResetError) as error:
            # A server may refuse a large body and answer before it read all of it.
            early = error
        try:
            response = connection.getresponse()
        except (OSError, ValueError):
            if early is not None:
                raise early from None
            raise
        names: dict[str, str] = {}
        for name, value in response.headers.items():
            names[name.lower()] = value
        content, complete = _read(response, exchange.max_body)
        if complete:
            response.release_conn()
        return Reply(response.status, names, content), complete and early is None

    def _keep(self, idle: _Idle) -> None:
        if not self._keeping:
            idle.connection.close()
            return
        self._idle.append(idle)
        while len(self._idle) > _MOST_IDLE:
            try:
                self._idle.popleft().connection.close()
            except IndexError:
                return


_GREEN = frozenset(("gevent", "eventlet"))


class _Stale(Exception):
    """A kept connection that was dead before it answered anything."""


class _Target(NamedTuple):
    scheme: str
    host: str
    port: int
    path: str
    url: str

    @property
    def key(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port


class _Idle(NamedTuple):
    key: tuple[str, str, int]
    connection: Any
    link: _BoundedSocket
    since: float
    owner: int | None
    """The one thread that may use it; None: any."""


class _Exchange:
    """One request on its way."""

    __slots__ = ("body", "deadline", "headers", "max_body", "may_write", "method", "path", "target")
    method: str
    target: _Target
    path: str
    headers: dict[str, str]
    body: bytes | None
    deadline: float
    max_body: int
    may_write: Callable[[], bool] | None

    def __init__(
        self,
        *,
        method: str,
        target: _Target,
        headers: dict[str, str],
        body: bytes | None,
        deadline: float,
        max_body: int,
        may_write: Callable[[], bool] | None,
    ) -> None:
        self.method = method
        self.target = target
        self.path = target.path
        self.headers = headers
        self.body = body
        self.deadline = deadline
        self.max_body = max_body
        self.may_write = may_write


class _BoundedSocket:
    """A socket whose every operation ends by the deadline of the request that uses it.

    A timeout of the socket itself starts anew with each byte that arrives; a server that drips
    one byte a second would hold the worker for ever.
    """

    __slots__ = ("_clock", "_deadline", "_sock", "received")
    _sock: Any
    _clock: Clock
    _deadline: float
    received: int
    """Bytes read since the request began."""

    def __init__(self, sock: Any, clock: Clock) -> None:
        self._sock = sock
        self._clock = clock
        self._deadline = 0.0
        self.received = 0

    def begin(self, deadline: float) -> None:
        self._deadline = deadline
        self.received = 0

    def arm(self) -> None:
        """Set the socket's own timeout to what is left; raise TimeoutError when nothing is."""
        left = self._deadline - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError("no complete answer in time")
        self._sock.settimeout(left)

    def sendall(self, data: Any, flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _SEND_CHUNK):
            self.arm()
            self._sock.sendall(view[start : start + _SEND_CHUNK])

    def makefile(self, mode: str = "rb", buffering: int | None = None) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self, self._sock.makefile("rb", buffering=0)))

    def settimeout(self, value: float | None) -> None:
        """Ignored: the deadline decides."""

    def owner(self) -> int | None:
        """Return the only thread that may use it from now on, this one; None: any may.

        A green socket waits on the event loop of its thread. Where gevent or eventlet has replaced
        sockets, and left threads what they are, no other thread can wait on it.
        """
        library = type(self._sock).__module__.partition(".")[0]
        if library not in _GREEN:
            return None
        replaced = threading.get_ident.__module__.partition(".")[0] == library
        return None if replaced else threading.get_ident()

    def fileno(self) -> int:
        descriptor: int = self._sock.fileno()
        return descriptor

    def close(self) -> None:
        self._sock.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _BoundedReader(io.RawIOBase):
    """The reading side of a `_BoundedSocket`."""

    def __init__(self, link: _BoundedSocket, raw: Any) -> None:
        super().__init__()
        self._link = link
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._link.arm()
        count: int = self._raw.readinto(buffer) or 0
        self._link.received += count
        return count

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()


class _Library:
    """urllib3 and what belongs to it, imported, with the settings applied."""

    __slots__ = ("_context", "_context_lock", "_modules", "_settings", "failures")
    failures: tuple[type[BaseException], ...]
    _settings: HttpSettings
    _modules: _Modules
    _context: Any
    _context_lock: threading.Lock

    def __init__(self, settings: HttpSettings) -> None:
        # `encodings.idna` is what the first name resolution would import by itself, outside the
        # fork gate.
        import encodings.idna
        import http.client
        import socket

        import urllib3
        import urllib3.connection
        import urllib3.exceptions
        import urllib3.util.ssl_

        assert encodings.idna
        assert urllib3.connection
        assert urllib3.util.ssl_
        try:
            import ssl
        except ImportError:
            # Subinterpreters with a lock of their own: plain http is all there is.
            ssl = None  # type: ignore[assignment]
        self._settings = settings
        self._modules = _Modules(urllib3, ssl, socket)
        self._context = None
        self._context_lock = threading.Lock()
        self.failures = (
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
            UnicodeError,
        )

    def forget(self) -> None:
        """Make a new lock, in a forked child."""
        self._context_lock = threading.Lock()

    def parse(self, url: str) -> _Target:
        try:
            parsed = self._modules.urllib3.util.parse_url(url)
        except self.failures as error:
            raise Unreachable(f"{url!r} is no URL: {error}", sent=False) from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise Unreachable(f"{url!r} is no http or https URL", sent=False)
        port = parsed.port or (443 if parsed.scheme == "https" else 80)
        host = parsed.host.strip("[]")
        return _Target(parsed.scheme, host, port, parsed.request_uri, url)

    def connection(self, exchange: _Exchange, timeout: float) -> Any:
        """Return an unconnected connection for the exchange's target, through its proxy if any."""
        target = exchange.target
        proxy = self._settings.proxies.choose(target.scheme, target.host, target.port)
        if proxy is None:
            return self._direct(target, timeout)
        if proxy.startswith("socks"):
            return self._through_socks(target, proxy, timeout)
        return self._through_proxy(exchange, proxy, timeout)

    def describe(self, error: BaseException) -> str:
        """Return what went wrong in one line, with the option that mends it where there is one."""
        text = f"{type(error).__name__}: {error}"
        cause: BaseException | None = error
        while cause is not None and self._modules.ssl is not None:
            if isinstance(cause, self._modules.ssl.SSLCertVerificationError):
                return f"{text} (a private certificate authority goes into ca_certs)"
            cause = cause.__cause__ or cause.__context__
        return text

    def _direct(self, target: _Target, timeout: float) -> Any:
        connection = self._modules.urllib3.connection
        if target.scheme == "http":
            return connection.HTTPConnection(
                target.host, target.port, timeout=timeout, socket_options=self._options()
            )
        return connection.HTTPSConnection(
            target.host,
            target.port,
            timeout=timeout,
            socket_options=self._options(),
            ssl_context=self._tls(),
        )

    def _through_proxy(self, exchange: _Exchange, proxy: str, timeout: float) -> Any:
        urllib3 = self._modules.urllib3
        address = urllib3.util.parse_url(proxy)
        headers = self._proxy_headers(address.auth)
        port = address.port or (443 if address.scheme == "https" else 80)
        common = {
            "timeout": timeout,
            "socket_options": self._options(),
            "proxy": address,
            "proxy_config": urllib3._base_connection.ProxyConfig(
                self._tls() if address.scheme == "https" else None, False, None, None
            ),
        }
        host = address.host.strip("[]")
        target = exchange.target
        if target.scheme == "https":
            connection = urllib3.connection.HTTPSConnection(
                host, port, ssl_context=self._tls(), **common
            )
            connection.set_tunnel(target.host, target.port, headers, scheme=address.scheme)
            return connection
        exchange.path = target.url
        exchange.headers.update(headers)
        if address.scheme == "https":
            return urllib3.connection.HTTPSConnection(host, port, ssl_context=self._tls(), **common)
        return urllib3.connection.HTTPConnection(host, port, **common)

    def _through_socks(self, target: _Target, proxy: str, timeout: float) -> Any:
        # Without PySocks the way is blocked, never direct: the proxy may be there for secrecy.
        try:
            # First: without it the module of urllib3 warns before it fails.
            import socks  # pyright: ignore[reportMissingModuleSource]
            import urllib3.contrib.socks as contrib
        except ImportError:
            raise Unreachable(_NO_SOCKS, sent=False) from None
        assert socks
        manager = contrib.SOCKSProxyManager(proxy)
        options = manager.connection_pool_kw["_socks_options"]
        if target.scheme == "http":
            return contrib.SOCKSConnection(
                _socks_options=options, host=target.host, port=target.port, timeout=timeout
            )
        return contrib.SOCKSHTTPSConnection(
            _socks_options=options,
            host=target.host,
            port=target.port,
            timeout=timeout,
            ssl_context=self._tls(),
        )

    def _proxy_headers(self, auth: str | None) -> dict[str, str]:
        headers = dict(self._settings.proxy_headers or {})
        if auth is not None and not any(name.lower() == "proxy-authorization" for name in headers):
            made = self._modules.urllib3.util.make_headers(proxy_basic_auth=_unquoted(auth))
            headers["Proxy-Authorization"] = made["proxy-authorization"]
        return headers

    def _tls(self) -> Any:
        """Return the one context; loading certificates costs 20 ms, so once."""
        with self._context_lock:
            if self._context is None:
                self._context = self._new_context()
            return self._context

    def _new_context(self) -> Any:
        if self._modules.ssl is None:
            raise Unreachable("https cannot be spoken in this interpreter", sent=False)
        settings = self._settings
        context = self._modules.urllib3.util.ssl_.create_urllib3_context()
        context.verify_mode = self._modules.ssl.CERT_REQUIRED
        context.check_hostname = True
        bundle = settings.ca_certs or _certificates()
        try:
            context.load_verify_locations(cafile=bundle)
        except IsADirectoryError:
            context.load_verify_locations(capath=bundle)
        except OSError as error:
            raise Unreachable(f"ca_certs {bundle!r} cannot be read: {error}", sent=False) from None
        if settings.cert_file is not None:
            try:
                context.load_cert_chain(settings.cert_file, settings.key_file)
            except OSError as error:
                name = settings.cert_file
                raise Unreachable(f"cert_file {name!r}: {error}", sent=False) from None
        return context

    def _options(self) -> list[SocketOption]:
        wanted = self._settings.socket_options
        if wanted is not None and not wanted:
            return []
        socket = self._modules.socket
        chosen: dict[tuple[int, int], int | bytes] = {(socket.IPPROTO_TCP, socket.TCP_NODELAY): 1}
        if self._settings.keep_alive:
            chosen[socket.SOL_SOCKET, socket.SO_KEEPALIVE] = 1
            for name, value in _KEEP_ALIVE:
                # macOS and Windows lack some of the names.
                number = getattr(socket, name, None)
                if number is not None:
                    chosen[socket.IPPROTO_TCP, number] = value
        for level, number, option in wanted or ():
            chosen[level, number] = option
        return [(level, number, option) for (level, number), option in chosen.items()]


class _Modules(NamedTuple):
    urllib3: Any
    ssl: Any
    socket: Any


_NO_SOCKS = "a SOCKS proxy needs PySocks: pip install 'crashfree[socks]'"


def _certificates() -> str:
    # 5 ms that a plain http server need not cost.
    with forkgate.importing():
        import certifi

        return certifi.where()


def _target(library: _Library, url: str) -> _Target:
    return library.parse(url)


def _read(response: Any, limit: int) -> tuple[bytes, bool]:
    """Return at most `limit` bytes of the body and whether it ended within them."""
    parts: list[bytes] = []
    size = 0
    while size <= limit:
        part: bytes = response.read(limit + 1 - size)
        if not part:
            return b"".join(parts), True
        parts.append(part)
        size += len(part)
    return b"".join(parts)[:limit], False


def _unquoted(text: str) -> str:
    """Return user and password of a proxy's URL with %XX undone."""
    head, *parts = text.encode("utf-8").split(b"%")
    decoded = head
    for part in parts:
        try:
            decoded += bytes((int(part[:2], 16),)) + part[2:]
        except ValueError:
            decoded += b"%" + part
    return decoded.decode("utf-8", "replace")


def _first(variables: Mapping[str, str], *names: str) -> str | None:
    for name in names:
        found = variable(variables, name)
        if found is not None:
            return found.value
    return None


def _require_socks() -> None:
    try:
        import socks  # pyright: ignore[reportMissingModuleSource]
    except ImportError:
        raise ConfigurationError(_NO_SOCKS) from None
    assert socks
