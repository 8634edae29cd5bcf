"""Composition root: has the rooms opened, runs them, drains them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping

import httpx
import msgspec

from xrayd import __version__, systemd
from xrayd.config import Config, options
from xrayd.errors import ConfigError
from xrayd.lifecycle import Group, Signals
from xrayd.logs import LogWriter, set_level
from xrayd.memory import budget, memory_limit, receive_buffer
from xrayd.net import tls
from xrayd.net.client import XRayClient, user_agent
from xrayd.net.credentials import Identity, IdentityKeeper
from xrayd.net.http_messages import Routes
from xrayd.net.http_server import HttpServer
from xrayd.net.proxies import proxy_chooser
from xrayd.net.proxy import Proxy
from xrayd.net.sampling import Labelled, SamplingDesk
from xrayd.net.sockets import bind, describe_address, is_loopback
from xrayd.net.telemetry import TelemetryReporter
from xrayd.net.transport import Http1Transport
from xrayd.opening import (
    check_environment,
    open_desk,
    open_sieve,
    open_spool,
    operation_paths,
    reload_rules,
    want_identity,
)
from xrayd.pipeline import Pipeline

log = logging.getLogger("xrayd")

# An exit must be over in ten seconds whatever happens: listening, sending, the last record.
_EXIT_S = 9.0
_LAST_WORDS_S = 1.0
_ANSWERS_S = 0.2
# What SIGHUP changes without a restart.
_RELOADED = {"log_level", "concurrency"}


class Sockets(msgspec.Struct):
    """The bound sockets the daemon is given.

    `bound_at` is since when it has them, in epoch seconds; `are_kept` says that systemd has them
    too and keeps them open.
    """

    udp: socket.socket
    tcp: socket.socket
    bound_at: float
    are_kept: bool


async def run(
    config: Config, sockets: Sockets, writer: LogWriter, *, load_again: Callable[[], Config]
) -> None:
    """Run the relay to AWS until SIGTERM or SIGINT, drained. SIGHUP reloads what it can.

    Args:
        config: the settings.
        sockets: bound.
        writer: the log.
        load_again: reads the settings anew.

    Raises:
        ConfigError: something the operator must mend.
    """
    signals = Signals()
    bundle = check_environment(config)
    wanted = want_identity(config, bundle)
    choose_proxy, proxy_origin = proxy_chooser(config.proxy_address, os.environ)
    limit, _ = memory_limit()
    relay: Pipeline
    transport = Http1Transport(
        lambda: tls.client_context(bundle, verify=not config.no_verify_ssl), choose_proxy
    )

    def announce(identity: Identity) -> None:
        log.info(
            "xrayd %s: region %s (%s), credentials from %s, endpoint %s%s, %s",
            __version__,
            identity.region,
            identity.region_source,
            identity.source,
            identity.endpoint,
            f" by proxy {proxy_origin}" if proxy_origin else "",
            _describe(relay, sockets, config),
        )
        host = httpx.URL(identity.endpoint).host
        if identity.endpoint.startswith("http://") and not is_loopback(host):
            log.warning("The endpoint is plain http: segments and signatures travel unencrypted")
        relay.uploader.open()

    keeper = IdentityKeeper(wanted, announce)
    client = XRayClient(transport, lambda: keeper.current, user_agent(os.environ))
    bytes_max = budget(config.buffer_mb, limit)
    desk = open_desk(config, client, keeper)
    sieve, held_bytes_max = open_sieve(config, desk, bytes_max)
    relay = Pipeline(
        sockets.udp,
        client,
        refresh=keeper.refresh,
        concurrency=config.concurrency,
        bytes_max=bytes_max - held_bytes_max,
        receive_buffer_bytes=receive_buffer(config.receive_buffer_mb, limit),
        age_max_s=config.age_max_h * 3600,
        sieve=sieve,
    )
    await open_spool(config, relay, sockets.bound_at, signals)
    relay.receiver.start()
    foreign = Forwarded()
    proxy = Proxy(
        client,
        desk,
        take=relay.take_posted,
        count_telemetry=foreign.count,
        health=lambda: _health(relay, keeper),
        wait_ready=keeper.wait,
        paths=operation_paths(config.proxy_operations),
        allowed_hosts=config.proxy_hosts,
        bound_host=sockets.tcp.getsockname()[0],
    )
    server = _serve(sockets.tcp, Routes(proxy.screen, proxy.handle))
    reporter = TelemetryReporter(
        relay.ledger, client, config.resource_arn, ask_instance=not config.local_mode
    )
    log.debug("Listening: %s", _describe(relay, sockets, config))
    _warn(config, relay.port.granted, receive_buffer(config.receive_buffer_mb, limit))
    metrics_server = _start_metrics(config, relay, keeper, writer, foreign=foreign, desk=desk)

    async with Group() as group:
        for work in (keeper.run(), relay.look_after(), relay.look_after_held()):
            group.start(work)
        if desk is not None:
            group.start(desk.run())
        group.start(_complain(keeper, _describe(relay, sockets, config)))
        if config.telemetry_enabled:
            group.start(reporter.run())
        group.start(systemd.keep_watchdog())
        systemd.notify("READY=1")
        signal_name = await signals.wait(
            group, lambda: _reload(config, load_again, relay, keeper, writer=writer, desk=desk)
        )
        log.info("Got shutdown signal: %s", signal_name)
        systemd.notify("STOPPING=1")
        deadline = signals.arrived_at + _EXIT_S
        _stop_serving(server, desk)
        await relay.drain(config.drain_quiet_s, config.drain_listen_s, deadline - _LAST_WORDS_S)
        await asyncio.gather(*_last_words(config, keeper, reporter, desk))
    for each in filter(None, (server, metrics_server)):
        each.stop()
        await each.finish(_ANSWERS_S)
    await transport.aclose()
    log.info("Stopped: %s", relay.close(is_port_kept=sockets.are_kept))


def _stop_serving(server: HttpServer, desk: SamplingDesk | None) -> None:
    """Take no more requests; those under way are answered."""
    server.stop()
    if desk is not None:
        desk.end_waiting()


def _last_words(
    config: Config, keeper: IdentityKeeper, reporter: TelemetryReporter, desk: SamplingDesk | None
) -> Iterator[Coroutine[object, object, None]]:
    """What AWS is told beside the segments, before the end."""
    if keeper.current is None:
        return
    if config.telemetry_enabled:
        yield reporter.finish(_LAST_WORDS_S)
    if desk is not None:
        yield desk.finish(_LAST_WORDS_S)


def _reload(
    running: Config,
    load_again: Callable[[], Config],
    relay: Pipeline,
    keeper: IdentityKeeper,
    *,
    writer: LogWriter,
    desk: SamplingDesk | None,
) -> None:
    """Take over what may change while running; name what needs a restart."""
    systemd.notify_reloading()
    writer.reopen()
    try:
        wanted = load_again()
    except ConfigError as error:
        log.error("Reload: %s; nothing was changed", error)
        systemd.notify("READY=1")
        return
    set_level(wanted.log_level)
    relay.pace.concurrency = wanted.concurrency
    keeper.refresh()
    reload_rules(running, desk)
    waiting = [
        option.key
        for option in options()
        if option.name not in _RELOADED
        and getattr(wanted, option.name) != getattr(running, option.name)
    ]
    log.info(
        "Reloaded: log level %s, %d requests at once, credentials, log file%s",
        wanted.log_level,
        wanted.concurrency,
        f"; need a restart: {', '.join(waiting)}" if waiting else "",
    )
    systemd.notify("READY=1")


def _serve(sock: socket.socket, routes: Routes) -> HttpServer:
    server = HttpServer(sock, routes)
    server.start()
    return server


def _warn(config: Config, granted: int, wanted: int) -> None:
    """Say what is not as it should be; receive buffers are in bytes."""
    if granted < wanted:
        log.warning(
            "The kernel granted a receive buffer of %d bytes; raise net.core.rmem_max or give"
            " CAP_NET_ADMIN to survive larger bursts",
            granted,
        )
    if config.no_verify_ssl:
        log.warning("NoVerifySSL: the endpoint's certificate is not verified")


class Forwarded:
    """Counts telemetry calls of other daemons that send through this one."""

    def __init__(self) -> None:
        self.telemetry_calls = 0

    def count(self) -> None:
        """One call was taken."""
        self.telemetry_calls += 1


async def _complain(keeper: IdentityKeeper, where: str) -> None:
    """Once a minute, say why nothing is sent."""
    await asyncio.sleep(2.0)
    while True:
        if keeper.problem and keeper.current is None:
            log.error("Segments are held, not sent: %s (%s)", keeper.problem, where)
        elif keeper.problem:
            log.error("What was found before is used: %s (%s)", keeper.problem, where)
        await asyncio.sleep(60.0 if keeper.problem else 5.0)


def _describe(relay: Pipeline, sockets: Sockets, config: Config) -> str:
    """Ports, granted buffer and memory, for the line at start."""
    return (
        f"udp {describe_address(sockets.udp)}, tcp {describe_address(sockets.tcp)},"
        f" receive buffer {relay.port.granted} of {config.receive_buffer_mb * 1024 * 1024} bytes,"
        f" memory {relay.buffer.bytes_max / 1e6:.1f} MB, {config.concurrency} requests at once"
    )


def _health(relay: Pipeline, keeper: IdentityKeeper) -> bytes:
    """The body of /healthz: we are alive; and how the way to AWS looks."""
    ready, why = _readiness(relay, keeper)
    return msgspec.json.encode(
        {"status": "ok", "upstream": "ok" if ready else "failing", "detail": why}
    )


def _readiness(relay: Pipeline, keeper: IdentityKeeper) -> tuple[bool, str]:
    if keeper.current is None:
        return False, keeper.problem or "credentials and region are being looked for"
    if relay.pace.is_probing:
        return False, "nothing could be delivered lately"
    return True, "ready"


def _start_metrics(
    config: Config,
    relay: Pipeline,
    keeper: IdentityKeeper,
    writer: LogWriter,
    *,
    foreign: Forwarded,
    desk: SamplingDesk | None,
) -> HttpServer | None:
    if not config.metrics_address:
        return None
    from xrayd.metrics import Metrics  # noqa: PLC0415 - room for it only where it is on

    def gauges() -> Mapping[str, tuple[str, float]]:
        expires = keeper.current.expires_at if keeper.current is not None else 0.0
        return {
            **relay.gauges(),
            **(desk.gauges() if desk is not None else {}),
            "credentials_expiry_seconds": (
                "Seconds until the credentials expire; 0 for never or none.",
                max(0.0, expires - time.time()) if expires else 0.0,
            ),
            "log_dropped_total": ("Log lines dropped because nobody read them.", writer.dropped),
            "telemetry_calls_total": (
                "PutTelemetryRecords calls taken from other daemons.",
                foreign.telemetry_calls,
            ),
        }

    def labelled() -> Labelled:
        return desk.labelled() if desk is not None else {}

    metrics = Metrics(relay.ledger, gauges, labelled, lambda: _readiness(relay, keeper))
    relay.observe = metrics.observe
    sock = bind(config.metrics_address, socket.SOCK_STREAM, "Metrics.Address")
    return _serve(sock, Routes(metrics.screen, metrics.handle))
