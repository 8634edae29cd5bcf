"""The SQL condition of a filter expression, on a real SQLite, beside the predicate."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from filter_strategies import GROUPS, combined, expressions, indexed_terms, traces, unhurried
from filter_traces import compile_documents, http, segment, subsegment
from hypothesis import given
from hypothesis import strategies as st

from xrayd.dev.filters import sql
from xrayd.dev.filters.evaluate import compile_filter
from xrayd.dev.filters.prefilter import TERMS_MAX, prefilter
from xrayd.dev.filters.syntax import format_expression

TABLES = (
    (sql.TRACE_TABLE, sql.TRACE_COLUMNS),
    (sql.NODE_TABLE, sql.NODE_COLUMNS),
    (sql.ANNOTATION_TABLE, sql.ANNOTATION_COLUMNS),
    (sql.LABEL_TABLE, sql.LABEL_COLUMNS),
)


def open_index(indexed):
    """A database with the rows of these traces; their ids are 0, 1, 2, …"""
    connection = sqlite3.connect(":memory:")
    for table, columns in TABLES:
        kinds = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        connection.execute(f"CREATE TABLE {table} ({kinds})")
    for number, trace in enumerate(indexed):
        rows = sql.index_rows(trace)
        for (table, columns), values in zip(
            TABLES, ([rows.trace], rows.nodes, rows.annotations, rows.labels), strict=True
        ):
            marks = ", ".join("?" * len(columns))
            statement = f"INSERT INTO {table} VALUES ({marks})"
            connection.executemany(statement, [(number, *row) for row in values])
    return connection


def select(indexed, condition):
    with closing(open_index(indexed)) as connection:
        query = f"SELECT t.id FROM {sql.TRACE_TABLE} AS t WHERE {condition.where} ORDER BY t.id"
        return [row[0] for row in connection.execute(query, condition.parameters)]


def check(expression_text, indexed):
    compiled = compile_filter(expression_text, GROUPS)
    condition = prefilter(compiled.expression)
    selected = select(indexed, condition)
    matching = [number for number, trace in enumerate(indexed) if compiled.matches(trace)]
    assert set(matching) <= set(selected)
    if condition.exact:
        assert matching == selected
    return condition


@unhurried
@given(expressions, st.lists(traces(), min_size=1, max_size=3))
def test_sql_never_leaves_out_a_trace_that_matches(expression, indexed):
    check(format_expression(expression), indexed)


@unhurried
@given(combined(indexed_terms), st.lists(traces(), min_size=1, max_size=3))
def test_sql_that_claims_to_be_exact_selects_what_matches(expression, indexed):
    check(format_expression(expression), indexed)


SEVERAL = [
    compile_documents(segment("api")),
    compile_documents(
        segment("api", fault=True, end=3, user="alice", http=http(status=500, method="get")),
        subsegment("DynamoDB", 2, parent=1, namespace="aws", aws={"table_name": "users"}),
    ),
    compile_documents(segment("web", end=None, annotations={"age": 30, "ok": True, "text": "é%"})),
    compile_documents(
        segment("web", error=True, http=http(url="http://h/a\x00b%_é")),
        subsegment("x", 2, parent=1, namespace="remote", throttle=True),
        segment("api", 3, parent=2, origin="T", aws={"account_id": "1"}, annotations={"ok": False}),
    ),
]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [0, 1, 2, 3]),
        ("ok", [0, 2]),
        ("!ok", [1, 3]),
        ("fault OR error", [1, 3]),
        ("throttle = false", [0, 1, 2, 3]),
        ("partial", [2]),
        ("inferred", [1]),
        ("responsetime", [0, 1, 3]),
        ("responsetime > 1", [1]),
        ("!responsetime > 1", [0, 2, 3]),
        ("http.status != 200", [1]),
        ("!http.status = 500", [0, 2, 3]),
        ("http.method = GET", [1]),
        ("http.method = get", [1]),
        ('http.url CONTAINS ""', [3]),
        ('http.url CONTAINS "a\x00b"', [3]),
        ('http.url ENDSWITH "\x00b%_é"', [3]),
        ('http.url BEGINSWITH "http://h/a\x00"', [3]),
        ('http.url CONTAINS "HTTP"', []),
        ("user", [1]),
        ("user != alice", []),
        ("!user = alice", [0, 2, 3]),
        ("account.id = 1", [3]),
        ("annotation.age > 29", [2]),
        ('annotation.age = "30"', []),
        ("annotation.ok", [2]),
        ("!annotation.ok", [0, 1, 3]),
        ("annotation.ok = false", [3]),
        ('annotation.text ENDSWITH "%"', [2]),
        ('service("api")', [0, 1, 3]),
        ('!service("api")', [2]),
        ('service("api") { fault OR responsetime > 2 }', [1]),
        ('service("api") { fault = false }', [0, 3]),
        ('service("api") { root }', [0, 1]),
        ('service(id(type: "client"))', [0, 1, 2, 3]),
        ('service(id(type: "client")) { !fault }', []),
        ('service(id(account.id: "1", type: "T")) { !inferred }', [3]),
        ('service("users")', [1]),
        ('service("DynamoDB") { ok }', [1]),
        ('service("Dynamo")', []),
        ('service() { name = "users" AND type ENDSWITH "::Table" }', [1]),
        ('edge("api", "DynamoDB")', [1]),
        ('edge("web", "api") { throttle }', [3]),
        ('edge("api", "web")', []),
        ('edge(id(type: "client"),) { error }', [3]),
        ('edge(, id(type: "T"))', [3]),
        ("group.name = slow", [1]),
    ],
)
def test_sql_alone_decides(text, found):
    condition = check(text, SEVERAL)
    assert condition.exact
    assert select(SEVERAL, condition) == found


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ('edge("api", "backend") { fault responsetime = 4 http.status = 503 }', True),
        ('edge("api", "backend") { ok }', False),
        ('edge("api", "backend") { responsetime = 3 }', False),
        ('service("backend") { ok responsetime = 3 http.status = 200 }', True),
        ('service("backend") { fault }', False),
        ('service("backend") { duration = 3.5 }', True),
        ("edge(,) { error }", False),
        ("edge(,) { !fault }", False),
        ("edge(,) { fault = false }", False),
    ],
)
def test_sql_tells_a_call_from_what_it_led_to(text, is_found):
    trace = compile_documents(
        segment("api", fault=True, end=5),
        subsegment("x", 2, parent=1, namespace="remote", end=4, fault=True, http=http(status=503)),
        segment("backend", 3, parent=2, end=3, http=http(status=200)),
        subsegment("late", 4, parent=3, start=3, end=3.5),
    )
    condition = check(text, [trace])
    assert condition.exact
    assert select([trace], condition) == ([0] if is_found else [])


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("rootcause.fault.service { first }", [1]),
        ("!rootcause.fault.service { first }", [0, 1, 2, 3]),
        ("fault rootcause.error.entity", []),
        ('rootcause.json = #[{"Services": []}]', [1, 3]),
        ("rootcause.json = #[]", [0, 1, 2, 3]),
        ('service("web") { annotation.x = 1 }', [2, 3]),
        ('service("web") { user = "x" error }', [3]),
        ('service("web") { user = "x" OR error }', [2, 3]),
        ('service("web") { !user = "x" }', [2, 3]),
        ("responsetime > 2 OR rootcause.error.service", [1, 3]),
    ],
)
def test_sql_leaves_a_rest_to_the_predicate(text, candidates):
    condition = check(text, SEVERAL)
    assert not condition.exact
    assert select(SEVERAL, condition) == candidates


@pytest.mark.parametrize(
    "text",
    [
        "ok " * 3000,
        "ok OR fault " * 800,
        "duration > 1 " * (TERMS_MAX + 1),
        "!" * 50 + "ok",
        "(" * 50 + "ok" + ")" * 50,
        "ok AND (fault OR !(" * 16 + "error" + "))" * 16,
        "ok AND !(fault OR !(" * 12 + "error" + "))" * 12,
        "ok AND (fault OR !(" * 3 + "service() { ok AND !(fault OR !(error)) }" + "))" * 3,
    ],
)
def test_the_largest_expressions_stay_within_what_sqlite_takes(text):
    check(text, SEVERAL)


def test_the_nesting_that_sqlite_takes_is_written_out():
    text = "ok AND !(fault OR !(partial AND !(error)))"
    deepest = text.replace("error", "service() { root AND !fault }")
    assert check(deepest, SEVERAL).exact
    assert not check(deepest.replace("!fault", "!(fault OR !error)"), SEVERAL).exact


def test_half_a_surrogate_pair_is_left_to_the_predicate():
    for text in ('user = "\ud800"', 'service("\udfff")', 'http.url CONTAINS "\ud800"'):
        assert not check(text, SEVERAL).exact
        check(f"!({text})", SEVERAL)


def test_values_are_bound_and_never_part_of_the_text():
    value = "x' OR 1=1 --"
    condition = check(f'user = "{value}" annotation["{value}"] = "{value}"', SEVERAL)
    assert value not in condition.where
    assert select(SEVERAL, condition) == []


def test_every_row_has_a_value_for_every_column():
    for trace in SEVERAL:
        rows = sql.index_rows(trace)
        for (_, columns), values in zip(
            TABLES, ([rows.trace], rows.nodes, rows.annotations, rows.labels), strict=True
        ):
            assert {len(row) + 1 for row in values} <= {len(columns)}


def test_the_rows_of_a_trace_say_what_it_is():
    columns = list(sql.NODE_COLUMNS)[1:]
    client, api, table = (
        dict(zip(columns, row, strict=True)) for row in sql.index_rows(SEVERAL[1]).nodes
    )
    assert (client["name"], client["type"], client["is_ok"], client["caller_name"]) == (
        ("api", "client", None, None)
    )
    assert (api["has_fault"], api["is_root"], api["response_time"], api["http_status"]) == (
        (1, 1, 3.0, 500.0)
    )
    assert (api["caller_type"], api["call_fault"]) == ("client", 1)
    assert (table["name"], table["names"]) == ("users", ',"users","DynamoDB",')
    assert (table["is_inferred"], table["caller_name"], table["call_ok"]) == (1, "api", 1)
    assert sql.index_rows(SEVERAL[1]).labels == [("user", "alice")]
    assert sql.index_rows(SEVERAL[2]).annotations == [
        ("age", None, 30.0, None),
        ("ok", None, None, 1),
        ("text", "é%", None, None),
    ]
