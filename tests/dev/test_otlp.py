"""OpenTelemetry spans sent over UDP become the segments X-Ray would make of them."""

import base64
import json

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from recorded import NODE_ADOT, PYTHON_ADOT, read_payloads

from xrayd.dev.documents import Accepted, Rejected
from xrayd.dev.otlp import is_otlp, read_payload
from xrayd.dev.traces import compile_trace

TRACE_ID = bytes.fromhex("4efaaf4d1e8720b39541901950019ee5")
XRAY_ID = "1-4efaaf4d-1e8720b39541901950019ee5"
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(1, 6)
LOCAL, REMOTE = 0x100, 0x300


def set_value(target, value):
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, bytes):
        target.bytes_value = value
    elif isinstance(value, list):
        for item in value:
            set_value(target.array_value.values.add(), item)
    elif isinstance(value, dict):
        for key, item in value.items():
            pair = target.kvlist_value.values.add(key=key)
            set_value(pair.value, item)
    elif value is not None:
        target.string_value = value


def set_attributes(target, attributes):
    for key, value in attributes.items():
        set_value(target.add(key=key).value, value)


class Spans:
    """An export request under construction."""

    def __init__(self, **resource):
        self.request = ExportTraceServiceRequest()
        spans = self.request.resource_spans.add()
        set_attributes(spans.resource.attributes, {"service.name": "shop"} | resource)
        self.spans = spans.scope_spans.add().spans

    def add(self, id_, kind, parent="", *, name="GET /", attributes=None, flags=LOCAL):
        span = self.spans.add(
            trace_id=TRACE_ID,
            span_id=bytes.fromhex(id_ * 16),
            parent_span_id=bytes.fromhex(parent * 16),
            name=name,
            kind=kind,
            flags=flags,
            start_time_unix_nano=1_700_000_000_000_000_000,
            end_time_unix_nano=1_700_000_001_500_000_000,
        )
        set_attributes(span.attributes, attributes or {})
        return span

    def encode(self, prefix="T1S"):
        return prefix + base64.b64encode(self.request.SerializeToString()).decode()

    def documents(self):
        payload = read_payload(self.encode())
        assert all(isinstance(verdict, Accepted) for verdict in payload.verdicts), payload
        return {
            (verdict.document.id[0] if verdict.document.id == verdict.document.id[0] * 16 else "")
            + verdict.document.type: json.loads(verdict.text)
            for verdict in payload.verdicts
        }


def only(**options):
    """The document of a single span."""
    resource = options.pop("resource", {})
    spans = Spans(**resource)
    change = options.pop("change", lambda span: None)
    change(spans.add("1", **options))
    (document,) = spans.documents().values()
    return document


def test_a_span_that_serves_is_a_segment_named_like_the_service():
    document = only(kind=SERVER, parent="9", resource={"service.version": "2"})
    assert document["name"] == "shop"
    assert document["trace_id"] == XRAY_ID
    assert document["id"] == "1" * 16
    assert document["parent_id"] == "9" * 16
    assert document["start_time"] == 1_700_000_000.0
    assert document["end_time"] == 1_700_000_001.5
    assert document["service"] == {"version": "2"}
    assert "type" not in document
    assert "namespace" not in document


@pytest.mark.parametrize(
    ("kind", "parent", "flags", "is_segment"),
    [
        (INTERNAL, "9", LOCAL, False),
        (INTERNAL, "", LOCAL, True),
        (INTERNAL, "9", REMOTE, True),
        (SERVER, "9", LOCAL, True),
        (CONSUMER, "9", 0, True),
        (CONSUMER, "9", LOCAL, False),
        (CONSUMER, "9", REMOTE, True),
        (CLIENT, "9", LOCAL, False),
        (CLIENT, "9", 0, False),
    ],
)
def test_which_spans_are_segments(kind, parent, flags, is_segment):
    document = only(kind=kind, parent=parent, flags=flags)
    assert ("type" not in document) is is_segment


def test_a_call_without_a_surrounding_span_gets_a_segment_around_it():
    spans = Spans()
    spans.add("1", CLIENT, name="GET", attributes={"server.address": "api.example.com"})
    call, segment = spans.documents().values()
    assert (segment["name"], segment.get("parent_id")) == ("shop", None)
    assert (call["id"], call["parent_id"]) == ("1" * 16, segment["id"])
    assert (call["name"], call["namespace"]) == ("api.example.com", "remote")


def test_a_call_without_a_surrounding_span_is_a_trace_of_its_service_and_the_one_called():
    spans = Spans()
    spans.add("1", CLIENT, attributes={"server.address": "api.example.com"})
    documents = [verdict.document for verdict in read_payload(spans.encode()).verdicts]
    trace = compile_trace(XRAY_ID, documents, now=60, last_received=0)
    assert {(node.name, node.type) for node in trace.nodes} == {
        ("shop", "client"),
        ("shop", ""),
        ("api.example.com", "remote"),
    }
    assert len({entity.id for entity in trace.segments}) == 2


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"peer.service": "billing", "server.address": "10.0.0.1"}, "billing"),
        ({"db.name": "orders", "db.system": "redis", "server.address": "h"}, "orders@h"),
        ({"db.namespace": "orders"}, "orders"),
        ({"rpc.service": "pb.Cart", "server.address": "h"}, "pb.Cart"),
        ({"http.host": "api.example.com"}, "api.example.com"),
        ({"messaging.destination.name": "jobs (new)"}, "jobs new"),
        ({}, "GET /"),
    ],
)
def test_a_call_is_named_after_the_service_it_calls(attributes, name):
    document = only(kind=CLIENT, parent="9", attributes=attributes)
    assert (document["name"], document["namespace"]) == (name, "remote")


def test_a_call_to_aws_says_what_it_did_there():
    document = only(
        kind=CLIENT,
        parent="9",
        name="DynamoDB.GetItem",
        attributes={
            "rpc.system": "aws-api",
            "rpc.service": "DynamoDB",
            "rpc.method": "GetItem",
            "aws.region": "us-east-1",
            "aws.request_id": "R",
            "aws.dynamodb.table_names": ["orders"],
            "http.status_code": 400,
        },
    )
    assert (document["name"], document["namespace"]) == ("DynamoDB", "aws")
    assert document["aws"] == {
        "operation": "GetItem",
        "region": "us-east-1",
        "request_id": "R",
        "table_name": "orders",
    }
    assert document["http"] == {"response": {"status": 400}}


def test_a_query_is_sql_but_a_key_value_lookup_is_not():
    attributes = {
        "db.system": "postgresql",
        "db.name": "shop",
        "db.statement": "SELECT ?",
        "db.user": "u",
        "server.address": "db",
        "server.port": 5432,
    }
    document = only(kind=CLIENT, parent="9", attributes=attributes)
    assert document["sql"] == {
        "url": "postgresql://db:5432/shop",
        "database_type": "postgresql",
        "sanitized_query": "SELECT ?",
        "user": "u",
    }
    assert "sql" not in only(kind=CLIENT, parent="9", attributes={"db.system": "redis"})


@pytest.mark.parametrize(
    ("attributes", "http"),
    [
        (
            {
                "http.method": "GET",
                "http.url": "http://a/b",
                "http.user_agent": "curl",
                "http.client_ip": "1.2.3.4",
                "http.status_code": 200,
                "http.response_content_length": 5,
            },
            {
                "request": {
                    "method": "GET",
                    "url": "http://a/b",
                    "user_agent": "curl",
                    "client_ip": "1.2.3.4",
                    "x_forwarded_for": True,
                },
                "response": {"status": 200, "content_length": 5},
            },
        ),
        (
            {
                "http.request.method": "GET",
                "url.scheme": "https",
                "server.address": "a",
                "server.port": 8443,
                "url.path": "/b",
                "url.query": "c=d",
                "user_agent.original": "curl",
                "client.address": "1.2.3.4",
                "http.response.status_code": "nonsense",
            },
            {
                "request": {
                    "method": "GET",
                    "url": "https://a:8443/b?c=d",
                    "user_agent": "curl",
                    "client_ip": "1.2.3.4",
                },
            },
        ),
        ({"server.address": "a"}, None),
    ],
)
def test_http_is_read_in_old_and_new_names(attributes, http):
    assert only(kind=SERVER, attributes=attributes).get("http") == http


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        (None, {"fault": True}),
        (500, {"fault": True}),
        (404, {"error": True}),
        (429, {"error": True, "throttle": True}),
    ],
)
def test_a_failed_span_is_an_error_where_http_blames_the_client_and_a_fault_elsewhere(
    status, flags
):
    def fail(span):
        span.status.code = 2
        span.status.message = "no luck"

    attributes = {} if status is None else {"http.status_code": status}
    document = only(kind=SERVER, attributes=attributes, change=fail)
    found = {name: document[name] for name in ("fault", "error", "throttle") if name in document}
    assert found == flags
    (exception,) = document["cause"]["exceptions"]
    assert exception["message"] == "no luck"


PYTHON_STACK = """Traceback (most recent call last):
  File "/app/main.py", line 3, in <module>
    run()
  File "/app/run.py", line 7, in run
    raise ValueError("x")
ValueError: x
"""
NODE_STACK = """Error: x
    at run (/app/run.js:7:3)
    at async /app/main.js:3:1
    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)
"""
JAVA_STACK = """java.lang.IllegalStateException: x
\tat com.example.Run.run(Run.java:7)
\tat com.example.Main.main(Native Method)
"""


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        (PYTHON_STACK, [("/app/run.py", 7, "run"), ("/app/main.py", 3, "<module>")]),
        (
            NODE_STACK,
            [
                ("/app/run.js", 7, "run"),
                ("/app/main.js", 3, "anonymous"),
                ("node:internal/process/task_queues", 95, "process.processTicksAndRejections"),
            ],
        ),
        (
            JAVA_STACK,
            [
                ("Run.java", 7, "com.example.Run.run"),
                ("Native Method", None, "com.example.Main.main"),
            ],
        ),
        ("of no known language", []),
        ("\n" * 50_000, []),
        ("  at " + "a(" * 20_000, []),
    ],
)
def test_exceptions_keep_their_stack_innermost_first(text, frames):
    def raise_exception(span):
        event = span.events.add(name="exception")
        set_attributes(
            event.attributes,
            {
                "exception.type": "ValueError",
                "exception.message": "x",
                "exception.stacktrace": text,
            },
        )
        span.events.add(name="something else")

    document = only(kind=INTERNAL, parent="9", change=raise_exception)
    (exception,) = document["cause"]["exceptions"]
    assert (exception["type"], exception["message"]) == ("ValueError", "x")
    assert [
        (frame["path"], frame.get("line"), frame["label"]) for frame in exception.get("stack", [])
    ] == frames


@pytest.mark.parametrize(
    ("resource", "origin", "aws"),
    [
        ({}, None, {}),
        ({"cloud.platform": "gcp_compute", "cloud.provider": "gcp"}, None, {}),
        (
            {"cloud.platform": "aws_ec2", "host.id": "i-1", "cloud.availability_zone": "z"},
            "AWS::EC2::Instance",
            {"ec2": {"instance_id": "i-1", "availability_zone": "z"}},
        ),
        (
            {"cloud.platform": "aws_ecs", "aws.ecs.launchtype": "FARGATE", "container.name": "c"},
            "AWS::ECS::Fargate",
            {"ecs": {"container": "c", "launch_type": "FARGATE"}},
        ),
        ({"cloud.platform": "aws_ecs"}, "AWS::ECS::Container", {}),
        (
            {"cloud.platform": "aws_lambda", "cloud.resource_id": "arn:f"},
            "AWS::Lambda::Function",
            {"function_arn": "arn:f"},
        ),
        (
            {"cloud.platform": "aws_eks", "k8s.pod.name": "p", "cloud.account.id": "1"},
            "AWS::EKS::Container",
            {"eks": {"pod": "p"}, "account_id": "1"},
        ),
    ],
)
def test_where_a_service_runs_is_its_origin(resource, origin, aws):
    document = only(kind=SERVER, resource=resource)
    assert document.get("origin") == origin
    assert document["aws"] == {"xray": {"sdk": "opentelemetry"}} | aws


def test_attributes_are_metadata_unless_they_ask_to_be_annotations():
    document = only(
        kind=INTERNAL,
        parent="9",
        attributes={
            "aws.xray.annotations": ["tenant-id", "rate"],
            "tenant-id": "t",
            "rate": 0.5,
            "annotation.x": True,
            "plain": 1,
            "nested": {"a": [1, b"\x01", None]},
            "empty": None,
        },
    )
    assert document["annotations"] == {"tenant_id": "t", "rate": 0.5, "x": True}
    assert document["metadata"] == {
        "default": {"plain": 1, "nested": {"a": [1, "01", None]}, "empty": None}
    }


def test_values_no_exporter_should_send_cost_only_themselves():
    def fail(span):
        frame = f'  File "a.py", line {"9" * 5000}, in f'
        set_attributes(
            span.events.add(name="exception").attributes, {"exception.stacktrace": frame}
        )

    document = only(
        kind=SERVER,
        change=fail,
        attributes={
            "aws.xray.annotations": ["x", ["nested"], {"a": 1}, None],
            "x": 1,
            "http.method": "GET",
            "http.status_code": "9" * 5000,
        },
    )
    assert document["annotations"] == {"x": 1}
    assert document["http"] == {"request": {"method": "GET"}}
    assert "stack" not in document["cause"]["exceptions"][0]


def test_links_keep_their_ids_in_x_ray_form():
    def link(span):
        set_attributes(
            span.links.add(trace_id=TRACE_ID, span_id=b"\x02" * 8).attributes, {"k": "v"}
        )

    assert only(kind=CONSUMER, change=link)["links"] == [
        {"trace_id": XRAY_ID, "id": "02" * 8, "attributes": {"k": "v"}}
    ]


def test_a_span_that_has_not_ended_is_in_progress():
    document = only(kind=SERVER, change=lambda span: span.ClearField("end_time_unix_nano"))
    assert document["in_progress"]
    assert "end_time" not in document


def test_spans_with_invalid_ids_are_refused_one_by_one():
    spans = Spans()
    spans.add("1", SERVER)
    spans.spans.add(name="no ids", kind=SERVER)
    first, second = read_payload(spans.encode()).verdicts
    assert isinstance(first, Accepted)
    assert isinstance(second, Rejected)


def test_unsampled_spans_are_counted_and_metrics_passed_over():
    spans = Spans()
    spans.add("1", SERVER)
    spans.add("2", INTERNAL, parent="1")
    assert (
        read_payload(spans.encode("T1U")).verdicts,
        read_payload(spans.encode("T1U")).unsampled,
    ) == (
        [],
        2,
    )
    assert len(read_payload(spans.encode("T1")).verdicts) == 2
    assert read_payload("M1Cgo=").verdicts == []
    assert is_otlp("T1S")
    assert not is_otlp('{"id": "T1"}')


@pytest.mark.parametrize("text", ["T1S", "T1S!!!", "T1SZm9v", "T1é"])
def test_what_is_no_otlp_is_refused_without_an_id_or_holds_nothing(text):
    verdicts = read_payload(text).verdicts
    assert all(verdict.code == "ParseError" and verdict.id is None for verdict in verdicts)
    assert len(verdicts) == (text != "T1S")


@pytest.mark.parametrize("client", [PYTHON_ADOT, NODE_ADOT])
def test_recorded_exporters_are_understood(client):
    sampled, unsampled = [], 0
    for payloads in read_payloads(client).values():
        for payload in payloads:
            assert is_otlp(payload)
            found = read_payload(payload)
            sampled += found.verdicts
            unsampled += found.unsampled
    assert unsampled == 1
    assert sampled
    assert all(isinstance(verdict, Accepted) for verdict in sampled)
    assert not any("unsampled" in verdict.text for verdict in sampled)


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (
            PYTHON_ADOT,
            {
                ("adot-py", "client"),
                ("adot-py", "AWS::Lambda::Function"),
                ("orders", "AWS::DynamoDB::Table"),
                ("ebdb", "Database::SQL"),
            },
        ),
        (
            NODE_ADOT,
            {
                ("otel-node", "client"),
                ("otel-node", "AWS::ECS::Container"),
                ("DynamoDB", "AWS::DynamoDB"),
            },
        ),
    ],
)
def test_recorded_spans_make_one_trace_with_its_services(client, expected):
    documents = [
        verdict.document
        for payload in read_payloads(client)["udp_simple_spans"]
        for verdict in read_payload(payload).verdicts
    ]
    (trace_id,) = {document.trace_id for document in documents}
    trace = compile_trace(trace_id, documents, now=60, last_received=0)
    assert {(node.name, node.type) for node in trace.nodes} == expected
    assert not trace.is_partial
