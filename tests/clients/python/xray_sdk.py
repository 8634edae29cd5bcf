"""The AWS X-Ray SDK for Python."""

import json
import sys
from collections import Counter
from collections.abc import Callable

from aws_xray_sdk.core import patch, xray_recorder
from aws_xray_sdk.core.models import http
from aws_xray_sdk.core.models.trace_header import TraceHeader
from aws_xray_sdk.ext.util import calculate_sampling_decision


class CardDeclinedError(Exception):
    """What the payment subsegment fails with."""


def say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def send_order_trace() -> None:
    segment = xray_recorder.begin_segment("shop", sampling=1)
    segment.put_annotation("order", 7)
    segment.put_annotation("note", "Grüße 🚚")
    segment.put_metadata("cart", {"items": ["book", "pen"]}, "live")
    segment.put_http_meta(http.METHOD, "POST")
    segment.put_http_meta(http.URL, "http://shop.example/orders/7")
    segment.put_http_meta(http.USER_AGENT, "live-test")
    segment.put_http_meta(http.STATUS, 500)

    lookup = xray_recorder.begin_subsegment("lookup")
    cache = xray_recorder.begin_subsegment("lookup.cache")
    xray_recorder.end_subsegment()
    xray_recorder.end_subsegment()

    payment = xray_recorder.begin_subsegment("payment", namespace="remote")
    payment.put_http_meta(http.METHOD, "POST")
    payment.put_http_meta(http.URL, "https://pay.example/charge")
    try:
        raise CardDeclinedError("card declined")
    except CardDeclinedError as error:
        payment.add_exception(error, [])
    payment.put_http_meta(http.STATUS, 500)
    xray_recorder.end_subsegment()
    xray_recorder.end_segment()
    say(
        {
            "trace_id": segment.trace_id,
            "root": segment.id,
            "parent_id": None,
            "ids": {entity.name: entity.id for entity in (segment, lookup, cache, payment)},
        }
    )


def decide(service: str, path: str, count: int) -> dict[str, object]:
    sampled, rules = 0, Counter[str]()
    for _ in range(count):
        request = {"host": "shop.example", "method": "GET", "path": path, "service": service}
        decision = calculate_sampling_decision(TraceHeader(), xray_recorder, request)
        segment = xray_recorder.begin_segment(service, sampling=decision)
        sampled += segment.sampled
        if isinstance(decision, str):
            rules[decision] += 1
        xray_recorder.end_segment()
    return {"requested": count, "sampled": sampled, "rules": rules}


def answer_sampling(service: str) -> None:
    for line in sys.stdin:
        path, count = line.split()
        say(decide(service, path, int(count)))


def serve(service: str, next_url: str | None) -> None:
    import threading

    import requests
    from aws_xray_sdk.ext.flask.middleware import XRayMiddleware
    from flask import Flask
    from werkzeug.serving import make_server

    patch(["requests"])
    app = Flask(service)
    xray_recorder.configure(service=service)
    XRayMiddleware(app, xray_recorder)

    @app.get("/<path:path>")
    def answer(path: str) -> tuple[dict[str, object], int]:
        segment = xray_recorder.current_segment()
        following, status = None, 200
        if next_url:
            response = requests.get(f"{next_url}/{path}", timeout=30)
            following, status = response.json(), response.status_code
        ids = {"trace_id": segment.trace_id, "segment_id": segment.id}
        return {"service": service, "next": following, **ids}, status

    server = make_server("127.0.0.1", 0, app)
    threading.Thread(target=server.serve_forever).start()
    say({"port": server.server_port})
    sys.stdin.read()
    server.shutdown()


def main(scenario: str, *arguments: str) -> None:
    xray_recorder.configure(context_missing="RUNTIME_ERROR")
    scenarios: dict[str, Callable[..., None]] = {
        "udp": send_order_trace,
        "sampling": answer_sampling,
        "serve": lambda service, next_url=None: serve(service, next_url),
    }
    scenarios[scenario](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
