"""Who may ask TCP 2000 for what. Pure: a request without its body in, a verdict out.

The listener holds the authority to sign for AWS, and every web page the user opens can reach
loopback; so anything a browser marks is refused, and so is a Host that is not ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from xrayd.net.http_messages import Request, Response, text_response
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


def refuse_foreign_page(request: Request, allowed_hosts: Collection[str]) -> Response | None:
    """Refuse what a browser sends for a page that is not this listener's own (the rule of dev).

    An Origin must be the address the request was sent to, and that one of ours: loopback or an
    allowed host, whoever the peer is, for behind a published container port a rebound name looks
    like another machine. `Sec-Fetch-Site` must be same-origin, or, for a GET, none (typed by the
    user) or a navigation to it.
    """
    origin = request.header("origin")
    if origin is not None:
        address = request.header("host") or ""
        host = host_name(address)
        is_own = is_loopback(host) or host in allowed_hosts
        if not is_own or origin != f"http://{address}":
            return text_response(403, "requests from other pages are refused")
    site = request.header("sec-fetch-site")
    if site in (None, "same-origin"):
        return None
    if request.method in ("GET", "HEAD"):
        is_navigation = (
            request.header("sec-fetch-mode") == "navigate"
            and request.header("sec-fetch-dest") == "document"
        )
        if site == "none" or is_navigation:
            return None
    return text_response(403, "requests from other pages are refused")


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
