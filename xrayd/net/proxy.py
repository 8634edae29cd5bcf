"""TCP 2000 of the relay: sampling calls answered or forwarded, documents taken, health answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from xrayd.errors import UpstreamError
from xrayd.net import gate
from xrayd.net.client import XRayClient
from xrayd.net.http_messages import Request, Response, aws_error, json_response, text_response
from xrayd.net.sampling import RULES_PATH, TARGETS_PATH, SamplingDesk
from xrayd.net.sockets import is_loopback
from xrayd.relay.segment import read_head

log = logging.getLogger("xrayd.proxy")

_BODY_MAX = 1024 * 1024
_SEGMENTS_BODY_MAX = 4 * 1024 * 1024
# A limit of PutTraceSegments: "64 kB" a document (AWS X-Ray endpoints and quotas).
DOCUMENT_BYTES_MAX = 64 * 1024
_FORWARD_S = 2.0
_FORWARDS_MAX = 16

_SAMPLING_PATHS = (RULES_PATH, TARGETS_PATH)


class _PutTraceSegments(msgspec.Struct):
    documents: list[str] = msgspec.field(name="TraceSegmentDocuments")


_decode_put = msgspec.json.Decoder(_PutTraceSegments).decode


class Proxy:
    """Answers the relay's TCP listener.

    Args:
        client: signs and sends to AWS.
        desk: answers sampling calls; None where they are forwarded like any other.
        take: takes posted documents into the buffer, all or none; False where it is full.
        count_telemetry: told how many telemetry records came from another daemon.
        health: gives the body of /healthz.
        wait_ready: waits until there are credentials and a region to sign with.
        paths: operations' paths to forward beside the sampling ones.
        allowed_hosts: more Host names for callers on loopback.
        bound_host: the IP address listened on; only this machine can call from it.
    """

    def __init__(
        self,
        client: XRayClient,
        desk: SamplingDesk | None,
        *,
        take: Callable[[Sequence[bytes], int], bool],
        count_telemetry: Callable[[], None],
        health: Callable[[], bytes],
        wait_ready: Callable[[], Awaitable[object]],
        paths: Iterable[str] = (),
        allowed_hosts: Iterable[str] = (),
        bound_host: str = "",
    ) -> None:
        self._client = client
        self._desk = desk
        self._take = take
        self._count_telemetry = count_telemetry
        self._health = health
        self._wait_ready = wait_ready
        self._forwarded = frozenset([*_SAMPLING_PATHS, *paths])
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._bound_host = bound_host
        self._limits = dict.fromkeys((("POST", path) for path in self._forwarded), _BODY_MAX)
        self._limits["POST", "/TraceSegments"] = _SEGMENTS_BODY_MAX
        self._limits["POST", "/TelemetryRecords"] = _BODY_MAX
        self._limits["GET", "/healthz"] = 0
        self._limits["HEAD", "/healthz"] = 0
        self._limits["GET", "/sampling"] = 0
        self._slots = asyncio.Semaphore(_FORWARDS_MAX)

    def screen(self, request: Request) -> Response | int:
        """Refuse a request by its head, or say how large its body may be."""
        if request.target == "/sampling" and not (
            is_loopback(request.peer) or request.peer == self._bound_host
        ):
            return text_response(403, "only callers on this machine are told")
        return gate.screen(request, self._limits, self._allowed_hosts)

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a request that passed `screen`."""
        if request.target == "/healthz":
            return json_response(200, self._health())
        if request.target == "/sampling":
            if self._desk is None:
                return text_response(404, "sampling calls are forwarded; see Sampling.Proxy")
            return self._desk.show()
        if self._desk is not None and request.target in _SAMPLING_PATHS:
            return self._desk.answer(request.target, request.body)
        if request.target == "/TraceSegments":
            return self._take_documents(request.body)
        if request.target == "/TelemetryRecords":
            self._count_telemetry()
            return json_response(200, b"{}")
        return self._forward(request)

    async def _forward(self, request: Request) -> Response:
        # SDKs that are started together ask together, and refused ones may wait five minutes.
        try:
            async with asyncio.timeout(_FORWARD_S):
                await self._slots.acquire()
        except TimeoutError:
            return aws_error(503, "ServiceUnavailable", "too many forwarded calls at once")
        try:
            return await self._forward_now(request)
        finally:
            self._slots.release()

    async def _forward_now(self, request: Request) -> Response:
        # SDKs ask as soon as they start, which may be before xrayd knows who it is.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FORWARD_S):
                await self._wait_ready()
        try:
            answer = await self._client.ask(request.target, request.body, _FORWARD_S)
        except UpstreamError as error:
            log.debug("%s could not be forwarded: %s", request.target, error)
            return text_response(502, f"X-Ray cannot be reached: {error.kind}")
        headers = [("Content-Type", "application/json")]
        if answer.error_type:
            headers.append(("x-amzn-ErrorType", answer.error_type))
        return Response(answer.status, answer.body, headers)

    def _take_documents(self, body: bytes) -> Response:
        try:
            texts = _decode_put(body).documents
            documents = [text.encode() for text in texts]
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return aws_error(
                400, "InvalidRequestException", f"not a PutTraceSegments body: {error}"
            )
        fitting = [d for d in documents if len(d) <= DOCUMENT_BYTES_MAX]
        too_large = [d for d in documents if len(d) > DOCUMENT_BYTES_MAX]
        if not self._take(fitting, len(too_large)):
            return aws_error(429, "ThrottledException", "xrayd's buffer is full; try again later")
        unprocessed = [_too_large(document) for document in too_large]
        return json_response(200, msgspec.json.encode({"UnprocessedTraceSegments": unprocessed}))


def _too_large(document: bytes) -> dict[str, str | None]:
    head = read_head(document)
    return {
        "Id": head.id if head is not None and head.id else None,
        "ErrorCode": "InvalidSegment",
        "Message": f"The document has {len(document)} bytes; {DOCUMENT_BYTES_MAX} are allowed.",
    }
