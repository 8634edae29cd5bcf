"""Errors by whose fault they are: operator, sender, AWS or the network, environment, store."""

from __future__ import annotations

from enum import StrEnum


class FailureKind(StrEnum):
    """Why a request got no answer; metric label, log field and telemetry counter in one word."""

    TIMEOUT = "timeout"
    REFUSED = "connection_refused"
    UNKNOWN_HOST = "unknown_host"
    TLS = "tls"
    PROXY = "proxy"
    RESET = "reset"
    MALFORMED = "malformed_answer"
    TOO_LARGE = "answer_too_large"
    CREDENTIALS = "no_credentials"
    OTHER = "other"


class XraydError(Exception):
    """Base of everything xrayd raises on purpose. Anything else is a bug, and ends the process."""


class ConfigError(XraydError):
    """The operator's: a flag, file, variable or port. One line on stderr, exit 1, no traceback."""


class DatagramError(XraydError):
    """A sender's: a datagram that must be refused. `reason` is the word in metrics and logs."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UpstreamError(XraydError):
    """AWS's or the network's: a request that ended without an HTTP answer."""

    def __init__(self, kind: FailureKind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class CredentialsError(XraydError):
    """The environment's: no usable credentials or region. Says what was tried."""


class StoreError(XraydError):
    """The embedded endpoint's storage: becomes an X-Ray error answer or a start-up message."""
