"""Calls of the X-Ray API: signed, sent once, every failure sorted by kind."""

from __future__ import annotations

import email.utils
import platform
import socket
import ssl
import time
from collections.abc import Callable, Mapping

import httpx

from xrayd import __version__
from xrayd.errors import FailureKind, UpstreamError
from xrayd.net.credentials import Identity
from xrayd.net.signing import Signer
from xrayd.net.transport import AnswerTooLarge
from xrayd.relay.delivery import Answer, Verdict, judge


def user_agent(environment: Mapping[str, str]) -> str:
    """The X-Ray daemon's user agent, for AWS's own statistics, with xrayd's name behind it."""
    where = environment.get("AWS_EXECUTION_ENV") or "UNKNOWN"
    machine = f"{platform.system().lower()}-{platform.machine()}"
    safe = "".join(c if c.isascii() and c.isprintable() else "_" for c in where)
    return f"xray-agent/xray-daemon/{__version__} exec-env/{safe} OS/{machine} xrayd/{__version__}"


class XRayClient:
    """Signs and sends calls to one X-Ray endpoint.

    Args:
        transport: carries the requests.
        identity: gives the identity in force, or None where there is none yet.
        agent: the User-Agent header.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        identity: Callable[[], Identity | None],
        agent: str,
    ) -> None:
        self._transport = transport
        self._identity = identity
        self._agent = agent
        self._signer: tuple[str, str, Signer, httpx.URL] | None = None
        self._urls: dict[str, httpx.URL] = {}
        self.clock_offset_s = 0.0

    async def call(self, path: str, body: bytes, timeout_s: float) -> Answer:
        """POST a JSON body to an operation's path; return whatever AWS answered.

        Raises:
            UpstreamError: no answer came; its kind says why.
        """
        identity = self._identity()
        if identity is None:
            raise UpstreamError(FailureKind.CREDENTIALS, "no credentials or region yet")
        signer, url = self._prepare(identity, path)
        offset_s = self.clock_offset_s
        epoch_s = time.time() + offset_s
        headers = signer.sign(
            url.path,
            {"content-type": "application/json", "x-amzn-xray-timestamp": f"{epoch_s:.9f}"},
            body,
            identity.keys,
            epoch_s,
        )
        headers["user-agent"] = self._agent
        headers["content-length"] = str(len(body))
        request = httpx.Request(
            "POST",
            url,
            headers=headers,
            stream=httpx.ByteStream(body),
            extensions={"timeout": timeout_s},
        )
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            raise UpstreamError(failure_kind(error), str(error)) from error
        return _to_answer(response, await response.aread(), time.time(), offset_s)

    async def ask(self, path: str, body: bytes, timeout_s: float) -> Answer:
        """Like `call`, and once more where the answer says that our clock is wrong.

        Raises:
            UpstreamError: no answer came; its kind says why.
        """
        answer = await self.call(path, body, timeout_s)
        if answer.status != 200 and judge(answer)[0] is Verdict.RESIGN:
            self.correct_clock(answer)
            answer = await self.call(path, body, timeout_s)
        return answer

    def correct_clock(self, answer: Answer) -> None:
        """Sign with the service's clock from now on, taken from an answer's Date."""
        self.clock_offset_s = answer.clock_off_s

    def _prepare(self, identity: Identity, path: str) -> tuple[Signer, httpx.URL]:
        """The signer and an operation's URL, kept for as long as the endpoint stays the same."""
        kept = self._signer
        if kept is None or kept[0] != identity.endpoint or kept[1] != identity.region:
            base = httpx.URL(identity.endpoint)
            signer = Signer(base.netloc.decode(), identity.region)
            kept = self._signer = (identity.endpoint, identity.region, signer, base)
            self._urls.clear()
        url = self._urls.get(path)
        if url is None:
            url = kept[3].copy_with(path=kept[3].path.rstrip("/") + path)
            self._urls[path] = url
        return kept[2], url


def _to_answer(response: httpx.Response, body: bytes, now: float, signed_off_s: float) -> Answer:
    clock_off = retry_after = 0.0
    error_type = ""
    if response.status_code != 200:
        headers = response.headers
        error_type = headers.get("x-amzn-errortype", "")
        clock_off = _seconds_until(headers.get("date", ""), now)
        wanted = headers.get("retry-after", "0")
        try:
            retry_after = float(wanted)
        except ValueError:
            retry_after = _seconds_until(wanted, now + clock_off)
        retry_after = max(0.0, retry_after)
    return Answer(response.status_code, body, error_type, clock_off, retry_after, signed_off_s)


def _seconds_until(date: str, now: float) -> float:
    """Seconds from now (epoch seconds) to a header's date; 0 where it is none."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError):
        return 0.0


def failure_kind(error: BaseException) -> FailureKind:
    """Sort a transport's error."""
    if isinstance(error, httpx.TimeoutException):
        return FailureKind.TIMEOUT
    if isinstance(error, httpx.ProxyError):
        return FailureKind.PROXY
    if isinstance(error, AnswerTooLarge):
        return FailureKind.TOO_LARGE
    cause = error.__cause__
    if isinstance(cause, ConnectionRefusedError):
        return FailureKind.REFUSED
    if isinstance(cause, socket.gaierror):
        return FailureKind.UNKNOWN_HOST
    if isinstance(cause, ssl.SSLError | ssl.CertificateError):
        return FailureKind.TLS
    if isinstance(cause, ConnectionError) or isinstance(error, httpx.ReadError | httpx.WriteError):
        return FailureKind.RESET
    if isinstance(error, httpx.RemoteProtocolError):
        return FailureKind.MALFORMED
    return FailureKind.OTHER
