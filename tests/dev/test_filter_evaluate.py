"""What filter expressions mean, one rule at a time."""

from __future__ import annotations

import pytest
from filter_strategies import GROUPS, expressions, traces, unhurried
from filter_traces import compile_documents, failure, http, segment, subsegment
from hypothesis import given

from xrayd.dev.filters.evaluate import compile_filter
from xrayd.dev.filters.syntax import format_expression


def check(trace, *, true=(), false=()):
    for text in true:
        assert compile_filter(text, GROUPS).matches(trace) is True, text
    for text in false:
        assert compile_filter(text, GROUPS).matches(trace) is False, text


def remote(name="backend", number=2, *, parent=1, **fields):
    return subsegment(name, number, parent=parent, namespace="remote", **fields)


def test_a_blank_expression_is_no_filter():
    check(compile_documents(segment(fault=True)), true=["", "   "])


def test_flags_at_the_top_are_the_roots_but_throttle_is_any_segments():
    trace = compile_documents(
        segment("api"), remote(), segment("backend", 3, parent=2, fault=True, throttle=True)
    )
    check(
        trace,
        true=["ok", "throttle", "!fault", "error = false", "fault != true", "service() { fault }"],
        false=["fault", "!ok", "throttle = false", "inferred", "partial"],
    )


def test_flags_may_hold_together():
    trace = compile_documents(segment(http=http(status=500), error=True, throttle=True))
    check(trace, true=["fault error throttle !ok"], false=["ok"])


def test_a_trace_without_a_root_is_neither_ok_nor_at_fault():
    waiting = subsegment("work", 2, parent=1, fault=True, end=None)
    # The placeholder that stands in for the missing root has nothing of its own to tell.
    trace = compile_documents(waiting)
    check(trace, true=["partial", "!fault"], false=["responsetime", "http.status", "http.url"])


def test_a_service_that_stands_in_for_a_missing_one_is_partial():
    trace = compile_documents(subsegment("work", 2, parent=1))
    check(trace, true=["service() { partial ok }"], false=["service() { !partial }"])


def test_partial_and_inferred():
    trace = compile_documents(segment("api"), remote("x", end=None))
    check(
        trace,
        true=[
            "partial",
            "inferred",
            'service("x") { inferred partial }',
            'service("api") { partial !inferred }',
        ],
        false=['service("api") { inferred }'],
    )


def test_response_time_is_the_roots_and_duration_the_whole_traces():
    trace = compile_documents(segment(end=1.0), subsegment("late", 2, parent=1, start=2, end=3))
    check(
        trace,
        true=[
            "responsetime = 1",
            "duration = 3",
            "duration != 1",
            "duration > 2.9 duration >= 3 duration <= 3 duration < 3.1",
            "service() { responsetime = 1 }",
            "service() { duration = 3 }",
        ],
        false=["responsetime > 1", "duration < 3", "duration != 3"],
    )


def test_a_value_that_is_absent_passes_no_comparison():
    trace = compile_documents(segment(end=None))
    absent = [
        "responsetime",
        "responsetime >= 0",
        "responsetime != 5",
        "http.status",
        "http.status != 200",
        "http.url",
        'http.url != "x"',
        'http.url CONTAINS ""',
        'user CONTAINS ""',
        "user != alice",
        "annotation.age != 5",
        'annotation.age != "5"',
        "annotation.age != true",
        "service() { http.status != 200 }",
        "edge(,) { responsetime >= 0 }",
        "account.id",
        "instance.id",
    ]
    check(trace, true=[f"!({text})" for text in absent], false=absent)


def test_strings_are_compared_with_their_case():
    trace = compile_documents(segment(http=http(url="http://h/Api/1"), user="Alice"))
    check(
        trace,
        true=[
            "http.url",
            'http.url BEGINSWITH "http://"',
            'http.url ENDSWITH "/1"',
            'http.url contains "Api"',
            'http.url CONTAINS "" http.url BEGINSWITH "" http.url ENDSWITH ""',
            'http.url != "http://h/api/1"',
            "user = Alice",
        ],
        false=['http.url CONTAINS "api"', "user = alice", 'http.url ENDSWITH "http"'],
    )


def test_the_method_is_compared_without_case():
    trace = compile_documents(segment(http=http(method="get", user_agent="curl", client_ip="::1")))
    check(
        trace,
        true=[
            "http.method = GET",
            'http.method = "get"',
            "http.method beginswith g",
            "http.useragent = curl",
            'http.clientip = "::1"',
        ],
        false=["http.method != GET", "http.method = POST", "http.useragent = CURL"],
    )


def test_only_the_roots_http_block_is_asked_at_the_top():
    trace = compile_documents(
        segment("api", http=http(status=200)),
        remote(),
        segment("backend", 3, parent=2, http=http(status=500, url="/b", method="PUT")),
    )
    check(
        trace,
        true=[
            "http.status = 200",
            'service("backend") { http.status = 500 http.url = "/b" http.method = PUT }',
        ],
        false=["http.status = 500", "http.url", 'service("api") { http.status = 500 }'],
    )


def test_of_several_values_any_one_may_pass():
    trace = compile_documents(
        segment("api", user="alice", annotations={"n": 1}),
        subsegment("a", 2, parent=1, annotations={"n": 2}),
        segment("web", 3, user="bob", parent=1),
    )
    check(
        trace,
        true=[
            "user = alice user = bob",
            "user != alice",
            "annotation.n = 1 annotation.n = 2 annotation.n != 1",
            "!user = carol",
        ],
        false=["user = carol", "annotation.n > 2"],
    )


def test_what_segments_ran_on():
    trace = compile_documents(
        segment(
            "api",
            resource_arn="arn:aws:x",
            aws={
                "account_id": "1234",
                "ec2": {"instance_id": "i-1", "availability_zone": "eu-1a"},
                "ecs": {"container_arn": "arn:aws:c"},
            },
        )
    )
    check(
        trace,
        true=[
            'availabilityzone = "eu-1a"',
            'instance.id = "i-1"',
            'resource.arn = "arn:aws:x" resource.arn BEGINSWITH "arn:aws:c"',
            "account.id = 1234",
            "account.id",
        ],
        false=['availabilityzone = "eu-1b"', "account.id = 12345"],
    )


def test_annotations_are_compared_by_the_literals_type():
    trace = compile_documents(
        segment(annotations={"number": 29, "text": "29", "flag": True, "one": 1, "word": "true"})
    )
    check(
        trace,
        true=[
            "annotation.number = 29 annotation.number <= 29.0 annotation.number != 30",
            'annotation.text = "29" annotation.text BEGINSWITH "2" annotation.text != "3"',
            "annotation.flag = true annotation.flag != false",
            'annotation.word = "true"',
        ],
        false=[
            'annotation.number = "29"',
            'annotation.number != "29"',
            'annotation.number CONTAINS "2"',
            "annotation.text = 29",
            "annotation.text != 30",
            "annotation.flag = 1",
            "annotation.flag = false",
            'annotation.flag = "true"',
            "annotation.one = true",
            "annotation.word = true",
        ],
    )


def test_a_bare_annotation_is_set_unless_it_is_false():
    trace = compile_documents(
        segment(annotations={"zero": 0, "empty": "", "yes": True, "no": False, "a.b": 1}),
        subsegment("x", 2, parent=1, annotations={"both": False}),
        subsegment("y", 3, parent=1, annotations={"both": True}),
    )
    check(
        trace,
        true=[
            "annotation.zero annotation.empty annotation.yes annotation.both",
            "!annotation.no",
            "!annotation.missing",
            "annotation[a.b]",
            'annotation["a.b"] = 1',
        ],
        false=["annotation.no", "annotation.missing", "!annotation.both", "annotation.Zero"],
    )


def test_annotations_inside_a_service_are_that_services():
    trace = compile_documents(
        segment("api", annotations={"n": 1}),
        subsegment("inner", 2, parent=1, namespace="remote", annotations={"n": 2}),
        segment("web", 3, parent=2, annotations={"n": 3, "off": False}),
    )
    check(
        trace,
        true=[
            'service("api") { annotation.n = 1 }',
            'service("api") { annotation.n = 2 }',
            'service("web") { annotation.n > 2 !annotation.off }',
        ],
        false=['service("api") { annotation.n = 3 }', 'service("web") { annotation.n < 3 }'],
    )


def test_a_service_is_found_by_any_part_of_its_identity():
    trace = compile_documents(
        segment("api", origin="AWS::EC2::Instance", aws={"account_id": "1234"}), remote("plain")
    )
    check(
        trace,
        true=[
            "service()",
            "service(id())",
            'service("api")',
            'service(id(name: "api", type: "AWS::EC2::Instance", account.id: "1234"))',
            'service(id(name: "plain", type: "remote"))',
            'service(id(type: "client"))',
            'service(id(account.id: ""))',
            'service("api") { name = api type BEGINSWITH "AWS::" root }',
            'service("plain") { !root }',
            '!service("ap")',
        ],
        false=[
            'service("client")',
            'service(id(name: "api", type: "remote"))',
            'service(id(name: "api", account.id: "5678"))',
            'service(id(type: ""))',
            'service(id(type: "client")) { !fault }',
            'service("api") { type = remote }',
        ],
    )


def test_untyped_services_are_found_by_an_empty_type():
    check(compile_documents(segment("api")), true=['service(id(name: "api", type: ""))'])


def test_a_table_is_found_by_its_name_and_by_the_name_of_the_call():
    trace = compile_documents(
        segment("api"),
        subsegment("dynamodb", 2, parent=1, namespace="aws", aws={"table_name": "users"}),
    )
    check(
        trace,
        true=[
            'service("users")',
            'service("dynamodb") { ok }',
            'service(id(name: "users", type: "AWS::DynamoDB::Table"))',
            'edge("api", "users")',
            'edge("api", "dynamodb") { ok }',
        ],
        false=['service("DynamoDB")', 'service("user")'],
    )


def test_one_segment_must_satisfy_the_whole_block():
    trace = compile_documents(
        segment("web"),
        remote("x", 2),
        segment("api", 3, parent=2, fault=True, end=1),
        remote("x", 4),
        segment("api", 5, parent=4, end=9),
    )
    check(
        trace,
        true=[
            'service("api") { fault } service("api") { responsetime > 5 }',
            'service("api") { fault OR responsetime > 5 }',
            'service("api") { !fault }',
        ],
        false=['service("api") { fault AND responsetime > 5 }', '!service("api") { fault }'],
    )


def test_an_edge_is_measured_by_the_callers_subsegment():
    trace = compile_documents(
        segment("api", end=5),
        remote("backend", error=True, end=4, http=http(status=404)),
        segment("backend", 3, parent=2, end=3),
    )
    check(
        trace,
        true=[
            'edge("api", "backend") { error }',
            'edge("api", "backend") { responsetime = 4 http.status = 404 !ok }',
            'edge("api",)',
            'edge(,"backend")',
            'service("backend") { ok responsetime = 3 }',
            'edge(id(type: "client"), "api") { responsetime = 5 }',
            'edge("api", "api") { ok }',  # the client is a node, named like the root
        ],
        false=[
            'edge("backend", "api")',
            'edge(id(name: "api", type: ""), "api")',
            'edge("api", "backend") { fault }',
            'edge("api", "backend") { responsetime = 3 }',
            'edge(id(type: "client"), "backend")',
            'edge("backend",)',
        ],
    )


class TestRootCauses:
    TRACE = compile_documents(
        segment("web", fault=True, end=10, cause=failure(("Timeout", "after 9 s"))),
        remote("api", 2, fault=True, end=9),
        segment("api", 3, parent=2, fault=True, end=9),
        subsegment(
            "query", 4, parent=3, fault=True, end=8, cause=failure(("SqlError", "gone"), ("X", ""))
        ),
        subsegment("log", 5, parent=3, error=True, end=1),
    )

    def test_services_of_a_fault(self):
        check(
            self.TRACE,
            true=[
                "rootcause.fault.service",
                "rootcause.fault.service { first name = web }",
                "rootcause.fault.service { last name = api index = 1 }",
                "rootcause.fault.service { !inferred }",
                'rootcause.fault.service { type = "" }',
                "!rootcause.fault.service { account.id }",
            ],
            false=[
                "rootcause.fault.service { first last }",
                "rootcause.fault.service { index > 1 }",
                "rootcause.fault.service { inferred }",
            ],
        )

    def test_entities_are_listed_across_services(self):
        check(
            self.TRACE,
            true=[
                "rootcause.fault.entity { first name = web index = 0 }",
                "rootcause.fault.entity { name = api remote index = 1 }",
                "rootcause.fault.entity { name = api !remote index = 2 }",
                "rootcause.fault.entity { last name = query index = 3 }",
                "rootcause.error.entity { last name = log }",
            ],
            false=["rootcause.fault.entity { name = log }", "rootcause.error.entity { name = x }"],
        )

    def test_exceptions_of_a_fault(self):
        check(
            self.TRACE,
            true=[
                'rootcause.fault.exception { first name = Timeout message CONTAINS "9 s" }',
                "rootcause.fault.exception { index = 1 name = SqlError message = gone }",
                'rootcause.fault.exception { last name = X message = "" }',
                "rootcause.fault.exception",
            ],
            false=["rootcause.error.exception", "rootcause.fault.exception { index > 2 }"],
        )

    def test_the_path_of_a_slow_response(self):
        check(
            self.TRACE,
            true=[
                "rootcause.responsetime.service { last name = api }",
                "rootcause.responsetime.entity { first coverage = 1 }",
                "rootcause.responsetime.entity { last coverage = 0.8 name = query }",
            ],
            false=["rootcause.responsetime.entity { coverage < 0.8 }"],
        )

    def test_a_trace_without_causes_has_no_steps(self):
        check(
            compile_documents(segment()),
            true=["!rootcause.fault.service { !first }", "json = #[]"],
            false=["rootcause.fault.service", "rootcause.error.entity { index >= 0 }"],
        )

    def test_a_json_literal_leaves_free_what_it_does_not_list(self):
        path = '[{"Name": "web"}, {"Name": "api"}]'
        check(
            self.TRACE,
            true=[
                'rootcause.json = #[{"Services": [{}, {}]}]',
                'rootcause.fault.json = #[{"ClientImpacting": true}]',
                f'json = #[{{"Services": [{{"EntityPath": {path}}}, {{"Inferred": false}}]}}]',
                'rootcause.fault.json != #[{"Services": [{"Name": "api"}, {}]}]',
                'json = #[{"Services": [{"AccountId": null, "Type": null}, {"AccountId": ""}]}]',
                'rootcause.responsetime.json = #[{"Services": [{"EntityPath": '
                '[{"Coverage": 1}, {"Coverage": 0.9}]}, {}]}]',
            ],
            false=[
                "json = #[]",
                'json = #[{"Services": [{}]}]',
                'json = #[{"Services": [{}, {}]}, {}]',
                'rootcause.fault.json = #[{"ClientImpacting": 1}]',
                'rootcause.fault.json = #[{"ClientImpacting": "true"}]',
                'rootcause.json = #[{"NoSuchMember": "x"}]',
                'rootcause.responsetime.json = #[{"Services": [{"EntityPath": '
                '[{"Coverage": true}, {}]}, {}]}]',
                'rootcause.fault.json != #[{"Services": [{"Name": "web"}, {}]}]',
            ],
        )


def test_a_group_stands_for_its_expression():
    groups = {"slow": "responsetime > 1", "Default": ""}
    trace = compile_documents(segment(end=2))
    for text, expected in (
        ("group.name = slow", True),
        ("group.name != slow", False),
        ("group.name = Default", True),
        ("group.name != Default", False),
        ("group.name = slow fault", False),
    ):
        assert compile_filter(text, groups).matches(trace) is expected


def test_numbers_beyond_a_double_are_compared_like_doubles():
    trace = compile_documents(segment(annotations={"n": 2**53 + 1, "huge": 10**30}))
    check(trace, true=[f"annotation.n = {2**53 + 1}", f"annotation.n = {2**53}"])
    check(trace, true=["annotation.huge = 1e30"], false=["annotation.huge > 1e30"])


@pytest.mark.parametrize("text", ["!" * 50 + "ok", "(" * 50 + "ok" + ")" * 50, "ok " * 3000])
def test_the_largest_expressions_still_evaluate(text):
    check(compile_documents(segment()), true=[text])


@unhurried
@given(expressions, traces())
def test_every_expression_gives_true_or_false(expression, trace):
    matches = compile_filter(format_expression(expression), GROUPS).matches
    assert matches(trace) in (True, False)
    assert type(matches(trace)) is bool


@unhurried
@given(expressions, traces())
def test_not_is_the_opposite(expression, trace):
    text = format_expression(expression)
    plain, negated = compile_filter(text, GROUPS), compile_filter(f"!({text})", GROUPS)
    assert plain.matches(trace) is not negated.matches(trace)
