"""The page's files: HTML, CSS and ES modules, served as they are."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from xrayd.net.http_messages import Request, Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

SECURITY_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
"""What every answer of the page carries: nothing inline, nothing from elsewhere, no frames."""


class Files:
    """The files by name, read once."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for entry in files(__name__).iterdir():
            kind = _TYPES.get(entry.name.rpartition(".")[2])
            if kind is not None:
                body = entry.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                self._files[entry.name] = body, kind, tag

    def answer(self, name: str, request: Request) -> Response | None:
        """The file of this name; 304 where the browser has it already; None where there is none."""
        found = self._files.get(name)
        if found is None:
            return None
        body, kind, tag = found
        headers = [*SECURITY_HEADERS, ("Cache-Control", "no-cache"), ("ETag", tag)]
        if request.header("if-none-match") == tag:
            return Response(304, b"", headers)
        return Response(200, body, [*headers, ("Content-Type", kind)])
