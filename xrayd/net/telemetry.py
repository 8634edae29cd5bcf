"""Sends a telemetry record every minute and a last one at the end."""

from __future__ import annotations

import asyncio
import logging
import os
import time

from xrayd.errors import UpstreamError
from xrayd.net.client import XRayClient
from xrayd.relay.ledger import Ledger
from xrayd.relay.telemetry import TelemetryRecords

log = logging.getLogger("xrayd.telemetry")

INTERVAL_S = 60.0
_CALL_S = 5.0


class TelemetryReporter:
    """Reports the ledger to X-Ray.

    Args:
        ledger: what is reported.
        client: makes the calls.
        resource_arn: of the resource xrayd runs on, or empty.
        ask_instance: whether EC2 instance metadata may be asked who we are.
    """

    def __init__(
        self, ledger: Ledger, client: XRayClient, resource_arn: str, *, ask_instance: bool
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._ask_instance = ask_instance
        self._records = TelemetryRecords(
            _variable("AWS_INSTANCE_ID"),
            _variable("AWS_HOSTNAME"),
            resource_arn,
        )

    async def run(self) -> None:
        """Report every minute until cancelled."""
        if self._ask_instance:
            await self._ask_who_we_are()
        while True:
            await asyncio.sleep(INTERVAL_S)
            if self._records.cut(self._ledger, time.time()):
                await self._send()

    async def finish(self, seconds: float) -> None:
        """Send the last record, for at most `seconds`; called when every outcome is counted."""
        if self._records.cut(self._ledger, time.time()):
            try:
                async with asyncio.timeout(seconds):
                    await self._send()
            except TimeoutError:
                log.debug("the last telemetry record could not be sent in time")

    async def _send(self) -> None:
        while (body := self._records.next_body()) is not None:
            try:
                answer = await self._client.call("/TelemetryRecords", body, _CALL_S)
            except UpstreamError as error:
                log.debug("telemetry is kept for the next minute: %s", error)
                return
            if answer.status != 200:
                log.debug("telemetry was answered HTTP %d %s", answer.status, answer.error_type)
                if answer.status != 400:
                    return
            self._records.sent()

    async def _ask_who_we_are(self) -> None:
        sender = self._records.sender
        instance_id, hostname = await asyncio.to_thread(_find_instance_names)
        sender["EC2InstanceId"] = sender["EC2InstanceId"] or instance_id
        sender["Hostname"] = sender["Hostname"] or hostname


def _variable(name: str) -> str:
    """An environment variable, as JSON can carry it: bytes that are no UTF-8 become `?`."""
    return os.environ.get(name, "").encode(errors="replace").decode()


def _find_instance_names() -> tuple[str, str]:
    from xrayd.net.instance import find_instance_names  # noqa: PLC0415 - slow; in the thread

    return find_instance_names()
