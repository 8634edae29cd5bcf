"""A small shop whose services send traces: something to see before the first own segment.

`web` takes requests; `orders` and `catalog` serve it; a PostgreSQL database, a DynamoDB table, an
SQS queue with `worker` behind it, and `payments`, a partner that fails now and then. Documents are
made as the SDKs make them, one for each service, and sent over UDP.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

HEADER = b'{"format":"json","version":1}\n'
_TRACES_PER_S = 2.0

Document = dict[str, Any]


class Shop:
    """Makes the documents of one request at a time.

    Args:
        chance: source of randomness; the same seed makes the same requests.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._users = ["ada", "grace", "linus", "margaret", "alan"]

    def request(self, now: float) -> list[Document]:
        """All documents of one request that began at `now` (epoch seconds)."""
        make = self._chance.choices(
            [self._browse, self._order, self._missing_page, self._health], [5, 4, 1, 1]
        )[0]
        return list(make(_Clock(now), self._trace_id(now)))

    def _browse(self, clock: _Clock, trace_id: str) -> Iterator[Document]:
        web = self._segment("web", trace_id, clock, "GET", "/products")
        call = self._call("catalog", clock.pass_ms(self._ms(2)), "http://catalog/products")
        catalog = self._segment("catalog", trace_id, clock, "GET", "/products", parent=call["id"])
        table = self._aws(
            "DynamoDB", clock.pass_ms(self._ms(2)), "Query", {"table_name": "products"}
        )
        clock.pass_ms(self._ms(12))
        is_throttled = self._chance.random() < 0.12
        if is_throttled:
            table.update(throttle=True, error=True, http={"response": {"status": 400}})
            table["cause"] = self._cause(
                "ProvisionedThroughputExceededException", "Rate exceeded for table products"
            )
        else:
            table["http"] = {"response": {"status": 200, "content_length": 1804}}
        _end(table, clock)
        status = 429 if is_throttled else 200
        catalog["subsegments"] = [table]
        yield self._finish(catalog, clock.pass_ms(self._ms(3)), status)
        web["subsegments"] = [_answered(call, clock, status)]
        yield self._finish(web, clock.pass_ms(self._ms(4)), status)

    def _order(self, clock: _Clock, trace_id: str) -> Iterator[Document]:
        web = self._segment("web", trace_id, clock, "POST", "/orders")
        call = self._call("orders", clock.pass_ms(self._ms(3)), "http://orders/orders")
        orders = self._segment("orders", trace_id, clock, "POST", "/orders", parent=call["id"])
        insert = self._call("shop@db.internal", clock.pass_ms(self._ms(2)), None)
        insert["sql"] = {
            "url": "jdbc:postgresql://db.internal:5432/shop",
            "database_type": "PostgreSQL",
            "database_version": "15.4",
            "user": "orders",
            "preparation": "statement",
            "sanitized_query": "INSERT INTO orders (customer, total) VALUES (?, ?)",
        }
        _end(insert, clock.pass_ms(self._ms(9)))
        charge = self._call("payments.example", clock, "https://payments.example/charge")
        fails = self._chance.random() < 0.2
        clock.pass_ms(self._ms(900 if fails else 60))
        if fails:
            charge["cause"] = self._cause("TimeoutError", "payments.example did not answer")
        _answered(charge, clock, 503 if fails else 201)
        orders["subsegments"] = [insert, charge]
        status = 502 if fails else 201
        queue: Document | None = None
        if fails:
            orders["cause"] = charge["cause"]
        else:
            queue = self._aws(
                "SQS", clock, "SendMessage", {"queue_url": "https://sqs/000000000000/shipping"}
            )
            queue["http"] = {"response": {"status": 200}}
            _end(queue, clock.pass_ms(self._ms(7)))
            orders["subsegments"].append(queue)
        orders["annotations"] = {
            "customer": self._chance.choice(self._users),
            "total": round(self._chance.uniform(5, 250), 2),
        }
        yield self._finish(orders, clock.pass_ms(self._ms(2)), status)
        web["subsegments"] = [_answered(call, clock, status)]
        yield self._finish(web, clock.pass_ms(self._ms(3)), status)
        if queue is not None:
            work_clock = _Clock(queue["end_time"]).pass_ms(self._ms(40))
            # A consumer has a trace of its own that says which one caused it.
            worker = self._segment("worker", self._trace_id(work_clock.now), work_clock)
            worker["links"] = [{"trace_id": trace_id, "id": queue["id"]}]
            yield self._finish(worker, work_clock.pass_ms(self._ms(80)), None)

    def _missing_page(self, clock: _Clock, trace_id: str) -> Iterator[Document]:
        web = self._segment("web", trace_id, clock, "GET", "/favicon.ico")
        yield self._finish(web, clock.pass_ms(self._ms(2)), 404)

    def _health(self, clock: _Clock, trace_id: str) -> Iterator[Document]:
        web = self._segment("web", trace_id, clock, "GET", "/health")
        yield self._finish(web, clock.pass_ms(self._ms(1)), 200)

    def _segment(
        self,
        name: str,
        trace_id: str,
        clock: _Clock,
        method: str = "",
        path: str = "",
        *,
        parent: str = "",
    ) -> Document:
        document: Document = {
            "name": name,
            "id": self._id(),
            "trace_id": trace_id,
            "start_time": clock.now,
            "origin": "AWS::ECS::Container",
            "service": {"version": "1.4.2"},
            "aws": {"xray": {"sdk": "X-Ray for Python", "sdk_version": "2.15.0"}},
        }
        if parent:
            document["parent_id"] = parent
        if method:
            document["http"] = {
                "request": {
                    "method": method,
                    "url": f"http://{name}.shop.example{path}",
                    "client_ip": f"203.0.113.{self._chance.randrange(1, 255)}",
                    "user_agent": "Mozilla/5.0",
                }
            }
        if method and not parent:
            document["user"] = self._chance.choice(self._users)
        return document

    def _call(self, name: str, clock: _Clock, url: str | None) -> Document:
        call: Document = {
            "id": self._id(),
            "name": name,
            "start_time": clock.now,
            "namespace": "remote",
        }
        if url is not None:
            call["http"] = {"request": {"method": "POST", "url": url}}
        return call

    def _aws(self, name: str, clock: _Clock, operation: str, more: dict[str, str]) -> Document:
        return {
            "id": self._id(),
            "name": name,
            "start_time": clock.now,
            "namespace": "aws",
            "aws": {"operation": operation, "region": "us-east-1", "retries": 0, **more},
        }

    def _finish(self, segment: Document, clock: _Clock, status: int | None) -> Document:
        if status is not None:
            segment["http"]["response"] = {"status": status, "content_length": 512}
            segment.update(_flags(status))
        return _end(segment, clock)

    def _cause(self, kind: str, message: str) -> Document:
        frame = {"path": "shop/client.py", "line": 41, "label": "send"}
        exception = {
            "id": self._id(),
            "type": kind,
            "message": message,
            "remote": True,
            "stack": [frame],
        }
        return {"working_directory": "/srv/shop", "exceptions": [exception]}

    def _id(self) -> str:
        return f"{self._chance.getrandbits(64):016x}"

    def _trace_id(self, now: float) -> str:
        return f"1-{int(now):08x}-{self._chance.getrandbits(96):024x}"

    def _ms(self, about: float) -> float:
        return about * self._chance.lognormvariate(0.0, 0.5)


class _Clock:
    """The time inside a request, moved by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def pass_ms(self, milliseconds: float) -> _Clock:
        self.now += milliseconds / 1000
        return self


def _flags(status: int) -> dict[str, bool]:
    if status >= 500:
        return {"fault": True}
    if status == 429:
        return {"throttle": True, "error": True}
    return {"error": True} if status >= 400 else {}


def _end(entity: Document, clock: _Clock) -> Document:
    entity["end_time"] = clock.now
    return entity


def _answered(call: Document, clock: _Clock, status: int) -> Document:
    call["http"]["response"] = {"status": status, "content_length": 512}
    call.update(_flags(status))
    return _end(call, clock)


async def send_demo(address: tuple[str, int], family: int, chance: random.Random) -> None:
    """Send the shop's traces over UDP to an address, at a gentle rate, until cancelled."""
    shop = Shop(chance)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        while True:
            for document in shop.request(time.time() - 1.0):
                try:
                    sock.sendto(HEADER + json.dumps(document).encode(), address)
                except OSError:
                    continue  # a full socket buffer: a demo can do without one document
            await asyncio.sleep(chance.expovariate(_TRACES_PER_S))


class DemoSwitch:
    """Starts and stops the demo while xrayd runs.

    Args:
        address: where segments go, host and port.
        family: of the socket they are sent from.
        chance: source of randomness.
    """

    def __init__(self, address: tuple[str, int], family: int, chance: random.Random) -> None:
        self._address = address
        self._family = family
        self._chance = chance
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether traces are being sent."""
        return self._task is not None and not self._task.done()

    def switch(self, on: bool) -> None:
        """Start or stop it; nothing happens where it is so already."""
        if on and not self.is_running:
            sending = send_demo(self._address, self._family, self._chance)
            self._task = asyncio.get_running_loop().create_task(sending)
        elif not on and self._task is not None:
            self._task.cancel()
            self._task = None
