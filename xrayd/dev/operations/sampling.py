"""Sampling rules, and the targets that clients poll.

Sources: botocore `xray` model; AWS X-Ray Developer Guide, "Configuring sampling rules" and "Using
sampling rules with the X-Ray API"; the answers of the X-Ray SDKs' samplers to small omissions
(every rule has `Attributes`, times are numbers, error codes of unprocessed statistics begin like
HTTP statuses).
"""

from __future__ import annotations

from typing import Any

import msgspec

from xrayd.dev.answers import ApiError, invalid
from xrayd.dev.backend import Backend, Members, Request
from xrayd.dev.operations.tags import TAGS, put_first_tags
from xrayd.dev.resources import Kind, Resources, changing_resources, reading_resources
from xrayd.dev.sampling import RateBoost, SamplingRule, Statistics
from xrayd.dev.tokens import page

DEFAULT_RULE = "Default"
"""The rule of last resort: always there, not to be deleted."""

DEFAULT_RATE = 1.0
"""The share a dev endpoint samples by default: everything (X-Ray itself: 0.05)."""

RULES_MAX = 25
"""Rules of one region beside the default one (AWS X-Ray endpoints and quotas)."""

RULE = Kind("sampling-rule", SamplingRule)
RULES_MODIFIED = Kind("sampling-rules-modified", float)
"""When any rule was last created, changed or deleted, epoch seconds; the one name is ""."""

_NEVER = (
    1.0  # rules were never modified: long ago, but not 0, which the SDK for Node takes for none
)
_PAGE_RULES = 100  # all of them: the SDKs' samplers do not follow NextToken
_PAGE_SUMMARIES = 1000
_PRIORITY_MAX = 9999
_ARN_MARK = ":sampling-rule/"
_MATCHERS = {
    "ResourceARN": "resource_arn",
    "Priority": "priority",
    "ServiceName": "service_name",
    "ServiceType": "service_type",
    "Host": "host",
    "HTTPMethod": "http_method",
    "URLPath": "url_path",
    "Attributes": "attributes",
}
_RATES = {"FixedRate": "fixed_rate", "ReservoirSize": "reservoir_size"}


def create_sampling_rule(backend: Backend, request: Request) -> Members:
    """CreateSamplingRule."""
    wanted = request["SamplingRule"]
    name = _name_of(wanted)
    if wanted["Version"] != 1:
        raise invalid("Version of a sampling rule must be 1.")
    now = backend.clock()
    with changing_resources(backend.store.database) as resources:
        rules = _all_rules(backend, resources)
        if name in rules:
            raise invalid(f"Sampling rule {name} already exists.")
        if len(rules) > RULES_MAX:
            raise ApiError(
                "RuleLimitExceededException", f"The limit of {RULES_MAX} sampling rules is reached."
            )
        rule = SamplingRule(
            name=name,
            arn=backend.arn(f"sampling-rule/{name}"),
            version=1,
            boost=_boost(wanted),
            created_at=now,
            modified_at=now,
            **{field: wanted[member] for member, field in _RATES.items()},
            **{field: wanted.get(member, {}) for member, field in _MATCHERS.items()},
        )
        _put(resources, rule, now)
        put_first_tags(resources, rule.arn, request)
    return {"SamplingRuleRecord": _record(rule)}


def get_sampling_rules(backend: Backend, request: Request) -> Members:
    """GetSamplingRules, in the order in which they are tried."""
    shown, more = page(
        "GetSamplingRules",
        sorted(load_rules(backend).values(), key=_order),
        key=_order,
        kind=tuple[int, str],
        token=request.get("NextToken"),
        size=_PAGE_RULES,
    )
    return {"SamplingRuleRecords": [_record(rule) for rule in shown], **more}


def update_sampling_rule(backend: Backend, request: Request) -> Members:
    """UpdateSamplingRule; what is not given stays as it is."""
    wanted = request["SamplingRuleUpdate"]
    name = _name_of(wanted)
    _check_ranges(wanted)
    now = backend.clock()
    with changing_resources(backend.store.database) as resources:
        rule = _find(_all_rules(backend, resources), name)
        if name == DEFAULT_RULE and not wanted.keys() <= {"RuleName", "RuleARN", *_RATES}:
            raise invalid("Invalid update request for default sampling rule")
        for member, field in {**_MATCHERS, **_RATES}.items():
            if member in wanted:
                setattr(rule, field, wanted[member])
        rule.boost = _boost(wanted) or rule.boost
        rule.modified_at = now
        _put(resources, rule, now)
    return {"SamplingRuleRecord": _record(rule)}


def delete_sampling_rule(backend: Backend, request: Request) -> Members:
    """DeleteSamplingRule; answers what was deleted."""
    name = _name_of(request)
    with changing_resources(backend.store.database) as resources:
        rule = _find(_all_rules(backend, resources), name)
        if name == DEFAULT_RULE:
            raise invalid("The default sampling rule cannot be deleted.")
        resources.delete(RULE, name)
        resources.delete(TAGS, rule.arn)
        resources.put(RULES_MODIFIED, "", backend.clock())
    return {"SamplingRuleRecord": _record(rule)}


def get_sampling_targets(backend: Backend, request: Request) -> Members:
    """GetSamplingTargets: counts the reports and answers a target for each rule that exists."""
    now = backend.clock()
    with reading_resources(backend.store.database) as resources:
        rules = _all_rules(backend, resources)
        modified = resources.get(RULES_MODIFIED, "") or _NEVER
    reports = [
        Statistics(
            rule=document["RuleName"],
            client=document["ClientID"],
            timestamp=document["Timestamp"],
            requests=document["RequestCount"],
            sampled=document["SampledCount"],
            borrowed=document.get("BorrowCount", 0),
        )
        for document in request["SamplingStatisticsDocuments"]
    ]
    known = [report for report in reports if report.rule in rules]
    backend.windows.add(known, now)
    boosts = request.get("SamplingBoostStatisticsDocuments")
    members: Members = {
        "SamplingTargetDocuments": [
            {
                "RuleName": target.rule,
                "FixedRate": target.fixed_rate,
                "ReservoirQuota": target.quota,
                "ReservoirQuotaTTL": target.quota_ttl,
                "Interval": target.interval,
            }
            for target in backend.targets(rules, known, now)
        ],
        "LastRuleModification": modified,
        "UnprocessedStatistics": [
            _unprocessed(report.rule) for report in reports if report.rule not in rules
        ],
    }
    if boosts is not None:  # samplers from before boosts need not know the member
        members["UnprocessedBoostStatistics"] = [
            _unprocessed(boost["RuleName"]) for boost in boosts if boost["RuleName"] not in rules
        ]
    return members


def read_leniently(body: Any) -> Any:
    """A GetSamplingTargets body with what real samplers send made what the model says.

    The sampler of the AWS distribution of OpenTelemetry for Python writes `SampleCount`; others
    leave counts out, and OpenTelemetry samplers report all rules at once, also more than the 25
    that the model allows.
    """
    documents = body.get("SamplingStatisticsDocuments") if isinstance(body, dict) else None
    if not isinstance(documents, list):
        return body
    return {
        **body,
        "SamplingStatisticsDocuments": [
            {
                "RequestCount": 0,
                "SampledCount": document.get("SampleCount", 0),
                **{name: value for name, value in document.items() if value is not None},
            }
            if isinstance(document, dict)
            else document
            for document in documents
        ],
    }


def get_sampling_statistic_summaries(backend: Backend, request: Request) -> Members:
    """GetSamplingStatisticSummaries: the last hour in windows of ten seconds."""
    shown, more = page(
        "GetSamplingStatisticSummaries",
        backend.windows.all(backend.clock()),
        key=lambda window: (window.start, window.rule),
        kind=tuple[int, str],
        token=request.get("NextToken"),
        size=_PAGE_SUMMARIES,
    )
    return {
        "SamplingStatisticSummaries": [
            {
                "RuleName": window.rule,
                "Timestamp": window.start,
                "RequestCount": window.requests,
                "BorrowCount": window.borrowed,
                "SampledCount": window.sampled,
            }
            for window in shown
        ],
        **more,
    }


def load_rules(backend: Backend) -> dict[str, SamplingRule]:
    """Every rule by name, the default one included."""
    with reading_resources(backend.store.database) as resources:
        return _all_rules(backend, resources)


def _all_rules(backend: Backend, resources: Resources) -> dict[str, SamplingRule]:
    default = SamplingRule(
        name=DEFAULT_RULE,
        arn=backend.arn(f"sampling-rule/{DEFAULT_RULE}"),
        resource_arn="*",
        priority=_PRIORITY_MAX + 1,
        fixed_rate=DEFAULT_RATE,
        reservoir_size=1,
        service_name="*",
        service_type="*",
        host="*",
        http_method="*",
        url_path="*",
        version=1,
        attributes={},
        boost=None,
        created_at=0.0,
        modified_at=0.0,
    )
    return {DEFAULT_RULE: default, **resources.all(RULE)}


def _put(resources: Resources, rule: SamplingRule, now: float) -> None:
    resources.put(RULE, rule.name, rule)
    resources.put(RULES_MODIFIED, "", now)


def _find(rules: dict[str, SamplingRule], name: str) -> SamplingRule:
    if name not in rules:
        raise invalid(f"Sampling rule {name} does not exist.")
    return rules[name]


def _name_of(wanted: dict[str, Any]) -> str:
    name, arn = wanted.get("RuleName"), wanted.get("RuleARN")
    if (name is None) == (arn is None):
        raise invalid("Name a sampling rule by either RuleName or RuleARN, but not both.")
    if name is not None:
        return str(name)
    _, mark, named = str(arn).partition(_ARN_MARK)
    if not mark or not 1 <= len(named) <= 32:
        raise invalid(f"{arn} is not the ARN of a sampling rule.")
    return named


def _check_ranges(wanted: dict[str, Any]) -> None:
    """The ranges the model gives for creating, but leaves open for updating."""
    if not 1 <= wanted.get("Priority", 1) <= _PRIORITY_MAX:
        raise invalid(f"Priority must be from 1 to {_PRIORITY_MAX}.")
    if not 0 <= wanted.get("FixedRate", 0) <= 1:
        raise invalid("FixedRate must be from 0 to 1.")
    if wanted.get("ReservoirSize", 0) < 0:
        raise invalid("ReservoirSize must not be negative.")


def _boost(wanted: dict[str, Any]) -> RateBoost | None:
    boost = wanted.get("SamplingRateBoost")
    return None if boost is None else msgspec.convert(boost, RateBoost)


def _order(rule: SamplingRule) -> tuple[int, str]:
    return rule.priority, rule.name


def _record(rule: SamplingRule) -> dict[str, Any]:
    members: dict[str, Any] = {
        "RuleName": rule.name,
        "RuleARN": rule.arn,
        "Version": rule.version,
        **{member: getattr(rule, field) for member, field in {**_MATCHERS, **_RATES}.items()},
    }
    if rule.boost is not None:
        members["SamplingRateBoost"] = rule.boost
    return {
        "SamplingRule": members,
        "CreatedAt": rule.created_at,
        "ModifiedAt": rule.modified_at,
    }


def _unprocessed(rule: str) -> dict[str, str]:
    # a code that begins with 4 makes the SDK for Go fetch the rules again
    return {
        "RuleName": rule,
        "ErrorCode": "404",
        "Message": f"Sampling rule {rule} does not exist.",
    }
