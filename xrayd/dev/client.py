"""A client of the X-Ray API as `xrayd dev` answers it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import httpx
import msgspec

from xrayd.errors import XraydError
from xrayd.net.sockets import is_loopback

BATCH_DOCUMENTS_MAX = 50
"""Documents of one PutTraceSegments, as daemons send them."""

BATCH_TRACES_MAX = 5
"""Traces of one BatchGetTraces, as in X-Ray."""

_TIMEOUT_S = 30.0


class CallError(XraydError):
    """An operation was refused, or there was no answer.

    Attributes:
        code: the API's name of the error, "" where nothing answered.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class ApiClient:
    """Calls operations without signing them.

    Args:
        url: where the API is, such as `http://127.0.0.1:2000`.
        transport: another way to it than HTTP.
    """

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        try:
            is_local = is_loopback(httpx.URL(url).host)
            # a proxy would look for this machine's loopback on its own
            self._http = httpx.Client(
                base_url=url, transport=transport, timeout=_TIMEOUT_S, trust_env=not is_local
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, TypeError, ValueError) as error:
            raise CallError(f"{url!r} is no endpoint URL: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def call(self, path: str, **members: Any) -> dict[str, Any]:
        """The members of the answer to one operation, by its path, e.g. `/TraceSummaries`.

        Raises:
            CallError: it was refused, or there was no answer.
        """
        try:
            answer = self._http.post(path, content=msgspec.json.encode(members))
            decoded = msgspec.json.decode(answer.content) if answer.content else {}
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CallError(f"no X-Ray API at {self.url}: {error}") from error
        except msgspec.DecodeError:
            decoded = None
        if not isinstance(decoded, dict):
            raise CallError(f"what answers at {self.url} is no X-Ray API ({answer.status_code})")
        if answer.status_code != 200:
            message = decoded.get("Message") or decoded.get("message") or answer.status_code
            code = answer.headers.get("x-amzn-ErrorType", "")
            raise CallError(f"{message}", code or "unknown")
        return decoded

    def summaries(self, start: float, end: float, expression: str = "") -> Iterator[dict[str, Any]]:
        """Summaries of the traces that began from `start` to `end` (epoch seconds), newest first.

        Raises:
            CallError: it was refused, or there was no answer.
        """
        members: dict[str, Any] = {"StartTime": start, "EndTime": end}
        if expression:
            members["FilterExpression"] = expression
        while True:
            page = self.call("/TraceSummaries", **members)
            yield from page.get("TraceSummaries", ())
            if not page.get("NextToken"):
                return
            members["NextToken"] = page["NextToken"]

    def traces(self, trace_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The traces with these ids that there are, as BatchGetTraces gives them.

        Raises:
            CallError: it was refused, or there was no answer.
        """
        for first in range(0, len(trace_ids), BATCH_TRACES_MAX):
            wanted = trace_ids[first : first + BATCH_TRACES_MAX]
            yield from self.call("/Traces", TraceIds=wanted).get("Traces", ())

    def put(self, documents: Sequence[str]) -> list[dict[str, Any]]:
        """Store up to `BATCH_DOCUMENTS_MAX` documents; those that were refused, with their codes.

        Raises:
            CallError: it was refused, or there was no answer.
        """
        answer = self.call("/TraceSegments", TraceSegmentDocuments=documents)
        refused: list[dict[str, Any]] = answer.get("UnprocessedTraceSegments", [])
        return refused
