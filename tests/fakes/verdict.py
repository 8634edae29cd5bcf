"""What a fake answers to one request, and how it misbehaves while answering."""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Unprocessed:
    """Which documents of a PutTraceSegments the service lists as unprocessed, and how."""

    match: Callable[[str], bool]
    """Is given each document."""
    code: str | None = "InternalFailure"
    message: str | None = "unprocessed by the script of the test"
    with_id: bool = True
    """False leaves Id null, as the service may."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One answer. Every field left alone means: the usual, correct answer of that path.

    Faults are applied in this order: delay, hang, abort or drip, close.
    """

    status: int = 200
    error: str | None = None
    """Error code, sent as AWS does: `x-amzn-ErrorType` and a JSON body with `message`."""
    message: str = "refused by the script of the test"
    body: bytes | str | Mapping[str, Any] | None = None
    """A mapping is sent as JSON. None: the path's usual body, or the error's."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Added to the answer, or instead of the header that would be there."""
    gzip: bool = False
    chunked: bool = False
    delay_s: float = 0.0
    hang: bool = False
    """Never answer; the connection stays open until the client leaves."""
    drip_bps: float | None = None
    """Send the answer at this many bytes a second."""
    abort_request_at: int | None = None
    """Reset the connection after this many bytes of the request's body."""
    abort_at: int | None = None
    """Reset the connection after this many bytes of the answer; 0 is before any."""
    close: bool = False
    """Close the connection after the answer, without having said so."""
    announce_close: bool = False
    """The same, said with `Connection: close`."""
    stored: bool | None = None
    """Whether the service kept the documents. None: it did if the status is 2xx."""
    unprocessed: Unprocessed | None = None

    @property
    def is_stored(self) -> bool:
        return 200 <= self.status < 300 if self.stored is None else self.stored

    @property
    def is_open(self) -> bool:
        """Whether it says how to answer but not what."""
        return self.status == 200 and self.error is None and self.body is None

    def fill(self, usual: "Verdict") -> "Verdict":
        """Say `usual` in this verdict's way, where it is open."""
        if not self.is_open:
            return self
        return replace(
            self,
            status=usual.status,
            error=usual.error,
            message=usual.message,
            body=usual.body,
            headers={**usual.headers, **self.headers},
        )


@dataclass(frozen=True)
class ErrorStyle:
    """How a service writes an error code and message."""

    content_type: str
    write: Callable[[str, str], bytes]
    header: str | None = None


JSON_ERRORS = ErrorStyle(
    content_type="application/json",
    write=lambda _code, message: json.dumps({"message": message}).encode(),
    header="x-amzn-ErrorType",
)


def render(
    verdict: Verdict,
    *,
    now: float,
    content_type: str = "application/json",
    errors: ErrorStyle = JSON_ERRORS,
) -> bytes:
    """The answer's bytes; `now` (epoch seconds) dates it."""
    headers: dict[str, str] = {"Date": formatdate(now, usegmt=True)}
    body = b""
    if verdict.body is not None:
        body = _to_bytes(verdict.body)
    elif verdict.error is not None:
        body = errors.write(verdict.error, verdict.message)
        content_type = errors.content_type
    if verdict.error is not None and errors.header is not None:
        headers[errors.header] = verdict.error
    headers["Content-Type"] = content_type
    if verdict.gzip:
        body = gzip.compress(body)
        headers["Content-Encoding"] = "gzip"
    if verdict.chunked:
        headers["Transfer-Encoding"] = "chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    else:
        headers["Content-Length"] = str(len(body))
    if verdict.announce_close:
        headers["Connection"] = "close"
    replaced = {name.lower() for name in verdict.headers}
    lines = [f"{n}: {v}\r\n" for n, v in headers.items() if n.lower() not in replaced]
    lines += [f"{n}: {v}\r\n" for n, v in verdict.headers.items()]
    phrase = HTTPStatus(verdict.status).phrase if verdict.status in set(HTTPStatus) else "Scripted"
    head = f"HTTP/1.1 {verdict.status} {phrase}\r\n{''.join(lines)}\r\n"
    return head.encode("latin-1") + body


def _to_bytes(body: bytes | str | Mapping[str, Any]) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()
