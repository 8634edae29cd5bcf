"""The embedded endpoint over HTTP, and the relay's way to it that cannot loop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from xrayd.dev.answers import ApiAnswer, ApiError, refuse
from xrayd.dev.api import XRayApi
from xrayd.dev.pageapi import PageApi
from xrayd.net import gate
from xrayd.net.http_messages import Request, Response, json_response, text_response
from xrayd.relay.delivery import Answer

# PutTraceSegments may carry 50 documents of 64 KB, escaped.
_BODY_MAX = 8 * 1024 * 1024
# SQLite lets go of the interpreter's lock; more threads than readers would only wait.
_THREADS = 4
# Documents are stored one batch after the other anyway: threads that wait for each other would only
# take turns at the interpreter's lock, and keep those who read waiting.
_STORING = "/TraceSegments"

_WELCOME = """\
xrayd dev: X-Ray on this machine.

Send segments to this port over UDP (AWS_XRAY_DAEMON_ADDRESS), and read them back with any X-Ray
client whose endpoint URL is this address, such as

  aws xray get-trace-summaries --endpoint-url {url} --region us-east-1 \\
      --start-time $(date -d '-1 hour' +%s) --end-time $(date +%s)
"""


class DevEndpoint:
    """Answers TCP 2000 in dev: every operation of the X-Ray API, /healthz, and the page.

    Args:
        api: the operations.
        page: the page and what it asks for under `/_xrayd/`.
        allowed_hosts: Host names, in lower case, beside loopback's.
    """

    def __init__(self, api: XRayApi, page: PageApi, allowed_hosts: Collection[str]) -> None:
        self._api = api
        self._page = page
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._threads = ThreadPoolExecutor(_THREADS, "x-ray-api")
        self._storing = ThreadPoolExecutor(1, "x-ray-store")
        self._is_closed = False

    def screen(self, request: Request) -> Response | int:
        """Refuse foreign pages and hosts, or say how large the body may be."""
        refusal = gate.refuse_foreign_host(request, self._allowed_hosts)
        refusal = refusal or gate.refuse_foreign_page(request, self._allowed_hosts)
        if refusal is not None:
            return refusal
        if request.method == "POST":
            return _BODY_MAX
        if request.method in ("GET", "HEAD"):
            return 0
        return text_response(405, "X-Ray operations are POST requests")

    async def handle(self, request: Request) -> Response:
        """Answer a request that passed `screen`."""
        if self._page.serves(request):
            return await self._page.handle(request)
        if request.method == "POST":
            answer = await self.call(request.target, request.body)
            return Response(answer.status, answer.body, list(answer.headers))
        if request.target == "/healthz":
            body = b'{"status":"ok","upstream":"ok","detail":"xrayd dev"}'
            return json_response(200, body)
        if request.target == "/sampling":
            return json_response(200, self._api.show_sampling())
        if request.target == "/":
            url = f"http://{request.header('host')}"
            return text_response(200, _WELCOME.format(url=url))
        return text_response(404, "there is nothing here")

    async def call(self, path: str, body: bytes) -> ApiAnswer:
        """Run one operation in a worker thread; after `close`, ask the caller to come again."""
        if self._is_closed:
            return refuse(ApiError("ThrottledException", "xrayd dev is stopping"))
        loop = asyncio.get_running_loop()
        threads = self._storing if path == _STORING else self._threads
        return await loop.run_in_executor(threads, self._api.handle, path, body)

    async def close(self) -> None:
        """Begin no operation any more, and wait for those under way."""
        self._is_closed = True
        self._page.close()
        for threads in (self._storing, self._threads):
            await asyncio.to_thread(threads.shutdown)


class LocalClient:
    """The relay's way to the endpoint inside the process: no socket, no signature."""

    def __init__(self, endpoint: DevEndpoint) -> None:
        self._endpoint = endpoint

    async def call(self, path: str, body: bytes, timeout_s: float) -> Answer:
        """The endpoint's answer, however long it takes: it always comes."""
        del timeout_s
        answer = await self._endpoint.call(path, body)
        return Answer(answer.status, answer.body, dict(answer.headers).get("x-amzn-ErrorType", ""))

    def correct_clock(self, answer: Answer) -> None:
        """Nothing is signed here, so no clock can be off."""
