"""Where X-Ray is reached, by setting, environment or botocore's own endpoint rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from xrayd.errors import ConfigError
from xrayd.net.sockets import is_host


def find_early_endpoint(setting: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return (URL, where it came from) as far as an operator named it, or two empty strings.

    Raises:
        ConfigError: a URL that is none.
    """
    ignore = environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    choices = [("Endpoint", setting)]
    if not ignore:
        choices += [
            (n, environment.get(n, "")) for n in ("AWS_ENDPOINT_URL_XRAY", "AWS_ENDPOINT_URL")
        ]
    for origin, url in choices:
        if url:
            return _checked(url, origin), origin
    return "", ""


def check_metadata_address(environment: Mapping[str, str]) -> None:
    """See that the address of EC2 instance metadata is one, where the environment names it.

    Raises:
        ConfigError: it is none.
    """
    name = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
    if environment.get(name) and environment.get("AWS_EC2_METADATA_DISABLED", "") != "true":
        _checked(environment[name], name)


def find_endpoint(session: Any, region: str, environment: Mapping[str, str]) -> str:
    """The region's endpoint by botocore's rules, FIPS and dual-stack included.

    `session` is a botocore session.

    Raises:
        ConfigError: there is none of the kind that was asked for.
    """
    # Imported here, in the credentials thread, for it is slow.
    from botocore.endpoint_provider import EndpointProvider  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    loader = session.get_component("data_loader")
    rules = loader.load_service_model("xray", "endpoint-rule-set-1")
    provider = EndpointProvider(rules, loader.load_data("partitions"))
    wanted = {
        "Region": region,
        "UseFIPS": _is_true(session, environment, "use_fips_endpoint"),
        "UseDualStack": _is_true(session, environment, "use_dualstack_endpoint"),
    }
    try:
        return str(provider.resolve_endpoint(**wanted).url)
    except BotoCoreError as error:
        raise ConfigError(f"region {region!r}: no X-Ray endpoint: {error}") from error


def _is_true(session: Any, environment: Mapping[str, str], name: str) -> bool:
    text = environment.get("AWS_" + name.upper())
    if text is None:
        text = session.get_scoped_config().get(name, "")
    return str(text).lower() == "true"


def _checked(url: str, origin: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{origin}: {url!r} is no URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not is_host(parsed.host):
        raise ConfigError(f"{origin}: {url!r} must begin with http:// or https:// and name a host")
    if parsed.userinfo or parsed.query:
        raise ConfigError(f"{origin}: must hold neither a user nor a query")
    if (parsed.port or 0) > 65_535:
        raise ConfigError(f"{origin}: {url!r}: there is no port {parsed.port}")
    return url.rstrip("/")
