"""The sampling rule as the X-Ray API speaks it, and the GetSamplingRules answer that every client
survives.

Sources: botocore model (`SamplingRule`, `SamplingRuleRecord`), AWS X-Ray Developer Guide, and the
readers in the X-Ray SDKs and the OpenTelemetry samplers, named where a field's form depends on one
of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

DEFAULT_RULE_NAME = "Default"
DEFAULT_PRIORITY = 10_000
"""Outside the range a caller may give (1 to 9999), so that the default rule always comes last."""

MATCHERS = ("ServiceName", "ServiceType", "Host", "HTTPMethod", "URLPath", "ResourceARN")
"""The wire names of the fields that match a request, in the order `Matcher` and `explain` use."""


_EXACT_MAX = 2**53
"""Integers up to here are exact in every JSON reader."""


class AnswerError(ValueError):
    """An upstream answer that cannot be read: what it was and what is wrong with it, in one
    sentence.
    """


class SamplingRateBoost(Struct, frozen=True):
    """How far AWS may raise a rule's rate when anomalies are reported (adaptive sampling).

    Attributes:
        max_rate: highest rate, 0 to 1.
        cooldown_window_minutes: time between two boosts.
    """

    max_rate: float = field(name="MaxRate")
    cooldown_window_minutes: int = field(name="CooldownWindowMinutes")


class SamplingRule(Struct, frozen=True, kw_only=True):
    """One rule, exactly as GetSamplingRules sends it.

    The forms are load-bearing: the SDKs for Node and Java skip or crash on a rule whose
    `Attributes` is absent, every X-Ray SDK skips a `Version` that is not the integer 1, Node wants
    a number in `FixedRate`, and the OpenTelemetry distro for Python passes the object's keys to a
    constructor, so a key it does not know loses all rules: nothing but these is ever sent, and
    `SamplingRateBoost` only where it is set.
    """

    rule_name: str = field(name="RuleName")
    rule_arn: str = field(name="RuleARN", default="")
    resource_arn: str = field(name="ResourceARN", default="*")
    priority: int = field(name="Priority", default=DEFAULT_PRIORITY)
    fixed_rate: float = field(name="FixedRate", default=0.0)
    reservoir_size: int = field(name="ReservoirSize", default=0)
    service_name: str = field(name="ServiceName", default="*")
    service_type: str = field(name="ServiceType", default="*")
    host: str = field(name="Host", default="*")
    http_method: str = field(name="HTTPMethod", default="*")
    url_path: str = field(name="URLPath", default="*")
    version: int = field(name="Version", default=1)
    attributes: dict[str, str] = field(name="Attributes", default_factory=dict)
    sampling_rate_boost: SamplingRateBoost | UnsetType = field(
        name="SamplingRateBoost", default=UNSET
    )

    @property
    def is_default(self) -> bool:
        """Whether this is the rule that takes what no other takes."""
        return self.rule_name == DEFAULT_RULE_NAME

    @property
    def matchers(self) -> tuple[str, str, str, str, str, str]:
        """The six patterns, in the order of `MATCHERS`."""
        return (
            self.service_name,
            self.service_type,
            self.host,
            self.http_method,
            self.url_path,
            self.resource_arn,
        )


class SamplingRuleRecord(Struct, frozen=True, kw_only=True):
    """A rule with its times, as numbers: a string would break the samplers of Node and Java.

    Attributes:
        sampling_rule: the rule.
        created_at: epoch seconds; 0.0 for the default rule.
        modified_at: epoch seconds.
    """

    sampling_rule: SamplingRule = field(name="SamplingRule")
    created_at: float = field(name="CreatedAt", default=0.0)
    modified_at: float = field(name="ModifiedAt", default=0.0)


class RulesPage(Struct, frozen=True):
    """One page of GetSamplingRules.

    Attributes:
        records: those that could be read.
        next_token: ask for the next page with it; None on the last.
        unreadable: how many records were left out because they had no usable name or rate.
    """

    records: list[SamplingRuleRecord]
    next_token: str | None
    unreadable: int


def default_record(arn: str = "", *, modified_at: float = 0.0) -> SamplingRuleRecord:
    """The rule every account has: one request a second and 5 % of the rest, for anything.

    Args:
        arn: its `RuleARN`.
        modified_at: epoch seconds.
    """
    rule = SamplingRule(
        rule_name=DEFAULT_RULE_NAME, rule_arn=arn, fixed_rate=0.05, reservoir_size=1
    )
    return SamplingRuleRecord(sampling_rule=rule, created_at=0.0, modified_at=modified_at)


def in_order(rules: Iterable[SamplingRule]) -> list[SamplingRule]:
    """The order in which rules are tried: by priority, then by name (X-Ray Developer Guide and all
    SDKs).
    """
    return sorted(rules, key=lambda rule: (rule.priority, rule.rule_name))


def encode_rules(records: Sequence[SamplingRuleRecord]) -> bytes:
    """The body of a GetSamplingRules answer.

    The last modified record comes last: the SDK for Java re-reads its list only when the last
    custom rule in an answer is new or has another priority. Every other client sorts for itself.
    """
    ordered = sorted(records, key=lambda record: (record.modified_at, record.created_at))
    return msgspec.json.encode({"SamplingRuleRecords": ordered})


def decode_rules(answer: bytes) -> RulesPage:
    """Read a page of GetSamplingRules from upstream, tolerant of fields we do not know and of
    single bad records.

    Args:
        answer: the body of a 200.

    Raises:
        AnswerError: the body is not a GetSamplingRules answer at all.
    """
    body = parse_object(answer)
    if body is None:
        raise AnswerError("the GetSamplingRules answer is not a JSON object")
    raw_records = body.get("SamplingRuleRecords")
    if not isinstance(raw_records, list):
        raise AnswerError("the GetSamplingRules answer has no list SamplingRuleRecords")
    records = [record for raw in raw_records if (record := read_record(raw)) is not None]
    token = body.get("NextToken")
    return RulesPage(
        records=records,
        next_token=token if isinstance(token, str) and token else None,
        unreadable=len(raw_records) - len(records),
    )


def read_record(raw: object) -> SamplingRuleRecord | None:
    """A `SamplingRuleRecord` object as decoded from JSON, or None when it has no usable rule."""
    if not isinstance(raw, dict):
        return None
    rule = read_rule(raw.get("SamplingRule"))
    if rule is None:
        return None
    return SamplingRuleRecord(
        sampling_rule=rule,
        created_at=read_number(raw.get("CreatedAt")) or 0.0,
        modified_at=read_number(raw.get("ModifiedAt")) or 0.0,
    )


def read_rule(raw: object) -> SamplingRule | None:
    """A `SamplingRule` object as decoded from JSON; None without a name or a rate, other fields get
    their neutral value.
    """
    if not isinstance(raw, dict):
        return None
    name, rate = raw.get("RuleName"), read_number(raw.get("FixedRate"))
    if not isinstance(name, str) or not name or rate is None:
        return None
    attributes = raw.get("Attributes")
    return SamplingRule(
        rule_name=name,
        rule_arn=_text(raw, "RuleARN", ""),
        resource_arn=_text(raw, "ResourceARN", "*"),
        priority=_whole(raw, "Priority", DEFAULT_PRIORITY),
        fixed_rate=min(max(rate, 0.0), 1.0),
        reservoir_size=max(_whole(raw, "ReservoirSize", 0), 0),
        service_name=_text(raw, "ServiceName", "*"),
        service_type=_text(raw, "ServiceType", "*"),
        host=_text(raw, "Host", "*"),
        http_method=_text(raw, "HTTPMethod", "*"),
        url_path=_text(raw, "URLPath", "*"),
        version=_whole(raw, "Version", 1),
        attributes={
            key: value
            for key, value in (attributes if isinstance(attributes, dict) else {}).items()
            if isinstance(value, str)
        },
        sampling_rate_boost=_boost(raw.get("SamplingRateBoost")),
    )


def read_number(value: object) -> float | None:
    """A finite JSON number as float, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 308 digits
        return None
    return number if math.isfinite(number) else None


def read_integer(value: object) -> int | None:
    """A JSON number as an integer that every JSON reader can hold, or None."""
    number = read_number(value)
    return None if number is None else int(min(max(number, -_EXACT_MAX), _EXACT_MAX))


def parse_object(text: bytes) -> dict[str, Any] | None:
    """A JSON object, or None: something else, no JSON, or nested too deep to be meant."""
    try:
        parsed = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _boost(raw: object) -> SamplingRateBoost | UnsetType:
    if not isinstance(raw, dict):
        return UNSET
    rate, minutes = read_number(raw.get("MaxRate")), read_integer(raw.get("CooldownWindowMinutes"))
    if rate is None or minutes is None:
        return UNSET
    return SamplingRateBoost(max_rate=rate, cooldown_window_minutes=minutes)


def _text(raw: Mapping[str, object], name: str, absent: str) -> str:
    value = raw.get(name)
    return value if isinstance(value, str) else absent


def _whole(raw: Mapping[str, object], name: str, absent: int) -> int:
    value = read_integer(raw.get(name))
    return absent if value is None else value
