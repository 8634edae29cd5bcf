"""Sampling rules in the store, and the broker that serves them to clients.

Every change is served at once: a client's next GetSamplingTargets tells it of the change, as
`LastRuleModification`.

Sources: botocore `xray` model; AWS X-Ray Developer Guide, "Configuring sampling rules" and "Using
sampling rules with the X-Ray API".
"""

from __future__ import annotations

import msgspec

from xrayd.dev.answers import ApiError, invalid
from xrayd.dev.backend import Backend, Members, Request
from xrayd.dev.operations.tags import TAGS, put_first_tags
from xrayd.dev.resources import Kind, Resources, changing_resources, reading_resources
from xrayd.dev.tokens import page
from xrayd.sampling.report import ReportError
from xrayd.sampling.rule import (
    DEFAULT_RULE_NAME,
    SamplingRule,
    SamplingRuleRecord,
    default_record,
)
from xrayd.sampling.validation import RuleError, create_rule, delete_rule, update_rule

DEFAULT_RATE = 1.0
"""The share a dev endpoint samples by default: everything (X-Ray itself: 0.05)."""

RULE = Kind("sampling-rule", SamplingRuleRecord)

_PAGE_SUMMARIES = 1000


def create_sampling_rule(backend: Backend, request: Request) -> Members:
    """CreateSamplingRule."""
    now = backend.clock()
    with changing_resources(backend.store.database) as resources:
        try:
            rule = create_rule(
                request["SamplingRule"],
                _rules(_all_records(backend, resources)),
                backend.arn("sampling-rule/"),
            )
        except RuleError as error:
            raise ApiError(error.code, error.message) from error
        record = SamplingRuleRecord(sampling_rule=rule, created_at=now, modified_at=now)
        resources.put(RULE, rule.rule_name, record)
        put_first_tags(resources, rule.rule_arn, request)
    serve_rules(backend)
    return {"SamplingRuleRecord": record}


def get_sampling_rules(backend: Backend, request: Request) -> bytes:
    """GetSamplingRules, always all of them: the SDKs' samplers do not follow NextToken."""
    if request.get("NextToken") is not None:
        raise invalid("NextToken is not valid: all sampling rules come in one answer")
    return backend.authority.rules_answer()


def update_sampling_rule(backend: Backend, request: Request) -> Members:
    """UpdateSamplingRule; what is not given stays as it is."""
    with changing_resources(backend.store.database) as resources:
        records = _all_records(backend, resources)
        try:
            rule = update_rule(request["SamplingRuleUpdate"], _rules(records))
        except RuleError as error:
            raise ApiError(error.code, error.message) from error
        record = msgspec.structs.replace(
            records[rule.rule_name], sampling_rule=rule, modified_at=backend.clock()
        )
        resources.put(RULE, rule.rule_name, record)
    serve_rules(backend)
    return {"SamplingRuleRecord": record}


def delete_sampling_rule(backend: Backend, request: Request) -> Members:
    """DeleteSamplingRule; answers what was deleted."""
    with changing_resources(backend.store.database) as resources:
        records = _all_records(backend, resources)
        try:
            rule = delete_rule(request, _rules(records))
        except RuleError as error:
            raise ApiError(error.code, error.message) from error
        resources.delete(RULE, rule.rule_name)
        resources.delete(TAGS, rule.rule_arn)
    serve_rules(backend)
    return {"SamplingRuleRecord": records[rule.rule_name]}


def get_sampling_targets(backend: Backend, body: bytes) -> bytes:
    """GetSamplingTargets, read as liberally as real samplers need."""
    try:
        return backend.authority.report(body, backend.clock())
    except ReportError as error:
        raise ApiError(error.code, error.message) from error


def get_sampling_statistic_summaries(backend: Backend, request: Request) -> Members:
    """GetSamplingStatisticSummaries: the last hour in windows of ten seconds."""
    shown, more = page(
        "GetSamplingStatisticSummaries",
        backend.authority.summaries(backend.clock()),
        key=lambda summary: (summary.timestamp, summary.rule_name),
        kind=tuple[float, str],
        token=request.get("NextToken"),
        size=_PAGE_SUMMARIES,
    )
    return {"SamplingStatisticSummaries": shown, **more}


def serve_rules(backend: Backend) -> None:
    """Give the rules as they are stored to the broker.

    Raises:
        StoreError: reading failed.
    """

    def read() -> list[SamplingRuleRecord]:
        with reading_resources(backend.store.database) as resources:
            return list(_all_records(backend, resources).values())

    backend.authority.load(read, backend.clock())


def _all_records(backend: Backend, resources: Resources) -> dict[str, SamplingRuleRecord]:
    default = default_record(backend.arn(f"sampling-rule/{DEFAULT_RULE_NAME}"))
    default = msgspec.structs.replace(
        default,
        sampling_rule=msgspec.structs.replace(default.sampling_rule, fixed_rate=DEFAULT_RATE),
    )
    return {DEFAULT_RULE_NAME: default, **resources.all(RULE)}


def _rules(records: dict[str, SamplingRuleRecord]) -> list[SamplingRule]:
    return [record.sampling_rule for record in records.values()]
