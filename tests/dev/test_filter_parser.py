"""Filter expression text to a syntax tree, or to an error that says what is wrong and where."""

from __future__ import annotations

import pytest
from filter_strategies import GROUPS, expressions, unhurried
from hypothesis import given
from hypothesis import strategies as st

from xrayd.dev.filters.errors import FilterError
from xrayd.dev.filters.evaluate import compile_filter
from xrayd.dev.filters.groups import expand_groups
from xrayd.dev.filters.lexer import DEPTH_MAX, TEXT_MAX, Kind, tokenize
from xrayd.dev.filters.parser import parse
from xrayd.dev.filters.syntax import (
    And,
    AnnotationTest,
    CauseJsonTest,
    EdgeTest,
    Flag,
    GroupTest,
    NodePattern,
    Not,
    NumberTest,
    Or,
    Present,
    ServiceTest,
    StringTest,
    format_expression,
)

OK, FAULT, ERROR = Flag("ok"), Flag("fault"), Flag("error")

TREES = [
    ("", And()),
    (" \t\n ", And()),
    ("ok", OK),
    ("OK", OK),
    ("ok = TRUE", OK),
    ("ok != true", Flag("ok", False)),
    ("ok=false", Flag("ok", False)),
    ("!ok", Not(OK)),
    ("not ok", Not(OK)),
    ("!!ok", Not(Not(OK))),
    ("ok fault error", And((OK, FAULT, ERROR))),
    ("ok AND fault and error", And((OK, FAULT, ERROR))),
    ("ok OR fault AND error", Or((OK, And((FAULT, ERROR))))),
    ("ok fault or error", Or((And((OK, FAULT)), ERROR))),
    ("(ok OR fault) error", And((Or((OK, FAULT)), ERROR))),
    ("ok!fault", And((OK, Not(FAULT)))),
    ("!ok fault", And((Not(OK), FAULT))),
    ("!(ok fault)", Not(And((OK, FAULT)))),
    ("duration<3", NumberTest("duration", "<", 3.0)),
    ("responseTime >= 2.5e-1", NumberTest("responsetime", ">=", 0.25)),
    ("duration > -1", NumberTest("duration", ">", -1.0)),
    ("http.status", Present("http.status")),
    ("HTTP.URL", Present("http.url")),
    ("user = alice", StringTest("user", "=", "alice")),
    ("user = 817DL6VO", StringTest("user", "=", "817DL6VO")),
    ("user = 29", StringTest("user", "=", "29")),
    ("user = true", StringTest("user", "=", "true")),
    ("user = data-plane.v2", StringTest("user", "=", "data-plane.v2")),
    ("user = 'a \"b\" \\'c\\''", StringTest("user", "=", "a \"b\" 'c'")),
    (r'user = "a \"b\" \\ \n"', StringTest("user", "=", 'a "b" \\ \\n')),
    (r'user = "\\"', StringTest("user", "=", "\\")),
    ('user beginswith "é"', StringTest("user", "BEGINSWITH", "é")),
    ('user = "AND"', StringTest("user", "=", "AND")),
    ("annotation.age", AnnotationTest("age")),
    ("ANNOTATION.Age", AnnotationTest("Age")),
    ("annotation.2fa = true", AnnotationTest("2fa", "=", True)),
    ("annotation.age > 29", AnnotationTest("age", ">", 29.0)),
    ('annotation.age = "29"', AnnotationTest("age", "=", "29")),
    ("annotation.age != twenty", AnnotationTest("age", "!=", "twenty")),
    ("annotation[a.b]", AnnotationTest("a.b")),
    ("annotation [ bad key! ] = 1", AnnotationTest("bad key!", "=", 1.0)),
    ('annotation["a]b"] CONTAINS x', AnnotationTest("a]b", "CONTAINS", "x")),
    ('service("a")', ServiceTest(NodePattern("a"))),
    ("service()", ServiceTest(NodePattern())),
    ("service(id())", ServiceTest(NodePattern())),
    ("service() {}", ServiceTest(NodePattern())),
    ('Service("a"){!ok}', ServiceTest(NodePattern("a"), Not(OK))),
    (
        'service(id(account.id:"1",TYPE : "",name:"a"))',
        ServiceTest(NodePattern("a", "", "1")),
    ),
    ("edge(,)", EdgeTest(NodePattern(), NodePattern())),
    ('edge("a",){fault}', EdgeTest(NodePattern("a"), NodePattern(), FAULT)),
    ("json = #[]", CauseJsonTest(None, "=", [])),
    ("rootcause.json != #[1]", CauseJsonTest(None, "!=", [1])),
    ("rootcause.error.json = # [ {} ] ok", And((CauseJsonTest("error", "=", [{}]), OK))),
    ('group.name = "a"', GroupTest("group.name", "=", "a")),
    ("GROUP.ARN != arn", GroupTest("group.arn", "!=", "arn")),
]


@pytest.mark.parametrize(("text", "expression"), TREES)
def test_text_becomes_this_tree(text, expression):
    assert parse(text) == expression


@pytest.mark.parametrize(("text", "expression"), TREES)
def test_this_tree_becomes_text_that_means_it(text, expression):
    assert parse(format_expression(expression)) == expression


# text, position, part of the message, suggestion
ERRORS = [
    ("ok =", 4, "missing value, found the end", None),
    ("user = AND ok", 7, 'missing value, found "AND"', None),
    ("user CONTAINS", 13, "missing value", None),
    ('http.status CONTAINS "2"', 12, "CONTAINS does not fit http.status", None),
    ('http.status = "200"', 14, 'http.status is a number, not the string "200"', None),
    ("http.url > 2", 9, "> does not fit http.url", None),
    ("ok > true", 3, "> does not fit ok", None),
    ("ok = 1", 5, 'ok is true or false, not "1"', None),
    ('ok = "true"', 5, "ok is true or false", None),
    ('annotation.age > "29"', 15, "> does not fit this value", None),
    ("annotation.age CONTAINS 2", 15, "CONTAINS does not fit this value", None),
    ("annotation.age < false", 15, "< does not fit this value", None),
    ("annotation", 0, "missing annotation key", None),
    ("annotation.", 0, "missing annotation key", None),
    ("annotation[]", 10, "missing annotation key", None),
    ("annotation[x", 10, "missing closing bracket", None),
    ('annotation["x"', 10, "missing closing bracket", None),
    ("annotation.a.b", 0, "without brackets", 'annotation["a.b"]'),
    ('service("a") {faul}', 14, 'unknown keyword "faul"', "fault"),
    ("responstime > 2", 0, 'unknown keyword "responstime"', "responsetime"),
    ("sevice()", 0, 'unknown keyword "sevice"', "service"),
    ('http.url CONTAIN "x"', 9, 'unknown keyword "CONTAIN"', "CONTAINS"),
    ("rootcause.fault.entities {}", 0, "unknown keyword", "rootcause.fault.entity"),
    ("rootcause.responsetime.exception { last }", 0, "unknown keyword", None),
    ("xyzzy", 0, 'unknown keyword "xyzzy"', None),
    ("service", 7, 'expected "(" after service', None),
    ("service(", 8, "expected a name in quotes or id(…), found the end", None),
    ('service("a"', 11, 'expected ")" to close service(', None),
    ("service(a)", 8, "expected a name in quotes", None),
    ("service(id(nam: 1))", 11, "expected name, type or account.id", "name"),
    ("service(id(name: a))", 17, "expected name in quotes", None),
    ('service(id(name "a"))', 16, 'expected ":" after name', None),
    ('service(id(name: "a", name: "b"))', 22, "name is given twice", None),
    ('service(id(name: "a",))', 21, "expected name, type or account.id", None),
    ('edge("a")', 8, 'expected "," between', None),
    ('edge("a", "b", "c")', 13, 'expected ")" to close edge(', None),
    ("service() { ok", 14, 'expected "}" to close the block, found the end', None),
    ("service() { ok )", 15, 'expected "}" to close the block', None),
    ("service() ok }", 13, 'unbalanced "}"', None),
    ("(ok", 3, 'expected ")" to close the parenthesis', None),
    ("ok)", 2, 'unbalanced ")"', None),
    ("()", 1, 'expected a keyword, found ")"', None),
    ("!", 1, "expected a keyword, found the end", None),
    ("ok AND", 6, "expected a keyword, found the end", None),
    ("OR ok", 0, 'expected a keyword, found "OR"', None),
    ("ok AND OR fault", 7, 'expected a keyword, found "OR"', None),
    ("= 2", 0, 'expected a keyword, found "="', None),
    ('ok "x"', 3, 'unexpected the string "x"', None),
    ("duration > 2 3", 13, 'unexpected "3"', None),
    ("ok == true", 3, 'unknown operator "=="', "="),
    ("ok && fault", 3, 'unknown operator "&&"', "AND"),
    ("duration => 2", 9, 'unknown operator "=>"', ">="),
    ("duration > 1e999", 11, "number out of range", None),
    ("ok ; fault", 3, "unexpected character ';'", None),
    ('user = "alice', 7, 'missing closing quote "', None),
    ("json", 4, "expected = or != after json", None),
    ("json = [1]", 7, "unexpected character '['", None),
    ("json = #{}", 7, "expected # and a JSON array", None),
    ('json = "[]"', 7, "expected # and a JSON array", None),
    ("json = #[", 9, "the text after # is no JSON", None),
    ("json = #[{]", 10, "the text after # is no JSON", None),
    ("json = #[NaN]", 7, "NaN is no number", None),
    ("json = #[1e999]", 7, "1e999 is no number", None),
    ("group.name", 10, "expected = or != after group.name", None),
    ('group.name CONTAINS "x"', 11, "CONTAINS does not fit group.name", None),
    ("first", 0, 'keyword "first" cannot stand in a filter expression', None),
    ("coverage > 0.5", 0, "cannot stand in a filter expression", None),
    ("service() { service() }", 12, "cannot stand in a service's block", None),
    ('service() { group.name = "x" }', 12, "cannot stand in a service's block", None),
    ("edge(,) { annotation.x }", 10, "annotations cannot stand in an edge's block", None),
    ("edge(,) { root }", 10, "cannot stand in an edge's block", None),
    ("rootcause.fault.entity { coverage > 1 }", 25, "cannot stand in a root cause's entity", None),
    ("rootcause.error.exception { remote }", 28, "cannot stand in a root cause's exc", None),
]


@pytest.mark.parametrize(("text", "position", "message", "suggestion"), ERRORS)
def test_an_error_says_what_is_wrong_and_where(text, position, message, suggestion):
    with pytest.raises(FilterError) as caught:
        parse(text)
    error = caught.value
    assert error.position == position
    assert message in error.message
    if suggestion is not None:
        assert error.suggestion == suggestion
        assert str(error).endswith(f'; did you mean "{suggestion}"?')
    assert str(error).startswith(f"Invalid filter expression at position {position}: ")
    assert text[position : position + len(error.word)] == error.word


def test_the_message_of_a_misspelt_keyword_reads_like_this():
    with pytest.raises(FilterError) as caught:
        parse('service("a") { faul }')
    assert str(caught.value) == (
        'Invalid filter expression at position 15: unknown keyword "faul"; did you mean "fault"?'
    )


def test_an_error_about_a_huge_word_stays_readable():
    with pytest.raises(FilterError) as caught:
        parse("x" * TEXT_MAX)
    assert len(str(caught.value)) < 400


def test_text_has_a_length_limit():
    assert parse("ok " * (TEXT_MAX // 3)) == And((OK,) * (TEXT_MAX // 3))
    with pytest.raises(FilterError, match="at most 10000 are allowed"):
        parse("ok" + " " * TEXT_MAX)


@pytest.mark.parametrize(
    ("opening", "closing", "levels"),
    [("!", "", 50), ("not ", "", 50), ("(", ")", 50), ("ok OR fault !(", ")", 25)],
)
def test_nesting_has_a_limit(opening, closing, levels):
    expression = parse(opening * levels + "ok" + closing * levels)
    assert parse(format_expression(expression)) == expression
    with pytest.raises(FilterError, match=f"nested deeper than {DEPTH_MAX}"):
        parse(opening * (levels + 1) + "ok" + closing * (levels + 1))


def test_nesting_after_a_closed_block_starts_anew():
    assert parse("(ok) " * (DEPTH_MAX + 1)) == And((OK,) * (DEPTH_MAX + 1))


@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 4000])
def test_json_nesting_has_a_limit(depth):
    with pytest.raises(FilterError, match="nested deeper than 50"):
        parse("json = #" + "[" * depth + "]" * depth)


def test_json_nesting_to_the_limit_is_read():
    assert isinstance(parse("json = #" + "[" * DEPTH_MAX + "]" * DEPTH_MAX), CauseJsonTest)


@unhurried
@given(expressions)
def test_a_printed_expression_parses_to_the_same_tree(expression):
    assert parse(format_expression(expression)) == expression


@unhurried
@given(expressions, st.randoms(use_true_random=False))
def test_case_of_words_and_space_between_tokens_do_not_matter(expression, chance):
    written = []
    for token in tokenize(format_expression(expression)):
        is_word = token.kind is Kind.WORD and chance.random() < 0.5
        written.append(token.text.upper() if is_word else token.text)
        written.append(chance.choice([" ", "\n", " \t "]))
    assert parse("".join(written)) == expression


PIECES = r"""
    ok fault AND or not ! ( ) { } , : [ ] # " ' \ = != < CONTAINS annotation annotation. slow
    annotation.x service edge id name user duration rootcause.fault.entity json group.name all
    "a" 2 -1 1e5 true #[] #[{"a":1}]
""".split()  # noqa: SIM905 - one word a line would be fifty lines


def find_error(text):
    try:
        compile_filter(text, GROUPS)
    except FilterError as error:
        return error
    return None


@unhurried
@given(
    st.text()
    | st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)
    | st.lists(st.sampled_from(PIECES)).map("".join)
)
def test_any_text_is_an_expression_or_a_filter_error(text):
    error = find_error(text)
    if error is None:
        assert parse(format_expression(parse(text))) == parse(text)
    else:
        assert 0 <= error.position <= len(text)


class TestGroups:
    def test_a_group_stands_for_its_expression(self):
        groups = {"slow": "responsetime > 2", "arn:aws:xray:us-east-1:1:group/slow/1": "fault"}
        assert expand_groups(parse('group.name = "slow"'), groups) == parse("responsetime > 2")
        arn = parse('group.arn != "arn:aws:xray:us-east-1:1:group/slow/1"')
        assert expand_groups(arn, groups) == Not(FAULT)

    def test_groups_may_name_groups(self):
        groups = {"a": "group.name = b OR ok", "b": "!group.name = c", "c": "fault"}
        assert expand_groups(parse("group.name = a"), groups) == Or((Not(FAULT), OK))

    def test_a_group_without_an_expression_is_all_traces(self):
        assert expand_groups(parse("group.name = Default"), {"Default": ""}) == And()

    @pytest.mark.parametrize(
        ("text", "message", "position"),
        [
            ("ok group.name = Slow", "unknown group 'Slow'; did you mean \"slow\"?", 3),
            ("group.name = nothing", "unknown group 'nothing'", 0),
            ("group.name = me", "group 'me' contains itself: me > me", 0),
            ("ok OR !(group.name = one)", "contains itself: one > two > one", 8),
            ("fault group.name = bad", "in group 'bad': unknown keyword \"faul\"", 6),
            ("group.name = outer", "in group 'bad': unknown keyword", 0),
        ],
    )
    def test_a_group_that_cannot_be_used_is_an_error_where_it_stands(self, text, message, position):
        groups = {
            "slow": "responsetime > 2",
            "me": "group.name = me",
            "one": "group.name = two",
            "two": "ok group.name = one",
            "bad": "faul",
            "outer": "ok OR group.name = bad",
        }
        with pytest.raises(FilterError) as caught:
            compile_filter(text, groups)
        assert message in str(caught.value)
        assert caught.value.position == position

    def test_groups_that_multiply_are_stopped(self):
        groups = {f"g{n}": f"group.name = g{n + 1} " * 20 for n in range(8)} | {"g8": "ok"}
        with pytest.raises(FilterError, match="more than 10000 terms"):
            compile_filter("group.name = g0", groups)

    def test_groups_that_multiply_to_nothing_are_stopped(self):
        groups = {f"g{n}": f"group.name = g{n + 1} " * 20 for n in range(8)} | {"g8": ""}
        with pytest.raises(FilterError, match="more than 10000 terms"):
            compile_filter("group.name = g0", groups)

    def test_a_long_chain_of_groups_is_stopped(self):
        groups = {f"g{n}": f"!(group.name = g{n + 1} OR ok fault)" for n in range(500)}
        with pytest.raises(FilterError, match="nested too deep"):
            compile_filter("group.name = g0", groups | {"g500": "ok"})
