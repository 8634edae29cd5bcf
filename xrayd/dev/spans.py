"""OpenTelemetry spans as segment documents.

The mapping follows the OpenTelemetry collector's X-Ray exporter: a span that serves a request, or
that nothing in its own service caused, becomes a segment named like the service; every other one a
subsegment, and a call to another service (kind client or producer) one with a namespace.
Attributes with a meaning to X-Ray go where X-Ray has it, in the names of old and new semantic
conventions; the rest become metadata, or annotations where they ask for it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import msgspec

from xrayd.dev.exceptions import read_cause
from xrayd.dev.inferred import derive_id
from xrayd.dev.model import Document, Http, HttpRequest, HttpResponse, Link

_INVALID_NAME_CHARACTERS = re.compile(r"[^\w\s.:/%&#=+\\\-@]")
_NAME_MAX = 200
_ANNOTATION_PREFIX = "annotation."
_ANNOTATION_KEYS = "aws.xray.annotations"
_DIGITS_MAX = 18  # a number of 63 bits
_INVALID_KEY_CHARACTERS = re.compile(r"[^A-Za-z0-9_.]")

_ORIGINS = {
    "aws_app_runner": "AWS::AppRunner::Service",
    "aws_ec2": "AWS::EC2::Instance",
    "aws_ecs": "AWS::ECS::Container",
    "aws_eks": "AWS::EKS::Container",
    "aws_elastic_beanstalk": "AWS::ElasticBeanstalk::Environment",
    "aws_lambda": "AWS::Lambda::Function",
}
_ECS_ORIGINS = {"ec2": "AWS::ECS::EC2", "fargate": "AWS::ECS::Fargate"}
_SQL_SYSTEMS = {
    "cassandra", "cloudscape", "cockroachdb", "db2", "derby", "firebird", "h2", "hive", "hsqldb",
    "ibm.db2", "mariadb", "microsoft.sql_server", "mssql", "mysql", "oracle", "oracle.db",
    "other_sql", "postgresql", "redshift", "sqlite", "sybase", "teradata", "trino",
}  # fmt: skip

_RESOURCE_BLOCKS: dict[str, dict[str, str]] = {
    "ec2": {
        "instance_id": "host.id",
        "instance_size": "host.type",
        "ami_id": "host.image.id",
        "availability_zone": "cloud.availability_zone",
    },
    "ecs": {
        "container": "container.name",
        "container_id": "container.id",
        "container_arn": "aws.ecs.container.arn",
        "cluster_arn": "aws.ecs.cluster.arn",
        "task_arn": "aws.ecs.task.arn",
        "task_family": "aws.ecs.task.family",
        "launch_type": "aws.ecs.launchtype",
        "availability_zone": "cloud.availability_zone",
    },
    "eks": {
        "cluster_name": "k8s.cluster.name",
        "pod": "k8s.pod.name",
        "container_id": "container.id",
    },
    "elastic_beanstalk": {
        "environment_name": "service.namespace",
        "version_label": "service.version",
        "deployment_id": "service.instance.id",
    },
}
"""The `aws` block a platform's segments carry, and the resource attributes it is made from."""

_CALL_FIELDS: dict[str, tuple[str, ...]] = {
    "operation": ("aws.operation", "rpc.method"),
    "region": ("aws.region", "cloud.region"),
    "account_id": ("aws.account_id",),
    "request_id": ("aws.request_id", "aws.requestId", "aws.request.id"),
    "queue_url": ("aws.queue_url", "aws.sqs.queue.url", "aws.sqs.queue_url", "aws.queue.url"),
    "table_name": ("aws.table_name", "aws.dynamodb.table_names"),
    "bucket_name": ("aws.s3.bucket", "aws.bucket.name"),
    "topic_arn": ("aws.sns.topic.arn",),
    "function_name": ("aws.lambda.function.name", "faas.invoked_name"),
}
"""The `aws` block of a call to AWS, and the span attributes it is made from."""


class SpanKind(StrEnum):
    """Which side of a call a span is."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class SpanEvent(msgspec.Struct, gc=False):
    """Something that happened during a span; exceptions are events."""

    name: str
    attributes: dict[str, Any]


class SpanLink(msgspec.Struct, gc=False):
    """A reference to another span; ids in hex."""

    trace_id: str
    id: str
    attributes: dict[str, Any]


class Span(msgspec.Struct, gc=False):
    """A span with the attributes of its resource. Ids in hex, times in epoch seconds.

    `is_parent_remote` is None where the sender does not say.
    """

    trace_id: str
    id: str
    parent_id: str
    is_parent_remote: bool | None
    name: str
    kind: SpanKind
    start: float
    end: float | None
    is_error: bool
    status_message: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    events: list[SpanEvent]
    links: list[SpanLink]

    def read(self, *keys: str) -> Any:
        """The first of these attributes that the span has."""
        return next((v for key in keys if (v := self.attributes.get(key)) is not None), None)

    def read_text(self, *keys: str) -> str | None:
        """The first of these attributes as text; of a list its only item."""
        value = self.read(*keys)
        if isinstance(value, list):
            value = value[0] if len(value) == 1 else None
        return None if value is None else str(value)


def convert_span(span: Span) -> list[Document]:
    """The document of a span; two for a call that no segment of its own service surrounds."""
    document = Document(
        id=span.id,
        trace_id=f"1-{span.trace_id[:8]}-{span.trace_id[8:]}",
        parent_id=span.parent_id,
        start_time=span.start,
        end_time=span.end,
        in_progress=True if span.end is None else None,
        http=_read_http(span),
        cause=read_cause(span.id, span.is_error, span.status_message, _find_exceptions(span)),
        links=[_convert_link(link) for link in span.links] or None,
    )
    _flag(document, span)
    is_call = span.kind in (SpanKind.CLIENT, SpanKind.PRODUCER)
    if not _is_segment(span):
        return [_complete_subsegment(document, span, is_call)]
    if not is_call:
        return [_complete_segment(document, span)]
    surrounding = Document(
        # not derived like the segment inferred from the call
        id=derive_id(document.trace_id, f"around {span.id}"),
        trace_id=document.trace_id,
        parent_id=span.parent_id,
        start_time=span.start,
        end_time=span.end,
        in_progress=document.in_progress,
        fault=document.fault,
        error=document.error,
        throttle=document.throttle,
    )
    document.parent_id = surrounding.id
    _complete_subsegment(document, span, is_call=True)
    return [document, _complete_segment(surrounding, span, with_attributes=False)]


def _is_segment(span: Span) -> bool:
    if not span.parent_id or span.is_parent_remote:
        return True
    if span.kind is SpanKind.CONSUMER:
        return span.is_parent_remote is None
    return span.kind is SpanKind.SERVER


def _complete_segment(document: Document, span: Span, *, with_attributes: bool = True) -> Document:
    resource = span.resource
    document.name = _tidy_name(
        span.read_text("aws.local.service") or resource.get("service.name") or span.name
    )
    document.origin = _find_origin(resource)
    document.user = span.read_text("enduser.id", "user.id")
    document.aws = _describe_resource(span)
    version = resource.get("service.version")
    document.service = {"version": str(version)} if version else None
    described = {f"otel.resource.{key}": value for key, value in resource.items()}
    return _add_attributes(document, span.attributes if with_attributes else {}, described)


def _complete_subsegment(document: Document, span: Span, is_call: bool) -> Document:
    document.type = "subsegment"
    document.name = _tidy_name(_name_call(span) if is_call else span.name)
    if is_call:
        document.namespace = "aws" if _is_aws_call(span) else "remote"
        document.sql = _read_sql(span)
    if document.namespace == "aws":
        fields = {name: span.read_text(*keys) for name, keys in _CALL_FIELDS.items()}
        document.aws = {name: value for name, value in fields.items() if value is not None}
    return _add_attributes(document, span.attributes, {})


def _add_attributes(
    document: Document, attributes: dict[str, Any], described: dict[str, Any]
) -> Document:
    """Annotations for what asks to be one, metadata for the rest."""
    listed = attributes.get(_ANNOTATION_KEYS)
    wanted = {key for key in listed if isinstance(key, str)} if isinstance(listed, list) else set()
    annotations: dict[str, Any] = {}
    metadata: dict[str, Any] = dict(described)
    for key, value in attributes.items():
        is_wanted = key in wanted or key.startswith(_ANNOTATION_PREFIX)
        if is_wanted and isinstance(value, (str, int, float)):
            name = key.removeprefix(_ANNOTATION_PREFIX)
            annotations[_INVALID_KEY_CHARACTERS.sub("_", name)] = value
        elif key != _ANNOTATION_KEYS:
            metadata[key] = value
    document.annotations = annotations or None
    if metadata:
        document.metadata = msgspec.Raw(msgspec.json.encode({"default": metadata}))
    return document


def _name_call(span: Span) -> str:
    """What a call subsegment is named after: the service called, as well as it is known."""
    name = span.read_text("peer.service", "aws.remote.service")
    if name is None and _is_aws_call(span):
        name = span.read_text("aws.service", "rpc.service") or span.name.partition(".")[0]
    if name is None:
        database = span.read_text("db.name", "db.namespace")
        host = span.read_text("server.address", "net.peer.name")
        if database is not None:
            name = database if host is None else f"{database}@{host}"
    return name or span.read_text(
        "rpc.service", "http.host", "server.address", "net.peer.name", "messaging.destination.name"
    ) or span.name  # fmt: skip


def _is_aws_call(span: Span) -> bool:
    return span.read("rpc.system", "rpc.system.name") == "aws-api" or "aws.service" in (
        span.attributes
    )


def _tidy_name(name: object) -> str:
    return _INVALID_NAME_CHARACTERS.sub("", str(name))[:_NAME_MAX] or "span"


def _find_origin(resource: dict[str, Any]) -> str | None:
    if resource.get("cloud.provider", "aws") != "aws":
        return None
    platform = resource.get("cloud.platform")
    if platform == "aws_ecs":
        launch_type = str(resource.get("aws.ecs.launchtype", "")).lower()
        return _ECS_ORIGINS.get(launch_type, _ORIGINS[platform])
    return _ORIGINS.get(platform) if isinstance(platform, str) else None


def _describe_resource(span: Span) -> dict[str, Any]:
    resource = span.resource
    language = resource.get("telemetry.sdk.language")
    sdk = resource.get("telemetry.sdk.name", "opentelemetry")
    xray = {
        "sdk": f"{sdk} for {language}" if language else sdk,
        "sdk_version": resource.get("telemetry.sdk.version"),
        "sampling_rule_name": span.read_text("aws.xray.sampling_rule"),
    }
    aws: dict[str, Any] = {
        "xray": {key: value for key, value in xray.items() if value is not None},
        "account_id": resource.get("cloud.account.id"),
    }
    platform = str(resource.get("cloud.platform", "")).removeprefix("aws_")
    fields = _RESOURCE_BLOCKS.get(platform, {})
    block = {name: resource[key] for name, key in fields.items() if key in resource}
    if block:
        aws[platform] = block
    if platform == "lambda":
        aws["function_arn"] = resource.get("cloud.resource_id", resource.get("faas.id"))
    return {key: value for key, value in aws.items() if value is not None}


def _read_http(span: Span) -> Http | None:
    client_ip = span.read_text("http.client_ip", "client.address")
    request = HttpRequest(
        method=span.read_text("http.method", "http.request.method"),
        url=_read_url(span),
        user_agent=span.read_text("http.user_agent", "user_agent.original"),
        client_ip=client_ip,
        x_forwarded_for=True if "http.client_ip" in span.attributes else None,
    )
    response = HttpResponse(
        status=_read_number(span, "http.status_code", "http.response.status_code"),
        content_length=_read_number(
            span, "http.response_content_length", "http.response.body.size"
        ),
    )
    if request.method is None and response.status is None:
        return None
    return Http(
        None if request == HttpRequest() else request,
        None if response == HttpResponse() else response,
    )


def _read_url(span: Span) -> str | None:
    url = span.read_text("http.url", "url.full")
    path = span.read_text("http.target", "url.path")
    if url is not None or path is None:
        return url
    scheme = span.read_text("http.scheme", "url.scheme") or "http"
    host = span.read_text("http.host", "server.address", "net.host.name") or "localhost"
    port = span.read_text("server.port", "net.host.port")
    if port is not None and ":" not in host and (scheme, port) not in _DEFAULT_PORTS:
        host = f"{host}:{port}"
    query = span.read_text("url.query")
    return f"{scheme}://{host}{path}" + (f"?{query}" if query else "")


_DEFAULT_PORTS = {("http", "80"), ("https", "443")}


def _read_number(span: Span, *keys: str) -> int | None:
    text = span.read_text(*keys)
    if text is None or len(text) > _DIGITS_MAX or not (text.isascii() and text.isdigit()):
        return None
    return int(text)


def _read_sql(span: Span) -> dict[str, Any] | None:
    system = span.read_text("db.system", "db.system.name")
    if system not in _SQL_SYSTEMS:
        return None
    database = span.read_text("db.name", "db.namespace") or ""
    address = span.read_text("db.connection_string")
    if address is None:
        host = span.read_text("server.address", "net.peer.name") or "localhost"
        port = span.read_text("server.port", "net.peer.port")
        address = f"{system}://{host}" + (f":{port}" if port else "")
    sql = {
        "url": f"{address}/{database}" if database else address,
        "database_type": system,
        "sanitized_query": span.read_text("db.statement", "db.query.text"),
        "user": span.read_text("db.user"),
    }
    return {key: value for key, value in sql.items() if value is not None}


def _flag(document: Document, span: Span) -> None:
    """A failed span is an error where the HTTP status puts it on the client, else a fault."""
    if not span.is_error:
        return
    response = None if document.http is None else document.http.response
    status = 0 if response is None else response.status or 0
    if 400 <= status < 500:
        document.error = True
        document.throttle = True if status == 429 else None
    else:
        document.fault = True


def _find_exceptions(span: Span) -> list[dict[str, Any]]:
    return [event.attributes for event in span.events if event.name == "exception"]


def _convert_link(link: SpanLink) -> Link:
    trace_id = f"1-{link.trace_id[:8]}-{link.trace_id[8:]}"
    return Link(trace_id, link.id, link.attributes or None)
