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
        self._resource_arn = resource_arn
        self._ask_instance = ask_instance
        self._records = TelemetryRecords(
            os.environ.get("AWS_INSTANCE_ID", ""),
            os.environ.get("AWS_HOSTNAME", ""),
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
        loop = asyncio.get_running_loop()
        sender = self._records.sender
        instance_id, hostname = await loop.run_in_executor(None, _ask_instance_metadata)
        sender["EC2InstanceId"] = sender["EC2InstanceId"] or instance_id
        sender["Hostname"] = sender["Hostname"] or hostname


def _ask_instance_metadata() -> tuple[str, str]:
    """(instance id, host name) by IMDSv2, or empty strings; a second's patience."""
    from botocore.utils import IMDSFetcher  # noqa: PLC0415 - in a thread, where it costs nobody

    class Fetcher(IMDSFetcher):  # type: ignore[misc]  # botocore has no types
        def ask(self, path: str) -> str:
            try:
                token = self._fetch_metadata_token()
                answer = self._get_request(
                    url_path=path, retry_func=lambda response: response.status_code != 200,
                    token=token,
                )  # fmt: skip
            except (self._RETRIES_EXCEEDED_ERROR_CLS, ValueError, OSError):
                return ""
            return str(answer.text)

    fetcher = Fetcher(timeout=1, num_attempts=1)
    instance_id = fetcher.ask("latest/meta-data/instance-id")
    return instance_id, fetcher.ask("latest/meta-data/hostname") if instance_id else ""
