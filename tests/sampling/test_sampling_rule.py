from __future__ import annotations

import json

import pytest
from sampling_samples import records, rule

from xrayd.sampling.rule import (
    AnswerError,
    SamplingRateBoost,
    decode_rules,
    default_record,
    encode_rules,
    in_order,
    read_record,
)

WIRE_NAMES = [
    "RuleName",
    "RuleARN",
    "ResourceARN",
    "Priority",
    "FixedRate",
    "ReservoirSize",
    "ServiceName",
    "ServiceType",
    "Host",
    "HTTPMethod",
    "URLPath",
    "Version",
    "Attributes",
]


def sent(*rules):
    answer = json.loads(encode_rules(records(*rules)))
    return {record["SamplingRule"]["RuleName"]: record for record in answer["SamplingRuleRecords"]}


def test_every_rule_is_sent_with_an_empty_attributes_object_because_node_and_java_need_it():
    assert [each["SamplingRule"]["Attributes"] for each in sent(rule("a")).values()] == [{}, {}]


def test_times_are_numbers_because_node_and_java_read_nothing_else():
    record = sent(rule("a"))["a"]
    assert isinstance(record["CreatedAt"], float)
    assert isinstance(record["ModifiedAt"], float)


def test_version_and_reservoir_are_integers_and_the_rate_a_float():
    text = encode_rules(records(rule("a", fixed_rate=1.0, reservoir_size=5)))
    assert b'"Version":1,' in text
    assert b'"ReservoirSize":5,' in text
    assert b'"FixedRate":1.0,' in text


def test_only_known_keys_are_sent_because_the_otel_distro_passes_them_to_a_constructor():
    assert list(sent(rule("a"))["a"]["SamplingRule"]) == WIRE_NAMES


def test_a_boost_is_sent_only_where_it_is_set():
    boosted = rule("b", sampling_rate_boost=SamplingRateBoost(0.5, 10))
    answer = sent(rule("a"), boosted)
    assert "SamplingRateBoost" not in answer["a"]["SamplingRule"]
    assert answer["b"]["SamplingRule"]["SamplingRateBoost"] == {
        "MaxRate": 0.5,
        "CooldownWindowMinutes": 10,
    }


def test_there_is_no_next_token_on_the_only_page():
    assert list(json.loads(encode_rules(records()))) == ["SamplingRuleRecords"]


def test_the_last_modified_rule_is_sent_last_because_java_looks_only_at_it_for_changes():
    old, new = records(rule("new"), default_rate=0.1)[0], records(rule("old"))[0]
    import msgspec

    new = msgspec.structs.replace(new, modified_at=new.modified_at + 5)
    answer = json.loads(encode_rules([new, old, default_record()]))
    names = [record["SamplingRule"]["RuleName"] for record in answer["SamplingRuleRecords"]]
    assert names == ["Default", "new", "old"]


def test_the_default_rule_is_the_one_in_the_developer_guide():
    default = default_record().sampling_rule
    assert default.is_default
    assert (default.priority, default.fixed_rate, default.reservoir_size) == (10_000, 0.05, 1)
    assert set(default.matchers) == {"*"}
    assert default_record().created_at == 0.0


def test_rules_are_tried_by_priority_then_by_name():
    mixed = [rule("b", priority=2), rule("z", priority=1), rule("a", priority=2)]
    assert [each.rule_name for each in in_order(mixed)] == ["z", "a", "b"]


def test_a_page_survives_a_round_trip():
    page = decode_rules(encode_rules(records(rule("a", attributes={"k": "v*"}))))
    assert {each.sampling_rule.rule_name: each for each in page.records} == {
        each.sampling_rule.rule_name: each for each in records(rule("a", attributes={"k": "v*"}))
    }
    assert page.next_token is None
    assert page.unreadable == 0


def test_upstream_may_send_unknown_fields_integral_floats_nulls_and_single_bad_records():
    good = {"RuleName": "a", "FixedRate": 1, "ReservoirSize": 2.0, "Version": 1, "New": [1]}
    answer = {
        "SamplingRuleRecords": [
            {"SamplingRule": {**good, "Attributes": None, "Host": None}, "CreatedAt": 5, "X": 1},
            {"SamplingRule": {"FixedRate": 1}},
            {"SamplingRule": {"RuleName": "no rate"}},
            {"SamplingRule": None},
            "nonsense",
        ],
        "NextToken": "more",
    }
    page = decode_rules(json.dumps(answer).encode())
    assert page.unreadable == 4
    assert page.next_token == "more"
    (record,) = page.records
    assert record.created_at == 5.0
    assert record.sampling_rule == rule("a", priority=10_000, fixed_rate=1.0, reservoir_size=2)


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"[]", b"{}", b'{"SamplingRuleRecords": 3}', b"[" * 100_000]
)
def test_what_is_no_rules_answer_is_said_to_be_none(answer):
    with pytest.raises(AnswerError, match="GetSamplingRules answer"):
        decode_rules(answer)


def test_numbers_no_client_could_read_are_not_passed_on():
    raw = {"RuleName": "a", "FixedRate": 5, "Priority": 1e300, "ReservoirSize": 10**400}
    record = read_record({"SamplingRule": raw, "CreatedAt": float("inf")})
    encode_rules([record])
    assert record.created_at == 0.0
    assert (record.sampling_rule.fixed_rate, record.sampling_rule.reservoir_size) == (1.0, 0)
