"""The judge outside the daemon: it knows every document sent and every one that arrived.

A fault is made the same way everywhere: traffic before it (so that connections are warm), traffic
during it, its end, a fresh document whose way is timed, and the account at the end.
"""

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pytest
from fakes.documents import document_id, make_datagram, make_document
from fakes.process import Xrayd
from fakes.xray import TRACE_SEGMENTS, FakeXRay, Request

RECOVERY_S = 5.0
"""A fresh segment is delivered this soon after a fault's end …"""
SLACK_S = 2.0
"""… and this much later where the machine that runs the tests is busy."""
SETTLED_S = 60.0

QUICK_EXIT: Mapping[str, Any] = {"Drain": {"QuietSeconds": 0.2, "ListenSeconds": 1.0}}
"""Settings that spare each test the second of silence a drain waits for."""


def table(rows: Mapping[str, Any], everyday: Collection[str] = ()) -> list[Any]:
    """Parameters of a test; those that are not for every day carry the slow marker."""
    assert set(everyday) <= set(rows)
    return [
        pytest.param(row, id=name, marks=[] if name in everyday else [pytest.mark.slow])
        for name, row in rows.items()
    ]


LOST = ("rejected", "unprocessed", "expired", "spilled", "sampled_out", "kernel_dropped")


@dataclass
class Account:
    """The last line of a process beside what the oracle saw."""

    ledger: dict[str, int]
    lost: int
    """Documents sent that the service never stored."""
    duplicates: int
    """Documents stored again, each time counted."""
    altered: int
    """Documents stored that nobody sent."""
    foreign: int
    """Documents of others that were stored, each time counted."""

    @property
    def counted_lost(self) -> int:
        return sum(self.ledger[name] for name in LOST)

    @property
    def uncounted(self) -> int:
        """Documents that are lost without a trace."""
        return max(0, self.lost - self.counted_lost)


@dataclass
class Oracle:
    """Sends documents of its own to one process and knows what became of them."""

    process: Xrayd
    fake: FakeXRay
    size: int = 1024
    sent: list[str] = field(default_factory=list)
    foreign: Sequence[str] = ()
    """Documents that others send to the same service."""

    def send(self, count: int, **fields: Any) -> list[str]:
        """Send documents back to back."""
        documents = [make_document(size=self.size, **fields) for _ in range(count)]
        self.process.send_document(*documents)
        self.sent += documents
        return documents

    def stream(
        self, seconds: float, per_s: float = 500.0, until: Callable[[], bool] = lambda: False
    ) -> None:
        """Send documents at a rate, for a time or until a condition holds."""
        started, before = time.monotonic(), len(self.sent)
        while (elapsed := time.monotonic() - started) < seconds and not until():
            self.send(int(elapsed * per_s) - (len(self.sent) - before))
            time.sleep(0.02)  # the pace of the traffic, not a wait for anything

    def wait_all(self, timeout: float = SETTLED_S) -> None:
        """Wait until everything sent is stored."""
        self.fake.wait_ids(*map(document_id, self.sent), timeout=timeout)

    def time_to_deliver(self, timeout: float = SETTLED_S) -> float:
        """Send a fresh document; seconds until the request came that delivered it."""
        stored_before = len(self.fake.documents)
        started = time.monotonic()
        (fresh,) = self.send(1)
        wanted = document_id(fresh)
        self.fake.wait_ids(wanted, timeout=timeout, since=stored_before)
        return max(0.0, self._delivery_of(wanted).at - started)

    def _delivery_of(self, wanted: str) -> Request:
        return next(
            request
            for request in self.fake.requests(TRACE_SEGMENTS)
            if request.verdict is not None
            and request.verdict.is_stored
            and wanted.encode() in request.body
        )

    def check_recovery(self, seconds: float = RECOVERY_S) -> None:
        """The fault has just ended: a fresh document must get through."""
        took = self.time_to_deliver()
        assert took <= seconds + SLACK_S, f"delivered {took:.1f} s after the fault's end"

    def warm_up(self) -> None:
        """Deliver something before the fault, so that connections are open."""
        self.send(20)
        self.wait_all()

    def close(self, *, exit_s: float = 10.0) -> Account:
        """Stop the process and draw up the account; the identity must hold."""
        started = time.monotonic()
        self.process.sigterm()
        assert self.process.wait(exit_s + 20.0) == 0
        assert time.monotonic() - started <= exit_s + SLACK_S
        return self.account()

    def account(self) -> Account:
        """The account of a process that has stopped."""
        line = self.process.wait_for_line(r"Stopped: (.*)")[1]
        ledger = {name: int(n) for name, n in re.findall(r"(\w+)=(-?\d+)", line)}
        stored = Counter(self.fake.documents)
        known = set(self.sent)
        account = Account(
            ledger,
            lost=sum(1 for document in known if not stored[document]),
            duplicates=sum(stored[document] - 1 for document in known if stored[document]),
            altered=len(stored.keys() - known - set(self.foreign)),
            foreign=sum(stored[document] for document in self.foreign),
        )
        assert ledger["difference"] == 0, account
        assert ledger["queued"] == ledger["in_flight"] == 0, account
        assert account.uncounted == 0, account
        assert account.altered == 0, account
        return account

    def check_nothing_lost(self, *, duplicates_max: int = 0) -> Account:
        """Everything arrived, nothing is counted as lost, and little came twice."""
        self.wait_all()
        account = self.close()
        assert account.lost == account.counted_lost == 0, account
        assert account.ledger["received"] == account.ledger["sent"] == len(self.sent), account
        assert account.duplicates <= duplicates_max, account
        return account


def scrape(process: Xrayd, port: int) -> dict[str, float]:
    """What /metrics says, by name with labels; the identity must hold at every scrape."""
    probe = Xrayd(home=process.home, port=port)
    text = probe.get("/metrics").body.decode()
    probe.stop()
    found = re.findall(r"^xrayd_(\S+) (\S+)$", text, re.MULTILINE)
    metrics = {name: float(value) for name, value in found}
    assert metrics["ledger_difference"] == 0.0, text
    return metrics


def flood(process: Xrayd, count: int, size: int = 1024) -> list[str]:
    """Send documents made beforehand, as fast as one sender can; return them."""
    documents = [make_document(size=size) for _ in range(count)]
    process.send(*[make_datagram(document) for document in documents])
    return documents


# A process of its own, for a thread would take turns with the caller.
FLOOD = """
import signal, socket, sys, time
port, per_s, datagram = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("127.0.0.1", port))
sent, started = 0, time.monotonic()
while not stopped and time.monotonic() - started < 60.0:
    due = int((time.monotonic() - started) * per_s) - sent
    for _ in range(min(due, 1000)):
        sock.send(datagram)
        sent += 1
print(sent)
"""


class Flood:
    """Another sender, which sends one datagram again and again for as long as the context lasts."""

    def __init__(self, process: Xrayd, per_s: int, datagram: bytes) -> None:
        self._command = [sys.executable, "-c", FLOOD, f"{process.port}", f"{per_s}", datagram.hex()]
        self.sent = 0

    def __enter__(self) -> Self:
        self._sender = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.terminate()
        self.sent = int(self._sender.communicate()[0])
