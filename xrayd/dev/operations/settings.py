"""Settings that clients read and write, stored and validated but without effect here.

Encryption, resource policies, indexing rules, and where trace segments go. Source: botocore `xray`
model.
"""

from __future__ import annotations

from typing import Any

import msgspec

from xrayd.dev.answers import ApiError, invalid
from xrayd.dev.backend import Backend, Members, Request
from xrayd.dev.resources import Kind, changing_resources, reading_resources
from xrayd.dev.tokens import page

POLICIES_MAX = 5
"""Resource policies of one account."""

POLICY_BYTES_MAX = 5 * 1024
"""Size of one policy document."""

INDEXING_RULE = "Default"
"""The only indexing rule."""

_PAGE_POLICIES = 50


class Encryption(msgspec.Struct):
    """How X-Ray would encrypt: `NONE` (its own key) or `KMS` with a key's ARN."""

    type: str = "NONE"
    key: str | None = None


class Policy(msgspec.Struct):
    """A resource policy; `revision` counts up from 1, `updated_at` in epoch seconds."""

    document: str
    revision: int
    updated_at: float


class Indexing(msgspec.Struct):
    """The wanted share of indexed traces in percent; here all are indexed whatever it says."""

    percentage: float = 100.0
    modified_at: float = 0.0


ENCRYPTION = Kind("encryption", Encryption)
POLICY = Kind("policy", Policy)
INDEXING = Kind("indexing", Indexing)


def get_encryption_config(backend: Backend, request: Request) -> Members:
    """GetEncryptionConfig."""
    with reading_resources(backend.store.database) as resources:
        return _encryption(resources.get(ENCRYPTION, "") or Encryption(), "ACTIVE")


def put_encryption_config(backend: Backend, request: Request) -> Members:
    """PutEncryptionConfig; this answer says UPDATING as X-Ray's does, later ones ACTIVE."""
    wanted = Encryption(request["Type"], request.get("KeyId"))
    if wanted.type == "KMS" and wanted.key is None:
        raise invalid("KeyId is required for encryption type KMS.")
    if wanted.type == "NONE" and wanted.key is not None:
        raise invalid("KeyId must not be given for encryption type NONE.")
    if wanted.key is not None and not wanted.key.startswith("arn:"):
        resource = wanted.key if wanted.key.startswith("alias/") else f"key/{wanted.key}"
        wanted.key = backend.arn(resource, "kms")
    with changing_resources(backend.store.database) as resources:
        resources.put(ENCRYPTION, "", wanted)
    return _encryption(wanted, "UPDATING")


def put_resource_policy(backend: Backend, request: Request) -> Members:
    """PutResourcePolicy; revision "0" means there is none yet, another is the current one."""
    name, document = request["PolicyName"], request["PolicyDocument"]
    if len(document.encode()) > POLICY_BYTES_MAX:
        raise ApiError(
            "PolicySizeLimitExceededException",
            f"A policy can have at most {POLICY_BYTES_MAX} bytes.",
        )
    _check_policy(document)
    with changing_resources(backend.store.database) as resources:
        policies = resources.all(POLICY)
        current = policies[name].revision if name in policies else 0
        _check_revision(request, current)
        if not current and len(policies) >= POLICIES_MAX:
            raise ApiError(
                "PolicyCountLimitExceededException",
                f"The limit of {POLICIES_MAX} policies is reached.",
            )
        policy = Policy(document, current + 1, backend.clock())
        resources.put(POLICY, name, policy)
    return {"ResourcePolicy": _policy(name, policy)}


def list_resource_policies(backend: Backend, request: Request) -> Members:
    """ListResourcePolicies, sorted by name."""
    with reading_resources(backend.store.database) as resources:
        policies = resources.all(POLICY)
    shown, more = page(
        "ListResourcePolicies",
        sorted(policies.items()),
        key=lambda item: item[0],
        kind=str,
        token=request.get("NextToken"),
        size=_PAGE_POLICIES,
    )
    return {"ResourcePolicies": [_policy(name, policy) for name, policy in shown], **more}


def delete_resource_policy(backend: Backend, request: Request) -> Members:
    """DeleteResourcePolicy; a revision, where given, must be the current one."""
    name = request["PolicyName"]
    with changing_resources(backend.store.database) as resources:
        policy = resources.get(POLICY, name)
        if policy is None:
            raise invalid(f"Resource policy {name} does not exist.")
        _check_revision(request, policy.revision)
        resources.delete(POLICY, name)
    return {}


def get_indexing_rules(backend: Backend, request: Request) -> Members:
    """GetIndexingRules: the one rule there is."""
    with reading_resources(backend.store.database) as resources:
        return {"IndexingRules": [_indexing(resources.get(INDEXING, INDEXING_RULE) or Indexing())]}


def update_indexing_rule(backend: Backend, request: Request) -> Members:
    """UpdateIndexingRule."""
    if request["Name"] != INDEXING_RULE:
        raise ApiError(
            "ResourceNotFoundException", "The indexing rule was not found.", request["Name"]
        )
    if "Probabilistic" not in request["Rule"]:
        raise invalid("Rule must have the member Probabilistic.")
    percentage = request["Rule"]["Probabilistic"]["DesiredSamplingPercentage"]
    if not 0 <= percentage <= 100:
        raise invalid("DesiredSamplingPercentage must be from 0 to 100.")
    rule = Indexing(percentage, backend.clock())
    with changing_resources(backend.store.database) as resources:
        resources.put(INDEXING, INDEXING_RULE, rule)
    return {"IndexingRule": _indexing(rule)}


def get_trace_segment_destination(backend: Backend, request: Request) -> Members:
    """GetTraceSegmentDestination: always X-Ray."""
    return {"Destination": "XRay", "Status": "ACTIVE"}


def update_trace_segment_destination(backend: Backend, request: Request) -> Members:
    """UpdateTraceSegmentDestination: X-Ray is the only one there is here."""
    if "Destination" not in request:
        raise invalid("Destination is required.")
    if request["Destination"] != "XRay":
        raise invalid("The destination CloudWatchLogs is not supported locally.")
    return get_trace_segment_destination(backend, request)


def _encryption(encryption: Encryption, status: str) -> Members:
    members = {"Type": encryption.type, "Status": status}
    if encryption.key is not None:
        members["KeyId"] = encryption.key
    return {"EncryptionConfig": members}


def _check_policy(document: str) -> None:
    try:
        if isinstance(msgspec.json.decode(document), dict):
            return
    except (msgspec.DecodeError, RecursionError):
        pass
    raise ApiError("MalformedPolicyDocumentException", "The policy document is not a JSON object.")


def _check_revision(request: Request, current: int) -> None:
    wanted = request.get("PolicyRevisionId")
    if wanted is not None and wanted != str(current):
        raise ApiError(
            "InvalidPolicyRevisionIdException",
            f"The policy's revision is {current}, not {wanted}."
            if current
            else f"The policy does not exist, so it has no revision {wanted}.",
        )


def _policy(name: str, policy: Policy) -> dict[str, Any]:
    return {
        "PolicyName": name,
        "PolicyDocument": policy.document,
        "PolicyRevisionId": str(policy.revision),
        "LastUpdatedTime": policy.updated_at,
    }


def _indexing(rule: Indexing) -> dict[str, Any]:
    return {
        "Name": INDEXING_RULE,
        "ModifiedAt": rule.modified_at,
        "Rule": {
            "Probabilistic": {
                "DesiredSamplingPercentage": rule.percentage,
                "ActualSamplingPercentage": 100.0,
            }
        },
    }
