"""Entity selectors: service(), edge() and id(), and nothing more."""

from __future__ import annotations

import pytest
from filter_strategies import unhurried
from hypothesis import given
from hypothesis import strategies as st

from xrayd.dev.filters.errors import FilterError
from xrayd.dev.filters.selector import parse_selector
from xrayd.dev.filters.syntax import EdgeTest, NodePattern, ServiceTest


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ('service("a")', ServiceTest(NodePattern("a"))),
        ("SERVICE()", ServiceTest(NodePattern())),
        ('service(id(name: "a", type: "b"))', ServiceTest(NodePattern("a", "b"))),
        ('id(account.id: "1")', ServiceTest(NodePattern(account_id="1"))),
        ('edge("a", id(name: "b"))', EdgeTest(NodePattern("a"), NodePattern("b"))),
        ("edge(,)", EdgeTest(NodePattern(), NodePattern())),
    ],
)
def test_a_selector_names_nodes_or_edges(text, selector):
    assert parse_selector(text) == selector


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0),
        ("fault", 0),
        ("http.status = 403", 0),
        ("annotation.x", 0),
        ('service("x") AND (http.status = 403)', 13),
        ('service("x") { fault }', 13),
        ('service("x") OR service("y")', 13),
        ('!service("x")', 0),
        ('(service("x"))', 0),
        ('group.name = "g"', 0),
        ('service("x"', 11),
        ('edge("x")', 8),
        ('id("x")', 3),
        ("service(", 8),
    ],
)
def test_anything_more_is_refused(text, position):
    with pytest.raises(FilterError) as caught:
        parse_selector(text)
    assert caught.value.position == position


def refusal(text):
    try:
        parse_selector(text)
    except FilterError as error:
        return error
    return None


@unhurried
@given(st.text())
def test_random_text_is_refused_as_a_filter_error(text):
    error = refusal(text)
    assert error is not None
    assert 0 <= error.position <= len(text)
