"""EC2 instance metadata (IMDSv2) through botocore; waits for the network, so it runs in threads."""

from __future__ import annotations

from typing import Any

import botocore.session
from botocore.exceptions import InvalidIMDSEndpointError
from botocore.utils import IMDSFetcher, InstanceMetadataRegionFetcher

_PATIENCE_S = 1.0


def find_instance_region(session: Any) -> str:
    """The instance's region, or an empty string after a second's patience.

    `session` is a botocore session.
    """
    try:
        fetcher = InstanceMetadataRegionFetcher(
            timeout=_PATIENCE_S, num_attempts=1, config=_metadata_config(session)
        )
    except InvalidIMDSEndpointError:
        return ""
    return str(fetcher.retrieve_region() or "")


def find_instance_names() -> tuple[str, str]:
    """(instance id, host name), or empty strings."""
    try:
        fetcher = _Fetcher(
            timeout=_PATIENCE_S,
            num_attempts=1,
            config=_metadata_config(botocore.session.Session()),
        )
    except InvalidIMDSEndpointError:
        return "", ""
    instance_id = fetcher.ask("latest/meta-data/instance-id")
    return instance_id, fetcher.ask("latest/meta-data/hostname") if instance_id else ""


class _Fetcher(IMDSFetcher):  # type: ignore[misc]  # botocore has no types
    def ask(self, path: str) -> str:
        try:
            answer = self._get_request(
                url_path=path,
                retry_func=lambda response: response.status_code != 200,
                token=self._fetch_metadata_token(),
            )
        except (self._RETRIES_EXCEEDED_ERROR_CLS, ValueError, OSError):
            return ""
        return str(answer.text)


def _metadata_config(session: Any) -> dict[str, Any]:
    names = ("ec2_metadata_service_endpoint", "ec2_metadata_service_endpoint_mode")
    return {name: session.get_config_variable(name) for name in names}
