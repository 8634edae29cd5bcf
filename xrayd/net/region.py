"""Finding the region. Runs in a thread, for it may wait for the network."""

from __future__ import annotations

import http.client
import json
import re
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xrayd.errors import ConfigError

_METADATA_S = 1.0
# It becomes a part of the endpoint's host name.
_REGION = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)


def find_early_region(setting: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return (region, where it came from) where no network is needed, or two empty strings.

    Raises:
        ConfigError: no region's name, or an ECS metadata file that cannot be read.
    """
    if setting:
        return _checked(setting, "Region"), "setting"
    if environment.get("AWS_REGION"):
        return _checked(environment["AWS_REGION"], "AWS_REGION"), "AWS_REGION"
    path = environment.get("ECS_CONTAINER_METADATA_FILE", "")
    if path and environment.get("ECS_ENABLE_CONTAINER_METADATA", "").lower() == "true":
        try:
            region = _region_of_task(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ConfigError(f"ECS_CONTAINER_METADATA_FILE: {path}: {error}") from error
        if region:
            return region, "ECS metadata file"
        raise ConfigError(f"ECS_CONTAINER_METADATA_FILE: {path}: has no TaskARN with a region")
    return "", ""


def find_region(
    session: Any, environment: Mapping[str, str], *, ask_instance: bool
) -> tuple[str, str]:
    """Go on where `find_early_region` found nothing: environment, profile, task, instance.

    `session` is a botocore session.

    Raises:
        ConfigError: no region's name.
    """
    name = "AWS_DEFAULT_REGION"
    if environment.get(name):
        return _checked(environment[name], name), name
    region = session.get_config_variable("region")
    if region:
        origin = f"profile {session.profile or 'default'}"
        return _checked(str(region), origin), origin
    task = environment.get("ECS_CONTAINER_METADATA_URI_V4", "")
    if task:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(task + "/task", timeout=_METADATA_S) as answer:
                region = _region_of_task(json.loads(answer.read(1_000_000)))
        except (OSError, ValueError, http.client.HTTPException):
            region = ""
        if region:
            return region, "ECS task metadata"
    if ask_instance:
        from xrayd.net.instance import find_instance_region  # noqa: PLC0415 - slow to import

        region = find_instance_region(session)
        if region:
            return region, "EC2 instance metadata"
    return "", ""


def tried(*, ask_instance: bool) -> str:
    """What has been looked at in vain, for the log."""
    places = "Region, AWS_REGION, ECS metadata file, AWS_DEFAULT_REGION, profile, ECS task metadata"
    return places + (", EC2 instance metadata" if ask_instance else "")


def _region_of_task(metadata: object) -> str:
    """Field 3 of `arn:aws:ecs:REGION:ACCOUNT:task/…`."""
    arn = metadata.get("TaskARN", "") if isinstance(metadata, dict) else ""
    fields = arn.split(":") if isinstance(arn, str) else []
    return fields[3] if len(fields) > 3 and _REGION.fullmatch(fields[3]) else ""


def _checked(region: str, origin: str) -> str:
    if not _REGION.fullmatch(region):
        raise ConfigError(f"{origin}: {region!r} is no region; write it like us-east-1")
    return region
