"""The syntax tree of a filter expression, and its way back to text.

The parser has already decided everything that words decide: aliases are folded (`ok != true` is
`ok = false`, `service("a")` is `service(id(name: "a"))`), operators fit their keyword's type, and
every keyword is allowed where it stands.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "CONTAINS", "BEGINSWITH", "ENDSWITH"]
CauseKind: TypeAlias = Literal["fault", "error", "responsetime"]
CausePart: TypeAlias = Literal["service", "entity", "exception"]


@dataclass(frozen=True, slots=True)
class And:
    """All of `items` hold. Without items: no filter at all, which every trace passes."""

    items: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of `items` holds; two items or more."""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`item` does not hold."""

    item: Expression


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean keyword (`ok`, `fault`, `last`, …) has `value`."""

    keyword: str
    value: bool = True


@dataclass(frozen=True, slots=True)
class Present:
    """A number or string keyword has any value at all: `http.url`."""

    keyword: str


@dataclass(frozen=True, slots=True)
class NumberTest:
    """A number keyword compared: `duration >= 5`. Seconds for times, a status code, a share 0-1."""

    keyword: str
    operator: Operator
    value: float


@dataclass(frozen=True, slots=True)
class StringTest:
    """A string keyword compared: `http.url CONTAINS "/api/"`. Case-sensitive."""

    keyword: str
    operator: Operator
    value: str


@dataclass(frozen=True, slots=True)
class AnnotationTest:
    """An annotation compared by the literal's type, or, with `operator` None, its bare key."""

    key: str
    operator: Operator | None = None
    value: str | float | bool | None = None


@dataclass(frozen=True, slots=True)
class NodePattern:
    """Which nodes of the service graph are meant: every part that is not None must be equal."""

    name: str | None = None
    type: str | None = None
    account_id: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceTest:
    """Some segment of some such node satisfies `block`; None: the node takes part in the trace."""

    node: NodePattern
    block: Expression | None = None


@dataclass(frozen=True, slots=True)
class EdgeTest:
    """Some call from one such node to another satisfies `block`; None: there is such a call."""

    caller: NodePattern
    callee: NodePattern
    block: Expression | None = None


@dataclass(frozen=True, slots=True)
class CauseTest:
    """Some root cause of this kind has such a service, entity or exception that fits `block`."""

    kind: CauseKind
    part: CausePart
    block: Expression | None = None


@dataclass(frozen=True, slots=True)
class CauseJsonTest:
    """Some root cause has this shape: listed fields equal, omitted ones free, arrays full length.

    `kind` None looks at all three kinds. `value` is the decoded JSON array.
    """

    kind: CauseKind | None
    operator: Operator
    value: list[object]


@dataclass(frozen=True, slots=True)
class GroupTest:
    """The trace passes (`=`) or does not pass (`!=`) the filter expression of a group."""

    keyword: str
    operator: Operator
    value: str
    position: int = field(default=0, compare=False, repr=False)


Expression: TypeAlias = (
    And
    | Or
    | Not
    | Flag
    | Present
    | NumberTest
    | StringTest
    | AnnotationTest
    | ServiceTest
    | EdgeTest
    | CauseTest
    | CauseJsonTest
    | GroupTest
)


def format_expression(expression: Expression) -> str:
    """The expression as text that parses to the same tree, in the documentation's spelling."""
    return _format(expression, _LOOSEST)


_LOOSEST, _OR, _AND = range(3)  # how tightly the surroundings of a term bind


def _format(expression: Expression, outer: int) -> str:
    match expression:
        case And(items):
            return _format_joined(items, " AND ", _AND, outer)
        case Or(items):
            return _format_joined(items, " OR ", _OR, outer)
        case Not(item):
            return "!" + _format(item, _AND)
        case _:
            return _format_term(expression)


def _format_joined(items: tuple[Expression, ...], word: str, own: int, outer: int) -> str:
    text = word.join(_format(item, own) for item in items)
    return f"({text})" if outer >= own else text


def _format_term(
    term: Expression,
) -> str:
    match term:
        case Flag(keyword, value):
            return keyword if value else f"{keyword} = false"
        case Present(keyword):
            return keyword
        case NumberTest(keyword, operator, value) | StringTest(keyword, operator, value):
            return f"{keyword} {operator} {_format_value(value)}"
        case AnnotationTest(key, None, _):
            return f"annotation[{quote(key)}]"
        case AnnotationTest(key, operator, value):
            return f"annotation[{quote(key)}] {operator} {_format_value(value)}"
        case ServiceTest(node, block):
            return f"service({_format_node(node)}){_format_block(block)}"
        case EdgeTest(caller, callee, block):
            return f"edge({_format_node(caller)}, {_format_node(callee)}){_format_block(block)}"
        case CauseTest(kind, part, block):
            return f"rootcause.{kind}.{part}{_format_block(block)}"
        case CauseJsonTest(kind, operator, value):
            prefix = f"rootcause.{kind}.json" if kind else "rootcause.json"
            return f"{prefix} {operator} #{json.dumps(value)}"
        case GroupTest(keyword, operator, value):
            return f"{keyword} {operator} {quote(value)}"
        case And() | Or() | Not():  # pragma: no cover - _format handles these
            return _format(term, _LOOSEST)


def _format_block(block: Expression | None) -> str:
    return "" if block is None else f" {{ {format_expression(block)} }}"


def _format_node(node: NodePattern) -> str:
    parts = {"name": node.name, "type": node.type, "account.id": node.account_id}
    named = [f"{part}: {quote(value)}" for part, value in parts.items() if value is not None]
    return f"id({', '.join(named)})"


def _format_value(value: str | float | bool | None) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quote(value)
        case _:
            return repr(value)


def quote(text: str) -> str:
    """A string literal that stands for `text`."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
