"""Rules and requests in the form the tests need them."""

from __future__ import annotations

import json

from xrayd.sampling.rule import SamplingRule, SamplingRuleRecord, default_record

OWN_ID = "0" * 24
NOW = 1_800_000_000.0


def rule(name: str, **fields) -> SamplingRule:
    fields = {"priority": 100, "fixed_rate": 0.5, "reservoir_size": 1, **fields}
    return SamplingRule(rule_name=name, **fields)


def records(*rules: SamplingRule, default_rate: float = 0.05, default_reservoir: int = 1):
    default = default_record().sampling_rule
    if not any(each.is_default for each in rules):
        rules += (
            SamplingRule(
                rule_name=default.rule_name,
                fixed_rate=default_rate,
                reservoir_size=default_reservoir,
            ),
        )
    return [SamplingRuleRecord(sampling_rule=each, modified_at=NOW - 1000) for each in rules]


def client(number: int) -> str:
    return f"{number:024x}"


def row(rule_name: str, client_id: str, requests: int, sampled: int = 0, borrowed: int = 0) -> dict:
    return {
        "RuleName": rule_name,
        "ClientID": client_id,
        "Timestamp": NOW,
        "RequestCount": requests,
        "SampledCount": sampled,
        "BorrowCount": borrowed,
    }


def body(*rows: dict, **more) -> bytes:
    return json.dumps({"SamplingStatisticsDocuments": rows, **more}).encode()


def targets(answer: bytes) -> dict[str, dict]:
    return {doc["RuleName"]: doc for doc in json.loads(answer)["SamplingTargetDocuments"]}


def upstream_answer(*documents: dict, modified: float = NOW - 1000, unprocessed=()) -> bytes:
    return json.dumps(
        {
            "SamplingTargetDocuments": documents,
            "LastRuleModification": modified,
            "UnprocessedStatistics": unprocessed,
        }
    ).encode()


def grant(name: str, quota: int | None = None, rate: float = 0.5, ttl: float = NOW + 300) -> dict:
    document = {"RuleName": name, "FixedRate": rate, "Interval": 10}
    if quota is not None:
        document |= {"ReservoirQuota": quota, "ReservoirQuotaTTL": ttl}
    return document
