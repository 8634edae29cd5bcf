"""The AWS Distro for OpenTelemetry Python: its UDP exporter and its X-Ray remote sampler."""

import json
import os
import sys
from collections.abc import Callable

from amazon.opentelemetry.distro.otlp_udp_exporter import OTLPUdpSpanExporter
from amazon.opentelemetry.distro.sampler.aws_xray_remote_sampler import AwsXRayRemoteSampler
from opentelemetry.sdk.extension.aws.trace import AwsXRayIdGenerator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

# The distro reads this variable as plain HOST:PORT; the X-Ray SDKs' two-part form names both.
ADDRESSES = dict(part.split(":", 1) for part in os.environ["AWS_XRAY_DAEMON_ADDRESS"].split())


class CardDeclinedError(Exception):
    """What the payment span fails with."""


def say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def send_order_trace() -> None:
    provider = TracerProvider(
        resource=Resource.create({"service.name": "shop"}), id_generator=AwsXRayIdGenerator()
    )
    provider.add_span_processor(SimpleSpanProcessor(OTLPUdpSpanExporter(ADDRESSES["udp"])))
    tracer = provider.get_tracer("live")
    ids: dict[str, str] = {}

    def note(span: Span, name: str) -> None:
        ids[name] = f"{span.get_span_context().span_id:016x}"

    with tracer.start_as_current_span("shop", kind=SpanKind.SERVER) as shop:
        note(shop, "shop")
        shop.set_attributes({"order": 7, "note": "Grüße 🚚", "http.response.status_code": 500})
        with tracer.start_as_current_span("lookup") as lookup:
            note(lookup, "lookup")
            with tracer.start_as_current_span("lookup.cache") as cache:
                note(cache, "lookup.cache")
        with tracer.start_as_current_span("payment", kind=SpanKind.CLIENT) as payment:
            note(payment, "payment")
            payment.set_attribute("url.full", "https://pay.example/charge")
            payment.record_exception(CardDeclinedError("card declined"))
            payment.set_status(Status(StatusCode.ERROR, "card declined"))
    provider.shutdown()
    hexadecimal = f"{shop.get_span_context().trace_id:032x}"
    trace_id = f"1-{hexadecimal[:8]}-{hexadecimal[8:]}"
    say({"trace_id": trace_id, "root": ids["shop"], "parent_id": None, "ids": ids})


def answer_sampling(service: str) -> None:
    resource = Resource.create({"service.name": service})
    sampler = AwsXRayRemoteSampler(
        resource=resource, endpoint=f"http://{ADDRESSES['tcp']}", polling_interval=10
    )
    provider = TracerProvider(resource=resource, id_generator=AwsXRayIdGenerator(), sampler=sampler)
    tracer = provider.get_tracer("live")
    for line in sys.stdin:
        path, count = line.split()
        sampled = 0
        for _ in range(int(count)):
            attributes = {
                "url.path": path,
                "http.request.method": "GET",
                "server.address": "shop.example",
            }
            span = tracer.start_span(service, kind=SpanKind.SERVER, attributes=attributes)
            sampled += span.get_span_context().trace_flags.sampled
            span.end()
        say({"requested": int(count), "sampled": sampled, "rules": {}})


def main(scenario: str, *arguments: str) -> None:
    scenarios: dict[str, Callable[..., None]] = {
        "udp": send_order_trace,
        "sampling": answer_sampling,
    }
    scenarios[scenario](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
