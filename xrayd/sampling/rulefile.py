"""Sampling rules from a file: the SDKs' local formats, versions 1 and 2, and the API's own records.

The caller parses the YAML or JSON text; what comes in is the parsed object. A local file's order
is its priority, `fixed_target` becomes the reservoir and `rate` the fixed rate (X-Ray Developer
Guide, the X-Ray SDKs' local samplers).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from xrayd.errors import ConfigError
from xrayd.sampling.report import COUNT_MAX
from xrayd.sampling.rule import (
    DEFAULT_PRIORITY,
    DEFAULT_RULE_NAME,
    MATCHERS,
    SamplingRule,
    SamplingRuleRecord,
    default_record,
    read_number,
)
from xrayd.sampling.validation import RuleError, check_rule

ARN_PREFIX = "arn:aws:xray:us-east-1:000000000000:sampling-rule/"
"""For rules no account has."""

_RULES_MAX = 9_999
_LOCAL_FIELDS = {"description", "http_method", "url_path", "fixed_target", "rate"}
_API_NEUTRAL = {**dict.fromkeys(MATCHERS, "*"), "Version": 1}
_API_FIELDS = {
    *_API_NEUTRAL,
    "RuleName",
    "RuleARN",
    "Priority",
    "FixedRate",
    "ReservoirSize",
    "Attributes",
    "SamplingRateBoost",
}
_HOST_FIELD = {1: "service_name", 2: "host"}
_FORMATS = (
    "give a local rules file ('version' 1 or 2, 'rules', 'default') or the API's form"
    " ('SamplingRuleRecords', or a list of records or rules)"
)


def read_rules(
    content: object, origin: str, *, modified_at: float, arn_prefix: str = ARN_PREFIX
) -> list[SamplingRuleRecord]:
    """The rules in a file, a default rule always among them.

    Args:
        content: the parsed file.
        origin: the file's name, for error messages.
        modified_at: epoch seconds, the records' times. Take the file's: reading it again is then
            no change that clients would fetch.
        arn_prefix: `arn:aws:xray:REGION:ACCOUNT:sampling-rule/`.

    Raises:
        ConfigError: what is wrong, at which path in the file, and what to write instead.
    """
    match content:
        case {"version": 1 | 2 | "1" | "2" as version, **fields}:
            rules = _local_rules(
                {str(name): value for name, value in fields.items()}, int(version), origin
            )
        case {"version": version}:
            raise ConfigError(f"{origin}: version: {version!r} is not known; write 1 or 2")
        case {"SamplingRuleRecords": list(items)}:
            rules = _api_rules(items, f"{origin}: SamplingRuleRecords")
        case list(items):
            rules = _api_rules(items, f"{origin}: ")
        case _:
            raise ConfigError(f"{origin}: these are no sampling rules; {_FORMATS}")
    try:
        msgspec.json.encode(rules)
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{origin}: {error.object!a} has half a character; write it whole"
        ) from error
    if len(rules) > _RULES_MAX:
        raise ConfigError(f"{origin}: {len(rules)} rules; at most {_RULES_MAX} can have a priority")
    if not any(rule.is_default for rule in rules):
        rules.append(default_record().sampling_rule)
    return [
        SamplingRuleRecord(
            sampling_rule=msgspec.structs.replace(rule, rule_arn=arn_prefix + rule.rule_name),
            created_at=0.0 if rule.is_default else modified_at,
            modified_at=modified_at,
        )
        for rule in rules
    ]


def _local_rules(content: Mapping[str, object], version: int, origin: str) -> list[SamplingRule]:
    for name in sorted(content.keys() - {"rules", "default"}):
        raise ConfigError(f"{origin}: {name}: not part of a rules file; {_FORMATS}")
    listed = content.get("rules")
    listed = [] if listed is None else listed
    if not isinstance(listed, list):
        raise ConfigError(f"{origin}: rules: must be a list of rules")
    rules = [
        _local_rule(raw, version, position, f"{origin}: rules[{position}]")
        for position, raw in enumerate(listed)
    ]
    if "default" not in content:
        raise ConfigError(
            f"{origin}: default: missing; add it with fixed_target (requests a second) and rate"
            " (0 to 1)"
        )
    rules.append(_local_default(content["default"], _HOST_FIELD[version], f"{origin}: default"))
    return rules


def _local_rule(raw: object, version: int, position: int, path: str) -> SamplingRule:
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be an object with url_path, http_method, rate and so on")
    host_field = _HOST_FIELD[version]
    for name in sorted(raw.keys() - _LOCAL_FIELDS - {host_field}, key=str):
        hint = f"; version {version} names it {host_field}" if name in _HOST_FIELD.values() else ""
        raise ConfigError(f"{path}.{name}: not a field of a version {version} rule{hint}")
    return SamplingRule(
        rule_name=f"local-{position + 1}",
        priority=position + 1,
        fixed_rate=_rate(raw, path),
        reservoir_size=_fixed_target(raw, path),
        host=_pattern(raw, host_field, path),
        http_method=_pattern(raw, "http_method", path),
        url_path=_pattern(raw, "url_path", path),
    )


def _local_default(raw: object, host_field: str, path: str) -> SamplingRule:
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be an object with fixed_target and rate")
    for name in (host_field, "http_method", "url_path"):
        if raw.get(name) is not None:
            raise ConfigError(f"{path}.{name}: the default takes every request; remove it")
    return SamplingRule(
        rule_name=DEFAULT_RULE_NAME,
        fixed_rate=_rate(raw, path),
        reservoir_size=_fixed_target(raw, path),
    )


def _pattern(raw: Mapping[str, object], name: str, path: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{path}.{name}: must be a pattern; write '*' to take every request")
    return value


def _rate(raw: Mapping[str, object], path: str) -> float:
    rate = read_number(raw.get("rate"))
    if rate is None or not 0 <= rate <= 1:
        raise ConfigError(
            f"{path}.rate: {raw.get('rate')!r} is not a share;"
            " write a number from 0 (none) to 1 (all)"
        )
    return rate


def _fixed_target(raw: Mapping[str, object], path: str) -> int:
    target = read_number(raw.get("fixed_target"))
    if target is None or not 0 <= target <= COUNT_MAX or target != int(target):
        raise ConfigError(
            f"{path}.fixed_target: {raw.get('fixed_target')!r} is not a number of requests"
            f" a second; write 0, 1, 2, … ({COUNT_MAX} at most)"
        )
    return int(target)


def _api_rules(items: list[object], path: str) -> list[SamplingRule]:
    rules: dict[str, SamplingRule] = {}
    for position, item in enumerate(items):
        place = f"{path}[{position}]"
        raw = item
        if isinstance(item, dict) and "SamplingRule" in item:
            raw, place = item["SamplingRule"], f"{place}.SamplingRule"
        rule = _api_rule(raw, place)
        if rule.rule_name in rules:
            raise ConfigError(f"{place}.RuleName: {rule.rule_name} is there twice; rename one")
        rules[rule.rule_name] = rule
    return list(rules.values())


def _api_rule(raw: object, place: str) -> SamplingRule:
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{place}: must be an object with RuleName, Priority, FixedRate and so on"
        )
    for name in sorted(raw.keys() - _API_FIELDS, key=str):
        raise ConfigError(f"{place}.{name}: not a field of a sampling rule")
    fields = {name: value for name, value in raw.items() if value is not None}
    is_default = fields.get("RuleName") == DEFAULT_RULE_NAME
    if is_default:
        if any(fields.get(name, "*") != "*" for name in MATCHERS) or fields.get("Attributes"):
            raise ConfigError(
                f"{place}: {DEFAULT_RULE_NAME} takes every request; remove its matchers"
            )
        fields["Priority"] = 1  # its own, 10000, is outside the range checked
    try:
        rule = check_rule({**_API_NEUTRAL, **fields})
    except RuleError as error:
        raise ConfigError(f"{place}: {error.message}") from error
    if is_default:
        return msgspec.structs.replace(rule, priority=DEFAULT_PRIORITY)
    return rule
