"""X-Ray for tests: an `xrayd dev` of their own, and the traces that arrived there.

    with XrayDev() as xray, xray.environment():
        ...  # code that is traced
        trace = xray.wait_for_trace('service("api") {fault}')

With pytest, the fixture `xrayd_dev` of `xrayd.testing.plugin` does the same. pytest imports this
module at each start, so it imports nothing here that pytest has not.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from xrayd.dev.client import ApiClient

__all__ = ["ADDRESS_VARIABLE", "FoundTrace", "TraceNotFoundError", "XrayDev"]

ADDRESS_VARIABLE = "AWS_XRAY_DAEMON_ADDRESS"
"""The environment variable every X-Ray SDK reads."""

_START_S = 60.0
_STOP_S = 10.0
_POLL_S = 0.05
_EVER_S = 9_999_999_999.0
_LISTED_MAX = 20
_MARKER = "xrayd-testing-marker"
_HEADER = b'{"format":"json","version":1}\n'


class FoundTrace(NamedTuple):
    """A trace that was found.

    Attributes:
        id: X-Ray form.
        summary: its `TraceSummary` of GetTraceSummaries, e.g. `summary["HasFault"]`.
        segments: its segment documents by start time, subsegments inside; those with `inferred`
            were made up for downstreams that sent none.
    """

    id: str
    summary: dict[str, Any]
    segments: list[dict[str, Any]]


class TraceNotFoundError(AssertionError):
    """No trace matched in time; the message lists those that came."""


class XrayDev:
    """An `xrayd dev` that holds its traces in memory, in a process of its own on free ports.

    It starts on entering the context and ends on leaving it, or when this process ends, however
    that comes.

    Attributes:
        daemon_address: for `AWS_XRAY_DAEMON_ADDRESS`, e.g. `tcp:127.0.0.1:4001 udp:127.0.0.1:4002`.
        endpoint_url: of its X-Ray API, for boto3.
    """

    def __init__(self) -> None:
        self.daemon_address = ""
        self.endpoint_url = ""
        self._udp: tuple[str, int] = ("", 0)
        self._hidden: set[str] = set()
        self._process: subprocess.Popen[str] | None = None
        self._client: ApiClient | None = None

    def start(self) -> Self:
        """Start it and wait until it listens.

        Raises:
            RuntimeError: it ended or said nothing; with what it wrote.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "xrayd.testing.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        with ExitStack() as undo:
            undo.callback(self.stop)
            udp, tcp = self._read_addresses(self._process)
            from xrayd.dev.client import ApiClient  # noqa: PLC0415 - not at pytest's start

            self.daemon_address = f"tcp:{tcp} udp:{udp}"
            self.endpoint_url = f"http://{tcp}"
            host, _, port = udp.rpartition(":")
            self._udp = (host, int(port))
            self._client = ApiClient(self.endpoint_url)
            undo.pop_all()
        return self

    def stop(self) -> None:
        """End it. May be called twice."""
        if self._client is not None:
            self._client.close()
            self._client = None
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextmanager
    def environment(self) -> Iterator[None]:
        """Have `AWS_XRAY_DAEMON_ADDRESS` name it; what it was before is put back."""
        before = os.environ.get(ADDRESS_VARIABLE)
        os.environ[ADDRESS_VARIABLE] = self.daemon_address
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(ADDRESS_VARIABLE, None)
            else:
                os.environ[ADDRESS_VARIABLE] = before

    def traces(self, expression: str = "") -> list[FoundTrace]:
        """The traces that a filter expression matches, the newest first; all without one.

        Raises:
            CallError: the expression is none, or the process has ended.
        """
        return self._read(list(self._find(expression)))

    def wait_for_trace(self, expression: str = "", timeout: float = 10.0) -> FoundTrace:
        """The newest trace that a filter expression matches, as soon as there is one.

        Parts of it may still be under way; `AND !partial` waits until none is known to be.

        Args:
            expression: an X-Ray filter expression, e.g. `service("api") {fault}`.
            timeout: seconds.

        Raises:
            TraceNotFoundError: none came in time.
            CallError: the expression is none, or the process has ended.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = self._read(list(islice(self._find(expression), 1)))
            if found:
                return found[0]
            if time.monotonic() >= deadline:
                raise TraceNotFoundError(
                    f"no trace matches {expression!r} after {timeout:g} s; {self._describe()}"
                )
            time.sleep(_POLL_S)

    def clear(self) -> None:
        """Forget the traces so far, and what was sent to the UDP port before this call."""
        # The relay is one queue: when the marker has come through, so has what was before it.
        now = time.time()
        trace_id = f"1-{int(now):08x}-{os.urandom(12).hex()}"
        document = (
            f'{{"name":"{_MARKER}","id":"{os.urandom(8).hex()}","trace_id":"{trace_id}",'
            f'"start_time":{now:.3f},"end_time":{now:.3f}}}'
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(_HEADER + document.encode(), self._udp)
        self.wait_for_trace(f'service("{_MARKER}")', _START_S)
        self._hidden.update([summary["Id"] for summary in self._find()])

    def _find(self, expression: str = "") -> Iterator[dict[str, Any]]:
        """Summaries that are not forgotten, newest first, asked for as they are needed."""
        for summary in self._running().summaries(0, _EVER_S, expression):
            if summary["Id"] not in self._hidden:
                yield summary

    def _read(self, summaries: list[dict[str, Any]]) -> list[FoundTrace]:
        traces = self._running().traces([summary["Id"] for summary in summaries])
        found = {trace["Id"]: _read_segments(trace) for trace in traces}
        return [
            FoundTrace(summary["Id"], summary, found[summary["Id"]])
            for summary in summaries
            if summary["Id"] in found
        ]

    def _running(self) -> ApiClient:
        if self._client is None:
            raise RuntimeError("this XrayDev is not running; enter it, or call start()")
        return self._client

    def _describe(self) -> str:
        """What came instead, for a message."""
        summaries = list(self._find())
        if not summaries:
            return (
                "none came at all: does the code write to AWS_XRAY_DAEMON_ADDRESS"
                f" ({self.daemon_address}), and does it sample?"
            )
        lines = [f"  {_describe(summary)}" for summary in summaries[:_LISTED_MAX]]
        return "\n".join([f"{len(summaries)} came:", *lines])

    def _read_addresses(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        """Addresses of UDP and TCP, from what the process says at its start."""
        assert process.stdout is not None
        deadline = time.monotonic() + _START_S
        said = ""
        while select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            line = process.stdout.readline()
            said += line
            found = re.search(r"listening udp (\S+) tcp (\S+)", line)
            if found:
                return found[1], found[2]
            if not line:
                break
        raise RuntimeError(f"xrayd dev did not start:\n{said}")


def _read_segments(trace: dict[str, Any]) -> list[dict[str, Any]]:
    import json  # noqa: PLC0415 - not at pytest's start

    return [json.loads(segment["Document"]) for segment in trace["Segments"]]


def _describe(summary: dict[str, Any]) -> str:
    marks = [name for name in ("Fault", "Error", "Throttle") if summary.get(f"Has{name}")]
    services = [service["Name"] for service in summary["ServiceIds"] if service["Type"] != "client"]
    annotations = sorted(summary["Annotations"])
    status = summary["Http"].get("HttpStatus", "")
    return (
        f"{summary['Id']}  {', '.join(marks) or 'ok'} {status}  services {services}"
        f"  annotations {annotations}{'  partial' if summary['IsPartial'] else ''}"
    )
