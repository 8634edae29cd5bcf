"""AWS identity: credentials, region and endpoint, found and kept fresh beside the event loop."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from xrayd.errors import ConfigError, CredentialsError
from xrayd.net.signing import Keys

_RETRY_S = 5.0
_CHECK_S = 30.0


class Identity(msgspec.Struct, frozen=True):
    """Everything a request to AWS needs. `expires_at` is epoch seconds, 0 for never."""

    keys: Keys
    source: str
    expires_at: float
    region: str
    region_source: str
    endpoint: str


class Wanted(msgspec.Struct, frozen=True):
    """What the operator asked for; empty texts where AWS's own chain decides.

    `region` and `endpoint` come with what `find_early_region` and `find_early_endpoint` found.
    """

    region: str
    region_source: str
    endpoint: str
    role_arn: str
    external_id: str
    ask_instance: bool
    proxy_address: str
    ca_bundle: str


class IdentityKeeper:
    """Finds the identity in a thread of its own and looks after it.

    `current` is None as long as there is none; `problem` then says what was tried.

    Args:
        wanted: the operator's part of it.
        on_change: called on the event loop when the identity appears or its source changes.
    """

    def __init__(self, wanted: Wanted, on_change: Callable[[Identity], None]) -> None:
        self._wanted = wanted
        self._on_change = on_change
        self._thread = ThreadPoolExecutor(1, "credentials")
        self._finder: _Finder | None = None
        self._look_now = asyncio.Event()
        self.current: Identity | None = None
        self.problem = ""
        self._appeared = asyncio.Event()

    def refresh(self) -> None:
        """Ask for new credentials, since AWS refused the ones in use."""
        self._look_now.set()

    async def wait(self) -> Identity:
        """Wait until there is an identity."""
        await self._appeared.wait()
        assert self.current is not None
        return self.current

    async def run(self) -> None:
        """Find the identity and keep it fresh until cancelled.

        Raises:
            ConfigError: at start: no region's name, or it has no such endpoint, which no waiting
                will mend. Later it is held against whoever changed it, with what was found before.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                anew = self._look_now.is_set()
                self._look_now.clear()
                try:
                    found = await loop.run_in_executor(self._thread, self._look, anew)
                except (CredentialsError, ConfigError) as error:
                    if isinstance(error, ConfigError):
                        if self.current is None:
                            raise
                        self._finder = None  # so that what is mended is seen
                    self.problem = str(error)
                    await self._pause(_RETRY_S)
                    continue
                self.problem = ""
                changed = self.current is None or self.current.source != found.source
                self.current = found
                if changed:
                    self._appeared.set()
                    self._on_change(found)
                await self._pause(_pause_before_refresh(found, time.time()))
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._look_now.wait()
        except TimeoutError:
            return
        # AWS refused the credentials: at most one look a second, however many answers say so.
        await asyncio.sleep(1.0)

    def _look(self, anew: bool) -> Identity:
        if self._finder is None or anew or self.current is None:
            self._finder = _Finder(self._wanted)
        return self._finder.find()


def _pause_before_refresh(found: Identity, now: float) -> float:
    if not found.expires_at:
        return _CHECK_S
    # botocore itself refreshes ten to fifteen minutes ahead; short-lived ones are asked for at
    # half their life, so that no request is ever signed with an expired key.
    return min(_CHECK_S, max(1.0, (found.expires_at - now) / 2))


class _Finder:
    """One botocore session; all of it runs in the credentials thread."""

    def __init__(self, wanted: Wanted) -> None:
        # Imported here, in the thread: it takes a tenth of a second that the receiver needs.
        import botocore.session  # noqa: PLC0415

        _exempt_metadata_from_proxies()
        self._wanted = wanted
        self._session = botocore.session.Session()
        self._credentials: Any = None
        self._source = ""
        self._endpoints: dict[str, str] = {}

    def find(self) -> Identity:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        from botocore.parsers import ResponseParserError  # noqa: PLC0415

        try:
            region, region_source = self._region()
            keys = self._keys(region)
        except (BotoCoreError, ClientError, ResponseParserError, OSError, ValueError) as error:
            raise CredentialsError(f"credentials: {_one_line(error)}") from error
        except (LookupError, TypeError, AttributeError) as error:
            # botocore takes the shape of what a credentials endpoint answers on trust.
            raise CredentialsError(f"credentials: not understood: {error!r}"[:300]) from error
        endpoint = self._wanted.endpoint or self._endpoint(region)
        expires = getattr(self._credentials, "_expiry_time", None)  # botocore shows it nowhere else
        return Identity(
            keys=keys,
            source=self._source,
            expires_at=expires.timestamp() if isinstance(expires, dt.datetime) else 0.0,
            region=region,
            region_source=region_source,
            endpoint=endpoint,
        )

    def _region(self) -> tuple[str, str]:
        from xrayd.net.region import find_region, tried  # noqa: PLC0415

        wanted = self._wanted
        if wanted.region:
            return wanted.region, wanted.region_source
        found = find_region(self._session, os.environ, ask_instance=wanted.ask_instance)
        if not found[0]:
            places = tried(ask_instance=wanted.ask_instance)
            raise CredentialsError(f"no region; tried {places}; set one with -n or AWS_REGION")
        return found

    def _keys(self, region: str) -> Keys:
        if self._credentials is None:
            base = self._session.get_credentials()
            if base is None:
                raise CredentialsError(
                    "no credentials; tried environment, profile, SSO, web identity, process,"
                    " container and EC2 instance role"
                )
            self._source = base.method
            self._credentials = self._assume(base, region) if self._wanted.role_arn else base
        frozen = self._credentials.get_frozen_credentials()
        if not frozen.access_key or not frozen.secret_key:
            raise CredentialsError(f"credentials from {self._source} are empty")
        for text in (frozen.access_key, frozen.secret_key, frozen.token or ""):
            if not text.isprintable() or not text.isascii():
                raise CredentialsError(f"credentials from {self._source} hold control characters")
        return Keys(frozen.access_key, frozen.secret_key, frozen.token or "")

    def _assume(self, base: Any, region: str) -> Any:
        """Credentials of the role, refreshed from `base` when they run out."""
        import functools  # noqa: PLC0415

        from botocore.config import Config  # noqa: PLC0415
        from botocore.credentials import (  # noqa: PLC0415
            AssumeRoleCredentialFetcher,
            DeferredRefreshableCredentials,
        )

        proxies = {"https": self._wanted.proxy_address} if self._wanted.proxy_address else None
        extra = {"RoleSessionName": "xray-daemon"}
        if self._wanted.external_id:
            extra["ExternalId"] = self._wanted.external_id
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=functools.partial(
                self._session.create_client,
                region_name=region,
                verify=self._wanted.ca_bundle or None,
                config=Config(proxies=proxies, connect_timeout=5, read_timeout=10),
            ),
            source_credentials=base,
            role_arn=self._wanted.role_arn,
            extra_args=extra,
        )
        self._source = f"{self._wanted.role_arn} by {base.method}"
        return DeferredRefreshableCredentials(
            method="assume-role", refresh_using=fetcher.fetch_credentials
        )

    def _endpoint(self, region: str) -> str:
        from xrayd.net.endpoint import find_endpoint  # noqa: PLC0415

        if region not in self._endpoints:
            self._endpoints[region] = find_endpoint(self._session, region, os.environ)
        return self._endpoints[region]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _exempt_metadata_from_proxies() -> None:
    """Keep botocore from asking HTTP_PROXY for the instance's and the container's credentials."""
    from xrayd.net.proxies import METADATA_HOSTS  # noqa: PLC0415

    name = "no_proxy" if "no_proxy" in os.environ else "NO_PROXY"
    words = [word for word in os.environ.get(name, "").split(",") if word]
    os.environ[name] = ",".join([*words, *(h for h in METADATA_HOSTS if h not in words)])
