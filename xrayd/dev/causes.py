"""Root causes as X-Ray shows them: paths of services, and of steps inside them.

They encode to the API's member names.
"""

from __future__ import annotations

import msgspec


class RootCauseException(msgspec.Struct, rename="pascal", gc=False):
    """An exception of a root cause: its type and message, "" where unknown."""

    name: str
    message: str


class FaultEntity(msgspec.Struct, rename="pascal", gc=False):
    """A step of a fault or error path inside one service."""

    name: str
    remote: bool
    exceptions: list[RootCauseException]


class TimeEntity(msgspec.Struct, rename="pascal", gc=False):
    """A step of a response time path; `coverage` is its share (0-1) of the root's time."""

    name: str
    coverage: float
    remote: bool


class FaultService(msgspec.Struct, rename="pascal", omit_defaults=True, gc=False):
    """A service on a fault or error path."""

    name: str
    names: list[str]
    type: str
    entity_path: list[FaultEntity]
    inferred: bool
    account_id: str = ""  # left out when unknown


class TimeService(msgspec.Struct, rename="pascal", omit_defaults=True, gc=False):
    """A service on a response time path."""

    name: str
    names: list[str]
    type: str
    entity_path: list[TimeEntity]
    inferred: bool
    account_id: str = ""  # left out when unknown


class FaultCause(msgspec.Struct, rename="pascal", gc=False):
    """A path of faults (or of errors) from the root to where it began."""

    services: list[FaultService]
    client_impacting: bool


class TimeCause(msgspec.Struct, rename="pascal", gc=False):
    """The path that most of the root's response time was spent on."""

    services: list[TimeService]
    client_impacting: bool
