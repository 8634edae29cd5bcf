"""A trace's summary says of it what GetTraceSummaries says."""

import json

import pytest
from trace_strategies import START, TRACE_ID, compile_documents, segment, subsegment

from xrayd.dev.summary import render_trace, summarize


def summary(*documents, **options):
    return summarize(compile_documents(*documents, **options))


def value(summarized, key):
    return [item["AnnotationValue"] for item in summarized["Annotations"][key]]


def test_every_member_is_there_and_every_list_too():
    found = summary(segment("1", "api", end=0.0839996))
    assert found == {
        "Id": TRACE_ID,
        "StartTime": START,
        "Duration": 0.084,
        "ResponseTime": 0.084,
        "HasFault": False,
        "HasError": False,
        "HasThrottle": False,
        "IsPartial": False,
        "Http": {},
        "Annotations": {},
        "Users": [],
        "ServiceIds": [
            {"Name": "api", "Names": ["api"], "Type": "client"},
            {"Name": "api", "Names": ["api"], "Type": ""},
        ],
        "EntryPoint": {"Name": "api", "Names": ["api"], "Type": ""},
        "ResourceARNs": [],
        "InstanceIds": [],
        "AvailabilityZones": [],
        "FaultRootCauses": [],
        "ErrorRootCauses": [],
        "ResponseTimeRootCauses": [],
        "Revision": 1,
    }


def test_a_trace_without_a_root_has_no_entry_point_and_no_response_time():
    found = summary(subsegment("2", "work", parent="1"), waited=0)
    assert found["IsPartial"]
    assert "EntryPoint" not in found
    assert "ResponseTime" not in found
    assert found["Http"] == {}


def test_flags_are_the_roots_but_throttling_is_anyones():
    below = segment("3", "orders", 0.1, 0.2, parent_id="2" * 16, fault=True, throttle=True)
    call = subsegment("2", "orders", 0.1, 0.3, namespace="remote", error=True)
    found = summary(segment("1", "api", subsegments=[call]), below)
    assert (found["HasFault"], found["HasError"], found["HasThrottle"]) == (False, False, True)
    found = summary(segment("1", "api", fault=True, error=True))
    assert (found["HasFault"], found["HasError"], found["HasThrottle"]) == (True, True, False)


@pytest.mark.parametrize(
    ("sent", "status", "expected"),
    [
        ({}, 500, (True, False, False)),
        ({}, 404, (False, True, False)),
        ({}, 429, (False, True, True)),
        ({"fault": False}, 503, (False, False, False)),
        ({"error": True}, 200, (False, True, False)),
        ({"error": True, "fault": True}, 400, (True, True, False)),
    ],
)
def test_a_flag_that_was_not_sent_comes_from_the_status(sent, status, expected):
    found = summary(segment("1", "api", http={"response": {"status": status}}, **sent))
    assert (found["HasFault"], found["HasError"], found["HasThrottle"]) == expected


def test_http_is_the_roots_as_sent():
    http = {
        "request": {
            "method": "get",
            "url": "http://a/b?c",
            "user_agent": "",
            "client_ip": "1.2.3.4, 5.6.7.8",
        },
        "response": {"status": 200, "content_length": -1},
    }
    assert summary(segment("1", "api", http=http))["Http"] == {
        "HttpStatus": 200,
        "HttpMethod": "get",
        "HttpURL": "http://a/b?c",
        "UserAgent": "",
        "ClientIp": "1.2.3.4, 5.6.7.8",
    }


def test_annotations_are_tagged_by_type_and_distinct_in_it():
    found = summary(
        segment(
            "1",
            "api",
            annotations={"a": "1", "n": None, "l": [1], "o": {}, "dotted.key": 2.5, "bad key!": 1},
            subsegments=[
                subsegment("2", "x", 0.1, annotations={"a": 1}),
                subsegment("3", "y", 0.2, annotations={"a": True}),
                subsegment("4", "z", 0.3, annotations={"a": "1", "long": "v" * 1001}),
            ],
        )
    )
    assert set(found["Annotations"]) == {"a", "dotted.key"}
    assert value(found, "a") == [{"StringValue": "1"}, {"NumberValue": 1}, {"BooleanValue": True}]
    assert found["Annotations"]["a"][0]["ServiceIds"] == []


def test_fifty_annotation_keys_are_indexed_and_all_stay_in_the_document():
    annotations = {f"k{number:02}": number for number in range(60)}
    trace = compile_documents(segment("1", "api", annotations=annotations))
    assert list(summarize(trace)["Annotations"]) == [f"k{number:02}" for number in range(50)]
    assert json.loads(render_trace(trace)["Segments"][0]["Document"])["annotations"] == annotations


def test_users_zones_instances_and_arns_are_listed_once_each():
    ec2 = {"ec2": {"instance_id": "i-1", "availability_zone": "us-east-1a"}}
    ecs = {"ecs": {"container_arn": "arn:container", "availability_zone": "us-east-1b"}}
    found = summary(
        segment("1", "api", user="alice", aws=ec2, resource_arn="arn:own"),
        segment("2", "api", 0.1, parent_id="9" * 16, user="alice", aws=ec2),
        segment("3", "fn", 0.2, parent_id="9" * 16, user="bob", aws={"function_arn": "arn:fn"}),
        segment("4", "box", 0.3, parent_id="9" * 16, aws=ecs),
        segment("5", "odd", 0.4, parent_id="9" * 16, aws={"ec2": "none", "function_arn": 3}),
    )
    assert [user["UserName"] for user in found["Users"]] == ["alice", "bob"]
    assert found["InstanceIds"] == [{"Id": "i-1"}]
    assert found["AvailabilityZones"] == [{"Name": "us-east-1a"}, {"Name": "us-east-1b"}]
    assert found["ResourceARNs"] == [
        {"ARN": "arn:own"},
        {"ARN": "arn:fn"},
        {"ARN": "arn:container"},
    ]


def test_account_ids_are_given_where_they_are_known():
    call = subsegment("2", "dynamodb", namespace="aws", aws={"account_id": "123456789012"})
    found = summary(segment("1", "api", subsegments=[call]))
    assert [service.get("AccountId") for service in found["ServiceIds"]] == [
        None,
        None,
        "123456789012",
    ]


def test_a_search_by_event_time_says_which_event():
    trace = compile_documents(segment("1", "api"))
    assert summarize(trace, matched_event_time=START + 0.12345)["MatchedEventTime"] == (
        START + 0.123
    )


def test_documents_are_given_without_nulls_and_without_what_the_schema_lacks():
    sent = segment(
        "1",
        "api",
        sql={"user": None, "url": "u"},
        aws={"a": {"b": None}, "l": [None]},
        cause={"exceptions": [{"id": "e" * 16, "stack": [{"line": None, "path": "p"}]}]},
        annotations={"ok": 1, "odd": [1]},
        metadata={"default": {"kept": None}},
        in_progress=False,
        foo="bar",
        user=None,
        service={"version": None},
    )
    (rendered,) = render_trace(compile_documents(sent))["Segments"]
    assert rendered["Id"] == "1" * 16
    assert json.loads(rendered["Document"]) == {
        "id": "1" * 16,
        "trace_id": TRACE_ID,
        "name": "api",
        "start_time": START,
        "end_time": START + 1,
        "in_progress": False,
        "sql": {"url": "u"},
        "aws": {"a": {}, "l": [None]},
        "cause": {"exceptions": [{"id": "e" * 16, "stack": [{"path": "p"}]}]},
        "annotations": {"ok": 1},
        "metadata": {"default": {"kept": None}},
        "service": {},
    }


def test_segments_are_given_by_start_time():
    trace = compile_documents(
        segment("1", "late", 0.5),
        segment("2", "early", 0.1, parent_id="9" * 16),
    )
    assert [segment["Id"] for segment in render_trace(trace)["Segments"]] == ["2" * 16, "1" * 16]
    assert render_trace(trace)["Duration"] == 1.0 - 0.1


def test_a_trace_over_500_kilobytes_says_so_and_is_whole():
    big = [
        segment(str(number), "api", metadata={"default": {"x": "y" * 60_000}})
        for number in range(1, 10)
    ]
    assert not render_trace(compile_documents(*big[:8]))["LimitExceeded"]
    exceeded = render_trace(compile_documents(*big))
    assert exceeded["LimitExceeded"]
    assert len(exceeded["Segments"]) == 9
