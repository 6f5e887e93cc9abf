"""One request in, one reply or `Unreachable` out, by the deadline, whatever the server does."""

from __future__ import annotations

import importlib.util
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree._ground.http import (
    HttpClient,
    HttpSettings,
    Reply,
    _BoundedSocket,  # pyright: ignore[reportPrivateUsage]
    resolve_settings,
)
from crashfree._ground.proxies import Proxies
from crashfree.errors import ConfigurationError, Unreachable
from tests.support.certificates import Authority
from tests.support.socks_proxy import SocksProxy
from tests.support.stub import Answer, Stub, dead_port

URL = "/api/42/envelope/"
needs_pysocks = pytest.mark.skipif(
    importlib.util.find_spec("socks") is None, reason="PySocks is not installed"
)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


@pytest.fixture
def client() -> Iterator[HttpClient]:
    client = HttpClient(HttpSettings(connect_timeout=2.0, timeout=5.0))
    yield client
    client.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def post(client: HttpClient, stub: Stub, body: bytes = b"{}\n", **more: object) -> Reply:
    return client.request("POST", stub.url + URL, body=body, **more)  # type: ignore[arg-type]


def failure(client: HttpClient, url: str, **more: object) -> Unreachable:
    with pytest.raises(Unreachable) as caught:
        client.request("POST", url, body=b"{}\n", **more)  # type: ignore[arg-type]
    return caught.value


class TestAnswers:
    def test_status_headers_and_body(self, client: HttpClient, stub: Stub) -> None:
        stub.answer(status=429, headers={"Retry-After": "7"}, body=b"slow down")
        reply = post(client, stub, headers={"X-One": "1"})
        assert reply.status == 429
        assert reply.headers["retry-after"] == "7"
        assert reply.body == b"slow down"
        assert stub.requests[0].headers["x-one"] == "1"
        assert stub.requests[0].headers["content-length"] == "3"
        assert stub.requests[0].path == URL

    def test_one_connection_serves_many_requests(self, client: HttpClient, stub: Stub) -> None:
        for _ in range(5):
            post(client, stub)
        assert stub.connections == 1

    def test_no_more_of_the_body_is_read_than_asked(self, client: HttpClient, stub: Stub) -> None:
        stub.answer(body=b"x" * 100_000)
        assert len(post(client, stub, max_body=8192).body) == 8192
        post(client, stub)
        assert stub.connections == 2, "what is left unread cannot be reused"

    def test_a_body_without_end_holds_nobody(self, client: HttpClient, stub: Stub) -> None:
        stub.answer(endless=True)
        assert len(post(client, stub).body) == 8192

    def test_redirects_are_not_followed(self, client: HttpClient, stub: Stub) -> None:
        """complaints-transport row 42: the auth header must not go elsewhere."""
        with Stub() as other:
            stub.answer(status=302, headers={"Location": other.url + "/"})
            assert post(client, stub).status == 302
            assert other.requests == []
        assert len(stub.requests) == 1

    def test_an_early_refusal_of_a_large_body_is_an_answer(self, client: HttpClient) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def refuse() -> None:
                connection, _ = listener.accept()
                connection.recv(1000)
                connection.sendall(
                    b"HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
                connection.close()

            thread = threading.Thread(target=refuse)
            thread.start()
            port = listener.getsockname()[1]
            reply = client.request("POST", f"http://127.0.0.1:{port}/", body=b"x" * 8_000_000)
            thread.join()
        assert reply.status == 413


class TestSilence:
    """`sent` is False only when not one byte was written."""

    def test_nobody_listens(self, client: HttpClient) -> None:
        error = failure(client, f"http://127.0.0.1:{dead_port()}/")
        assert not error.sent
        assert "refused" in str(error)

    def test_the_name_does_not_resolve(self, client: HttpClient) -> None:
        assert not failure(client, "http://nobody.invalid/").sent

    def test_no_connection_in_time(self) -> None:
        """A listener whose backlog is full swallows connection attempts."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            port = listener.getsockname()[1]
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            client = HttpClient(HttpSettings(connect_timeout=0.3, timeout=5.0))
            began = time.monotonic()
            error = failure(client, f"http://127.0.0.1:{port}/")
            assert time.monotonic() - began < 2.0
            for filler in fillers:
                filler.close()
        assert not error.sent

    def test_the_server_never_answers(self, client: HttpClient, stub: Stub) -> None:
        """complaints-transport row 36."""
        stub.answer(hang=True)
        began = time.monotonic()
        assert failure(client, stub.url, timeout=0.3).sent
        assert 0.25 < time.monotonic() - began < 2.0

    def test_a_server_that_drips_is_cut_off_at_the_deadline(
        self, client: HttpClient, stub: Stub
    ) -> None:
        stub.answer(drip=0.05, headers={"X-Long": "x" * 1000})
        began = time.monotonic()
        assert failure(client, stub.url, timeout=0.4).sent
        assert time.monotonic() - began < 2.0

    def test_a_server_that_does_not_read_is_cut_off_too(self, client: HttpClient) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            began = time.monotonic()
            with pytest.raises(Unreachable) as caught:
                client.request("POST", url, body=b"x" * 50_000_000, timeout=0.4)
            assert time.monotonic() - began < 3.0
        assert caught.value.sent

    @pytest.mark.parametrize(
        "answer",
        [Answer(reset=True), Answer(reset_early=True), Answer(garbage=True), Answer(cut=True)],
        ids=["reset", "reset in the middle", "garbage", "cut short"],
    )
    def test_written_but_not_answered_whole(
        self, client: HttpClient, stub: Stub, answer: Answer
    ) -> None:
        stub.script(answer)
        assert failure(client, stub.url).sent

    def test_no_time_left_means_nothing_written(self, client: HttpClient, stub: Stub) -> None:
        assert not failure(client, stub.url, timeout=0.0).sent
        assert stub.connections == 0

    def test_whoever_may_forbid_writing_is_asked_last(self, client: HttpClient, stub: Stub) -> None:
        error = failure(client, stub.url, may_write=lambda: False)
        assert not error.sent
        assert stub.requests == []
        asked: list[int] = []
        post(client, stub, may_write=lambda: not asked.append(1))
        assert asked == [1]

    @pytest.mark.parametrize(
        "url", ["ftp://x/", "http://", "nonsense", "http://a b/", "http://[1/"]
    )
    def test_what_is_no_url_goes_nowhere(self, client: HttpClient, url: str) -> None:
        assert not failure(client, url).sent


class TestKeptConnections:
    """complaints-transport row 35."""

    def test_a_connection_that_the_server_closed_is_replaced(
        self, client: HttpClient, stub: Stub
    ) -> None:
        stub.answer(close=True)
        for _ in range(3):
            assert post(client, stub).status == 200
        assert stub.connections == 3

    def test_a_polite_close_is_heeded(self, client: HttpClient, stub: Stub) -> None:
        stub.answer(polite_close=True)
        for _ in range(3):
            assert post(client, stub).status == 200
        assert stub.connections == 3

    def test_one_that_dies_before_it_answers_is_tried_once_more(
        self, client: HttpClient, stub: Stub
    ) -> None:
        post(client, stub)
        stub.script(Answer(reset=True))
        assert post(client, stub).status == 200
        assert stub.connections == 2

    def test_whoever_allowed_it_is_not_asked_again_for_the_second_try(
        self, client: HttpClient, stub: Stub
    ) -> None:
        post(client, stub)
        stub.script(Answer(reset=True))
        asked: list[int] = []
        assert post(client, stub, may_write=lambda: not asked.append(1)).status == 200
        assert asked == [1]

    def test_a_second_death_is_the_end(self, client: HttpClient, stub: Stub) -> None:
        post(client, stub)
        stub.script(Answer(reset=True), Answer(reset=True))
        assert failure(client, stub.url).sent
        assert len(stub.requests) == 3

    def test_what_must_not_go_twice_does_not(self, client: HttpClient, stub: Stub) -> None:
        post(client, stub)
        stub.script(Answer(reset=True))
        assert failure(client, stub.url, repeatable=False).sent
        assert len(stub.requests) == 2

    def test_a_timeout_is_not_tried_again(self, client: HttpClient, stub: Stub) -> None:
        post(client, stub)
        stub.script(Answer(hang=True))
        assert failure(client, stub.url, timeout=0.3).sent
        assert len(stub.requests) == 2

    def test_an_old_one_is_not_used(self, stub: Stub) -> None:
        from tests.support.clock import FakeClock

        clock = FakeClock()
        client = HttpClient(HttpSettings(), clock=clock)
        post(client, stub)
        clock.advance(59.0)
        post(client, stub)
        assert stub.connections == 1
        clock.advance(4.0)
        post(client, stub, max_idle=3.0)
        assert stub.connections == 2
        clock.advance(61.0)
        post(client, stub)
        assert stub.connections == 3
        client.close()

    def test_a_forked_child_leaves_them_to_the_parent(self, client: HttpClient, stub: Stub) -> None:
        post(client, stub)
        idle = client._idle
        client.forget()
        post(client, stub)
        assert stub.connections == 2
        assert idle[0].connection.is_connected, "the parent's connection is still open"
        idle[0].connection.close()

    def test_threads_do_not_share_one(self, client: HttpClient, stub: Stub) -> None:
        stub.answer(delay=0.1)
        threads = [threading.Thread(target=post, args=(client, stub)) for _ in range(4)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(stub.requests) == 4
        assert stub.connections == 4
        assert time.monotonic() - began < 1.0


class TestSocketOptions:
    def option(self, stub: Stub, settings: HttpSettings, level: int, name: int) -> int:
        client = HttpClient(settings)
        post(client, stub)
        value: int = client._idle[0].connection.sock.getsockopt(level, name)
        client.close()
        return value

    def test_idle_connections_are_probed(self, stub: Stub) -> None:
        settings = HttpSettings()
        assert self.option(stub, settings, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert self.option(stub, settings, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 45
        assert self.option(stub, settings, socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
        assert self.option(stub, settings, socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 6

    def test_probing_can_be_switched_off(self, stub: Stub) -> None:
        settings = HttpSettings(keep_alive=False)
        assert not self.option(stub, settings, socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    def test_the_programs_options_win(self, stub: Stub) -> None:
        mine = [(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 99)]
        settings = HttpSettings(socket_options=mine)
        assert self.option(stub, settings, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 99
        assert self.option(stub, settings, socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 6

    def test_an_empty_list_means_none_at_all(self, stub: Stub) -> None:
        settings = HttpSettings(socket_options=())
        assert not self.option(stub, settings, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not self.option(stub, settings, socket.IPPROTO_TCP, socket.TCP_NODELAY)


class TestTls:
    def url(self, stub: Stub) -> str:
        return f"https://localhost:{stub.port}/"

    def test_a_private_authority_is_trusted_when_it_is_named(self, authority: Authority) -> None:
        """complaints-transport row 40."""
        with Stub(tls=authority.server_context("localhost")) as stub:
            client = HttpClient(HttpSettings(ca_certs=authority.bundle))
            assert client.request("GET", self.url(stub)).status == 200
            client.close()

    def test_an_unknown_authority_is_refused_and_the_remedy_named(
        self, client: HttpClient, authority: Authority
    ) -> None:
        with Stub(tls=authority.server_context("localhost")) as stub:
            error = failure(client, self.url(stub))
            assert stub.requests == []
        assert not error.sent
        assert "ca_certs" in str(error)

    def test_a_certificate_for_another_host_is_refused(self, authority: Authority) -> None:
        with Stub(tls=authority.server_context("elsewhere.example")) as stub:
            client = HttpClient(HttpSettings(ca_certs=authority.bundle))
            assert not failure(client, self.url(stub)).sent

    def test_a_client_certificate_is_shown(self, authority: Authority) -> None:
        context = authority.server_context("localhost")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.bundle)
        cert, key = authority.issue("client")
        with Stub(tls=context) as stub:
            settings = HttpSettings(ca_certs=authority.bundle, cert_file=cert, key_file=key)
            client = HttpClient(settings)
            assert client.request("GET", self.url(stub)).status == 200
            client.close()

    def test_a_server_without_tls_is_no_https_server(self, client: HttpClient, stub: Stub) -> None:
        assert not failure(client, f"https://127.0.0.1:{stub.port}/").sent

    def test_a_missing_bundle_is_named(self, client: HttpClient, tmp_path: Path) -> None:
        client = HttpClient(HttpSettings(ca_certs=str(tmp_path / "none.pem")))
        assert "none.pem" in str(failure(client, "https://127.0.0.1:1/"))

    def test_the_deadline_holds_for_tls_too(self, authority: Authority) -> None:
        with Stub(tls=authority.server_context("localhost")) as stub:
            client = HttpClient(HttpSettings(ca_certs=authority.bundle))
            client.request("GET", self.url(stub))
            stub.answer(drip=0.05, headers={"X-Long": "x" * 1000})
            began = time.monotonic()
            assert failure(client, self.url(stub), timeout=0.4).sent
            assert time.monotonic() - began < 2.0
            client.close()

    def test_a_handshake_that_never_ends_is_cut_off(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = HttpClient(HttpSettings(connect_timeout=0.3))
            began = time.monotonic()
            error = failure(client, f"https://127.0.0.1:{listener.getsockname()[1]}/")
            assert time.monotonic() - began < 2.0
        assert not error.sent


class TestProxies:
    def test_http_goes_to_the_proxy_with_the_whole_url(self, stub: Stub) -> None:
        settings = HttpSettings(
            proxies=Proxies(http=f"http://user:p%40ss@127.0.0.1:{stub.port}"),
            proxy_headers={"X-Proxy": "yes"},
        )
        client = HttpClient(settings)
        assert client.request("POST", "http://far.example/api/", body=b"x").status == 200
        (request,) = stub.requests
        assert request.path == "http://far.example/api/"
        assert request.headers["host"] == "far.example"
        assert request.headers["x-proxy"] == "yes"
        assert request.headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"
        client.close()

    def test_https_goes_through_a_tunnel(self, authority: Authority) -> None:
        with Stub(tls=authority.server_context("localhost")) as target, Tunnel() as tunnel:
            settings = HttpSettings(
                ca_certs=authority.bundle,
                proxies=Proxies(https=f"http://127.0.0.1:{tunnel.port}"),
                proxy_headers={"X-Proxy": "yes"},
            )
            client = HttpClient(settings)
            assert client.request("GET", f"https://localhost:{target.port}/p").status == 200
            client.close()
        assert f"CONNECT localhost:{target.port}" in tunnel.heads[0]
        assert "X-Proxy: yes" in tunnel.heads[0]
        assert "x-proxy" not in target.requests[0].headers

    def test_a_proxy_that_refuses_means_nothing_was_written(self, stub: Stub) -> None:
        stub.answer(status=407)
        settings = HttpSettings(proxies=Proxies(https=f"http://127.0.0.1:{stub.port}"))
        client = HttpClient(settings)
        assert not failure(client, "https://far.example/").sent

    def test_a_dead_proxy_is_not_gone_around(self, stub: Stub) -> None:
        settings = HttpSettings(proxies=Proxies(http=f"http://127.0.0.1:{dead_port()}"))
        assert not failure(HttpClient(settings), stub.url).sent
        assert stub.connections == 0

    @needs_pysocks
    def test_a_socks_proxy_is_asked_for_names_it_resolves_itself(self, stub: Stub) -> None:
        with SocksProxy(stub.port) as proxy:
            url = f"socks5h://127.0.0.1:{proxy.port}"
            client = HttpClient(HttpSettings(proxies=Proxies(http=url)))
            for _ in range(2):
                assert client.request("POST", "http://far.example/p", body=b"x").status == 200
            client.close()
            assert proxy.asked == [("far.example", 80)], "the connection is kept"
        assert stub.requests[0].headers["host"] == "far.example"
        assert stub.requests[0].path == "/p"

    @needs_pysocks
    def test_a_socks_proxy_wants_a_password(self, stub: Stub) -> None:
        with SocksProxy(stub.port, user="ada:p@ss") as proxy:
            for password, works in (("p%40ss", True), ("wrong", False)):
                url = f"socks5://ada:{password}@127.0.0.1:{proxy.port}"
                client = HttpClient(HttpSettings(proxies=Proxies(http=url)))
                if works:
                    assert client.request("GET", stub.url).status == 200
                else:
                    assert not failure(client, stub.url).sent
                client.close()
            assert proxy.users == ["ada:p@ss", "ada:wrong"]
        assert stub.connections == 1

    @needs_pysocks
    def test_https_goes_through_a_socks_proxy(self, authority: Authority) -> None:
        with Stub(tls=authority.server_context("localhost")) as target:
            with SocksProxy(target.port) as proxy:
                settings = HttpSettings(
                    ca_certs=authority.bundle,
                    proxies=Proxies(https=f"socks5h://127.0.0.1:{proxy.port}"),
                )
                client = HttpClient(settings)
                assert client.request("GET", "https://localhost:8443/p").status == 200
                client.close()
                assert proxy.asked == [("localhost", 8443)]

    @needs_pysocks
    def test_a_socks_proxy_that_refuses_means_nothing_was_written(self, stub: Stub) -> None:
        with SocksProxy(stub.port, refuse=True) as proxy:
            settings = HttpSettings(proxies=Proxies(http=f"socks5://127.0.0.1:{proxy.port}"))
            assert not failure(HttpClient(settings), stub.url).sent
        assert stub.connections == 0

    def test_socks_without_pysocks_is_blocked_never_direct(
        self, stub: Stub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "socks", None)
        settings = HttpSettings(proxies=Proxies(http="socks5://127.0.0.1:1"))
        error = failure(HttpClient(settings), stub.url)
        assert not error.sent
        assert "PySocks" in str(error)
        assert stub.connections == 0
        with pytest.raises(ConfigurationError, match="PySocks"):
            resolve_settings({}, http_proxy="socks5://127.0.0.1:1")


class TestSettings:
    def test_the_environment_names_certificates(self) -> None:
        found = resolve_settings(
            {
                "SSL_CERT_FILE": "/a",
                "REQUESTS_CA_BUNDLE": "/b",
                "CLIENT_CERT_FILE": "/c",
                "CLIENT_KEY_FILE": "/k",
            }
        )
        assert (found.ca_certs, found.cert_file, found.key_file) == ("/a", "/c", "/k")
        assert resolve_settings({"REQUESTS_CA_BUNDLE": "/b"}).ca_certs == "/b"

    def test_options_win(self) -> None:
        assert resolve_settings({"SSL_CERT_FILE": "/a"}, ca_certs="/mine").ca_certs == "/mine"

    def test_the_default_clock_is_the_systems(self) -> None:
        assert HttpClient()._clock is SYSTEM_CLOCK


class Tunnel:
    """An HTTP proxy that only knows CONNECT."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self._ends: list[socket.socket] = []
        self._pipes: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()
        for thread in self._pipes:
            thread.join(5.0)
        for end in self._ends:
            end.close()

    def _serve(self) -> None:
        try:
            near, _ = self._listener.accept()
        except OSError:
            return
        head = b""
        while b"\r\n\r\n" not in head:
            head += near.recv(4096)
        self.heads.append(head.decode())
        host, _, port = head.split(b" ")[1].decode().partition(":")
        far = socket.create_connection((host, int(port)))
        self._ends += [near, far]
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for source, target in ((near, far), (far, near)):
            thread = threading.Thread(target=pipe, args=(source, target), daemon=True)
            self._pipes.append(thread)
            thread.start()


def pipe(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class TestGreenSockets:
    """gevent and eventlet may replace sockets and leave threads what they are."""

    @staticmethod
    def link(module: str) -> _BoundedSocket:
        return _BoundedSocket(type("socket", (), {"__module__": module})(), SYSTEM_CLOCK)

    def test_an_ordinary_socket_is_anybodys(self) -> None:
        assert self.link("socket").owner() is None

    @pytest.mark.parametrize("module", ["gevent._socket3", "gevent.ssl", "eventlet.greenio.base"])
    def test_a_green_one_belongs_to_the_thread_on_whose_loop_it_waits(self, module: str) -> None:
        assert self.link(module).owner() == threading.get_ident()

    def test_greenlets_in_the_place_of_threads_share_one_loop(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def get_ident() -> int:
            return 7

        get_ident.__module__ = "gevent.thread"
        # For the library alone: a thread that ends meanwhile asks the module itself who it is.
        patched = SimpleNamespace(get_ident=get_ident)
        monkeypatch.setattr("crashfree._ground.http.threading", patched)
        assert self.link("gevent._socket3").owner() is None

    def test_a_connection_of_another_thread_is_left_to_it(
        self, client: HttpClient, stub: Stub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_BoundedSocket, "owner", lambda link: threading.get_ident())
        post(client, stub)
        elsewhere = threading.Thread(target=post, args=(client, stub))
        elsewhere.start()
        elsewhere.join()
        assert stub.connections == 2
        post(client, stub)
        assert stub.connections == 2
