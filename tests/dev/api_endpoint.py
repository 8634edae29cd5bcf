"""The embedded endpoint as tests see it, every answer checked by botocore's model."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from botocore.config import Config
from botocore.loaders import Loader
from botocore.model import ServiceModel

from xrayd.dev.api import XRayApi
from xrayd.dev.database import MEMORY, Database
from xrayd.dev.store import Store

NOW = 1_795_350_987.5
MODEL = ServiceModel(Loader().load_service_model("xray", "service-2"), "xray")
PATHS = {
    operation.http["requestUri"]: operation
    for operation in map(MODEL.operation_model, MODEL.operation_names)
}

# answered to samplers that speak of boosts themselves
_OPTIONAL_LISTS = {"UnprocessedBoostStatistics"}
_NUMBERS = {"integer": int, "long": int, "double": (int, float), "timestamp": (int, float)}


def trace_id(number: int, at: float = NOW) -> str:
    """An X-Ray trace id, different for each number."""
    return f"1-{int(at):08x}-{number:024x}"


def segment(trace: int, id_: int, name: str, start: float, took: float | None = 1.0, **more):
    """A segment that began `start` seconds after `NOW`; in progress where it took None."""
    ending = {"in_progress": True} if took is None else {"end_time": NOW + start + took}
    return {
        "trace_id": trace_id(trace),
        "id": f"{id_:016x}",
        "name": name,
        "start_time": NOW + start,
        **ending,
        **more,
    }


def subsegment(id_: int, name: str, start: float, took: float | None = 1.0, **more):
    """An embedded subsegment; independent with `trace` (a number) and `parent` (an id)."""
    made = segment(more.pop("trace", 0), id_, name, start, took, **more)
    if "parent" in made:
        return {**made, "type": "subsegment", "parent_id": f"{made.pop('parent'):016x}"}
    del made["trace_id"]
    return made


class SettableClock:
    """Epoch seconds that pass only when told to."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def check_answer(path: str, body: bytes) -> None:
    """Whether a 200 is what botocore's model says: known members, right types, lists present."""
    shape = PATHS[path].output_shape
    value = json.loads(body)
    if shape is None:
        assert value == {}
    else:
        _check(shape, value, PATHS[path].name)


def _check(shape, value, where: str) -> None:
    kind = shape.type_name
    if kind == "structure":
        assert isinstance(value, dict), where
        assert value.keys() <= shape.members.keys(), (where, value.keys() - shape.members.keys())
        lists = {name for name, member in shape.members.items() if member.type_name == "list"}
        missing = (lists - _OPTIONAL_LISTS | set(shape.required_members)) - value.keys()
        assert not missing, (where, "lacks", missing)
        for name, member in value.items():
            _check(shape.members[name], member, f"{where}.{name}")
    elif kind == "list":
        assert isinstance(value, list), where
        for one in value:
            _check(shape.member, one, f"{where}[]")
    elif kind == "map":
        assert isinstance(value, dict), where
        for one in value.values():
            _check(shape.value, one, f"{where}{{}}")
    elif kind == "boolean":
        assert isinstance(value, bool), (where, value)
    elif kind == "string":
        # X-Ray itself answers null for the id of what it could not read
        assert isinstance(value, str) or where.endswith("UnprocessedTraceSegments[].Id"), where
        assert not shape.enum or value in shape.enum, (where, value)
    else:
        assert isinstance(value, _NUMBERS[kind]), (where, value)
        assert not isinstance(value, bool), (where, value)
        assert math.isfinite(value), (where, value)


class Endpoint:
    """An API, and what went wrong with its answers."""

    def __init__(self, api: XRayApi, clock: SettableClock) -> None:
        self.api = api
        self.clock = clock
        self.wrong: list[str] = []
        self.url = ""

    def post(self, path: str, request: object = None) -> tuple[int, dict]:
        """An answer's status and decoded body, without HTTP; checked all the same."""
        body = request if isinstance(request, bytes) else json.dumps(request or {}).encode()
        answer = self.api.handle(path, body)
        if answer.status == 200:
            check_answer(path, answer.body)
        return answer.status, json.loads(answer.body)

    def compile_all(self) -> None:
        """Compile everything that is due, however long it takes; a read gives up after a while."""
        while self.api.compile_due(1000, 10):
            pass

    def client(self):
        """An unmodified boto3 client of this endpoint, without retries."""
        return boto3.client(
            "xray",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=Config(retries={"max_attempts": 0}),
        )

    def ask(self, path: str, **request) -> dict:
        """The answer to a request that must be answered well."""
        status, answer = self.post(path, request)
        assert status == 200, answer
        return answer

    def put(self, *documents: dict) -> None:
        """Store documents, all of which must be accepted."""
        status, answer = self.post(
            "/TraceSegments", {"TraceSegmentDocuments": [json.dumps(one) for one in documents]}
        )
        assert (status, answer) == (200, {"UnprocessedTraceSegments": []})


@contextmanager
def endpoint(path: str = MEMORY, **options) -> Iterator[Endpoint]:
    """An endpoint without HTTP."""
    clock = options.pop("clock", None) or SettableClock()
    store = Store(Database(path))
    try:
        yield Endpoint(XRayApi(store, clock=clock, **options), clock)
    finally:
        store.close()


@contextmanager
def served_endpoint(path: str = MEMORY, **options) -> Iterator[tuple[Endpoint, object]]:
    """An endpoint on a port of the loopback, and a boto3 client of it."""
    with endpoint(path, **options) as served:

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = served.api.handle(self.path, body)
                try:
                    if answer.status == 200:
                        check_answer(self.path, answer.body)
                except AssertionError as error:
                    served.wrong.append(f"{self.path}: {error}")
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        client = served.client()
        try:
            yield served, client
        finally:
            client.close()
            server.shutdown()
            thread.join()
            server.server_close()
        assert not served.wrong
