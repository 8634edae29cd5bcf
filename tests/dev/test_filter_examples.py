"""Every filter expression AWS publishes parses, and means what the documentation says."""

from __future__ import annotations

import pytest
from filter_traces import compile_documents, failure, http, segment, subsegment

from xrayd.dev.filters.errors import FilterError
from xrayd.dev.filters.evaluate import compile_filter
from xrayd.dev.filters.parser import parse
from xrayd.dev.filters.syntax import format_expression

GROUPS = {"high_response_time": "responsetime > 5"}


def of(*documents):
    return compile_documents(*documents)


def api(**fields):
    return of(segment("api", **fields))


def call(name="backend", number=2, *, parent=1, **fields):
    return subsegment(name, number, parent=parent, namespace="remote", **fields)


def aws_call(name, table_name=None, **fields):
    aws = {"operation": "PutItem"} | ({"table_name": table_name} if table_name else {})
    return subsegment(name, 2, parent=1, namespace="aws", aws=aws, **fields)


def service(name, **fields):
    return of(segment(name, **fields))


def edge(caller="api.example.com", callee="backend.example.com", **fields):
    return of(segment(caller), call(callee, **fields))


FAULTY_DYNAMODB = of(
    segment("api", fault=True),
    aws_call("DynamoDB", fault=True),
)
DEEP_FAULT = of(
    segment("a0", 1, end=2.9, fault=True),
    *(
        document
        for depth in range(1, 8)
        for document in (
            call(f"a{depth}", 100 + depth, parent=depth, fault=True),
            segment(f"a{depth}", depth + 1, parent=100 + depth, fault=True),
        )
    ),
)
SLOW_TABLE = of(segment("api", end=10), aws_call("DynamoDB", end=9))
SLOW_CALL = of(segment("api", end=10), call("traces", end=9))
WEATHER = of(
    segment("GetWeatherData", fault=True),
    subsegment("get_temperature", 2, parent=1, fault=True, namespace="remote"),
    segment("GetTemperature", 3, parent=2, fault=True),
)
CLIENT = of(segment("www", origin="AWS::ElasticBeanstalk::Environment"))
SYNTHETICS = of(
    segment("www", 1, origin="client::Synthetics"),
    call("www", 2),
    segment("www", 3, parent=2, origin="AWS::ElasticBeanstalk::Environment"),
)


def weather_json(second_service="GetTemperature"):
    return (
        'rootcause.json = #[{ "Services": [ { "Name": "GetWeatherData", "EntityPath": '
        '[{ "Name": "GetWeatherData" }, { "Name": "get_temperature" } ] }, '
        f'{{ "Name": "{second_service}", "EntityPath": [ {{ "Name": "GetTemperature" }} ] }} ] }}]'
    )


DENIED = "Access Denied for account_id: 1234567890"

# number in the documentation's order, expression, a trace it finds, a trace it does not
EXAMPLES = [
    (1, "responsetime > 5", api(end=6), api(end=5)),
    (2, "duration >= 5 AND duration <= 8", api(end=8), api(end=8.5)),
    (3, "ok", api(), api(error=True)),
    (4, "!ok", api(fault=True), api()),
    (5, "ok = false", api(http=http(status=429)), api(http=http(status=201))),
    (
        6,
        'rootcause.fault.entity { last and name = "deserialize" }',
        of(segment("api", fault=True), subsegment("deserialize", 2, parent=1, fault=True)),
        of(
            segment("api", fault=True),
            subsegment("deserialize", 2, parent=1, fault=True),
            subsegment("read", 3, parent=2, fault=True),
        ),
    ),
    (
        7,
        'rootcause.responsetime.entity { remote and coverage > 0.7 and name = "traces" }',
        SLOW_CALL,
        of(segment("api", end=10), call("traces", end=6)),
    ),
    (
        8,
        'rootcause.fault.service { inferred and name = traces and type = "AWS::DynamoDB" }',
        of(segment("api", fault=True), aws_call("DynamoDB", fault=True, table_name="traces")),
        FAULTY_DYNAMODB,
    ),
    (
        9,
        'service("data-plane") {root = true and fault = true}',
        service("data-plane", fault=True),
        of(segment("web"), call("x"), segment("data-plane", 3, parent=2, fault=True)),
    ),
    (10, "http.status != 200", api(http=http(status=302)), api(http=http(status=200))),
    (11, "ok !partial duration <3", api(end=2), of(segment("api"), call(end=None))),
    (12, "rootcause.fault.service { index > 5 }", DEEP_FAULT, FAULTY_DYNAMODB),
    (
        13,
        "rootcause.responsetime.entity { last and coverage > 0.8 }",
        SLOW_CALL,
        of(segment("api", end=10), call("traces", end=8)),
    ),
    (
        14,
        'http.url CONTAINS "/api/game/"',
        api(http=http(url="http://x/api/game/7")),
        api(http=http(url="http://x/api/games")),
    ),
    (15, 'user CONTAINS ""', api(user="alice"), api()),
    (
        16,
        'rootcause.fault.service { name = "Auth" }',
        of(segment("api"), call("Auth", fault=True)),
        of(segment("api", fault=True), call("Auth")),
    ),
    (
        17,
        'rootcause.responsetime.service { last and type = "AWS::DynamoDB" }',
        SLOW_TABLE,
        SLOW_CALL,
    ),
    (
        18,  # as mended; the published text lacks the closing brace
        f'rootcause.fault.exception {{ last and message = "{DENIED}" }}',
        api(fault=True, cause=failure(("A", "other"), ("Denied", DENIED))),
        api(fault=True, cause=failure(("Denied", DENIED), ("A", "other"))),
    ),
    (
        19,
        'service("api.example.com") { fault }',
        service("api.example.com", fault=True),
        of(segment("api.example.com"), call(fault=True)),
    ),
    (20, "service() { fault }", of(segment("api"), call(fault=True)), api(error=True)),
    (
        21,
        'edge("api.example.com", "backend.example.com") { error }',
        edge(error=True),
        edge("api.example.com", "other", error=True),
    ),
    (
        22,
        'http.url BEGINSWITH "http://api.example.com/" AND http.url CONTAINS "/v2/" '
        'AND !service("api.example.com")',
        service("api", http=http(url="http://api.example.com/v2/x")),
        service("api.example.com", http=http(url="http://api.example.com/v2/x")),
    ),
    (23, "http.url AND responseTime > 2", api(end=3, http=http(url="/")), api(end=3)),
    (
        24,
        'annotation.gameid = "817DL6VO"',
        api(annotations={"gameid": "817DL6VO"}),
        api(annotations={"gameid": "817dl6vo"}),
    ),
    (25, "annotation.age", api(annotations={"age": 29}), api(annotations={"ages": 29})),
    (26, "!annotation.age", api(annotations={"Age": 29}), api(annotations={"age": 29})),
    (27, "annotation.age > 29", api(annotations={"age": 30}), api(annotations={"age": 29})),
    (
        28,
        'group.name = "high_response_time" AND user = "alice"',
        api(end=6, user="alice"),
        api(end=4, user="alice"),
    ),
    (29, weather_json(), WEATHER, FAULTY_DYNAMODB),
    (
        30,
        'service(id(name: "service-name", type:"service::type")) { ok }',
        service("service-name", origin="service::type"),
        service("service-name", origin="other::type"),
    ),
    (
        31,
        'edge(id(name: "service-one", type:"service::type"), '
        'id(name: "service-two", type:"service::type")) { ok }',
        of(
            segment("service-one", origin="service::type"),
            call("x"),
            segment("service-two", 3, parent=2, origin="service::type"),
        ),
        of(
            segment("service-two", origin="service::type"),
            call("x"),
            segment("service-one", 3, parent=2, origin="service::type"),
        ),
    ),
    (32, 'service("function-name") { error }', service("function-name", error=True), api()),
    (
        33,
        'service(id(name: "random-name", type: "AWS::Lambda::Function")) { error }',
        service("random-name", origin="AWS::Lambda::Function", error=True),
        service("random-name", error=True),
    ),
    (
        34,
        'service(id(type: "AWS::Lambda::Function")) { error }',
        service("any", origin="AWS::Lambda::Function", error=True),
        service("any", origin="AWS::Lambda", error=True),
    ),
    (
        35,
        'service(id(account.id: "account-id"))',
        api(aws={"account_id": "account-id"}),
        api(aws={"account_id": "another"}),
    ),
    (
        36,
        'service("api.amazon.com") { fault = true OR responsetime > 2.5 } '
        'AND annotation.foo = "bar"',
        service("api.amazon.com", end=2.6, annotations={"foo": "bar"}),
        service("api.amazon.com", end=2.5, annotations={"foo": "bar"}),
    ),
    (
        37,
        'service("api.example.com") { fault = true OR responsetime > 2.5 } '
        'AND annotation.account = "12345"',
        service("api.example.com", fault=True, annotations={"account": "12345"}),
        service("api.example.com", fault=True, annotations={"account": 12345}),
    ),
    (
        38,
        'edge("api.example.com", "backend.example.com") { fault = true }',
        edge(fault=True),
        edge("backend.example.com", "api.example.com", fault=True),
    ),
    (
        39,
        'service("example.com") {fault OR error}',
        service("example.com", error=True),
        service("example.com", throttle=True),
    ),
    (40, 'service("api.example.com")', service("api.example.com"), service("api.example.co")),
    (
        41,
        'annotation.account = "12345"',
        of(segment("api"), call(annotations={"account": "12345"})),
        api(annotations={"account": True}),
    ),
    (42, "responsetime > 2", api(end=2.1), of(segment("api"), call(end=3))),
    (
        43,
        'edge(id(name: "www", type: "client::Synthetics"), '
        'id(name: "www", type: "AWS::ElasticBeanstalk::Environment"))',
        SYNTHETICS,
        CLIENT,
    ),
    (
        44,
        'service("mydomain.com") {fault OR error}',
        service("mydomain.com", http=http(status=503)),
        service("mydomain.com", http=http(status=302)),
    ),
    (
        45,
        'service(id(account.id:"X")) OR service(id(account.id:"Y"))',
        api(aws={"account_id": "Y"}),
        api(aws={"account_id": "Z"}),
    ),
    (
        46,
        'fault = true AND http.url CONTAINS "example/game" AND responsetime >= 5',
        api(fault=True, end=5, http=http(url="https://example/game")),
        api(fault=False, end=5, http=http(url="https://example/game", status=500)),
    ),
    (
        47,
        'service("api.example.com") { fault = true OR responsetime >= 5 }',
        service("api.example.com", end=5),
        service("api.example.com", end=None),
    ),
    (
        48,
        'service(id(name:"x", type:"y")) { ok = true }',
        service("x", origin="y"),
        service("x", origin="y", throttle=True),
    ),
    (49, 'edge("a","b") { error = true }', edge("a", "b", error=True), edge("a", "b")),
]


def test_all_published_examples_are_here():
    assert [number for number, *_ in EXAMPLES] == list(range(1, 50))


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [example[1:] for example in EXAMPLES],
    ids=[f"example {number}" for number, *_ in EXAMPLES],
)
def test_a_published_example_finds_what_it_describes_and_nothing_else(text, matching, other):
    matches = compile_filter(text, GROUPS).matches
    assert matches(matching) is True
    assert matches(other) is False


@pytest.mark.parametrize("text", [example[1] for example in EXAMPLES])
def test_a_published_example_means_the_same_when_printed(text):
    expression = parse(text)
    assert parse(format_expression(expression)) == expression


def test_example_18_as_published_lacks_its_closing_brace():
    published = f'rootcause.fault.exception {{ last and message = "{DENIED}" '
    with pytest.raises(FilterError) as caught:
        parse(published)
    assert caught.value.position == len(published)
    assert 'expected "}" to close the block' in str(caught.value)


def test_the_json_literal_of_example_29_tells_similar_root_causes_apart():
    assert not compile_filter(weather_json("GetHumidity"), {}).matches(WEATHER)
