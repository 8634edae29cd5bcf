"""Tokens to a syntax tree: a recursive descent over the filter expression grammar.

    expr       = and_expr { OR and_expr }
    and_expr   = unary { [ AND ] unary }                  (adjacency means AND)
    unary      = ( "!" | NOT ) unary | primary
    primary    = "(" expr ")" | service | edge | rootcause | json | group | annotation
               | keyword [ operator value ]
    service    = "service" "(" [ node ] ")" [ block ]
    edge       = "edge" "(" [ node ] "," [ node ] ")" [ block ]
    node       = string | "id" "(" [ part ":" string { "," part ":" string } ] ")"
    block      = "{" [ expr ] "}"

AWS publishes prose and examples only; this accepts every published example. Words have no case.
"""

from __future__ import annotations

from typing import Any

from xrayd.dev.filters import contexts
from xrayd.dev.filters.contexts import Context
from xrayd.dev.filters.cursor import Cursor, describe, error_at
from xrayd.dev.filters.errors import FilterError, suggest
from xrayd.dev.filters.lexer import Kind, Token
from xrayd.dev.filters.syntax import (
    And,
    AnnotationTest,
    CauseJsonTest,
    CauseKind,
    CauseTest,
    EdgeTest,
    Expression,
    Flag,
    GroupTest,
    NodePattern,
    Not,
    NumberTest,
    Operator,
    Or,
    Present,
    ServiceTest,
    StringTest,
)

EQUALITY: tuple[Operator, ...] = ("=", "!=")
NUMBER_OPERATORS: tuple[Operator, ...] = ("=", "!=", "<", "<=", ">", ">=")
STRING_OPERATORS: tuple[Operator, ...] = ("=", "!=", "CONTAINS", "BEGINSWITH", "ENDSWITH")
LOGICAL_WORDS = ("and", "or", "not")
NODE_PARTS = ("name", "type", "account.id")

_OPERATORS: dict[str, Operator] = {
    operator.lower(): operator for operator in (*NUMBER_OPERATORS, *STRING_OPERATORS)
}
CAUSE_PARTS = {f"rootcause.{kind}.{part}": (kind, part) for kind, part in contexts.CAUSES}
_JSON_KINDS: dict[str, CauseKind | None] = {
    "json": None,
    "rootcause.json": None,
    "rootcause.fault.json": "fault",
    "rootcause.error.json": "error",
    "rootcause.responsetime.json": "responsetime",
}


def parse(text: str) -> Expression:
    """The syntax tree of a filter expression; blank text gives `And()`, which is no filter.

    Raises:
        FilterError: the text is no filter expression.
    """
    cursor = Cursor(text)
    if cursor.current.kind is Kind.END:
        return And()
    expression = _read_or(cursor, contexts.TRACE)
    cursor.expect_end()
    return expression


def _read_or(cursor: Cursor, context: Context[Any]) -> Expression:
    items = [_read_and(cursor, context)]
    while cursor.take_word("or"):
        items.append(_read_and(cursor, context))
    return items[0] if len(items) == 1 else Or(tuple(items))


def _read_and(cursor: Cursor, context: Context[Any]) -> Expression:
    items = [_read_unary(cursor, context)]
    while cursor.take_word("and") or _is_at_term(cursor):
        items.append(_read_unary(cursor, context))
    return items[0] if len(items) == 1 else And(tuple(items))


def _is_at_term(cursor: Cursor) -> bool:
    """Whether another term begins here, which is then joined by AND."""
    if cursor.current.kind is Kind.WORD:
        return not cursor.is_at(Kind.WORD, "or", *_OPERATORS)
    return cursor.is_at(Kind.MARK, "!", "(")


def _read_unary(cursor: Cursor, context: Context[Any]) -> Expression:
    token = cursor.current
    if not (cursor.take_mark("!") or cursor.take_word("not")):
        return _read_primary(cursor, context)
    with cursor.nested(token):
        return Not(_read_unary(cursor, context))


def _read_primary(cursor: Cursor, context: Context[Any]) -> Expression:
    token = cursor.current
    if cursor.take_mark("("):
        with cursor.nested(token):
            expression = _read_or(cursor, context)
        cursor.expect_mark(")", "to close the parenthesis")
        return expression
    if token.kind is not Kind.WORD or cursor.is_at(Kind.WORD, *LOGICAL_WORDS, *_OPERATORS):
        raise cursor.unexpected("a keyword")
    cursor.advance()
    if token.lower == "annotation" or token.lower.startswith("annotation."):
        return _read_annotation(cursor, context, token)
    if context is contexts.TRACE and token.lower in contexts.COMPLEX_KEYWORDS:
        return _read_complex(cursor, token)
    return _read_simple(cursor, context, token)


def _read_complex(cursor: Cursor, token: Token) -> Expression:
    keyword = token.lower
    if keyword == "service":
        return ServiceTest(read_service_node(cursor), _read_block(cursor, contexts.SERVICE))
    if keyword == "edge":
        return EdgeTest(*read_edge_nodes(cursor), _read_block(cursor, contexts.EDGE))
    if keyword in CAUSE_PARTS:
        kind, part = CAUSE_PARTS[keyword]
        return CauseTest(kind, part, _read_block(cursor, contexts.CAUSES[kind, part]))
    if keyword in _JSON_KINDS:
        return _read_json(cursor, token)
    operator = _read_operator(cursor, keyword, EQUALITY)
    return GroupTest(keyword, operator, _as_text(_read_value(cursor)), position=token.start)


def read_service_node(cursor: Cursor) -> NodePattern:
    """The parentheses of `service(…)`.

    Raises:
        FilterError: they are not as they should be.
    """
    cursor.expect_mark("(", 'after service, as in service("name")')
    node = _read_optional_node(cursor)
    cursor.expect_mark(")", "to close service(")
    return node


def read_edge_nodes(cursor: Cursor) -> tuple[NodePattern, NodePattern]:
    """The parentheses of `edge(…, …)`: caller and callee.

    Raises:
        FilterError: they are not as they should be.
    """
    cursor.expect_mark("(", 'after edge, as in edge("caller", "callee")')
    caller = _read_optional_node(cursor)
    cursor.expect_mark(",", "between the two nodes of edge(caller, callee)")
    callee = _read_optional_node(cursor)
    cursor.expect_mark(")", "to close edge(")
    return caller, callee


def _read_optional_node(cursor: Cursor) -> NodePattern:
    return NodePattern() if cursor.is_at(Kind.MARK, ")", ",") else read_node(cursor)


def read_node(cursor: Cursor) -> NodePattern:
    """A service's name in quotes, or `id(…)`.

    Raises:
        FilterError: neither is there.
    """
    if cursor.current.kind is Kind.STRING:
        return NodePattern(name=_as_text(cursor.advance()))
    if not cursor.take_word("id"):
        raise cursor.unexpected("a name in quotes or id(…)")
    cursor.expect_mark("(", 'after id, as in id(name: "a", type: "b")')
    parts: dict[str, str] = {}
    if not cursor.is_at(Kind.MARK, ")"):
        _read_node_part(cursor, parts)
        while cursor.take_mark(","):
            _read_node_part(cursor, parts)
    cursor.expect_mark(")", "to close id(")
    return NodePattern(parts.get("name"), parts.get("type"), parts.get("account.id"))


def _read_node_part(cursor: Cursor, parts: dict[str, str]) -> None:
    token = cursor.current
    if not cursor.is_at(Kind.WORD, *NODE_PARTS):
        raise cursor.unexpected("name, type or account.id", suggest(token.text, NODE_PARTS))
    part = cursor.advance().lower
    if part in parts:
        raise error_at(token, f"{part} is given twice in id()")
    cursor.expect_mark(":", f'after {part}, as in id({part}: "…")')
    if cursor.current.kind is not Kind.STRING:
        raise cursor.unexpected(f"{part} in quotes")
    parts[part] = _as_text(cursor.advance())


def _read_block(cursor: Cursor, context: Context[Any]) -> Expression | None:
    opening = cursor.current
    if not cursor.take_mark("{") or cursor.take_mark("}"):
        return None
    with cursor.nested(opening):
        block = _read_or(cursor, context)
    cursor.expect_mark("}", "to close the block")
    return block


def _read_json(cursor: Cursor, token: Token) -> CauseJsonTest:
    operator = _read_operator(cursor, token.lower, EQUALITY)
    literal = cursor.current
    if literal.kind is not Kind.JSON or not isinstance(literal.value, list):
        raise cursor.unexpected('# and a JSON array, as in #[{"Services": []}]')
    cursor.advance()
    return CauseJsonTest(_JSON_KINDS[token.lower], operator, literal.value)


def _read_annotation(cursor: Cursor, context: Context[Any], token: Token) -> AnnotationTest:
    if context.annotations is None:
        raise error_at(token, f"annotations cannot stand {context.where}")
    key = token.text[len("annotation.") :]
    if cursor.current.kind is Kind.BRACKETED:
        key = str(cursor.advance().value)
    elif not key:
        raise error_at(token, "missing annotation key, as in annotation.age or annotation[age]")
    elif "." in key or "-" in key:
        raise error_at(
            token,
            "without brackets an annotation's key has only letters, digits and _",
            f'annotation["{key}"]',
        )
    if not _is_at_operator(cursor):
        return AnnotationTest(key)
    operator_token = cursor.current
    operator = _read_operator(cursor, "annotation", tuple(_OPERATORS.values()))
    value = _as_literal(_read_value(cursor))
    allowed = _operators_for(value)
    if operator not in allowed:
        raise error_at(
            operator_token, f"{operator} does not fit this value, only {', '.join(allowed)} do"
        )
    return AnnotationTest(key, operator, value)


def _operators_for(value: str | float | bool) -> tuple[Operator, ...]:
    if isinstance(value, bool):
        return EQUALITY
    return STRING_OPERATORS if isinstance(value, str) else NUMBER_OPERATORS


def _read_simple(cursor: Cursor, context: Context[Any], token: Token) -> Expression:
    keyword = token.lower
    if keyword not in context.keywords:
        raise _unknown_keyword(token, context)
    if not _is_at_operator(cursor):
        return Flag(keyword) if keyword in context.flags else Present(keyword)
    if keyword in context.flags:
        operator = _read_operator(cursor, keyword, EQUALITY)
        value = _read_value(cursor)
        if value.kind is not Kind.WORD or value.lower not in ("true", "false"):
            raise error_at(value, f"{keyword} is true or false, not {describe(value)}")
        return Flag(keyword, (value.lower == "true") == (operator == "="))
    if keyword in context.numbers:
        operator = _read_operator(cursor, keyword, NUMBER_OPERATORS)
        value = _read_value(cursor)
        if value.kind is not Kind.NUMBER:
            raise error_at(value, f"{keyword} is a number, not {describe(value)}")
        assert isinstance(value.value, float)
        return NumberTest(keyword, operator, value.value)
    operator = _read_operator(cursor, keyword, STRING_OPERATORS)
    return StringTest(keyword, operator, _as_text(_read_value(cursor)))


def _is_at_operator(cursor: Cursor) -> bool:
    return cursor.is_at(Kind.OPERATOR, *_OPERATORS) or cursor.is_at(Kind.WORD, *_OPERATORS)


def _read_operator(cursor: Cursor, keyword: str, allowed: tuple[Operator, ...]) -> Operator:
    if not _is_at_operator(cursor):
        raise cursor.unexpected(f"{' or '.join(allowed)} after {keyword}")
    token = cursor.advance()
    operator = _OPERATORS[token.lower]
    if operator not in allowed:
        raise error_at(token, f"{operator} does not fit {keyword}, only {', '.join(allowed)} do")
    return operator


def _read_value(cursor: Cursor) -> Token:
    """The value after an operator: a string, a number, or a word that is not logical."""
    token = cursor.current
    is_word = token.kind is Kind.WORD and token.lower not in (*LOGICAL_WORDS, *_OPERATORS)
    if not is_word and token.kind not in (Kind.STRING, Kind.NUMBER):
        raise error_at(token, f"missing value, found {describe(token)}")
    return cursor.advance()


def _as_text(token: Token) -> str:
    """What a value means to a string keyword; quotes are optional."""
    return str(token.value) if token.kind is Kind.STRING else token.text


def _as_literal(token: Token) -> str | float | bool:
    """What a value means to an annotation, which takes the literal's type."""
    if token.kind is Kind.NUMBER:
        assert isinstance(token.value, float)
        return token.value
    if token.kind is Kind.WORD and token.lower in ("true", "false"):
        return token.lower == "true"
    return _as_text(token)


def _unknown_keyword(token: Token, context: Context[Any]) -> FilterError:
    others: list[Context[Any]] = [contexts.TRACE, contexts.SERVICE, contexts.EDGE]
    others.extend(contexts.CAUSES.values())
    elsewhere = {keyword for other in others for keyword in other.keywords}
    if token.lower in elsewhere.union(contexts.COMPLEX_KEYWORDS):
        return error_at(token, f'keyword "{token.text}" cannot stand {context.where}')
    known = [*context.keywords, *STRING_OPERATORS[2:], "AND", "OR", "NOT"]
    if context.annotations is not None:
        known.append("annotation.")
    if context is contexts.TRACE:
        known.extend(contexts.COMPLEX_KEYWORDS)
    return error_at(token, f'unknown keyword "{token.text}"', suggest(token.text, known))
