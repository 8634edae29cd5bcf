"""Commands of xrayd as a user types them, beside an `xrayd dev`."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fakes.documents import make_document
from fakes.process import TRACEBACK, Xrayd, clean_environment
from fakes.server import PATIENCE_S


class Result(NamedTuple):
    code: int
    out: str
    err: str


def run(*args: str, home: Path, stdin: str = "", **env: str) -> Result:
    """Run one command to its end; it may fail, but not with a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "xrayd", *args],
        env=clean_environment(home, env),
        cwd=home,
        input=stdin.encode(),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert TRACEBACK not in result.err, result.err
    return result


def run_on_terminal(*args: str, home: Path, **env: str) -> str:
    """What a command writes when standard output is a terminal."""
    leader, follower = pty.openpty()
    try:
        done = subprocess.Popen(
            [sys.executable, "-m", "xrayd", *args],
            env=clean_environment(home, {"TERM": "xterm", **env}),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        written = b""
        try:
            while chunk := os.read(leader, 65_536):
                written += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
        assert done.wait(PATIENCE_S) == 0, written
        return written.decode()
    finally:
        os.close(leader)


@contextmanager
def running_dev(home: Path, *args: str, data: str = ":memory:", **options) -> Iterator[Xrayd]:
    """An `xrayd dev` with nothing in it."""
    address = ("-b", "127.0.0.1:{port}", "-t", "127.0.0.1:{port}")
    with Xrayd(*address, "dev", "--data", data, *args, home=home, **options) as process:
        yield process


def url_of(process: Xrayd) -> str:
    return f"http://127.0.0.1:{process.port}"


def put(process: Xrayd, *documents: str) -> None:
    """Store documents, all of which must be taken."""
    answer = process.post("/TraceSegments", json.dumps({"TraceSegmentDocuments": documents}))
    assert json.loads(answer.body) == {"UnprocessedTraceSegments": []}


def segment(**fields) -> dict:
    """A segment's document as an object."""
    return json.loads(make_document(**fields))
