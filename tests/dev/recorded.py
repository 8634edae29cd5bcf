"""Recorded client traffic: what each scenario sent, without the datagram header."""

import base64
import json
from functools import cache
from pathlib import Path

CAPTURES = Path(__file__).parent.parent / "captures"
PYTHON = "python-aws-xray-sdk-2.15.0"
NODE = "node-aws-xray-sdk-3.12.0"
POWERTOOLS = "node-powertools-tracer-2.36.0"
PYTHON_ADOT = "python-adot-0.21.0"
NODE_ADOT = "node-adot-0.13.0"
LAMBDA_SHIM = "python-aws-xray-lambda-segment-shim-0.5.3"
POSTGRES = "node-aws-xray-sdk-3.12.0-postgres"
ALL = (PYTHON, NODE, POWERTOOLS, PYTHON_ADOT, NODE_ADOT, LAMBDA_SHIM, POSTGRES)


@cache
def read_payloads(client: str) -> dict[str, list[str]]:
    """Payloads by scenario, in the order they were received."""
    payloads: dict[str, list[str]] = {}
    with (CAPTURES / f"{client}.udp.jsonl").open() as lines:
        for line in lines:
            record = json.loads(line)
            _, _, payload = base64.b64decode(record["b64"]).partition(b"\n")
            payloads.setdefault(record["scenario"], []).append(payload.decode())
    return payloads
