"""What the page asks for beyond the X-Ray API: JSON under `/_xrayd/`, for the same origin only.

| request | answer |
| --- | --- |
| `GET /_xrayd/live?instance=I&revision=N` | `{instance, revision}` once they differ from these: |
| | documents arrived, or xrayd was started anew; after 20 s at the latest |
| `GET /_xrayd/complete?text=T&cursor=N` | `{candidates: [{text, start, end}], error}`; `error` is |
| | null or `{message, position, word, suggestion}`, positions in characters |
| `GET /_xrayd/health` | version, ledger, buffer, intake, stored bytes, telemetry, demo |
| `GET /_xrayd/documents?trace=ID` | `{documents: [text]}`, as they were received |
| `GET /_xrayd/sampling` | what `xrayd sampling rules --json` says: |
| | each rule with its quota, counts and clients' shares |
| `GET /_xrayd/explain?dialect=D&FIELD=V…` | `{rules: [{name, decides, matches, ignored,` |
| | `failed: [{field, pattern, value}]}]}` in the order tried; D is sdk, otel, adot or daemon, |
| | FIELD a member of `xrayd.sampling.matching.MatchRequest`, or `attribute` with KEY=VALUE |
| `POST /_xrayd/demo` `{running}` | `{running}`: starts or stops the demo |
| `GET /_xrayd/page/NAME` | the page's files |

What is wrong with a request is a 400 with `{message}`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from urllib.parse import parse_qs

import msgspec

from xrayd import __version__
from xrayd.dev.api import XRayApi
from xrayd.dev.demo import DemoSwitch
from xrayd.dev.documents import normalize_trace_id
from xrayd.dev.filters.completion import complete
from xrayd.dev.filters.errors import FilterError
from xrayd.dev.filters.evaluate import compile_filter
from xrayd.dev.operations.groups import expressions_of, load_groups
from xrayd.dev.operations.intake import TELEMETRY
from xrayd.dev.resources import Resources
from xrayd.errors import StoreError
from xrayd.net.http_messages import Request, Response
from xrayd.sampling.matching import Dialect, MatchRequest, explain
from xrayd.sampling.rule import SamplingRule, decode_rules
from xrayd.web import SECURITY_HEADERS, Files

_WAIT_S = 20.0
_EXPLAINED = (
    "service_name",
    "service_type",
    "host",
    "http_method",
    "url_path",
    "resource_arn",
)
_RECENT_TRACES = 2000  # names are collected from so many of the latest traces


class News:
    """Counts arrivals, and lets pages wait for the next.

    The `instance` is another after a restart, and after `renew`: all that is shown is to be asked
    for again.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._instance = secrets.token_hex(4)
        self._revision = 0
        self._changed = asyncio.Event()
        self._is_closed = False

    def note(self) -> None:
        """Documents were stored; called in any thread."""
        self._loop.call_soon_threadsafe(self._note)

    def renew(self) -> None:
        """Traces that arrived a while ago can be read only now."""
        self._instance = secrets.token_hex(4)
        self._note()

    async def wait(self, instance: str, revision: int) -> dict[str, object]:
        """The current instance and revision, once they differ or some time has passed."""
        if (instance, revision) == (self._instance, self._revision) and not self._is_closed:
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _WAIT_S)
        return {"instance": self._instance, "revision": self._revision}

    def close(self) -> None:
        """Let go of those who wait."""
        self._is_closed = True
        self._changed.set()

    def _note(self) -> None:
        self._revision += 1
        self._changed.set()


class PageApi:
    """Serves the page and its API.

    Args:
        api: the X-Ray API.
        demo: to be switched by the page.
        news: of arrivals.
        relay_state: what is to be said of the relay under `/_xrayd/health`.
    """

    def __init__(
        self,
        api: XRayApi,
        demo: DemoSwitch,
        news: News,
        relay_state: Callable[[], dict[str, object]],
    ) -> None:
        self._api = api
        self._backend = api.backend
        self._demo = demo
        self._news = news
        self._relay_state = relay_state
        self._files = Files()

    def close(self) -> None:
        """Let go of those who wait for news."""
        self._news.close()

    def serves(self, request: Request) -> bool:
        """Whether a request is for the page: a browser's for `/`, or any under `/_xrayd/`."""
        if request.target == "/":
            return request.method != "POST" and "text/html" in (request.header("accept") or "")
        return request.target.startswith("/_xrayd/")

    async def handle(self, request: Request) -> Response:
        """Answer a request that `serves` said yes to."""
        path, _, query = request.target.partition("?")
        name = "index.html" if path == "/" else path.removeprefix("/_xrayd/page/")
        file = self._files.answer(name, request)
        if file is not None:
            return file
        try:
            return _json(200, await self._answer(request, path, _Query(query)))
        except _UnknownPathError:
            return _json(404, {"message": "there is nothing here"})
        except (ValueError, msgspec.MsgspecError) as error:
            return _json(400, {"message": str(error)})
        except StoreError as error:
            return _json(503, {"message": str(error)})

    async def _answer(self, request: Request, path: str, query: _Query) -> object:
        if request.method == "POST":
            if path == "/_xrayd/demo":
                self._demo.switch(msgspec.json.decode(request.body, type=_Demo).running)
                return {"running": self._demo.is_running}
            raise _UnknownPathError
        if path == "/_xrayd/live":
            return await self._news.wait(query.text("instance"), query.number("revision"))
        if path == "/_xrayd/complete":
            text, cursor = query.text("text"), query.number("cursor")
            return await asyncio.to_thread(self._complete, text, cursor)
        if path == "/_xrayd/documents":
            return await asyncio.to_thread(self._documents, query.text("trace"))
        if path == "/_xrayd/explain":
            request_fields = {name: query.text(name) for name in _EXPLAINED if query.text(name)}
            attributes = dict(_attribute(text) for text in query.texts("attribute"))
            asked = msgspec.convert({**request_fields, "attributes": attributes}, MatchRequest)
            dialect = Dialect(query.text("dialect") or "sdk")
            return await asyncio.to_thread(self._explain, asked, dialect)
        if path == "/_xrayd/sampling":
            return msgspec.Raw(await asyncio.to_thread(self._api.show_sampling))
        if path == "/_xrayd/health":
            stored = await asyncio.to_thread(self._stored)
            return {
                "version": __version__,
                "demo": self._demo.is_running,
                **self._relay_state(),
                **stored,
            }
        raise _UnknownPathError

    def _complete(self, text: str, cursor: int) -> dict[str, object]:
        error = None
        with self._backend.store.database.reading() as connection:
            recent = "(SELECT id FROM trace ORDER BY start_time DESC LIMIT ?)"
            names = connection.execute(
                "SELECT name FROM node WHERE type != 'client' AND trace_id IN "  # noqa: S608
                f"{recent} GROUP BY name ORDER BY count(*) DESC",
                (_RECENT_TRACES,),
            ).fetchall()
            keys = connection.execute(
                f"SELECT DISTINCT key FROM annotation WHERE trace_id IN {recent}",  # noqa: S608
                (_RECENT_TRACES,),
            ).fetchall()
        try:
            if text.strip():
                compile_filter(text, expressions_of(load_groups(self._backend)))
        except FilterError as found:
            error = {
                "message": found.message,
                "position": found.position,
                "word": found.word,
                "suggestion": found.suggestion,
            }
        fitting = complete(text, cursor, [row[0] for row in names], [row[0] for row in keys])
        return {"candidates": [asdict(one) for one in fitting], "error": error}

    def _explain(self, request: MatchRequest, dialect: Dialect) -> dict[str, object]:
        rules: list[SamplingRule] = []
        members: dict[str, str] = {}
        while True:
            answer = self._api.handle("/GetSamplingRules", msgspec.json.encode(members))
            page = decode_rules(answer.body)
            rules += [record.sampling_rule for record in page.records]
            if page.next_token is None:
                break
            members["NextToken"] = page.next_token
        return {
            "rules": [
                {
                    "name": one.rule.rule_name,
                    "decides": one.decides,
                    "matches": one.matches,
                    "ignored": one.ignored,
                    "failed": one.failed,
                }
                for one in explain(request, rules, dialect)
            ]
        }

    def _documents(self, trace: str) -> dict[str, object]:
        trace_id = normalize_trace_id(trace)
        if trace_id is None:
            raise ValueError("trace: not a trace id")
        with self._backend.store.database.reading() as connection:
            rows = connection.execute(
                """SELECT body FROM document WHERE trace_id =
                (SELECT trace_id FROM arrival WHERE xray_id = ?) ORDER BY number""",
                (trace_id,),
            ).fetchall()
        return {"documents": [row[0] for row in rows]}

    def _stored(self) -> dict[str, object]:
        database, intake = self._backend.store.database, self._backend.intake
        with database.reading() as connection:
            telemetry = Resources(connection).all(TELEMETRY)
            waiting, traces = connection.execute(
                "SELECT count(due_at), count(*) FROM arrival"
            ).fetchone()
        return {
            "store": {
                "path": database.path,
                "bytes": database.used_bytes(),
                "traces": traces,
                "traces_to_compile": waiting,
            },
            "intake": {
                "documents": intake.documents,
                "refused": intake.refused,
                "unsampled": intake.unsampled,
                "metrics": intake.metrics,
            },
            "telemetry": telemetry,
        }


class _Demo(msgspec.Struct):
    running: bool


class _UnknownPathError(Exception):
    """No path of the API."""


class _Query:
    def __init__(self, query: str) -> None:
        self._values = parse_qs(query, keep_blank_values=True)

    def text(self, name: str) -> str:
        return self._values.get(name, [""])[-1]

    def texts(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def number(self, name: str) -> int:
        text = self.text(name) or "0"
        if not text.isdecimal() or len(text) > 15:
            raise ValueError(f"{name}: not a number")
        return int(text)


def _attribute(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key.strip() or not equals:
        raise ValueError(f"attribute {text[:100]}: write KEY=VALUE")
    return key.strip(), value.strip()


def _json(status: int, members: object) -> Response:
    headers = [
        *SECURITY_HEADERS,
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-store"),
    ]
    return Response(status, msgspec.json.encode(members), headers)
