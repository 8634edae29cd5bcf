"""Recorded traffic of real clients; what each file holds is in `captures/README.md`."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent.parent / "captures"


@dataclass(frozen=True)
class CapturedDatagram:
    client: str
    scenario: str
    data: bytes
    """The datagram: header line and body."""

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\n")[2]


@dataclass(frozen=True)
class CapturedRequest:
    client: str
    scenario: str
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    response_status: int
    response_body: Any
    """What the recorder answered; canned."""


@dataclass(frozen=True)
class Captures:
    datagrams: list[CapturedDatagram]
    requests: list[CapturedRequest]


def load_captures(directory: Path = DIRECTORY) -> Captures:
    """Everything that was recorded, in the files' order."""
    return Captures(
        [
            CapturedDatagram(r["client"], r["scenario"], base64.b64decode(r["b64"]))
            for r in _records(directory, "*.udp.jsonl")
        ],
        [
            CapturedRequest(
                client=r["client"],
                scenario=r["scenario"],
                method=r["method"],
                path=r["path"],
                headers=[(name, value) for name, value in r["headers"]],
                body=base64.b64decode(r["body_b64"]),
                response_status=r["response_status"],
                response_body=r["response_body"],
            )
            for r in _records(directory, "*.http.jsonl")
        ],
    )


def _records(directory: Path, pattern: str) -> Iterator[dict[str, Any]]:
    for path in sorted(directory.glob(pattern)):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)
