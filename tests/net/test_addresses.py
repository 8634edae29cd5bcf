"""Addresses, loopback, NO_PROXY and proxies as text."""

import httpx
import pytest

from xrayd.errors import ConfigError
from xrayd.net.proxies import METADATA_HOSTS, is_exempt, proxy_chooser
from xrayd.net.sockets import is_loopback, parse_address
from xrayd.net.transport import Proxy, parse_proxy


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:2000", ("127.0.0.1", 2000)),
        ("[::1]:2000", ("::1", 2000)),
        (":2000", ("", 2000)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, "X") == address


@pytest.mark.parametrize(
    "text", ["", "2000", "::1:2000", "a:b", "a:70000", "a:-1", "[::1]", "a:1:2"]
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match=r"X: .* is no address"):
        parse_address(text, "X")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "a.localhost",
                                  "::ffff:127.0.0.1"])  # fmt: skip
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1", "::2",
                                  "127.evil", "0.0.0.0"])  # fmt: skip
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("exceptions", "host", "port", "exempt"),
    [
        ("", "xray.aws", 443, False),
        ("*", "xray.aws", 443, True),
        ("xray.aws", "xray.aws", 443, True),
        ("aws", "xray.aws", 443, True),
        (".aws", "xray.aws", 443, True),
        ("*.aws", "xray.aws", 443, True),
        ("AWS", "xray.aws", 443, True),
        ("ay.aws", "xray.aws", 443, False),
        ("xray.aws:443", "xray.aws", 443, True),
        ("xray.aws:444", "xray.aws", 443, False),
        ("a, b ,xray.aws", "xray.aws", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:80", "10.1.2.3", 443, False),
        ("::1", "::1", 443, True),
        ("[::1]:443", "::1", 443, True),
        ("fd00::/8", "fd00::5", 443, True),
    ],
)
def test_no_proxy(exceptions: str, host: str, port: int, exempt: bool) -> None:
    assert is_exempt(host, port, exceptions) is exempt


def test_metadata_is_never_proxied() -> None:
    choose, _ = proxy_chooser("http://127.0.0.1:3128", {})
    for host in METADATA_HOSTS:
        netloc = f"[{host}]" if ":" in host else host
        assert choose(httpx.URL(f"http://{netloc}/latest")) is None
    assert choose(httpx.URL("https://xray.aws")) is not None


def test_https_proxy_leaves_loopback_and_plain_http_alone() -> None:
    choose, origin = proxy_chooser("", {"HTTPS_PROXY": "http://u:secret@proxy:3128"})
    assert "secret" not in origin
    assert choose(httpx.URL("https://xray.aws")) == parse_proxy("http://u:secret@proxy:3128")
    assert choose(httpx.URL("https://127.0.0.1:1")) is None
    assert choose(httpx.URL("http://xray.aws")) is None


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("proxy:3128", Proxy("proxy", 3128, False, "")),
        ("http://proxy", Proxy("proxy", 80, False, "")),
        ("https://proxy", Proxy("proxy", 443, True, "")),
        ("http://u:p%40@proxy:1", Proxy("proxy", 1, False, "Basic dTpwQA==")),
    ],
)
def test_proxy_addresses(text: str, proxy: Proxy) -> None:
    assert parse_proxy(text) == proxy


@pytest.mark.parametrize("text", ["ftp://proxy", "http://", "http://user:secret@:x"])
def test_bad_proxy_addresses_do_not_show_their_password(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        proxy_chooser(text, {})
    assert "secret" not in str(caught.value)
