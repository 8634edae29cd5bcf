"""Which rule takes a request, in the dialect of each client family.

| point | `sdk` | `otel` | `adot` | `daemon` |
| --- | --- | --- | --- | --- |
| case | ignored | ignored | **matters** | ignored |
| a field the request lacks | matches | matches only `*` | matches only `*` | matches only `*` |
| no service name | matches | is `""` | is `""` | matches only `*` |
| no URL path | matches | is `/` | is `/` | matches only `*` |
| rules with Attributes | ignored | compared | compared | ignored |
| rules with ResourceARN other than `*` | ignored | compared | compared | compared |
| rules with Version other than 1 | ignored | compared | ignored | ignored |

`sdk` are the X-Ray SDKs for Python, Node and Go. The one for Java compares a missing field as
`""`, so there it matches only `*`. `otel` is @opentelemetry/sampler-aws-xray, `adot` the sampler in
the OpenTelemetry distro for Python: both read `/` where a span has no URL.

`daemon` is xrayd's own, for the documents it samples itself. A root segment is complete when it is
matched, so what it lacks does not exist: a queue worker has no URL and must not fall to the first
rule on a path, which is what the SDKs' reading does. Segments carry no attributes to compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

from xrayd.sampling.rule import MATCHERS, SamplingRule, in_order

_MEMO_MAX = 1_024
"""Values remembered per field. A document usually costs a few dictionary look-ups."""

_MEMO_LONGEST = 256
"""Longer values are judged anew every time, so that the memory stays small."""

_WILD = {"*", "?"}

Values = tuple[str | None, str | None, str | None, str | None, str | None, str | None]
"""What is known of a request, in the order of `MATCHERS`; None where it is not."""


class Dialect(StrEnum):
    """Whose reading of a rule; the module's table says how they differ."""

    SDK = "sdk"
    OTEL = "otel"
    ADOT = "adot"
    DAEMON = "daemon"


class Ignored(StrEnum):
    """Why a dialect leaves a rule out."""

    ATTRIBUTES = "attributes"
    RESOURCE_ARN = "resource_arn"
    VERSION = "version"


class MatchRequest(Struct, frozen=True, kw_only=True):
    """A request as a sampler sees it. None or empty: not known."""

    service_name: str | None = None
    service_type: str | None = None
    host: str | None = None
    http_method: str | None = None
    url_path: str | None = None
    resource_arn: str | None = None
    attributes: dict[str, str] | None = None

    @property
    def values(self) -> Values:
        """The six fields in the order of `MATCHERS`."""
        return (
            self.service_name or None,
            self.service_type or None,
            self.host or None,
            self.http_method or None,
            self.url_path or None,
            self.resource_arn or None,
        )


class FieldFailure(Struct, frozen=True):
    """A field that kept a rule from matching: its wire name, the rule's pattern, the request's
    value (None: absent).
    """

    field: str
    pattern: str
    value: str | None


class RuleExplanation(Struct, frozen=True):
    """What a rule made of a request.

    Attributes:
        rule: the rule.
        decides: whether this rule takes the request.
        matches: whether it would, were no rule before it.
        ignored: why this dialect leaves the rule out, if it does.
        failed: the fields that do not match.
    """

    rule: SamplingRule
    decides: bool
    matches: bool
    ignored: Ignored | None
    failed: list[FieldFailure]


def explain(
    request: MatchRequest, rules: Iterable[SamplingRule], dialect: Dialect
) -> list[RuleExplanation]:
    """For every rule, in the order tried: does it take the request, and which fields failed."""
    explanations: list[RuleExplanation] = []
    decided = False
    for rule in in_order(rules):
        ignored = _ignored_by(rule, dialect)
        failed = _failures(rule, request, dialect)
        matches = ignored is None and not failed
        explanations.append(
            RuleExplanation(
                rule=rule,
                decides=matches and not decided,
                matches=matches,
                ignored=ignored,
                failed=failed,
            )
        )
        decided = decided or matches
    return explanations


class Matcher:
    """A rule set compiled for one dialect.

    Every value of a field is judged against all rules at once and the result kept as a bit mask, so
    a known value costs one dictionary look-up whatever the number of rules.
    """

    def __init__(self, rules: Iterable[SamplingRule], dialect: Dialect) -> None:
        self.dialect = dialect
        self.rules = tuple(rule for rule in in_order(rules) if _ignored_by(rule, dialect) is None)
        self._all = (1 << len(self.rules)) - 1
        self._fields = [
            (index, judge.known, judge)
            for index in range(len(MATCHERS))
            if (judge := _FieldJudge(self.rules, index, dialect)).is_needed
        ]
        self._attributed = sum(
            1 << place for place, rule in enumerate(self.rules) if rule.attributes
        )

    def match(self, request: MatchRequest) -> SamplingRule | None:
        """The first rule that takes the request; None only where there is no default rule."""
        return self.find(request.values, request.attributes)

    def find(
        self, values: Values, attributes: Mapping[str, str] | None = None
    ) -> SamplingRule | None:
        """Like `match`, from bare values: an absent field must be None, not empty."""
        candidates = self._all
        for index, known, judge in self._fields:
            value = values[index]
            mask = known.get(value)
            candidates &= judge.judge(value) if mask is None else mask
        while candidates:
            lowest = candidates & -candidates
            rule = self.rules[lowest.bit_length() - 1]
            if not lowest & self._attributed or not _attribute_failures(
                rule, attributes, self.dialect
            ):
                return rule
            candidates ^= lowest
        return None


class _FieldJudge:
    """One field of all rules: a value in, the mask of rules it satisfies out."""

    def __init__(self, rules: tuple[SamplingRule, ...], index: int, dialect: Dialect) -> None:
        self._fold = _FOLDS[dialect]
        self._always = 0
        masks: dict[str, int] = {}
        for place, rule in enumerate(rules):
            pattern = rule.matchers[index]
            if pattern == "*":
                self._always |= 1 << place
            else:
                pattern = self._fold(pattern)
                masks[pattern] = masks.get(pattern, 0) | 1 << place
        self.is_needed = bool(masks)
        # Paths with ids in them are new every time. Most patterns are plain or end in their only
        # star; those cost a look-up for each length of prefix instead of a call for each pattern.
        self._exact: dict[str, int] = {}
        self._prefixes: dict[int, dict[str, int]] = {}
        self._predicates: list[tuple[Callable[[str], bool], int]] = []
        sources = []
        for pattern, mask in masks.items():
            if not _WILD & set(pattern):
                self._exact[pattern] = mask
            elif pattern.endswith("*") and not _WILD & set(pattern[:-1]):
                self._prefixes.setdefault(len(pattern) - 1, {})[pattern[:-1]] = mask
            else:
                self._predicates.append((compile_wildcard(pattern), mask))
                sources.append(_source_of(pattern))
        # Most values match none of the others: one look says so.
        self._may_match = re.compile("|".join(sources), re.DOTALL).fullmatch if sources else None
        absent = _ABSENT[dialect].get(MATCHERS[index])
        if dialect is Dialect.SDK:
            self._absent = (1 << len(rules)) - 1
        else:
            self._absent = self._always if absent is None else self._judge_text(absent)
        self.known: dict[str | None, int] = {None: self._absent}

    def judge(self, value: str | None) -> int:
        if value is None:
            return self._absent
        mask = self._judge_text(value)
        if len(value) <= _MEMO_LONGEST:
            if len(self.known) >= _MEMO_MAX:
                self.known.clear()
                self.known[None] = self._absent
            self.known[value] = mask
        return mask

    def _judge_text(self, value: str) -> int:
        text = self._fold(value)
        mask = self._always | self._exact.get(text, 0)
        for length, prefixes in self._prefixes.items():
            mask |= prefixes.get(text[:length], 0)
        if self._may_match is not None and self._may_match(text):
            for predicate, rules in self._predicates:
                if predicate(text):
                    mask |= rules
        return mask


def compile_wildcard(pattern: str) -> Callable[[str], bool]:
    """A predicate for `*` (any run of characters) and `?` (any one), in time proportional to the
    text whatever the pattern.

    Case is the caller's: fold pattern and text alike.
    """
    if "?" not in pattern:
        head, star, tail = pattern.partition("*")
        if not star:
            return pattern.__eq__
        if not tail:
            return lambda text: text.startswith(head)
        if not head and "*" not in tail:
            return lambda text: text.endswith(tail)
    search = re.compile(_source_of(pattern), re.DOTALL).fullmatch
    return lambda text: search(text) is not None


def _source_of(pattern: str) -> str:
    """The regular expression that a whole text must match.

    The leftmost place for each piece between two stars is always the right one. An atomic group
    says so: nothing is tried twice.
    """
    pieces = [
        "".join("." if char == "?" else re.escape(char) for char in part)
        for part in pattern.split("*")
    ]
    first, *middle, last = pieces if len(pieces) > 1 else [pieces[0], ""]
    source = first + "".join(f"(?>.*?{piece})" for piece in middle)
    if len(pieces) > 1:
        source += f".*{last}"
    return source


def host_and_path(url: str | None) -> tuple[str | None, str | None]:
    """The host (with its port, if the URL names one) and the path of a segment's
    `http.request.url`.

    A URL without a scheme is taken as a path when it begins with `/`; an empty path is `/`; query
    and fragment are no part of it.
    """
    if not url:
        return None, None
    _, scheme, rest = url.partition("://")
    if not scheme:
        return None, _path(url) if url.startswith("/") else None
    rest = _without_query(rest)
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = authority.rpartition("@")[2]
    return authority or None, slash + path or "/"


def _path(text: str) -> str:
    return _without_query(text) or "/"


def _without_query(text: str) -> str:
    """The text before any `?` or `#`."""
    if "#" in text:
        text = text.partition("#")[0]
    return text.partition("?")[0] if "?" in text else text


def _fold_each(text: str) -> str:
    """Lower-case character by character, as the SDKs compare; a character whose lower case is
    longer stays itself.
    """
    if text.isascii():
        return text.lower()
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def _keep(text: str) -> str:
    return text


_FOLDS: dict[Dialect, Callable[[str], str]] = {
    Dialect.SDK: _fold_each,
    Dialect.OTEL: str.lower,
    Dialect.ADOT: _keep,
    Dialect.DAEMON: _fold_each,
}

_ABSENT: dict[Dialect, dict[str, str]] = {
    # what a dialect reads where the request has nothing
    Dialect.SDK: {},
    Dialect.OTEL: {"ServiceName": "", "URLPath": "/"},
    Dialect.ADOT: {"ServiceName": "", "ServiceType": "", "ResourceARN": "", "URLPath": "/"},
    Dialect.DAEMON: {},
}


def _ignored_by(rule: SamplingRule, dialect: Dialect) -> Ignored | None:
    if rule.version != 1 and dialect is not Dialect.OTEL:
        return Ignored.VERSION
    if rule.attributes and dialect in {Dialect.SDK, Dialect.DAEMON}:
        return Ignored.ATTRIBUTES
    if rule.resource_arn != "*" and dialect is Dialect.SDK:
        return Ignored.RESOURCE_ARN
    return None


def _failures(rule: SamplingRule, request: MatchRequest, dialect: Dialect) -> list[FieldFailure]:
    fold = _FOLDS[dialect]
    failed = []
    for name, pattern, value in zip(MATCHERS, rule.matchers, request.values, strict=True):
        if pattern == "*" or (value is None and dialect is Dialect.SDK):
            continue
        text = _ABSENT[dialect].get(name) if value is None else value
        if text is None or not compile_wildcard(fold(pattern))(fold(text)):
            failed.append(FieldFailure(field=name, pattern=pattern, value=value))
    if dialect in {Dialect.OTEL, Dialect.ADOT}:
        failed += _attribute_failures(rule, request.attributes, dialect)
    return failed


def _attribute_failures(
    rule: SamplingRule, attributes: Mapping[str, str] | None, dialect: Dialect
) -> list[FieldFailure]:
    """The rule's attributes that the request's do not satisfy: each must be there and match."""
    fold = _FOLDS[dialect]
    failed = []
    for key, pattern in rule.attributes.items():
        value = (attributes or {}).get(key)
        if value is None or not compile_wildcard(fold(pattern))(fold(value)):
            failed.append(FieldFailure(field=f"Attributes.{key}", pattern=pattern, value=value))
    return failed
