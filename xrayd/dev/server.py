"""`xrayd dev`: the same relay, pointed at the embedded endpoint in this process."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from xrayd import __version__
from xrayd.dev.api import XRayApi
from xrayd.dev.database import Database
from xrayd.dev.demo import DemoSwitch
from xrayd.dev.endpoint import DevEndpoint, LocalClient
from xrayd.dev.feed import TraceFeed
from xrayd.dev.housekeeping import keep_house, write_back
from xrayd.dev.pageapi import News, PageApi
from xrayd.dev.retention import AGE_S_MAX, BYTES_MAX
from xrayd.dev.store import Store
from xrayd.errors import ConfigError, StoreError
from xrayd.lifecycle import Group, Signals
from xrayd.net.http_messages import Routes
from xrayd.net.http_server import HttpServer
from xrayd.net.sockets import describe_address
from xrayd.pipeline import Pipeline

log = logging.getLogger("xrayd")

# A newcomer looks at the screen: batches wait a moment, not a second.
_LINGER_S = 0.2
_EXIT_S = 5.0
_TURN_S = 0.0005
_ANSWERS_S = 2.0
# Eight other daemons' or clients' largest requests at once.
_BODIES_BYTES_MAX = 64 * 1024 * 1024


class DevSettings(msgspec.Struct):
    """What `xrayd dev` runs with. `data` is a path or `:memory:`; buffers are in bytes.

    `api` is a socket beside `tcp` on which the X-Ray API is answered; `metrics` one for /metrics.
    Traces go `keep_s` seconds after their last document, and the oldest where they are more than
    `keep_bytes`.
    """

    udp: socket.socket
    tcp: socket.socket
    data: str
    region: str
    demo: bool
    allowed_hosts: tuple[str, ...]
    bytes_max: int
    receive_buffer_bytes: int
    concurrency: int
    api: socket.socket | None = None
    metrics: socket.socket | None = None
    keep_s: float = AGE_S_MAX
    keep_bytes: int = BYTES_MAX


async def run_dev(settings: DevSettings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        ConfigError: the data file cannot be used.
    """
    signals = Signals()
    # Threads that compute must not make those that store wait long for their turn: each statement
    # of SQLite gives the interpreter's lock away, and the usual 5 ms are ages to get it back.
    sys.setswitchinterval(_TURN_S)
    try:
        database = await asyncio.to_thread(Database, settings.data)
        store = Store(database)
        feed = TraceFeed(store)
        news = News()

        def note(trace_ids: Sequence[str]) -> None:
            feed.note(trace_ids)
            news.note()

        api = XRayApi(store, clock=time.time, region=settings.region, on_traces=note)
    except StoreError as error:
        raise ConfigError(f"--data: {error}") from error
    if database.notice:
        log.warning("%s", database.notice)
    chance = random.Random()  # noqa: S311 - made-up traffic
    demo = DemoSwitch(_reachable(settings.udp), settings.udp.family, chance)
    page = PageApi(api, demo, news, lambda: _state_of(relay))
    endpoint = DevEndpoint(api, page, settings.allowed_hosts)
    relay = Pipeline(
        settings.udp,
        LocalClient(endpoint),
        refresh=lambda: None,
        concurrency=settings.concurrency,
        bytes_max=settings.bytes_max,
        receive_buffer_bytes=settings.receive_buffer_bytes,
        linger_s=_LINGER_S,
    )
    relay.receiver.start()
    relay.uploader.open()
    routes = Routes(endpoint.screen, endpoint.handle, _BODIES_BYTES_MAX)
    servers = [HttpServer(sock, routes) for sock in (settings.tcp, settings.api) if sock]
    if settings.metrics is not None:
        servers.append(_metrics_server(settings.metrics, relay, api))
    for server in servers:
        server.start()
    database.tell_url(f"http://{_to_copy(settings.tcp)}")
    _announce(settings)
    async with Group() as group:
        group.start(relay.look_after())
        group.start(feed.run())
        group.start(keep_house(api, settings.keep_s, settings.keep_bytes, news.renew))
        group.start(write_back(database))
        demo.switch(settings.demo)
        signal_name = await signals.wait(group, _explain_hangup)
        log.info("Got shutdown signal: %s", signal_name)
        for server in servers:
            server.stop()
        demo.switch(False)
        deadline = asyncio.get_running_loop().time() + _EXIT_S
        await relay.drain(0.1, 0.5, deadline)
    for server in servers:
        await server.finish(_ANSWERS_S)
    await endpoint.close()
    store.close()
    log.info("Stopped: %s", relay.close(is_port_kept=False))


def _short(path: str) -> str:
    """A path as a user writes it, their home as `~`."""
    home = str(Path.home())
    return "~" + path.removeprefix(home) if path.startswith(home + "/") else path


def _state_of(relay: Pipeline) -> dict[str, object]:
    """The relay's figures, for the page."""
    return {
        "ledger": relay.ledger,
        "difference": relay.difference(),
        "buffer": {
            "queued_documents": relay.queued,
            "in_flight_documents": relay.buffer.in_flight,
            "bytes": relay.buffer.bytes_held,
            "bytes_max": relay.buffer.bytes_max,
            "kernel_receive_buffer_bytes": relay.port.granted,
        },
    }


def _explain_hangup() -> None:
    log.info("Nothing to reload in dev")


def _metrics_server(sock: socket.socket, relay: Pipeline, api: XRayApi) -> HttpServer:
    from xrayd.dev.metrics import TotalsCollector  # noqa: PLC0415 - room for it only where it is on
    from xrayd.metrics import Metrics  # noqa: PLC0415

    metrics = Metrics(
        relay.ledger, relay.gauges, dict, lambda: (True, "ready"), [TotalsCollector(api.totals)]
    )
    relay.observe = metrics.observe
    return HttpServer(sock, Routes(metrics.screen, metrics.handle))


def _reachable(sock: socket.socket) -> tuple[str, int]:
    """An address that reaches a socket, also where it is bound to every interface."""
    host, port = sock.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - compared


def _to_copy(sock: socket.socket) -> str:
    """A reachable address as users write it."""
    host, port = _reachable(sock)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _announce(settings: DevSettings) -> None:
    udp, tcp = _to_copy(settings.udp), _to_copy(settings.tcp)
    lines = [
        f"xrayd {__version__} dev: X-Ray on this machine, without an account",
        f"  segments   udp {describe_address(settings.udp)}      AWS_XRAY_DAEMON_ADDRESS={udp}",
        f"  X-Ray API  http://{tcp}   aws xray … --endpoint-url http://{tcp}",
        f"  data       {_short(settings.data)}",
    ]
    if settings.api is not None:
        lines.insert(3, f"             http://{_to_copy(settings.api)}")
    if settings.metrics is not None:
        lines.append(f"  metrics    http://{_to_copy(settings.metrics)}/metrics")
    for line in lines:
        log.info("%s", line, extra={"is_plain": True})
