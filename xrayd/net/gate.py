"""Who may ask TCP 2000 for what. Pure: a request without its body in, a verdict out.

The listener holds the authority to sign for AWS, and every web page the user opens can reach
loopback; so anything a browser marks is refused, and so is a Host that is not ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from xrayd.net.http_server import Request, Response, text_response
from xrayd.net.sockets import is_loopback


def host_name(header: str) -> str:
    """The name in a Host header, without its port, in lower case."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def refuse_foreign_host(request: Request, allowed_hosts: Collection[str]) -> Response | None:
    """Refuse a Host that DNS rebinding could have brought; other peers may use any name."""
    if not is_loopback(request.peer):
        return None
    host = host_name(request.header("host") or "")
    if is_loopback(host) or host in allowed_hosts:
        return None
    return text_response(403, "this Host is not served here; see Proxy.AllowedHosts")


def refuse_browser(request: Request) -> Response | None:
    """Refuse whatever a browser sends on behalf of a page."""
    for name, _ in request.headers:
        if name == "origin" or name.startswith("sec-fetch-"):
            return text_response(403, "requests from web pages are refused")
    return None


def screen(
    request: Request, limits: Mapping[tuple[str, str], int], allowed_hosts: Collection[str]
) -> Response | int:
    """The relay's own rule.

    Args:
        request: without its body.
        limits: (method, path) -> bytes a body may have; anything else is refused.
        allowed_hosts: Host names, in lower case, beside loopback's.
    """
    refusal = refuse_browser(request) or refuse_foreign_host(request, allowed_hosts)
    if refusal is not None:
        return refusal
    limit = limits.get((request.method, request.target))
    if limit is None:
        return text_response(403, "xrayd does not serve this; see Proxy.Operations")
    return limit
