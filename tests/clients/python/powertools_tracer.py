"""Powertools for AWS Lambda (Python), in a process that looks like a Lambda function's."""

import json
import os
import secrets
import sys
import time

TRACE_ID = f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"
PARENT_ID = secrets.token_hex(8)

# The runtime sets these before a handler is imported, and the tracer reads them on import.
os.environ |= {
    "LAMBDA_TASK_ROOT": os.getcwd(),
    "AWS_LAMBDA_FUNCTION_NAME": "shop-function",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
    "POWERTOOLS_SERVICE_NAME": "shop",
    "_X_AMZN_TRACE_ID": f"Root={TRACE_ID};Parent={PARENT_ID};Sampled=1",
}

from aws_lambda_powertools import Tracer  # noqa: E402
from aws_xray_sdk.core.models import http  # noqa: E402

tracer = Tracer()
ids: dict[str, str] = {}


class CardDeclinedError(Exception):
    """What the payment subsegment fails with."""


@tracer.capture_lambda_handler(capture_response=False)
def shop(event: dict[str, object], context: object) -> dict[str, object]:
    del event, context
    tracer.put_annotation("order", 7)
    tracer.put_annotation("note", "Grüße 🚚")
    tracer.put_metadata("cart", {"items": ["book", "pen"]}, "live")
    with tracer.provider.in_subsegment("lookup") as lookup:
        with tracer.provider.in_subsegment("lookup.cache") as cache:
            ids["lookup.cache"] = cache.id
        ids["lookup"] = lookup.id
    try:
        pay()
    except CardDeclinedError:
        return {"status": "declined"}
    return {"status": "paid"}


def pay() -> None:
    with tracer.provider.in_subsegment("payment", namespace="remote") as payment:
        ids["payment"] = payment.id
        payment.put_http_meta(http.METHOD, "POST")
        payment.put_http_meta(http.URL, "https://pay.example/charge")
        payment.put_http_meta(http.STATUS, 500)
        raise CardDeclinedError("card declined")


def main(scenario: str) -> None:
    if scenario != "udp":
        raise SystemExit(f"no scenario {scenario}")
    shop({}, object())
    report = {"trace_id": TRACE_ID, "root": None, "parent_id": PARENT_ID, "ids": ids}
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
