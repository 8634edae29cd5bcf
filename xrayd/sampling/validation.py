"""What CreateSamplingRule, UpdateSamplingRule and DeleteSamplingRule refuse, and in which words.

Constraints on single fields are the botocore model's and answered as `ValidationException`, as AWS
does; what depends on the other rules is `InvalidRequestException` or `RuleLimitExceededException`
(X-Ray Developer Guide, botocore model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from xrayd.errors import XraydError
from xrayd.sampling.rule import SamplingRateBoost, SamplingRule, read_number

CUSTOM_RULES_MAX = 25
"""Custom rules per region (AWS X-Ray endpoints and quotas)."""

_TEXTS = {
    # wire name: (attribute, shortest, longest), from the botocore model
    "RuleName": ("rule_name", 1, 32),
    "ResourceARN": ("resource_arn", 0, 500),
    "ServiceName": ("service_name", 0, 64),
    "ServiceType": ("service_type", 0, 64),
    "Host": ("host", 0, 64),
    "HTTPMethod": ("http_method", 0, 10),
    "URLPath": ("url_path", 0, 128),
}
_REQUIRED = (
    "RuleName",
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
)
_ATTRIBUTES_MAX = 5
_ATTRIBUTE_LONGEST = 32
_PRIORITY_MAX = 9_999
_INTEGER_MAX = 2**31 - 1
_DEFAULT_MAY_CHANGE = {"RuleName", "RuleARN", "FixedRate", "ReservoirSize"}


class RuleErrorCode(StrEnum):
    """The X-Ray API's own error names: what goes into `x-amzn-ErrorType`. All are answered with
    status 400.
    """

    INVALID_REQUEST = "InvalidRequestException"
    RULE_LIMIT_EXCEEDED = "RuleLimitExceededException"
    VALIDATION = "ValidationException"


class RuleError(XraydError):
    """A caller of the sampling API's: a rule, or a change to one, that cannot be taken.

    Attributes:
        code: the API's error name.
        message: one sentence for the answer's `Message`.
    """

    def __init__(self, code: RuleErrorCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def create_rule(raw: object, existing: Sequence[SamplingRule], arn_prefix: str) -> SamplingRule:
    """The rule that CreateSamplingRule's `SamplingRule` asks for.

    Args:
        raw: the object as decoded from JSON.
        existing: all rules there are, the default rule included.
        arn_prefix: `arn:aws:xray:REGION:ACCOUNT:sampling-rule/`; the name is put behind it.

    Raises:
        RuleError: a field breaks a constraint, the name is taken, or there are 25 custom rules.
    """
    fields = _present(raw, "SamplingRule")
    name, arn = fields.get("RuleName"), fields.pop("RuleARN", None)
    if (name is None) == (arn is None):
        raise _invalid("Give the sampling rule either a RuleName or a RuleARN, but not both.")
    if name is None:
        fields["RuleName"] = _name_in(arn)
    rule = check_rule(fields)
    if any(other.rule_name == rule.rule_name for other in existing):
        raise _invalid(f"A sampling rule named {rule.rule_name} already exists.")
    if sum(not other.is_default for other in existing) >= CUSTOM_RULES_MAX:
        raise RuleError(
            RuleErrorCode.RULE_LIMIT_EXCEEDED,
            f"There are {CUSTOM_RULES_MAX} custom sampling rules already; delete one first.",
        )
    return msgspec.structs.replace(rule, rule_arn=arn_prefix + rule.rule_name)


def check_rule(fields: Mapping[str, object]) -> SamplingRule:
    """A rule from its wire fields, every constraint of the model on single fields checked.

    Raises:
        RuleError: a required field is missing, or a field breaks its constraint.
    """
    for wire in _REQUIRED:
        if fields.get(wire) is None:
            raise _violation(wire, None, "Member must not be null")
    return _changed(SamplingRule(rule_name="", priority=1), fields)


def update_rule(raw: object, existing: Sequence[SamplingRule]) -> SamplingRule:
    """The rule as it is after UpdateSamplingRule's `SamplingRuleUpdate`; name and ARN stay.

    Args:
        raw: the object as decoded from JSON.
        existing: all rules there are.

    Raises:
        RuleError: no such rule, a field breaks a constraint, or more than rate and reservoir of
            the default rule would change.
    """
    fields = _present(raw, "samplingRuleUpdate")
    rule = find_rule(fields, existing)
    if rule.is_default and not fields.keys() <= _DEFAULT_MAY_CHANGE:
        raise _invalid("Invalid update request for default sampling rule")
    fields.pop("Version", None)  # no member of SamplingRuleUpdate
    return _changed(rule, {name: value for name, value in fields.items() if name != "RuleName"})


def delete_rule(raw: object, existing: Sequence[SamplingRule]) -> SamplingRule:
    """The rule that a DeleteSamplingRule request takes away.

    Args:
        raw: the request as decoded from JSON: `RuleName` or `RuleARN`.
        existing: all rules there are.

    Raises:
        RuleError: no such rule, or it is the default rule.
    """
    rule = find_rule(_present(raw, "request"), existing)
    if rule.is_default:
        raise _invalid("The default sampling rule cannot be deleted.")
    return rule


def find_rule(fields: Mapping[str, object], existing: Sequence[SamplingRule]) -> SamplingRule:
    """The rule named by `RuleName` or `RuleARN`; the model has no 404 for it.

    Raises:
        RuleError: neither or both are given, or there is no such rule.
    """
    name, arn = fields.get("RuleName"), fields.get("RuleARN")
    if (name is None) == (arn is None):
        raise _invalid("Name the sampling rule by either RuleName or RuleARN, but not both.")
    for rule in existing:
        if rule.rule_name == name or (arn is not None and rule.rule_arn == arn):
            return rule
    raise _invalid(f"There is no sampling rule {name if name is not None else arn}.")


def _present(raw: object, what: str) -> dict[str, object]:
    if not isinstance(raw, dict):
        raise _violation(what, raw, "Member must be an object")
    return {name: value for name, value in raw.items() if value is not None}


def _changed(rule: SamplingRule, fields: Mapping[str, object]) -> SamplingRule:
    """`rule` with the given wire fields in place of its own, each checked."""
    changes: dict[str, object] = {
        attribute: _text(fields[wire], wire, shortest, longest)
        for wire, (attribute, shortest, longest) in _TEXTS.items()
        if wire in fields
    }
    if "Priority" in fields:
        changes["priority"] = _whole(fields["Priority"], "Priority", 1, _PRIORITY_MAX)
    if "FixedRate" in fields:
        changes["fixed_rate"] = _number(fields["FixedRate"], "FixedRate", 0, 1)
    if "ReservoirSize" in fields:
        changes["reservoir_size"] = _whole(fields["ReservoirSize"], "ReservoirSize", 0)
    if "Version" in fields and _whole(fields["Version"], "Version", 1) != 1:
        raise _invalid("Only sampling rules of Version 1 are known.")
    if "Attributes" in fields:
        changes["attributes"] = _attributes(fields["Attributes"])
    if "SamplingRateBoost" in fields:
        changes["sampling_rate_boost"] = _boost(fields["SamplingRateBoost"])
    return msgspec.structs.replace(rule, **changes)


def _attributes(raw: object) -> dict[str, str]:
    if not isinstance(raw, dict):
        raise _violation("Attributes", raw, "Member must be an object of strings")
    if len(raw) > _ATTRIBUTES_MAX:
        raise _violation(
            "Attributes", raw, f"Member must have length less than or equal to {_ATTRIBUTES_MAX}"
        )
    return {
        _text(key, "Attributes", 1, _ATTRIBUTE_LONGEST): _text(
            value, f"Attributes.{key}", 1, _ATTRIBUTE_LONGEST
        )
        for key, value in raw.items()
    }


def _boost(raw: object) -> SamplingRateBoost:
    fields = _present(raw, "SamplingRateBoost")
    for name in ("MaxRate", "CooldownWindowMinutes"):
        if name not in fields:
            raise _violation(f"SamplingRateBoost.{name}", None, "Member must not be null")
    return SamplingRateBoost(
        max_rate=_number(fields["MaxRate"], "SamplingRateBoost.MaxRate", 0, 1),
        cooldown_window_minutes=_whole(
            fields["CooldownWindowMinutes"], "SamplingRateBoost.CooldownWindowMinutes", 0
        ),
    )


def _text(value: object, wire: str, shortest: int, longest: int) -> str:
    if not isinstance(value, str):
        raise _violation(wire, value, "Member must be a string")
    if len(value) < shortest:
        raise _violation(
            wire, value, f"Member must have length greater than or equal to {shortest}"
        )
    if len(value) > longest:
        raise _violation(wire, value, f"Member must have length less than or equal to {longest}")
    return value


def _number(value: object, wire: str, least: float, most: float) -> float:
    number = read_number(value)
    if number is None:
        raise _violation(wire, value, "Member must be a number")
    if number < least:
        raise _violation(wire, value, f"Member must have value greater than or equal to {least:g}")
    if number > most:
        raise _violation(wire, value, f"Member must have value less than or equal to {most:g}")
    return number


def _whole(value: object, wire: str, least: int, most: int = _INTEGER_MAX) -> int:
    number = _number(value, wire, least, most)
    if number != int(number):
        raise _violation(wire, value, "Member must be an integer")
    return int(number)


def _name_in(arn: object) -> str:
    _, found, name = str(arn).partition(":sampling-rule/")
    if not found:
        raise _invalid(f"{arn} is not the ARN of a sampling rule.")
    return name


def _violation(wire: str, value: object, constraint: str) -> RuleError:
    shown = "null" if value is None else str(value)[:100]
    return RuleError(
        RuleErrorCode.VALIDATION,
        f"1 validation error detected: Value '{shown}' at '{wire}' failed to satisfy constraint:"
        f" {constraint}",
    )


def _invalid(message: str) -> RuleError:
    return RuleError(RuleErrorCode.INVALID_REQUEST, message)
