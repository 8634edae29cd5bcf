"""TLS settings for what is sent to AWS."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

from xrayd.errors import ConfigError


def ca_bundle(environment: Mapping[str, str]) -> str:
    """The operator's certificate authorities, a file, or an empty string for the system's."""
    return environment.get("AWS_CA_BUNDLE") or environment.get("SSL_CERT_FILE") or ""


def client_context(bundle: str, *, verify: bool) -> ssl.SSLContext:
    """A client context: TLS 1.2 at least, host names checked, unless `verify` is off.

    Raises:
        ConfigError: a bundle that cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=bundle or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"certificate bundle {bundle}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not bundle and not _system_has_authorities():
        # Images without a CA package still have the list that came with httpx.
        import certifi  # noqa: PLC0415

        context.load_verify_locations(certifi.where())
    return context


def _system_has_authorities() -> bool:
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and os.listdir(paths.capath)))
