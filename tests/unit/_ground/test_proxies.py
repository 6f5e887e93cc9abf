"""Which proxy: options, environment, exemptions; wire.md section 16."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._ground import proxies
from crashfree._ground.proxies import Proxies, is_exempt, normalized
from crashfree.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("proxy:3128", "http://proxy:3128"),
        ("  proxy:3128\n", "http://proxy:3128"),
        ("http://proxy", "http://proxy"),
        ("HTTPS://proxy:443", "https://proxy:443"),
        ("user:pass@proxy:3128", "http://user:pass@proxy:3128"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("socks5h://proxy:1080", "socks5h://proxy:1080"),
        ("", ""),
        (None, None),
    ],
)
def test_good_proxies(text: str | None, url: str | None) -> None:
    """complaints-transport row 41."""
    assert normalized(text, "http_proxy") == url


@pytest.mark.parametrize(
    "text", ["ftp://proxy", "http://", "http://:3128", "proxy:99999", "proxy:x", "http://a b:1"]
)
def test_bad_proxies_are_refused_with_the_options_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match="https_proxy"):
        normalized(text, "https_proxy")


class TestChoice:
    def test_without_anything_the_way_is_direct(self) -> None:
        assert Proxies().choose("https", "example.com", 443) is None

    def test_https_takes_its_own_option_before_the_other(self) -> None:
        both = Proxies(http="http://a", https="http://b")
        assert both.choose("https", "example.com", 443) == "http://b"
        assert both.choose("http", "example.com", 80) == "http://a"

    def test_https_falls_back_to_the_http_proxy(self) -> None:
        assert Proxies(http="http://a").choose("https", "example.com", 443) == "http://a"

    def test_an_option_wins_over_the_environment(self) -> None:
        chosen = Proxies(https="http://mine", environment_https="http://theirs")
        assert chosen.choose("https", "example.com", 443) == "http://mine"

    def test_the_environment_counts_without_an_option(self) -> None:
        chosen = Proxies(environment_http="http://a", environment_https="http://b")
        assert chosen.choose("https", "example.com", 443) == "http://b"
        assert chosen.choose("http", "example.com", 80) == "http://a"

    def test_empty_text_switches_that_kind_off(self) -> None:
        chosen = Proxies(
            https="", http="", environment_https="http://b", environment_http="http://a"
        )
        assert chosen.choose("https", "example.com", 443) is None
        assert chosen.choose("http", "example.com", 80) is None

    def test_exemptions_are_for_the_environments_proxies_only(self) -> None:
        chosen = Proxies(environment_https="http://b", no_proxy="example.com")
        assert chosen.choose("https", "example.com", 443) is None
        assert chosen._replace(https="http://mine").choose("https", "example.com", 443) == (
            "http://mine"
        )


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "exempt"),
    [
        ("", "example.com", 443, False),
        ("*", "example.com", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "EXAMPLE.com", 443, True),
        ("example.com", "api.example.com", 443, True),
        (".example.com", "api.example.com", 443, True),
        (".example.com", "example.com", 443, True),
        ("*.example.com", "api.example.com", 443, True),
        ("example.com", "badexample.com", 443, False),
        ("example.com", "example.com.evil.org", 443, False),
        ("example.com:8443", "example.com", 8443, True),
        ("example.com:8443", "example.com", 443, False),
        ("localhost, 127.0.0.1", "127.0.0.1", 80, True),
        ("10.0.0.0/8", "10.20.30.40", 80, True),
        ("10.0.0.0/8", "11.0.0.1", 80, False),
        ("10.0.0.0/8", "ten.example.com", 80, False),
        ("192.168.1.0/255", "192.168.1.1", 80, False),
        ("::1", "[::1]", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("fd00::/8", "fd12:3456::1", 80, True),
        ("fd00::/8", "fe80::1", 80, False),
        ("0.0.0.1", "10.0.0.1", 80, False),
        ("1", "127.0.0.1", 80, False),
        ("a;b.com", "b.com", 80, True),
    ],
)
def test_exemptions(no_proxy: str, host: str, port: int, exempt: bool) -> None:
    assert is_exempt(no_proxy, host, port) is exempt


@given(st.ip_addresses(v=6), st.integers(0, 128))
def test_networks_agree_with_the_standard_library(
    address: ipaddress.IPv6Address, prefix: int
) -> None:
    network = ipaddress.ip_network((address, prefix), strict=False)
    assert is_exempt(str(network), str(address), 1)
    outside = ipaddress.IPv6Address(int(address) ^ (1 << 127))
    assert is_exempt(str(network), str(outside), 1) == (outside in network)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_networks_of_four_bytes_agree_too(address: ipaddress.IPv4Address, prefix: int) -> None:
    network = ipaddress.ip_network((address, prefix), strict=False)
    assert is_exempt(str(network), str(address), 1)
    outside = ipaddress.IPv4Address(int(address) ^ (1 << 31))
    assert is_exempt(str(network), str(outside), 1) == (outside in network)


class TestEnvironment:
    def test_both_cases_are_read_lower_first(self) -> None:
        found = proxies.resolve(
            {"https_proxy": "lower:1", "HTTPS_PROXY": "upper:1", "HTTP_PROXY": "plain:1"}
        )
        assert found.environment_https == "http://lower:1"
        assert found.environment_http == "http://plain:1"

    def test_all_proxy_is_the_last_resort(self) -> None:
        found = proxies.resolve({"ALL_PROXY": "all:1", "http_proxy": "plain:1"})
        assert found.environment_https == "http://all:1"
        assert found.environment_http == "http://plain:1"

    def test_a_cgi_program_does_not_take_a_proxy_from_its_caller(self) -> None:
        variables = {"REQUEST_METHOD": "GET", "HTTP_PROXY": "evil:1"}
        assert proxies.resolve(variables).environment_http is None

    def test_a_bad_variable_is_ignored(self) -> None:
        assert proxies.resolve({"http_proxy": "ftp://x"}).environment_http is None

    def test_a_bad_option_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError):
            proxies.resolve({}, http="ftp://x")
