"""Errors by whose fault they are: the operator, a sender, AWS or the network, the environment, the store."""

from __future__ import annotations


class XraydError(Exception):
    """Base of everything xrayd raises on purpose. Anything else is a bug and ends the process loudly."""


class ConfigError(XraydError):
    """The operator's: a flag, a file, a variable or a port. One line on stderr, exit 1, never a traceback."""


class DatagramError(XraydError):
    """A sender's: a datagram that must be refused. `reason` is the stable word used in metrics and logs."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class CredentialsError(XraydError):
    """The environment's: no usable credentials or region. Says what was tried; receiving goes on."""


class StoreError(XraydError):
    """The embedded X-Ray endpoint's storage: becomes an X-Ray error answer or a start-up message."""
