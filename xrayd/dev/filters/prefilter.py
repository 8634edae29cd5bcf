"""A filter expression as an SQL condition that no matching trace fails.

The condition is about the tables of `sql`, with the row of table `trace` known as `t`:

    SELECT t.id FROM trace AS t
    WHERE t.start_time >= :start AND t.start_time < :end AND (<where>)
    ORDER BY t.start_time DESC LIMIT :limit

Every expression gets two conditions: a necessary one, which every matching trace passes, and a
sufficient one, which only matching traces pass. Negation swaps them. Where they are the same text,
SQL alone decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from xrayd.dev.filters.sql import encode_name
from xrayd.dev.filters.syntax import (
    And,
    AnnotationTest,
    CauseJsonTest,
    CauseTest,
    EdgeTest,
    Expression,
    Flag,
    NodePattern,
    Not,
    NumberTest,
    Or,
    Present,
    ServiceTest,
    StringTest,
)

TERMS_MAX = 100
"""Terms put into SQL; further ones are left to the predicate. SQLite's trees may be 1,000 deep."""

NESTING_MAX = 8
"""AND, OR and NOT inside each other put into SQL. SQLite's parser has a stack of 100 symbols, of
which a level takes up to five, and the query around it needs some too."""


@dataclass(frozen=True, slots=True)
class Prefilter:
    """An SQL condition over the index; NULL counts as false, as in any WHERE.

    Attributes:
        where: The condition; "1" when nothing can be said.
        parameters: Values of its named parameters (`:filter_0`, `:filter_1`, …).
        exact: Whether the condition alone decides, so that no predicate is needed.
    """

    where: str
    parameters: Mapping[str, str | float | bytes]
    exact: bool


def prefilter(expression: Expression) -> Prefilter:
    """The condition for an expression whose groups are expanded, as in `Filter.expression`."""
    writer = _Writer()
    bounds = writer.write(expression, _TRACE)
    return Prefilter(bounds.necessary, writer.parameters, bounds.necessary == bounds.sufficient)


class _Bounds(NamedTuple):
    """Two SQL conditions around an expression: necessary is true wherever sufficient is."""

    necessary: str
    sufficient: str


_UNKNOWN = _Bounds("1", "0")


def _exactly(condition: str) -> _Bounds:
    return _Bounds(condition, condition)


@dataclass(frozen=True)
class _Columns:
    """Where the keywords of a context are found; one that is not listed is not indexed."""

    flags: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)
    strings: Mapping[str, str] = field(default_factory=dict)


_TRACE = _Columns(
    flags={
        "ok": "t.is_ok",
        "error": "t.has_error",
        "fault": "t.has_fault",
        "throttle": "t.has_throttle",
        "partial": "t.is_partial",
        "inferred": "t.has_inferred",
    },
    numbers={
        "responsetime": "t.response_time",
        "duration": "t.duration",
        "http.status": "t.http_status",
    },
    strings={
        "http.method": "t.http_method",
        "http.url": "t.http_url",
        "http.useragent": "t.http_user_agent",
        "http.clientip": "t.http_client_ip",
    },
)
_SERVICE = _Columns(
    flags={
        "ok": "n.is_ok",
        "error": "n.has_error",
        "fault": "n.has_fault",
        "throttle": "n.has_throttle",
        "partial": "n.is_partial",
        "root": "n.is_root",
        "inferred": "n.is_inferred",
    },
    numbers={
        "responsetime": "n.response_time",
        "duration": "n.duration",
        "http.status": "n.http_status",
    },
    strings={"name": "n.name", "type": "n.type"},
)
_EDGE = _Columns(
    flags={
        "ok": "n.call_ok",
        "error": "n.call_error",
        "fault": "n.call_fault",
        "throttle": "n.call_throttle",
    },
    numbers={"responsetime": "n.call_response_time", "http.status": "n.call_http_status"},
)
_LABELS = ("user", "availabilityzone", "instance.id", "resource.arn")
_CAUSES = {
    "fault": "t.has_fault_cause",
    "error": "t.has_error_cause",
    "responsetime": "t.has_response_time_cause",
}


class _Writer:
    def __init__(self) -> None:
        self.parameters: dict[str, str | float | bytes] = {}
        self._terms = 0
        self._nesting = 0

    def write(self, expression: Expression, columns: _Columns) -> _Bounds:
        if isinstance(expression, And | Or | Not):
            if self._nesting == NESTING_MAX:
                return _UNKNOWN
            self._nesting += 1
            bounds = self._write_combined(expression, columns)
            self._nesting -= 1
            return bounds
        self._terms += 1
        return self._write_term(expression, columns)

    def _write_combined(self, expression: And | Or | Not, columns: _Columns) -> _Bounds:
        match expression:
            case And(items):
                return _all([self.write(item, columns) for item in items])
            case Or(items):
                return _any([self.write(item, columns) for item in items])
            case Not(item):
                return _not(self.write(item, columns))

    def _write_term(self, term: Expression, columns: _Columns) -> _Bounds:
        if self._terms > TERMS_MAX:
            return _UNKNOWN
        match term:
            case Flag() | Present() | NumberTest() | StringTest():
                return self._write_simple(term, columns)
            case AnnotationTest() if columns is _TRACE:
                return self._write_annotation(term)
            case ServiceTest():
                return self._write_service(term)
            case EdgeTest():
                return self._write_edge(term)
            case CauseTest(kind):
                return _Bounds(f"{_CAUSES[kind]} = 1", "0")
            case CauseJsonTest():
                return _write_json(term)
            case _:
                return _UNKNOWN

    def _write_simple(
        self, test: Flag | Present | NumberTest | StringTest, columns: _Columns
    ) -> _Bounds:
        keyword = test.keyword
        if isinstance(test, Flag):
            return _exactly(f"{columns.flags[keyword]} = {int(test.value)}")
        if columns is _TRACE and keyword in _LABELS:
            value = self._compare("l.value", test)
            return _exists("label AS l", [f"l.kind = '{keyword}'"], value)
        if columns is _TRACE and keyword == "account.id":
            value = self._compare("n.account_id", test)
            return _exists("node AS n", ["n.account_id <> ''"], value)
        column = columns.numbers.get(keyword) or columns.strings.get(keyword)
        return _UNKNOWN if column is None else self._compare(column, test)

    def _compare(self, column: str, test: Present | NumberTest | StringTest) -> _Bounds:
        match test:
            case Present():
                return _exactly(f"{column} IS NOT NULL")
            case NumberTest(_, operator, value):
                return _exactly(f"{column} {operator} {self._bind(value)}")
            case StringTest("http.method", operator, value):
                return self._compare_text(column, operator, value.upper())
            case StringTest(_, operator, value):
                return self._compare_text(column, operator, value)

    def _compare_text(self, column: str, operator: str, value: str) -> _Bounds:
        try:
            encoded = value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair: SQLite cannot hold it
            return _UNKNOWN
        if operator in ("=", "!="):
            return _exactly(f"{column} {operator} {self._bind(value)}")
        if not encoded:
            return _exactly(f"{column} IS NOT NULL")
        if operator == "CONTAINS":
            return _exactly(f"instr({column}, {self._bind(value)}) > 0")
        # As bytes, because SQLite's text functions end at a NUL character.
        part = f"1, {len(encoded)}" if operator == "BEGINSWITH" else f"-{len(encoded)}"
        return _exactly(f"substr(CAST({column} AS BLOB), {part}) = {self._bind(encoded)}")

    def _write_annotation(self, test: AnnotationTest) -> _Bounds:
        key = self._compare_text("a.key", "=", test.key)
        match test.value:
            case None:
                value = _exactly("a.boolean_value IS NOT 0")
            case bool(expected):
                expected = expected is (test.operator == "=")
                value = _exactly(f"a.boolean_value = {int(expected)}")
            case str(text):
                value = self._compare_text("a.string_value", str(test.operator), text)
            case number:
                value = _exactly(f"a.number_value {test.operator} {self._bind(number)}")
        return _exists("annotation AS a", [], _all([key, value]))

    def _write_service(self, test: ServiceTest) -> _Bounds:
        node = self._match_node(test.node, "n.")
        if test.block is None:
            return _exists("node AS n", [], node)
        block = self.write(test.block, _SERVICE)
        return _exists("node AS n", ["n.is_ok IS NOT NULL"], _all([node, block]))

    def _write_edge(self, test: EdgeTest) -> _Bounds:
        nodes = [self._match_node(test.callee, "n."), self._match_node(test.caller, "n.caller_")]
        if test.block is not None:
            nodes.append(self.write(test.block, _EDGE))
        return _exists("node AS n", ["n.caller_name IS NOT NULL"], _all(nodes))

    def _match_node(self, pattern: NodePattern, prefix: str) -> _Bounds:
        parts: list[_Bounds] = []
        if pattern.name is not None:
            name = self._compare_text(f"{prefix}name", "=", pattern.name)
            others = f"instr({prefix}names, {self._bind(encode_name(pattern.name))}) > 0"
            parts.append(_any([name, _exactly(others)]))
        if pattern.type is not None:
            parts.append(self._compare_text(f"{prefix}type", "=", pattern.type))
        if pattern.account_id is not None:
            parts.append(self._compare_text(f"{prefix}account_id", "=", pattern.account_id))
        return _all(parts)

    def _bind(self, value: str | float | bytes) -> str:
        name = f"filter_{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"


def _write_json(test: CauseJsonTest) -> _Bounds:
    kinds = _CAUSES if test.kind is None else (test.kind,)
    if test.value:
        some = " OR ".join(f"{_CAUSES[kind]} = 1" for kind in kinds)
        equal = _Bounds(f"({some})", "0")
    else:
        equal = _UNKNOWN
    return equal if test.operator == "=" else _not(equal)


def _exists(table: str, conditions: list[str], inner: _Bounds) -> _Bounds:
    alias = table[-1]
    start = " AND ".join([f"{alias}.trace_id = t.id", *conditions])

    def write(condition: str) -> str:
        if condition == "0":
            return "0"
        rest = "" if condition == "1" else f" AND {condition}"
        return f"EXISTS (SELECT 1 FROM {table} WHERE {start}{rest})"  # noqa: S608 - values are bound

    return _Bounds(write(inner.necessary), write(inner.sufficient))


def _all(items: list[_Bounds]) -> _Bounds:
    return _Bounds(
        _joined([item.necessary for item in items], " AND ", neutral="1", decisive="0"),
        _joined([item.sufficient for item in items], " AND ", neutral="1", decisive="0"),
    )


def _any(items: list[_Bounds]) -> _Bounds:
    return _Bounds(
        _joined([item.necessary for item in items], " OR ", neutral="0", decisive="1"),
        _joined([item.sufficient for item in items], " OR ", neutral="0", decisive="1"),
    )


def _not(item: _Bounds) -> _Bounds:
    return _Bounds(_negated(item.sufficient), _negated(item.necessary))


def _joined(conditions: list[str], word: str, *, neutral: str, decisive: str) -> str:
    if decisive in conditions:
        return decisive
    told = [condition for condition in conditions if condition != neutral]
    if not told:
        return neutral
    return told[0] if len(told) == 1 else f"({word.join(told)})"


def _negated(condition: str) -> str:
    constants = {"0": "1", "1": "0"}
    return constants.get(condition) or f"NOT ifnull({condition}, 0)"
