"""Opens the daemon's rooms as the settings say."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import time
from collections.abc import Sequence

from xrayd.config import Config
from xrayd.config_sources import read_rules_file
from xrayd.errors import ConfigError
from xrayd.lifecycle import Signals
from xrayd.net import tls
from xrayd.net.client import XRayClient
from xrayd.net.credentials import IdentityKeeper, Wanted
from xrayd.net.endpoint import check_metadata_address, find_early_endpoint
from xrayd.net.region import find_early_region
from xrayd.net.sampling import SamplingDesk
from xrayd.pipeline import Pipeline
from xrayd.sampling.broker import Broker
from xrayd.sampling.decision import Apply, Sampler
from xrayd.sieve import Sieve
from xrayd.spool.dead import DeadLetters
from xrayd.spool.spool import Spool

log = logging.getLogger("xrayd")

# So long a spool's disk may still take to open once the process was told to end.
_OPEN_S = 3.0


def check_environment(config: Config) -> str:
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


def want_identity(config: Config, bundle: str) -> Wanted:
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


def operation_paths(names: Sequence[str]) -> list[str]:
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


def open_desk(config: Config, client: XRayClient, keeper: IdentityKeeper) -> SamplingDesk | None:
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


def open_sieve(
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


def reload_rules(config: Config, desk: SamplingDesk | None) -> None:
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


async def open_spool(config: Config, relay: Pipeline, bound_at: float, signals: Signals) -> None:
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
