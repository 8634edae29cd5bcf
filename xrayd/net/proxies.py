"""Which proxy a URL is reached through: `-p`, HTTPS_PROXY and NO_PROXY, in either case.

Source of the NO_PROXY rules: Go's golang.org/x/net/http/httpproxy, which the X-Ray daemon used.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

import httpx

from xrayd.errors import ConfigError
from xrayd.net.sockets import is_loopback
from xrayd.net.transport import Proxy, parse_proxy

# EC2 and container metadata; asking a proxy for these would hand it credentials.
METADATA_HOSTS = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254",
                  "fd00:ec2::23")  # fmt: skip


def proxy_chooser(
    address: str, environment: Mapping[str, str]
) -> tuple[Callable[[httpx.URL], Proxy | None], str]:
    """Return a function from URL to proxy, and where the proxy's address came from.

    `address` is the operator's (`-p`), used for every scheme. HTTPS_PROXY serves https URLs that
    do not lead to this machine.

    Raises:
        ConfigError: an address that is none, without repeating it.
    """
    origin, is_explicit = "ProxyAddress", True
    if not address:
        is_explicit = False
        for origin in ("HTTPS_PROXY", "https_proxy"):
            address = environment.get(origin, "")
            if address:
                break
    if not address:
        return lambda _url: None, ""
    try:
        proxy = parse_proxy(address)
    except ValueError as error:
        raise ConfigError(f"{origin}: {error}") from error
    exceptions = environment.get("NO_PROXY") or environment.get("no_proxy") or ""

    def choose(url: httpx.URL) -> Proxy | None:
        port = url.port or (443 if url.scheme == "https" else 80)
        if url.host in METADATA_HOSTS or is_exempt(url.host, port, exceptions):
            return None
        if not is_explicit and (url.scheme != "https" or is_loopback(url.host)):
            return None
        return proxy

    return choose, f"{origin} ({proxy.host}:{proxy.port})"


def is_exempt(host: str, port: int, exceptions: str) -> bool:
    """Whether NO_PROXY names a host: by `*`, name, parent, IP or CIDR, with a port or without."""
    host = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for word in exceptions.lower().replace(" ", ",").split(","):
        name, wanted_port = _split_port(word.strip())
        if not name or (wanted_port and wanted_port != str(port)):
            continue
        if name == "*":
            return True
        if address is not None:
            if _covers(name, address):
                return True
            continue
        name = name.removeprefix("*")
        if host == name or host.endswith(name if name.startswith(".") else "." + name):
            return True
    return False


def _split_port(word: str) -> tuple[str, str]:
    if word.startswith("["):
        name, _, port = word[1:].partition("]")
        return name, port.removeprefix(":")
    if word.count(":") == 1:
        name, _, port = word.partition(":")
        return name, port
    return word, ""


def _covers(name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
