"""What is offered to somebody who is typing a filter expression."""

from __future__ import annotations

import pytest
from filter_strategies import unhurried
from hypothesis import given
from hypothesis import strategies as st

from xrayd.dev.filters.completion import CANDIDATES_MAX, Candidate, complete
from xrayd.dev.filters.lexer import TEXT_MAX
from xrayd.dev.filters.parser import parse

NAMES = ["api", 'the "web"']
KEYS = ["age", "a.b"]


def offered(text):
    return [candidate.text for candidate in complete(text, len(text), NAMES, KEYS)]


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted"),
    [
        (
            "",
            ["ok", "http.url", "service(", "annotation.age", 'annotation["a.b"]'],
            ["last", "AND"],
        ),
        ("fa", ["fault", "rootcause.fault.entity"], ["ok"]),
        ("STATUS", ["http.status"], ["ok"]),
        ("ok ", ["AND", "OR", "=", "fault"], ["CONTAINS"]),
        ("ok = ", ["true", "false"], ["fault"]),
        ("!", ["ok"], ["AND"]),
        ("http.url ", ["CONTAINS", "AND"], ["<"]),
        ("http.url con", ["CONTAINS"], ["BEGINSWITH"]),
        ("http.url CONTAINS ", [], ["ok", "true"]),
        ("duration ", ["<", "AND"], ["CONTAINS"]),
        ("annotation.", ["annotation.age"], ["ok"]),
        ("annotation[", ['["age"]', '["a.b"]'], ["ok"]),
        ("annotation[a.", ['["a.b"]'], ['["age"]']),
        ("service(", ['"api"', '"the \\"web\\""', "id("], ["ok"]),
        ('service("', ['"api"'], ["id("]),
        ('service("w', ['"the \\"web\\""'], ['"api"']),
        ("edge('api', ", ['"api"', "id("], ["ok"]),
        ("service(id(", ["name: ", "type: ", "account.id: "], ['"api"']),
        ("service(id(name: ", ['"api"'], ["name: "]),
        ("service(id(type: ", [], ['"api"']),
        ("service() { ", ["root", "fault", "annotation.age"], ["edge(", "last"]),
        ("service() { fault } ", ["AND", "edge("], ["root"]),
        ("service(id(name: 'a')) { ", ["root"], ["edge("]),
        ("edge(,) { ", ["fault"], ["root", "annotation.age"]),
        ("rootcause.fault.exception { ", ["message", "first"], ["remote", "ok"]),
        ("rootcause.fault.service { name = ", ['"api"'], ["first"]),
        ("rootcause.responsetime.entity { cov", ["coverage"], []),
        ('user = "abc" #[', [], ["ok"]),
    ],
)
def test_what_fits_at_the_end_is_offered(text, wanted, unwanted):
    found = offered(text)
    assert [candidate for candidate in wanted if candidate not in found] == []
    assert [candidate for candidate in unwanted if candidate in found] == []


def test_a_candidate_replaces_the_piece_being_typed():
    text = 'service("ap { fault'
    cursor = text.index(" {")
    assert complete(text, cursor, NAMES, KEYS) == [Candidate('"api"', 8, 11)]


def test_what_begins_as_typed_comes_first():
    assert offered("user")[:2] == ["user", "http.useragent"]
    assert offered("service") == ["service(", *offered("service")[1:]]


def test_the_number_of_candidates_is_bounded():
    many = [f"service {number}" for number in range(1000)]
    assert len(complete("service(", 8, many, [])) == CANDIDATES_MAX


@pytest.mark.parametrize(
    "text", ["", "ok AND ", "service(id(name: 'a')) { ok or ", "rootcause.error.exception {"]
)
def test_every_keyword_offered_can_stand_there(text):
    unfinished = ("service(", "edge(", "NOT", "group.name", "group.arn")
    for candidate in offered(text):
        if candidate not in unfinished and not candidate.endswith("json"):
            assert parse(f"{text}{candidate}{' }' if '{' in text else ''}")


@unhurried
@given(st.text(alphabet="ok service(id){\"'#[]}=,:.! annotation"), st.integers(0, 30))
def test_any_text_can_be_completed(text, cursor):
    for candidate in complete(text, min(cursor, len(text)), NAMES, KEYS):
        assert 0 <= candidate.start <= candidate.end == min(cursor, len(text))


@pytest.mark.parametrize("character", ["a", '"', "["])
def test_a_text_that_is_too_long_gets_nothing(character):
    text = character * (TEXT_MAX + 1)
    assert complete(text, len(text), NAMES, KEYS) == []
