from __future__ import annotations

import pytest
from sampling_samples import rule

from xrayd.sampling.rule import default_record
from xrayd.sampling.validation import (
    RuleError,
    RuleErrorCode,
    create_rule,
    delete_rule,
    update_rule,
)

PREFIX = "arn:aws:xray:us-east-1:000000000000:sampling-rule/"
DEFAULT = default_record(PREFIX + "Default").sampling_rule
GOOD = {
    "RuleName": "r1",
    "ResourceARN": "*",
    "Priority": 1000,
    "FixedRate": 0.05,
    "ReservoirSize": 1,
    "ServiceName": "*",
    "ServiceType": "*",
    "Host": "*",
    "HTTPMethod": "*",
    "URLPath": "/x/*",
    "Version": 1,
    "Attributes": {"a": "b*"},
}


def refusal(action, *arguments) -> RuleError:
    with pytest.raises(RuleError) as caught:
        action(*arguments)
    return caught.value


def test_a_good_rule_is_created_with_its_arn():
    created = create_rule(GOOD, [DEFAULT], PREFIX)
    assert created.rule_arn == PREFIX + "r1"
    assert created.url_path == "/x/*"
    assert created.attributes == {"a": "b*"}
    assert (created.priority, created.fixed_rate, created.reservoir_size) == (1000, 0.05, 1)


def test_a_rule_may_be_created_by_its_arn_instead_of_a_name():
    fields = {**GOOD, "RuleName": None, "RuleARN": PREFIX + "by-arn"}
    assert create_rule(fields, [DEFAULT], PREFIX).rule_name == "by-arn"


def test_a_boost_is_taken_over():
    boost = {"MaxRate": 0.5, "CooldownWindowMinutes": 3}
    created = create_rule({**GOOD, "SamplingRateBoost": boost}, [DEFAULT], PREFIX)
    assert created.sampling_rate_boost.cooldown_window_minutes == 3


@pytest.mark.parametrize(
    "missing", [name for name in GOOD if name not in {"Attributes", "RuleName"}]
)
def test_every_required_field_is_asked_for(missing):
    fields = {name: value for name, value in GOOD.items() if name != missing}
    error = refusal(create_rule, fields, [DEFAULT], PREFIX)
    assert error.code is RuleErrorCode.VALIDATION
    assert f"'{missing}'" in error.message
    assert "must not be null" in error.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("RuleName", ""),
        ("RuleName", "x" * 33),
        ("RuleName", 5),
        ("Priority", 0),
        ("Priority", 10_000),
        ("Priority", 1.5),
        ("Priority", "1"),
        ("Priority", True),
        ("FixedRate", -0.1),
        ("FixedRate", 1.1),
        ("FixedRate", "0.1"),
        ("FixedRate", float("nan")),
        ("ReservoirSize", -1),
        ("ReservoirSize", 2**31),
        ("ServiceName", "x" * 65),
        ("ServiceType", "x" * 65),
        ("Host", "x" * 65),
        ("HTTPMethod", "x" * 11),
        ("URLPath", "x" * 129),
        ("ResourceARN", "x" * 501),
        ("Version", 0),
        ("Attributes", ["a"]),
        ("Attributes", {str(key): "v" for key in range(6)}),
        ("Attributes", {"": "v"}),
        ("Attributes", {"k": ""}),
        ("Attributes", {"k" * 33: "v"}),
        ("Attributes", {"k": "v" * 33}),
        ("Attributes", {"k": 5}),
        ("SamplingRateBoost", {"MaxRate": 0.5}),
        ("SamplingRateBoost", {"MaxRate": 2, "CooldownWindowMinutes": 1}),
        ("SamplingRateBoost", {"MaxRate": 0.5, "CooldownWindowMinutes": -1}),
    ],
)
def test_a_field_outside_the_model_is_a_validation_error_that_names_it(field, value):
    error = refusal(create_rule, {**GOOD, field: value}, [DEFAULT], PREFIX)
    assert error.code is RuleErrorCode.VALIDATION
    assert field in error.message


def test_what_is_no_object_is_a_validation_error():
    assert refusal(create_rule, "r1", [DEFAULT], PREFIX).code is RuleErrorCode.VALIDATION
    assert refusal(update_rule, None, [DEFAULT]).code is RuleErrorCode.VALIDATION


@pytest.mark.parametrize(
    "change",
    [
        {"RuleARN": PREFIX + "r1"},
        {"RuleName": None},
        {"RuleName": None, "RuleARN": "arn:aws:s3:::bucket"},
        {"RuleName": "taken"},
        {"RuleName": "Default"},
        {"Version": 2},
    ],
    ids=str,
)
def test_what_only_the_other_rules_forbid_is_an_invalid_request(change):
    existing = [DEFAULT, rule("taken")]
    error = refusal(create_rule, {**GOOD, **change}, existing, PREFIX)
    assert error.code is RuleErrorCode.INVALID_REQUEST


def test_the_twenty_sixth_custom_rule_is_refused():
    existing = [DEFAULT, *(rule(f"r-{number}") for number in range(25))]
    assert create_rule(GOOD, existing[:-1], PREFIX).rule_name == "r1"
    error = refusal(create_rule, GOOD, existing, PREFIX)
    assert error.code is RuleErrorCode.RULE_LIMIT_EXCEEDED
    assert "25" in error.message


@pytest.mark.parametrize("by", [{"RuleName": "r1"}, {"RuleARN": PREFIX + "r1"}], ids=str)
def test_an_update_changes_what_it_names_and_nothing_else(by):
    before = create_rule(GOOD, [DEFAULT], PREFIX)
    after = update_rule({**by, "FixedRate": 0.5, "Host": None}, [DEFAULT, before])
    assert after.fixed_rate == 0.5
    assert (after.rule_name, after.rule_arn) == (before.rule_name, before.rule_arn)
    assert after.host == before.host
    assert after.priority == before.priority


def test_an_update_is_held_to_the_model_too():
    before = create_rule(GOOD, [DEFAULT], PREFIX)
    error = refusal(update_rule, {"RuleName": "r1", "Priority": 0}, [before])
    assert error.code is RuleErrorCode.VALIDATION


def test_rate_and_reservoir_of_the_default_rule_may_change():
    after = update_rule({"RuleName": "Default", "FixedRate": 1, "ReservoirSize": 2}, [DEFAULT])
    assert (after.fixed_rate, after.reservoir_size, after.priority) == (1.0, 2, 10_000)


def test_nothing_else_of_the_default_rule_may_change():
    error = refusal(update_rule, {"RuleName": "Default", "Host": "*"}, [DEFAULT])
    assert error.code is RuleErrorCode.INVALID_REQUEST
    assert error.message == "Invalid update request for default sampling rule"


@pytest.mark.parametrize("action", [update_rule, delete_rule])
@pytest.mark.parametrize(
    "by", [{"RuleName": "nobody"}, {"RuleARN": PREFIX + "nobody"}, {}], ids=str
)
def test_an_unknown_rule_is_an_invalid_request_for_the_model_has_no_404(action, by):
    assert refusal(action, by, [DEFAULT]).code is RuleErrorCode.INVALID_REQUEST


def test_a_rule_is_deleted_by_name_or_arn_but_not_by_both():
    existing = [DEFAULT, create_rule(GOOD, [DEFAULT], PREFIX)]
    assert delete_rule({"RuleName": "r1"}, existing).rule_name == "r1"
    assert delete_rule({"RuleARN": PREFIX + "r1"}, existing).rule_name == "r1"
    both = {"RuleName": "r1", "RuleARN": PREFIX + "r1"}
    assert refusal(delete_rule, both, existing).code is RuleErrorCode.INVALID_REQUEST


def test_the_default_rule_cannot_be_deleted():
    error = refusal(delete_rule, {"RuleName": "Default"}, [DEFAULT])
    assert error.code is RuleErrorCode.INVALID_REQUEST
