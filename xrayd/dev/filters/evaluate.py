"""A syntax tree to a predicate: closures that ask a compiled trace.

Source: AWS X-Ray Developer Guide, "Using filter expressions". Where it leaves a question open:
comparisons are case-sensitive (except `http.method`); a value that is absent passes no comparison,
`!=` neither; of several values (users, annotations) any one may pass.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from xrayd.dev.causes import FaultCause, TimeCause
from xrayd.dev.filters import contexts
from xrayd.dev.filters.contexts import Context, Listed, ServiceSegment
from xrayd.dev.filters.groups import expand_groups
from xrayd.dev.filters.parser import parse
from xrayd.dev.filters.sql import as_number
from xrayd.dev.filters.syntax import (
    And,
    AnnotationTest,
    CauseJsonTest,
    CauseKind,
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
from xrayd.dev.model import AnnotationValue, Node, Trace

Predicate: TypeAlias = Callable[[Any], bool]
CAUSE_KINDS: tuple[CauseKind, ...] = ("fault", "error", "responsetime")

_NUMBER_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_STRING_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "CONTAINS": operator.contains,
    "BEGINSWITH": str.startswith,
    "ENDSWITH": str.endswith,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter expression ready for use.

    Attributes:
        expression: its syntax tree, groups replaced by what they stand for.
        matches: whether a trace passes.
    """

    expression: Expression
    matches: Callable[[Trace], bool]


def compile_filter(text: str, groups: Mapping[str, str]) -> Filter:
    """The filter that an expression's text stands for.

    Args:
        text: A filter expression; blank for no filter.
        groups: Filter expressions by group name and by group ARN; "" for a group of all traces.

    Raises:
        FilterError: the text is no filter expression, or a group in it cannot be used.
    """
    expression = expand_groups(parse(text), groups)
    return Filter(expression, compile_predicate(expression, contexts.TRACE))


def node_matches(pattern: NodePattern, node: Node) -> bool:
    """Whether a node is meant by `"name"` or `id(…)`; its name may be any it was seen under."""
    return (
        (pattern.name is None or pattern.name == node.name or pattern.name in node.names)
        and (pattern.type is None or pattern.type == node.type)
        and (pattern.account_id is None or pattern.account_id == node.account_id)
    )


def compile_predicate(  # noqa: PLR0912 - one case for each kind of expression
    expression: Expression, context: Context[Any]
) -> Predicate:
    """The predicate over the subjects of `context`; `expression` has no groups any more."""
    match expression:
        case And(items):
            predicates = [compile_predicate(item, context) for item in items]
            return lambda subject: all(predicate(subject) for predicate in predicates)
        case Or(items):
            predicates = [compile_predicate(item, context) for item in items]
            return lambda subject: any(predicate(subject) for predicate in predicates)
        case Not(item):
            negated = compile_predicate(item, context)
            return lambda subject: not negated(subject)
        case Flag(keyword, expected):
            read_flag = context.flags[keyword]
            return lambda subject: read_flag(subject) is expected
        case Present(keyword) if keyword in context.numbers:
            read_number = context.numbers[keyword]
            return lambda subject: as_number(read_number(subject)) is not None
        case Present(keyword):
            read_strings = context.strings[keyword]
            return lambda subject: len(read_strings(subject)) > 0
        case NumberTest():
            return _compile_number(expression, context)
        case StringTest():
            return _compile_string(expression, context)
        case AnnotationTest():
            return _compile_annotation(expression, context)
        case ServiceTest():
            return _compile_service(expression)
        case EdgeTest():
            return _compile_edge(expression)
        case CauseTest():
            return _compile_cause(expression)
        case CauseJsonTest():
            return _compile_json(expression)
        case _:
            raise AssertionError("groups are expanded before expressions are compiled")


def _compile_number(test: NumberTest, context: Context[Any]) -> Predicate:
    read = context.numbers[test.keyword]
    compare, wanted = _NUMBER_COMPARISONS[test.operator], test.value

    def matches(subject: object) -> bool:
        value = as_number(read(subject))
        return value is not None and compare(value, wanted)

    return matches


def _compile_string(test: StringTest, context: Context[Any]) -> Predicate:
    read = context.strings[test.keyword]
    compare, wanted = _STRING_COMPARISONS[test.operator], test.value
    if test.keyword == "http.method":  # some clients send it in lower case
        wanted = wanted.upper()
        return lambda subject: any(compare(value.upper(), wanted) for value in read(subject))
    return lambda subject: any(compare(value, wanted) for value in read(subject))


def _compile_annotation(test: AnnotationTest, context: Context[Any]) -> Predicate:
    read, key, wanted = context.annotations, test.key, test.value
    assert read is not None
    if test.operator is None:  # set, and not set to false
        return lambda subject: any(value is not False for value in read(subject, key))
    fits = _compile_value(test.operator, wanted)
    return lambda subject: any(fits(value) for value in read(subject, key))


def _compile_value(
    operator_text: str, wanted: str | float | bool | None
) -> Callable[[AnnotationValue], bool]:
    """Whether an annotation's value compares; a value of another type than `wanted` never does."""
    if isinstance(wanted, bool):
        expected = wanted if operator_text == "=" else not wanted
        return lambda value: value is expected
    if isinstance(wanted, str):
        compare_text = _STRING_COMPARISONS[operator_text]
        return lambda value: isinstance(value, str) and compare_text(value, wanted)
    assert wanted is not None
    compare = _NUMBER_COMPARISONS[operator_text]

    def number_fits(value: AnnotationValue) -> bool:
        if isinstance(value, (bool, str)):
            return False
        number = as_number(value)
        return number is not None and compare(number, wanted)

    return number_fits


def _compile_service(test: ServiceTest) -> Predicate:
    pattern = test.node
    if test.block is None:
        return lambda trace: any(node_matches(pattern, node) for node in trace.nodes)
    block = compile_predicate(test.block, contexts.SERVICE)
    return lambda trace: any(
        node_matches(pattern, node)
        and any(block(ServiceSegment(node, segment)) for segment in node.segments)
        for node in trace.nodes
    )


def _compile_edge(test: EdgeTest) -> Predicate:
    caller, callee = test.caller, test.callee
    block = None if test.block is None else compile_predicate(test.block, contexts.EDGE)
    return lambda trace: any(
        node_matches(caller, call.source)
        and node_matches(callee, call.target)
        and (block is None or block(call))
        for call in trace.calls
    )


def _causes(trace: Trace, kind: CauseKind) -> Sequence[FaultCause | TimeCause]:
    match kind:
        case "fault":
            return trace.fault_causes
        case "error":
            return trace.error_causes
        case "responsetime":
            return trace.response_time_causes


def _compile_cause(test: CauseTest) -> Predicate:
    kind, list_steps = test.kind, _STEPS[test.part]
    if test.block is None:
        return lambda trace: any(list_steps(cause) for cause in _causes(trace, kind))
    block = compile_predicate(test.block, contexts.CAUSES[kind, test.part])

    def matches(trace: Trace) -> bool:
        for cause in _causes(trace, kind):
            steps = list_steps(cause)
            if any(block(Listed(step, index, len(steps))) for index, step in enumerate(steps)):
                return True
        return False

    return matches


def _entities(cause: Any) -> list[Any]:
    return [entity for service in cause.services for entity in service.entity_path]


def _exceptions(cause: Any) -> list[Any]:
    return [exception for entity in _entities(cause) for exception in entity.exceptions]


_STEPS: Mapping[str, Callable[[Any], list[Any]]] = {
    "service": lambda cause: list(cause.services),
    "entity": _entities,
    "exception": _exceptions,
}


def _compile_json(test: CauseJsonTest) -> Predicate:
    kinds = CAUSE_KINDS if test.kind is None else (test.kind,)
    wanted, positive = test.value, test.operator == "="

    def matches(trace: Trace) -> bool:
        found = any(_has_shape(msgspec.to_builtins(_causes(trace, kind)), wanted) for kind in kinds)
        return found is positive

    return matches


def _has_shape(value: object, wanted: object) -> bool:
    """Whether a root cause, as the API shows it, is as the JSON literal says.

    Members that the literal leaves out are free. What is unknown is "" or left out here, and may be
    null in the literal.
    """
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            _has_shape(value.get(member, ""), inner) for member, inner in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(value, list)
            and len(value) == len(wanted)
            and all(map(_has_shape, value, wanted))
        )
    if wanted is None:
        return value == ""
    if isinstance(wanted, (bool, str)):
        return type(value) is type(wanted) and value == wanted
    # The one number is Coverage, which the API shows with three decimals.
    assert isinstance(wanted, (int, float))
    return isinstance(value, float) and round(value, 3) == as_number(wanted)
