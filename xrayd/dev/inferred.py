"""Segments for downstreams that sent none: what a call subsegment says about the service it called.

X-Ray publishes no complete table of names and types; this one is put together from the AWS X-Ray
Developer Guide's samples and from real service graphs.
"""

from __future__ import annotations

from hashlib import blake2b

from xrayd.dev.model import Document

_AWS_SERVICES = {
    "dynamodb": "DynamoDB",
    "events": "Events",
    "kinesis": "Kinesis",
    "kms": "KMS",
    "lambda": "Lambda",
    "s3": "S3",
    "secretsmanager": "SecretsManager",
    "sns": "SNS",
    "sqs": "SQS",
    "ssm": "SSM",
    "states": "StepFunctions",
    "stepfunctions": "StepFunctions",
    "sts": "STS",
}
"""Display names by lower-case name: the Python SDK sends botocore's names, Node's display names."""


def derive_id(trace_id: str, seed: str) -> str:
    """A segment id (16 hex digits) that is the same for the same trace and seed on every read."""
    return blake2b(f"{trace_id}/{seed}".encode(), digest_size=8).hexdigest()


def name_downstream(call: Document) -> tuple[str, str]:
    """Name and type of the service node that a call subsegment (`aws` or `remote`) leads to."""
    if call.sql:
        return call.name, "Database::SQL"
    if call.namespace != "aws":
        return call.name, "remote"
    service = _AWS_SERVICES.get(call.name.lower(), call.name)
    resource = _name_resource(service, call)
    return resource or (service, f"AWS::{service}")


def infer_segment(trace_id: str, id_: str, call: Document) -> Document:
    """The segment X-Ray shows in place of the one the called service did not send.

    It has the call's name, times and flags and copies of `http`, `aws` and `sql`; its parent is
    the call (AWS X-Ray Developer Guide, "Inferred segments").
    """
    _, node_type = name_downstream(call)
    return Document(
        name=call.name,
        id=id_,
        trace_id=trace_id,
        parent_id=call.id,
        start_time=call.start_time,
        end_time=call.end_time,
        in_progress=True if call.is_in_progress else None,
        inferred=True,
        origin=None if node_type == "remote" else node_type,
        fault=call.fault,
        error=call.error,
        throttle=call.throttle,
        http=call.http,
        aws=call.aws,
        sql=call.sql,
    )


def _name_resource(service: str, call: Document) -> tuple[str, str] | None:
    """The node of the one resource the call was about, where X-Ray draws resources."""
    aws = call.aws or {}
    match service:
        case "DynamoDB":
            name, node_type = aws.get("table_name"), "AWS::DynamoDB::Table"
        case "SQS":
            name, node_type = _last_part(aws.get("queue_url"), "/"), "AWS::SQS::Queue"
        case "S3":
            name, node_type = aws.get("bucket_name"), "AWS::S3::Bucket"
        case "Lambda":
            name, node_type = _last_part(aws.get("function_name"), ":function:"), "AWS::Lambda"
        case _:
            return None
    return (name, node_type) if isinstance(name, str) and name else None


def _last_part(value: object, separator: str) -> str | None:
    """What follows the last separator: a queue's name in its URL, a function's in its ARN."""
    return value.rstrip("/").rpartition(separator)[2] if isinstance(value, str) else None
