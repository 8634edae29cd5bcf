"""Composition root: builds the rooms, runs them, drains them."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence

import httpx
import msgspec

from xrayd import __version__, systemd
from xrayd.config import Config, options
from xrayd.config_sources import read_rules_file
from xrayd.errors import ConfigError
from xrayd.lifecycle import Group, Signals
from xrayd.logs import LogWriter, set_level
from xrayd.memory import budget, memory_limit, receive_buffer
from xrayd.net import tls
from xrayd.net.client import XRayClient, user_agent
from xrayd.net.credentials import Identity, IdentityKeeper, Wanted
from xrayd.net.endpoint import check_metadata_address, find_early_endpoint
from xrayd.net.http_messages import Routes
from xrayd.net.http_server import HttpServer
from xrayd.net.proxies import proxy_chooser
from xrayd.net.proxy import Proxy
from xrayd.net.region import find_early_region
from xrayd.net.sampling import Labelled, SamplingDesk
from xrayd.net.sockets import bind, describe_address, is_loopback
from xrayd.net.telemetry import TelemetryReporter
from xrayd.net.transport import Http1Transport
from xrayd.pipeline import Pipeline
from xrayd.sampling.broker import Broker
from xrayd.sampling.decision import Apply, Sampler
from xrayd.sieve import Sieve
from xrayd.spool.dead import DeadLetters
from xrayd.spool.spool import Spool

log = logging.getLogger("xrayd")

# An exit must be over in ten seconds whatever happens: listening, sending, the last record.
_EXIT_S = 9.0
# So long a spool's disk may still take to open once the process was told to end.
_OPEN_S = 3.0
_TELEMETRY_S = 1.0
_ANSWERS_S = 0.2
# What SIGHUP changes without a restart.
_RELOADED = {"log_level", "concurrency"}


class Sockets(msgspec.Struct):
    """The bound sockets the daemon is given, and since when it has them, in epoch seconds."""

    udp: socket.socket
    tcp: socket.socket
    bound_at: float


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
    bundle = _check_environment(config)
    wanted = _want_identity(config, bundle)
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
    desk = _open_desk(config, client, keeper)
    sieve, held_bytes_max = _open_sieve(config, desk, bytes_max)
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
    await _open_spool(config, relay, sockets.bound_at, signals)
    relay.receiver.start()
    foreign = Forwarded()
    proxy = Proxy(
        client,
        desk,
        take=relay.take_posted,
        count_telemetry=foreign.count,
        health=lambda: _health(relay, keeper),
        wait_ready=keeper.wait,
        paths=_operation_paths(config.proxy_operations),
        allowed_hosts=config.proxy_hosts,
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
        server.stop()
        await relay.drain(config.drain_quiet_s, config.drain_listen_s, deadline - _TELEMETRY_S)
        if config.telemetry_enabled and keeper.current is not None:
            await reporter.finish(_TELEMETRY_S)
    for each in filter(None, (server, metrics_server)):
        each.stop()
        await each.finish(_ANSWERS_S)
    await transport.aclose()
    log.info("Stopped: %s", relay.close())


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
    _reload_rules(running, desk)
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


def _want_identity(config: Config, bundle: str) -> Wanted:
    """What the operator said about region, credentials and endpoint.

    Raises:
        ConfigError: it cannot be.
    """
    region, region_source = find_early_region(config.region, os.environ)
    endpoint, _ = find_early_endpoint(config.endpoint, os.environ)
    return Wanted(
        region=region,
        region_source=region_source,
        endpoint=endpoint,
        role_arn=config.role_arn,
        external_id=config.role_external_id,
        ask_instance=not config.local_mode,
        proxy_address=config.proxy_address,
        ca_bundle=bundle,
    )


def _check_environment(config: Config) -> str:
    """See that what is looked at later is sound; return the certificate bundle, if one is named.

    Raises:
        ConfigError: it is not.
    """
    if not config.local_mode:
        check_metadata_address(os.environ)
    bundle = tls.ca_bundle(os.environ)
    if bundle:
        tls.client_context(bundle, verify=not config.no_verify_ssl)
    return bundle


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


def _open_desk(config: Config, client: XRayClient, keeper: IdentityKeeper) -> SamplingDesk | None:
    """What answers sampling calls; None where they are forwarded.

    Raises:
        ConfigError: the rules file is none, or settings contradict each other.
    """
    if config.sampling_proxy == "forward":
        if config.sampling_rules_file:
            raise ConfigError("Sampling.RulesFile needs Sampling.Proxy: broker")
        if config.sampling_apply != "off":
            raise ConfigError("Sampling.Apply needs Sampling.Proxy: broker")
        return None
    has_file = bool(config.sampling_rules_file)
    desk = SamplingDesk(
        Broker(secrets.token_hex(12), is_authority=has_file),
        None if has_file else client,
        wait_ready=keeper.wait,
        refresh=keeper.refresh,
        chance=random.random,
        applied=config.sampling_apply,
    )
    if has_file:
        records = read_rules_file(config.sampling_rules_file)
        desk.load_rules(records)
        log.info("Sampling rules: %d from %s", len(records), config.sampling_rules_file)
    return desk


def _open_sieve(
    config: Config, desk: SamplingDesk | None, bytes_max: int
) -> tuple[Sieve | None, int]:
    """What samples documents on arrival, if anything is to, and its part of `bytes_max`."""
    if desk is None or config.sampling_apply == "off":
        return None, 0
    held_bytes_max = bytes_max // 8
    sampler = Sampler(
        desk.broker.client_id,
        Apply(config.sampling_apply),
        hold_s=config.sampling_hold_s,
        hold_bytes_max=held_bytes_max,
        keep_rootless=config.sampling_keep_rootless,
    )
    sieve = Sieve(sampler, desk.broker)
    desk.on_rules = sieve.load_rules
    desk.want_rules()
    return sieve, held_bytes_max


def _reload_rules(config: Config, desk: SamplingDesk | None) -> None:
    """Read the rules file again, where there is one; a bad one changes nothing."""
    if desk is None or not config.sampling_rules_file:
        return
    try:
        records = read_rules_file(config.sampling_rules_file)
    except ConfigError as error:
        log.error("Reload: %s; the sampling rules stay as they were", error)
        return
    is_changed = desk.load_rules(records)
    log.info(
        "Sampling rules: %d from %s%s",
        len(records),
        config.sampling_rules_file,
        "" if is_changed else ", as before",
    )


async def _open_spool(config: Config, relay: Pipeline, bound_at: float, signals: Signals) -> None:
    """Open the spool where one is configured; the kernel keeps datagrams meanwhile.

    Whatever lies in it arrived before `bound_at` (epoch seconds). A disk that does not answer does
    not keep the process from ending.

    Raises:
        ConfigError: the directory cannot be used.
    """
    if not config.spool_directory:
        return

    def open_both() -> tuple[Spool, DeadLetters | None]:
        spool = Spool.open(
            config.spool_directory,
            now=time.time(),
            bytes_max=config.spool_max_mb * 1024 * 1024,
            age_max_s=config.age_max_h * 3600,
            sync=config.spool_sync,  # type: ignore[arg-type]  # one of its choices
        )
        try:
            return spool, DeadLetters.open(config.spool_directory)
        except OSError as error:
            log.warning("Refused documents cannot be kept: %s", error)
            return spool, None

    opening = asyncio.ensure_future(asyncio.to_thread(open_both))
    if not await signals.outlasts(opening, _OPEN_S):
        opening.add_done_callback(asyncio.Future.exception)  # nobody is left to be told
        log.error("The spool's disk does not answer; ending without it")
        return
    spool, dead = opening.result()
    relay.attach_spool(spool, dead, bound_at)
    log.info(
        "Spool %s: %d segments found, %d MiB at most",
        config.spool_directory, spool.recovered, config.spool_max_mb,
    )  # fmt: skip


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


def _operation_paths(names: Sequence[str]) -> list[str]:
    """The paths of X-Ray operations, by botocore's model.

    Raises:
        ConfigError: no such operation.
    """
    if not names:
        return []
    import botocore.session  # noqa: PLC0415 - only where the operator lists operations

    model = botocore.session.Session().get_service_model("xray")
    paths = []
    for name in names:
        if name not in model.operation_names:
            raise ConfigError(f"Proxy.Operations: X-Ray has no operation {name!r}")
        paths.append(model.operation_model(name).http["requestUri"])
    return paths


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
