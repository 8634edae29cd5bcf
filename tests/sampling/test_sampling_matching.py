from __future__ import annotations

import pytest
from aws_xray_sdk.core.sampling.sampling_rule import SamplingRule as SdkRule
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_samples import rule

from xrayd.sampling.matching import (
    Dialect,
    Ignored,
    Matcher,
    MatchRequest,
    compile_wildcard,
    explain,
    host_and_path,
)
from xrayd.sampling.rule import SamplingRule, default_record

DEFAULT = default_record().sampling_rule
FIELDS = ("service_name", "service_type", "host", "http_method", "url_path", "resource_arn")


# A plain reference of each dialect, written from the clients' behaviour and not from the module.


def reference_wildcard(pattern: str, text: str) -> bool:
    """Character by character, by the definition: * any run, ? any one."""
    reachable = {0}
    for wanted in pattern:
        if wanted == "*":
            reachable = set(range(min(reachable, default=len(text) + 1), len(text) + 1))
        else:
            reachable = {
                place + 1
                for place in reachable
                if place < len(text) and (wanted == "?" or text[place] == wanted)
            }
    return len(text) in reachable


def reference_match(rules: list[SamplingRule], request: MatchRequest, dialect: str) -> str | None:
    matches = {"sdk": sdk_matches, "otel": otel_matches, "adot": adot_matches}.get(
        dialect, daemon_matches
    )
    for each in sorted(rules, key=lambda each: (each.priority, each.rule_name)):
        if matches(each, request):
            return each.rule_name
    return None


def sdk_matches(each: SamplingRule, request: MatchRequest) -> bool:
    is_known = each.version == 1 and not each.attributes and each.resource_arn == "*"
    return is_known and all(
        not getattr(request, name)
        or reference_wildcard(getattr(each, name).lower(), getattr(request, name).lower())
        for name in FIELDS[:5]
    )


def otel_matches(each: SamplingRule, request: MatchRequest) -> bool:
    return span_matches(each, request, str.lower, {"service_name": "", "url_path": "/"})


def adot_matches(each: SamplingRule, request: MatchRequest) -> bool:
    absent = {"service_name": "", "service_type": "", "resource_arn": "", "url_path": "/"}
    return each.version == 1 and span_matches(each, request, str, absent)


def daemon_matches(each: SamplingRule, request: MatchRequest) -> bool:
    is_known = each.version == 1 and not each.attributes
    return is_known and span_matches(each, request, str.lower, {})


def span_matches(each, request, fold, absent) -> bool:
    def field_matches(pattern: str, value: str | None) -> bool:
        if pattern == "*":
            return True
        return value is not None and reference_wildcard(fold(pattern), fold(value))

    attributes = request.attributes or {}
    return all(
        field_matches(getattr(each, name), getattr(request, name) or absent.get(name))
        for name in FIELDS
    ) and all(
        key in attributes and field_matches(pattern, attributes[key])
        for key, pattern in each.attributes.items()
    )


# Few letters, so that patterns and texts meet often.
texts = st.text("aAb/É", max_size=6)
patterns = st.one_of(st.just("*"), st.text("aAb/É*?", max_size=6))
attributes = st.dictionaries(st.sampled_from(["k", "l"]), texts, max_size=2)
requests = st.builds(
    MatchRequest,
    **{name: st.one_of(st.none(), texts) for name in FIELDS},
    attributes=st.one_of(st.none(), attributes),
)


@st.composite
def rule_sets(draw):
    count = draw(st.integers(0, 5))
    rules = [
        SamplingRule(
            rule_name=f"r{number}",
            priority=draw(st.integers(1, 3)),
            version=draw(st.sampled_from([1, 1, 1, 2])),
            attributes=draw(
                st.one_of(
                    st.just({}), st.dictionaries(st.sampled_from(["k", "l"]), patterns, max_size=2)
                )
            ),
            **{name: draw(patterns) for name in FIELDS},
        )
        for number in range(count)
    ]
    return [*rules, DEFAULT] if draw(st.booleans()) else rules


@given(rule_sets(), st.lists(requests, min_size=1, max_size=4), st.sampled_from(Dialect))
@settings(max_examples=250, deadline=None)
def test_matching_equals_the_plain_reference_of_each_dialect(rules, asked, dialect):
    matcher = Matcher(rules, dialect)
    for request in asked * 2:  # the second time from memory
        found = matcher.match(request)
        expected = reference_match(rules, request, dialect.value)
        assert (found and found.rule_name) == expected


@given(rule_sets(), requests, st.sampled_from(Dialect))
@settings(max_examples=100, deadline=None)
def test_explaining_agrees_with_matching(rules, request, dialect):
    found = Matcher(rules, dialect).match(request)
    deciding = [each.rule for each in explain(request, rules, dialect) if each.decides]
    assert deciding == ([] if found is None else [found])


@given(st.text("ab*?", max_size=10), st.text("ab", max_size=10))
@settings(max_examples=250, deadline=None)
def test_a_compiled_wildcard_equals_the_definition(pattern, text):
    assert compile_wildcard(pattern)(text) == reference_wildcard(pattern, text)


def test_a_pattern_of_many_stars_is_answered_at_once():
    # A backtracking matcher would not come back within the age of the universe.
    assert not compile_wildcard("*a" * 64 + "b")("a" * 5_000)
    assert compile_wildcard("*a" * 64)("a" * 5_000)


@pytest.mark.parametrize("special", ["a.b", "a+b", "(a)", "[ab]", "a|b", "^a$", "a\\b", "{1}"])
def test_only_star_and_question_mark_are_special(special):
    assert compile_wildcard(special + "?*")(special + "xy")
    assert not compile_wildcard(special + "?*")("ab" + "xy")


def found(dialect, rules, **request) -> str | None:
    match = Matcher([*rules, DEFAULT], dialect).match(MatchRequest(**request))
    return match and match.rule_name


SHOP = rule("shop", url_path="/Shop/*", http_method="p?st")


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [("sdk", "shop"), ("otel", "shop"), ("adot", "Default"), ("daemon", "shop")],
)
def test_case_matters_to_the_otel_distro_for_python_alone(dialect, expected):
    request = {"url_path": "/shop/cart", "http_method": "POST", "service_name": "s"}
    assert found(Dialect(dialect), [SHOP], **request) == expected


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [("sdk", "shop"), ("otel", "Default"), ("adot", "Default"), ("daemon", "Default")],
)
def test_a_request_without_a_url_takes_the_first_path_rule_in_the_sdks_alone(dialect, expected):
    assert found(Dialect(dialect), [SHOP], service_name="worker") == expected


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [("sdk", "root"), ("otel", "root"), ("adot", "root"), ("daemon", "Default")],
)
def test_the_otel_samplers_read_a_missing_path_as_the_root_path(dialect, expected):
    assert found(Dialect(dialect), [rule("root", url_path="/")]) == expected


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [("sdk", "Default"), ("otel", "r"), ("adot", "r"), ("daemon", "Default")],
)
def test_rules_on_attributes_exist_for_the_otel_samplers_alone(dialect, expected):
    rules = [rule("r", attributes={"tenant": "ac*"})]
    assert found(Dialect(dialect), rules, attributes={"tenant": "acme", "x": "y"}) == expected
    assert found(Dialect(dialect), rules, attributes={"tenant": "other"}) == "Default"
    assert found(Dialect(dialect), rules) == "Default"


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [("sdk", "Default"), ("otel", "r"), ("adot", "r"), ("daemon", "r")],
)
def test_rules_on_a_resource_are_ignored_by_the_sdks(dialect, expected):
    arn = "arn:aws:lambda:us-east-1:1:function:f"
    rules = [rule("r", resource_arn="arn:aws:lambda:*")]
    assert found(Dialect(dialect), rules, resource_arn=arn) == expected


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [("sdk", "Default"), ("otel", "r"), ("adot", "Default"), ("daemon", "Default")],
)
def test_rules_of_another_version_are_known_to_otel_for_node_alone(dialect, expected):
    assert found(Dialect(dialect), [rule("r", version=2)]) == expected


def test_the_lowest_priority_number_decides_and_then_the_name():
    rules = [rule("b", priority=5), rule("a", priority=5), rule("c", priority=4, host="x*")]
    assert found(Dialect.SDK, rules, host="xyz") == "c"
    assert found(Dialect.SDK, rules, host="abc") == "a"


def test_without_a_default_rule_a_request_may_match_nothing():
    assert Matcher([rule("r", host="x")], Dialect.SDK).match(MatchRequest(host="y")) is None


def test_the_memory_for_values_is_bounded():
    matcher = Matcher([rule("r", url_path="/a/*"), DEFAULT], Dialect.SDK)
    for number in range(5_000):
        assert matcher.match(MatchRequest(url_path=f"/a/{number}")).rule_name == "r"
        assert matcher.match(MatchRequest(url_path=f"/b/{number}")).rule_name == "Default"
    ((_, known, _),) = matcher._fields
    assert len(known) <= 1_024
    matcher.match(MatchRequest(url_path="/" + "x" * 10_000))
    assert max(len(value) for value in known if value) < 1_000


def test_an_explanation_names_the_fields_that_failed_and_the_rules_left_out():
    rules = [
        rule("by-path", priority=1, url_path="/a", host="example.com"),
        rule("by-attribute", priority=2, attributes={"k": "v"}),
        rule("by-resource", priority=3, resource_arn="arn:*"),
        rule("next-version", priority=4, version=2),
        rule("taker", priority=5),
        DEFAULT,
    ]
    request = MatchRequest(url_path="/b", host="Example.com", service_name="s")
    explained = {each.rule.rule_name: each for each in explain(request, rules, Dialect.SDK)}
    (failure,) = explained["by-path"].failed
    assert (failure.field, failure.pattern, failure.value) == ("URLPath", "/a", "/b")
    assert explained["by-attribute"].ignored is Ignored.ATTRIBUTES
    assert explained["by-resource"].ignored is Ignored.RESOURCE_ARN
    assert explained["next-version"].ignored is Ignored.VERSION
    assert explained["taker"].decides
    assert explained["Default"].matches
    assert not explained["Default"].decides
    assert list(explained) == [each.rule_name for each in rules]


def test_an_explanation_names_the_attribute_that_failed():
    request = MatchRequest(attributes={"tenant": "b"})
    first, _ = explain(request, [rule("r", attributes={"tenant": "a"}), DEFAULT], Dialect.OTEL)
    (failure,) = first.failed
    assert (failure.field, failure.pattern, failure.value) == ("Attributes.tenant", "a", "b")


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("http://shop.example.com/cart?id=1#top", "shop.example.com", "/cart"),
        ("https://user:pw@h:8443/a/b", "h:8443", "/a/b"),
        ("http://h", "h", "/"),
        ("http://h?x=/y", "h", "/"),
        ("http://h#/y", "h", "/"),
        ("http:///only/path", None, "/only/path"),
        ("/only/path?x", None, "/only/path"),
        ("not a url", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_host_and_path_are_taken_from_a_url(url, host, path):
    assert host_and_path(url) == (host, path)


@given(
    st.lists(st.tuples(*[patterns] * 5), max_size=4),
    st.tuples(*[st.one_of(st.none(), texts)] * 5),
)
@settings(max_examples=150, deadline=None)
def test_the_sdk_dialect_agrees_with_the_x_ray_sdk_for_python_itself(rules, values):
    names = FIELDS[:5]
    ours = [
        SamplingRule(
            rule_name=f"r{place}", priority=place + 1, **dict(zip(names, each, strict=True))
        )
        for place, each in enumerate(rules)
    ]
    request = MatchRequest(**dict(zip(names, values, strict=True)))
    service, service_type, host, method, path = values
    asked = {
        "service": service,
        "service_type": service_type,
        "host": host,
        "method": method,
        "path": path,
    }
    theirs = [
        each.rule_name
        for each in ours
        if SdkRule(
            each.rule_name,
            each.priority,
            each.fixed_rate,
            each.reservoir_size,
            each.host,
            each.http_method,
            each.url_path,
            each.service_name,
            each.service_type,
        ).match(asked)
    ]
    explained = [
        each.rule.rule_name for each in explain(request, ours, Dialect.SDK) if each.matches
    ]
    assert explained == theirs
