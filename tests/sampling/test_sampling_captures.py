"""Sampler calls recorded from unmodified clients, answered by the authority."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sampling_samples import OWN_ID

from xrayd.sampling.broker import Broker
from xrayd.sampling.rule import decode_rules

DATA = Path(__file__).parent / "data"
CALLS = [json.loads(line) for line in (DATA / "calls.jsonl").read_text().splitlines()]
RULES = decode_rules((DATA / "rules.json").read_bytes()).records
CLIENTS = sorted({call["client"] for call in CALLS})


def replay(name: str) -> tuple[Broker, list[tuple[dict, dict]], float]:
    """The broker afterwards, each targets request with its answer, and the time of the last."""
    calls = [call for call in CALLS if call["client"] == name]
    broker = Broker(OWN_ID, is_authority=True)
    broker.absorb_rules(RULES, calls[0]["time"] - 5)
    exchanges = []
    for call in calls:
        if call["path"] == "/GetSamplingRules":
            assert broker.rules_answer() is not None
        else:
            answer = broker.report(call["body"].encode(), call["time"])
            exchanges.append((json.loads(call["body"]), json.loads(answer)))
    return broker, exchanges, calls[-1]["time"]


@pytest.mark.parametrize("name", CLIENTS)
def test_every_statistics_document_of_a_client_gets_its_target(name):
    _, exchanges, _ = replay(name)
    assert exchanges
    for request, answer in exchanges:
        asked = [each["RuleName"] for each in request["SamplingStatisticsDocuments"]]
        assert [each["RuleName"] for each in answer["SamplingTargetDocuments"]] == asked
        assert answer["UnprocessedStatistics"] == []
        for target in answer["SamplingTargetDocuments"]:
            assert type(target["FixedRate"]) is float
            assert {type(target[key]) for key in ("ReservoirQuota", "ReservoirQuotaTTL")} == {int}
            assert target["Interval"] == 10
        assert type(answer["LastRuleModification"]) is int
        speaks_boost = "SamplingBoostStatisticsDocuments" in request
        assert ("UnprocessedBoostStatistics" in answer) == speaks_boost


@pytest.mark.parametrize("name", CLIENTS)
def test_what_a_client_said_is_counted_whatever_it_calls_it(name):
    broker, exchanges, now = replay(name)
    documents = [
        each for request, _ in exchanges for each in request["SamplingStatisticsDocuments"]
    ]
    for shown in broker.statistics(now):
        rows = [each for each in documents if each["RuleName"] == shown.rule_name]
        assert shown.requests == sum(each["RequestCount"] for each in rows)
        assert shown.borrowed == sum(each["BorrowCount"] for each in rows)
        assert shown.sampled == sum(
            each["SampledCount"] if "SampledCount" in each else each["SampleCount"] for each in rows
        )


def test_the_captures_hold_the_oddities_they_are_kept_for():
    bodies = [call["body"] for call in CALLS if call["path"] == "/SamplingTargets"]
    assert any("SampleCount" in text for text in bodies)
    assert any('"RequestCount":0' in text for text in bodies)
    assert {call["body"] for call in CALLS if call["path"] == "/GetSamplingRules"} == {"", "{}"}
