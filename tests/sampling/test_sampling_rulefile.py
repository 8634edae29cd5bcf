from __future__ import annotations

import json

import pytest
from sampling_samples import NOW, records, rule

from xrayd.errors import ConfigError
from xrayd.sampling.rule import encode_rules
from xrayd.sampling.rulefile import read_rules

LOCAL = {
    "version": 2,
    "rules": [
        {
            "description": "Player moves.",
            "host": "*.example.com",
            "http_method": "GET",
            "url_path": "/move/*",
            "fixed_target": 0,
            "rate": 0.05,
        },
        {"host": "*", "http_method": "*", "url_path": "/b", "fixed_target": 3, "rate": 1},
    ],
    "default": {"fixed_target": 1, "rate": 0.1},
}


def read(content):
    return [record.sampling_rule for record in read_rules(content, "rules.yaml", modified_at=NOW)]


def complaint(content) -> str:
    with pytest.raises(ConfigError) as caught:
        read(content)
    return str(caught.value)


def changed(**fields):
    """LOCAL with other fields in its first rule; None takes a field away."""
    first = {**LOCAL["rules"][0], **fields}
    first = {name: value for name, value in first.items() if value is not None}
    return {**LOCAL, "rules": [first]}


def test_a_version_2_file_becomes_rules_in_its_own_order():
    first, second, default = read(LOCAL)
    assert (first.priority, second.priority, default.priority) == (1, 2, 10_000)
    assert (first.host, first.http_method, first.url_path) == ("*.example.com", "GET", "/move/*")
    assert (first.reservoir_size, first.fixed_rate) == (0, 0.05)
    assert (second.reservoir_size, second.fixed_rate) == (3, 1.0)
    assert (default.rule_name, default.reservoir_size, default.fixed_rate) == ("Default", 1, 0.1)
    assert first.rule_arn.endswith(":sampling-rule/local-1")


def test_a_version_1_file_names_the_host_service_name():
    content = changed(host=None, service_name="shop*")
    assert read({**content, "version": 1})[0].host == "shop*"


def test_a_file_with_only_a_default_is_enough():
    assert [each.rule_name for each in read({"version": 1, "default": LOCAL["default"]})] == [
        "Default"
    ]


def test_records_carry_the_files_time():
    record, *_, default = read_rules(LOCAL, "f", modified_at=NOW)
    assert (record.created_at, record.modified_at) == (NOW, NOW)
    assert (default.created_at, default.modified_at) == (0.0, NOW)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({**LOCAL, "version": 3}, "rules.yaml: version: 3 is not known; write 1 or 2"),
        ({**LOCAL, "version": None}, "version: None is not known"),
        ({**LOCAL, "extra": 1}, "extra: not part of a rules file"),
        ({**LOCAL, "rules": {"a": 1}}, "rules: must be a list"),
        ({**LOCAL, "rules": False}, "rules: must be a list"),
        ({**LOCAL, "rules": ["a"]}, "rules[0]: must be an object"),
        ({"version": 2, "rules": []}, "default: missing; add it with fixed_target"),
        ({**LOCAL, "default": 5}, "default: must be an object"),
        ({**LOCAL, "default": {"rate": 0.1}}, "default.fixed_target: None is not a number"),
        (
            {**LOCAL, "default": {**LOCAL["default"], "url_path": "/x"}},
            "default.url_path: the default takes every request; remove it",
        ),
        (changed(rate=5), "rules[0].rate: 5 is not a share; write a number from 0"),
        (changed(rate="0.5"), "rules[0].rate: '0.5' is not a share"),
        (changed(rate=-0.5), "rules[0].rate: -0.5"),
        (changed(rate=None), "rules[0].rate: None"),
        (changed(fixed_target=-1), "rules[0].fixed_target: -1"),
        (changed(fixed_target=0.5), "rules[0].fixed_target: 0.5"),
        (changed(fixed_target=1e300), "rules[0].fixed_target: 1e+300 is not a number"),
        (changed(fixed_target=2**31), "write 0, 1, 2, … (2147483647 at most)"),
        (changed(host="a\ud800"), "rules.yaml: 'a\\ud800' has half a character"),
        (changed(url_path=None), "rules[0].url_path: must be a pattern; write '*'"),
        (changed(http_method=""), "rules[0].http_method: must be a pattern"),
        (changed(host=None, service_name="a"), "version 2 names it host"),
        ({**changed(), "version": 1}, "version 1 names it service_name"),
        (changed(ratee=1), "rules[0].ratee: not a field of a version 2 rule"),
        ("text", "these are no sampling rules; give a local rules file"),
        (None, "these are no sampling rules"),
        ({"rules": []}, "these are no sampling rules"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_local_file_is_refused_with_the_place_and_the_remedy(content, said):
    message = complaint(content)
    assert message.startswith("rules.yaml: ")
    assert said in message


API_RULE = {"RuleName": "a", "Priority": 5, "FixedRate": 0.5, "ReservoirSize": 2, "URLPath": "/a*"}


@pytest.mark.parametrize(
    "content",
    [
        [API_RULE],
        [{"SamplingRule": API_RULE, "CreatedAt": "2026-01-01T00:00:00Z"}],
        {"SamplingRuleRecords": [{"SamplingRule": API_RULE}]},
        {"SamplingRuleRecords": [{"SamplingRule": API_RULE}], "NextToken": None},
    ],
    ids=["rules", "records", "answer", "page"],
)
def test_the_apis_own_form_is_read_and_a_default_rule_added(content):
    first, default = read(content)
    assert (first.rule_name, first.priority, first.url_path, first.host) == ("a", 5, "/a*", "*")
    assert (default.rule_name, default.fixed_rate, default.reservoir_size) == ("Default", 0.05, 1)


def test_what_get_sampling_rules_answered_can_be_saved_and_read_back():
    served = records(rule("a", attributes={"k": "v"}), rule("b"), default_rate=0.7)
    again = read(json.loads(encode_rules(served)))
    assert {each.rule_name for each in again} == {"a", "b", "Default"}
    default = next(each for each in again if each.is_default)
    assert (default.priority, default.fixed_rate) == (10_000, 0.7)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([5], "rules.yaml: [0]: must be an object"),
        ([{"SamplingRule": 5}], "[0].SamplingRule: must be an object"),
        ([{**API_RULE, "URLpath": "/b"}], "[0].URLpath: not a field of a sampling rule"),
        (
            [{**API_RULE, "FixedRate": 2}],
            "[0]: 1 validation error detected: Value '2' at 'FixedRate'",
        ),
        ([API_RULE, API_RULE], "[1].RuleName: a is there twice; rename one"),
        ([{**API_RULE, "RuleName": "Default"}], "[0]: Default takes every request"),
        ({"SamplingRuleRecords": [API_RULE, {}]}, "SamplingRuleRecords[1]: 1 validation error"),
        ([{**API_RULE, "Version": 2}], "[0]: Only sampling rules of Version 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_api_file_is_refused_with_the_place_and_the_remedy(content, said):
    assert said in complaint(content)


def test_a_file_may_have_more_rules_than_an_account():
    many = [{**API_RULE, "RuleName": f"r{number}"} for number in range(40)]
    assert len(read(many)) == 41
