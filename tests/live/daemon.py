"""What a live-client test needs to know of the daemon it runs against."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from live.documents import Documents


class DaemonUnderTest(Protocol):
    """A daemon with its X-Ray behind it: a recorder, a relay before a fake X-Ray, or dev mode.

    Addresses are HOST:PORT. Documents are the strings that X-Ray is given: datagrams without their
    header line. Dev keeps spans as the documents they mean.
    """

    udp_address: str
    tcp_address: str
    is_broker: bool  # whether it asks X-Ray once for all clients
    endpoint_url: str | None  # where API clients reach X-Ray's operations; None if nowhere

    def documents(self) -> list[str]:
        """All documents X-Ray has been given so far, in the order of their arrival."""

    def wait_for_documents(
        self, predicate: Callable[[list[str]], bool], timeout: float = 30.0
    ) -> list[str]:
        """The documents once the predicate holds for them; AssertionError if it never does."""

    def sampling_calls(self) -> dict[str, int] | None:
        """How often X-Ray was called on each sampling path.

        None where nobody counts.
        """

    def put_rules(self, rules: Sequence[dict[str, Any]]) -> None:
        """Let X-Ray hold these sampling rules (API form) beside its Default."""

    def change_rate(self, rule_name: str, fixed_rate: float) -> None:
        """Let X-Ray give out this fixed rate for the rule from its next sampling targets on."""

    def cut_off(self) -> None:
        """Let X-Ray be unreachable for the daemon; for a broker only."""

    def restore(self) -> None:
        """Let X-Ray be reachable again."""

    def reported_requests(self) -> dict[str, int]:
        """The sum of RequestCount that reached X-Ray, by rule name."""


def daemon_address(daemon: DaemonUnderTest) -> str:
    """The value of AWS_XRAY_DAEMON_ADDRESS that leads the X-Ray SDKs to this daemon."""
    return f"tcp:{daemon.tcp_address} udp:{daemon.udp_address}"


def wait_for_ids(daemon: DaemonUnderTest, ids: set[str], timeout: float = 30.0) -> Documents:
    """The documents once every one of these segment and subsegment ids is among them."""
    received = daemon.wait_for_documents(lambda lines: ids <= set(Documents(lines).by_id), timeout)
    return Documents(received)


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    """Look again and again until the condition holds; AssertionError if it never does."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.05)
