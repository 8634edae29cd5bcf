"""xrayd as a user starts it: a process of its own, seen only from outside."""

import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import randbelow
from types import TracebackType
from typing import IO, NamedTuple, Self

from fakes.documents import HEADER, make_datagram
from fakes.server import PATIENCE_S

KEPT_VARIABLES = re.compile(r"PATH|PYTHON.*|COVERAGE.*|COV_CORE.*|LANG|LC_.*|TMPDIR|VIRTUAL_ENV")
TRACEBACK = "Traceback (most recent call last)"
POLL_S = 0.02


class Answer(NamedTuple):
    """What TCP 2000 answered."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


def free_port() -> int:
    """A loopback port that neither UDP nor TCP uses.

    Below the range from which the kernel serves port 0, so that nobody is given it by chance
    before the process has bound it.
    """
    for _ in range(200):
        port = 10_000 + randbelow(20_000)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            try:
                udp.bind(("127.0.0.1", port))
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("200 ports tried, none is free")


def clean_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Nothing of the caller's AWS, proxy or xrayd settings; no instance metadata by default."""
    kept = {name: value for name, value in os.environ.items() if KEPT_VARIABLES.fullmatch(name)}
    return {**kept, "HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", **(extra or {})}


class Xrayd:
    """One process. Starts on entering the context, is killed on leaving it.

    `args` are the command line's; `{port}` in them is replaced by `port`. Ready means that
    `GET /healthz` on TCP answers 200, or, where `ready` is a pattern, that a line of the output
    matches it; None waits for nothing.
    """

    def __init__(
        self,
        *args: str,
        home: Path,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "xrayd"),
        port: int | None = None,
        ready: str | None = "healthz",
        allow_traceback: bool = False,
    ) -> None:
        self.port = free_port() if port is None else port
        """UDP and TCP."""
        self.args = [*command, *(arg.replace("{port}", str(self.port)) for arg in args)]
        self.home = home
        self.env = clean_environment(home, env)
        self.lines: list[str] = []
        """What it wrote to stdout and stderr; between the two the order may be a little off."""
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._ready = ready
        self._allow_traceback = allow_traceback
        self._written = threading.Condition()
        self._readers: list[threading.Thread] = []
        self._streams_open = 0
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def start(self) -> Self:
        """Start and wait until it is ready; what it wrote is in the message where it is not."""
        self._process = subprocess.Popen(
            self.args,
            env=self.env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._streams_open = 2
        for stream, own in (
            (self._process.stdout, self.stdout),
            (self._process.stderr, self.stderr),
        ):
            reader = threading.Thread(target=self._read, args=(stream, own), daemon=True)
            reader.start()
            self._readers.append(reader)
        if self._ready == "healthz":
            self.wait_healthy()
        elif self._ready is not None:
            self.wait_for_line(self._ready)
        return self

    def stop(self) -> None:
        """Kill it where it still runs, and forget the sockets. May be called twice."""
        self._udp.close()
        if not hasattr(self, "_process"):
            return
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)

    def check(self) -> None:
        """AssertionError if it ever printed a traceback."""
        assert self._allow_traceback or TRACEBACK not in self.output, self._explain("a traceback")

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if error is not None:
            error.add_note(self._explain("output"))
        else:
            self.check()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        with self._written:
            return "\n".join(self.lines)

    def wait_for_line(
        self, pattern: str, timeout: float = PATIENCE_S, *, after: int = 0
    ) -> re.Match[str]:
        """Wait for a line that `pattern` is found in; lines before number `after` do not count."""
        seen = after
        expression = re.compile(pattern)

        def found() -> re.Match[str] | None:
            nonlocal seen
            while seen < len(self.lines):
                match = expression.search(self.lines[seen])
                seen += 1
                if match:
                    return match
            return None

        with self._written:
            match: re.Match[str] | None = None

            def found_or_over() -> bool:
                nonlocal match
                match = found()
                return match is not None or self._streams_open == 0

            self._written.wait_for(found_or_over, timeout)
            assert match is not None, self._explain(f"no line matches {pattern!r}")
            return match

    def wait_healthy(self, timeout: float = PATIENCE_S) -> None:
        """Wait until `GET /healthz` is answered with 200."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                if self.request("GET", "/healthz", timeout=2.0).status == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            assert self.running, self._explain(f"ended with {self._process.returncode}")
            assert time.monotonic() < deadline, self._explain("not healthy in time")
            select.select([], [], [], POLL_S)

    def send(self, *datagrams: bytes) -> None:
        """Send datagrams to its UDP port, back to back."""
        for datagram in datagrams:
            self._udp.sendto(datagram, ("127.0.0.1", self.port))

    def send_document(self, *documents: str | bytes, header: bytes = HEADER) -> None:
        """Send documents as an SDK does: one datagram each, behind the header line."""
        self.send(*(make_datagram(document, header) for document in documents))

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float = PATIENCE_S,
    ) -> Answer:
        """One request to its TCP port, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = body.encode() if isinstance(body, str) else body
            connection.request(method, path, data or None, dict(headers or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def post(
        self, path: str, body: bytes | str = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        return self.request("POST", path, body, headers)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", path, b"", headers)

    def tcp(self, timeout: float = PATIENCE_S) -> socket.socket:
        """A raw connection to its TCP port, for requests no client library would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def sigterm(self) -> None:
        self.signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self.wait()

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(self._explain(f"still running after {timeout} s")) from None
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    def rss_mib(self) -> float:
        return self._status_kib("VmRSS") / 1024

    def peak_rss_mib(self) -> float:
        return self._status_kib("VmHWM") / 1024

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def is_bound(self) -> bool:
        """Whether somebody has its UDP port."""
        return bool(self._udp_sockets())

    def udp_drops(self) -> int:
        """Datagrams the kernel dropped at its UDP port, by /proc/net/udp."""
        return sum(int(fields[-1]) for fields in self._udp_sockets())

    def udp_queued_bytes(self) -> int:
        """Receive memory its UDP port holds right now."""
        return sum(int(fields[4].partition(":")[2], 16) for fields in self._udp_sockets())

    def _udp_sockets(self) -> list[list[str]]:
        rows = [
            row.split()
            for name in ("net/udp", "net/udp6")
            for row in self._proc(name).splitlines()[1:]
        ]
        return [row for row in rows if int(row[1].rpartition(":")[2], 16) == self.port]

    def _status_kib(self, name: str) -> int:
        match = re.search(rf"^{name}:\s+(\d+) kB", self._proc("status"), re.MULTILINE)
        assert match is not None, self._explain("gone")
        return int(match[1])

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.pid}/{name}").read_text()

    def _read(self, stream: IO[bytes], own: list[str]) -> None:
        for data in stream:
            line = data.decode("utf-8", "backslashreplace").rstrip("\n")
            with self._written:
                own.append(line)
                self.lines.append(line)
                self._written.notify_all()
        stream.close()
        with self._written:
            self._streams_open -= 1
            self._written.notify_all()

    def _explain(self, what: str) -> str:
        lines = "\n".join(f"  | {line}" for line in self.lines[-200:])
        return f"{' '.join(self.args)}: {what}; its output:\n{lines or '  (none)'}"
