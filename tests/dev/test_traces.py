"""Traces come out the same however their documents came in."""

import json
import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_strategies import (
    START,
    TRACE_ID,
    accept,
    compile_documents,
    document_lists,
    segment,
    subsegment,
)

from xrayd.dev.assembly import DEPTH_MAX
from xrayd.dev.inferred import derive_id
from xrayd.dev.summary import render_trace, summarize
from xrayd.dev.traces import compile_trace


def outline(entity):
    """Names of a tree."""
    return {entity.name: [outline(child) for child in entity.children]}


def rendered(trace):
    return [json.loads(item["Document"]) for item in render_trace(trace)["Segments"]]


def service_keys(trace):
    return {node.key[:2] for node in trace.nodes}


def edges(trace):
    return [(call.source.name, call.target.name, call.entity.name) for call in trace.calls]


def test_streamed_subsegments_are_nested_where_their_parents_are():
    trace = compile_documents(
        subsegment("3", "grandchild", parent="2"),
        subsegment("4", "streamed", 0.5, parent="1"),
        segment("1", "root", subsegments=[subsegment("2", "embedded")]),
        subsegment("5", "below", parent="4"),
    )
    (root,) = trace.segments
    assert outline(root) == {
        "root": [{"embedded": [{"grandchild": []}]}, {"streamed": [{"below": []}]}]
    }
    assert {entity.segment_id for entity in trace.entities.values()} == {"1" * 16}
    assert not trace.is_partial


def test_nested_subsegments_lose_what_their_place_says():
    (document,) = rendered(
        compile_documents(
            segment("1", "root"), subsegment("2", "child", parent="1", trace_id=TRACE_ID)
        )
    )
    assert document["trace_id"] == TRACE_ID
    assert document["subsegments"] == [
        {"id": "2" * 16, "name": "child", "start_time": START, "end_time": START + 1}
    ]


def test_complete_beats_in_progress_and_keeps_streamed_children():
    running = segment("1", "root", end=None, subsegments=[subsegment("2", "sent again", end=None)])
    streamed = subsegment("2", "sent again", end=0.4, parent="1")
    complete = segment("1", "root")
    for order in ([running, streamed, complete], [complete, running, streamed]):
        trace = compile_documents(*order)
        (root,) = trace.segments
        assert root.duration == 1.0
        assert outline(root) == {"root": [{"sent again": []}]}
        assert not trace.is_partial


def test_of_two_complete_documents_the_later_wins():
    first, second = segment("1", "first"), segment("1", "second")
    assert compile_documents(first, second).root.name == "second"
    assert compile_documents(second, first).root.name == "first"


def test_a_segment_in_progress_leaves_the_trace_partial():
    trace = compile_documents(segment("1", "root", end=None))
    assert trace.is_partial
    assert trace.response_time is None
    assert trace.duration == 0.0


def test_an_end_before_the_start_is_a_duration_of_zero():
    trace = compile_documents(segment("1", "root", start=5, end=1))
    assert (trace.duration, trace.response_time) == (0.0, 0.0)
    assert rendered(trace)[0]["end_time"] == START + 1


def test_duration_reaches_beyond_the_response():
    trace = compile_documents(
        segment("1", "root", end=1.0, subsegments=[subsegment("2", "late", 0.5, 3.0)])
    )
    assert trace.response_time == 1.0
    assert trace.duration == 3.0


def test_subsegments_whose_parent_stays_away_get_a_placeholder_after_a_while():
    lambdas = [
        subsegment("3", "### charge", 0.2, 0.4, parent="2"),
        subsegment("2", "## index.handler", 0.1, 0.5, parent="1"),
    ]
    waiting = compile_documents(*lambdas, waited=4.9)
    assert (waiting.segments, len(waiting.orphans), waiting.root) == ([], 1, None)
    assert waiting.is_partial
    shown = compile_documents(*lambdas, waited=5.0, missing_parent_name="checkout-fn")
    (placeholder,) = shown.segments
    assert placeholder.placeholder
    assert (placeholder.id, placeholder.name) == ("1" * 16, "checkout-fn")
    assert (placeholder.start, placeholder.end) == (START + 0.1, START + 0.5)
    assert outline(placeholder) == {"checkout-fn": [{"## index.handler": [{"### charge": []}]}]}
    assert shown.is_partial
    assert shown.root is placeholder
    real = compile_documents(*lambdas, segment("1", "real"), waited=60)
    assert [entity.name for entity in real.segments] == ["real"]
    assert not real.is_partial


def test_a_placeholder_lasts_while_something_in_it_does():
    trace = compile_documents(subsegment("2", "work", end=None, parent="1"))
    assert trace.segments[0].in_progress


def test_a_segment_with_an_unknown_parent_is_an_entry_point():
    trace = compile_documents(segment("1", "api", parent_id="9" * 16))
    assert trace.root.name == "api"
    assert not trace.is_partial


def test_of_several_roots_the_one_without_a_parent_is_the_entry_point():
    trace = compile_documents(
        segment("1", "early orphan", 0.0, parent_id="9" * 16),
        segment("2", "late root", 0.5),
        segment("3", "later root", 0.6),
        subsegment("4", "lost", 0.1, parent="8"),
    )
    assert trace.root.name == "late root"
    assert [node.name for node in trace.nodes if node.is_root] == ["late root"]
    clients = [call.target.name for call in trace.calls if call.source.type == "client"]
    assert sorted(clients) == ["(missing parent)", "early orphan", "late root", "later root"]


def test_subsegments_that_are_each_others_parents_are_shown_once():
    trace = compile_documents(
        segment("1", "root"),
        subsegment("2", "two", parent="3"),
        subsegment("3", "three", parent="2"),
        subsegment("4", "own parent", parent="4"),
    )
    placed = [entity.name for top in trace.segments for entity in top.walk()]
    assert sorted(placed) == sorted(
        ["root", "two", "three", "own parent", "(missing parent)", "(missing parent)"]
    )
    assert trace.root.name == "root"


def test_segments_that_call_each_other_still_have_a_first():
    trace = compile_documents(
        segment("1", "a", 0.0, parent_id="2" * 16), segment("2", "b", 0.1, parent_id="1" * 16)
    )
    assert trace.root.name == "a"


def test_a_chain_of_subsegments_longer_than_encoders_recurse_is_cut_and_complete():
    ids = [f"{number:016x}" for number in range(1, 2001)]
    chain = [
        {
            "id": id_,
            "name": "link",
            "start_time": START,
            "end_time": START + 1,
            "type": "subsegment",
            "parent_id": parent,
        }
        for id_, parent in zip(ids[1:], ids, strict=False)
    ]
    root = {"id": ids[0], "name": "root", "start_time": START, "end_time": START + 1}
    trace = compile_documents(*chain, root)
    (document,) = rendered(trace)
    depth, count, level = 0, 0, [document]
    while level:
        count += len(level)
        level = [child for parent in level for child in parent.get("subsegments", [])]
        depth += 1
    assert count == 2000
    assert depth == DEPTH_MAX + 2


def test_a_call_that_nobody_answered_has_an_inferred_segment():
    call = subsegment(
        "2",
        "names.example.com",
        0.1,
        0.4,
        namespace="remote",
        http={"request": {"url": "http://names.example.com/"}, "response": {"status": 200}},
        metadata={"default": {"x": 1}},
    )
    trace = compile_documents(segment("1", "scorekeep", subsegments=[call]))
    _, inferred = rendered(trace)
    assert inferred == {
        "id": derive_id(TRACE_ID, "2" * 16),
        "trace_id": TRACE_ID,
        "parent_id": "2" * 16,
        "name": "names.example.com",
        "start_time": START + 0.1,
        "end_time": START + 0.4,
        "inferred": True,
        "http": call["http"],
    }
    assert service_keys(trace) == {
        ("scorekeep", "client"),
        ("scorekeep", ""),
        ("names.example.com", "remote"),
    }
    assert edges(trace) == [
        ("scorekeep", "scorekeep", "scorekeep"),
        ("scorekeep", "names.example.com", "names.example.com"),
    ]


def test_an_inferred_segment_takes_no_id_that_a_document_has():
    taken = derive_id(TRACE_ID, "2" * 16)
    trace = compile_documents(
        segment("1", "api", subsegments=[subsegment("2", "db", namespace="remote")]),
        segment("", "other", 0.5, id=taken),
    )
    ids = [entity.id for entity in trace.segments]
    assert len(set(ids)) == len(ids) == 3
    assert taken in ids
    assert ("api", "db", "db") in edges(trace)


def test_two_inferred_segments_never_have_one_id():
    taken = derive_id(TRACE_ID, "2" * 16)
    calls = [
        subsegment("2", "db", namespace="remote"),
        subsegment("", "cache", 0.5, namespace="remote", id=taken),
    ]
    trace = compile_documents(segment("1", "api", subsegments=calls))
    ids = [entity.id for entity in trace.segments]
    assert len(set(ids)) == len(ids) == 3


def test_a_placeholder_takes_no_id_that_a_document_has():
    taken = derive_id(TRACE_ID, f"above {'2' * 16}")
    trace = compile_documents(
        subsegment("2", "chicken", parent="3"),
        subsegment("3", "egg", parent="2"),
        segment("", "other", id=taken),
    )
    assert sorted(entity.name for entity in trace.segments) == ["(missing parent)", "other"]
    assert len({entity.id for entity in trace.segments}) == 2


def test_a_real_segment_takes_the_place_of_the_inferred_one():
    call = subsegment("2", "names.example.com", 0.1, 0.4, namespace="remote", fault=True)
    trace = compile_documents(
        segment("1", "scorekeep", subsegments=[call]),
        segment("3", "names", 0.2, 0.3, parent_id="2" * 16, origin="AWS::EC2::Instance"),
    )
    assert not trace.has_inferred
    assert ("names", "AWS::EC2::Instance") in service_keys(trace)
    assert edges(trace)[1] == ("scorekeep", "names", "names.example.com")
    assert trace.calls[1].entity.fault
    assert not trace.calls[1].segment.fault


def test_a_segment_can_be_called_by_a_segment():
    trace = compile_documents(
        segment("1", "fn", origin="AWS::Lambda"),
        segment("2", "fn", 0.1, 0.9, parent_id="1" * 16, origin="AWS::Lambda::Function"),
    )
    assert edges(trace) == [("fn", "fn", "fn"), ("fn", "fn", "fn")]
    assert trace.calls[1].entity.id == "2" * 16
    assert trace.calls[1].source.type == "AWS::Lambda"


def test_one_call_answered_twice_by_one_service_is_one_call():
    trace = compile_documents(
        segment("1", "api", subsegments=[subsegment("2", "balancer", namespace="remote")]),
        segment("3", "orders", 0.1, 0.2, parent_id="2" * 16),
        segment("4", "orders", 0.3, 0.4, parent_id="2" * 16),
    )
    assert len(trace.calls) == 2
    (orders,) = [node for node in trace.nodes if node.name == "orders"]
    assert len(orders.segments) == 2


def test_downstreams_are_named_after_resources_and_types_as_in_real_graphs():
    calls = {
        "AWS::DynamoDB::Table|scorekeep": {
            "name": "dynamodb",
            "namespace": "aws",
            "aws": {"table_name": "scorekeep"},
        },
        "AWS::DynamoDB|DynamoDB": {"name": "dynamodb", "namespace": "aws"},
        "AWS::SNS|SNS": {"name": "sns", "namespace": "aws", "aws": {"topic_arn": "arn"}},
        "AWS::SQS::Queue|jobs": {
            "name": "SQS",
            "namespace": "aws",
            "aws": {"queue_url": "https://sqs.us-east-1.amazonaws.com/1/jobs"},
        },
        "AWS::S3::Bucket|b": {"name": "s3", "namespace": "aws", "aws": {"bucket_name": "b"}},
        "AWS::S3|S3": {"name": "s3", "namespace": "aws", "aws": {"bucket_name": ""}},
        "AWS::Lambda|f": {
            "name": "lambda",
            "namespace": "aws",
            "aws": {"function_name": "arn:aws:lambda:us-east-1:1:function:f"},
        },
        "AWS::StepFunctions|StepFunctions": {"name": "states", "namespace": "aws"},
        "AWS::rdsdataservice|rdsdataservice": {"name": "rdsdataservice", "namespace": "aws"},
        "Database::SQL|db@host": {
            "name": "db@host",
            "namespace": "remote",
            "sql": {"url": "postgresql://host/db", "user": None},
        },
        "remote|api.example.com": {"name": "api.example.com", "namespace": "remote"},
    }
    subsegments = [
        {"id": f"{number:016x}", "start_time": START, "end_time": START + 1} | call
        for number, call in enumerate(calls.values(), start=16)
    ]
    trace = compile_documents(segment("1", "api", subsegments=subsegments))
    found = {f"{node.type}|{node.name}" for node in trace.nodes if node.state == "unknown"}
    assert found == {*calls, "client|api"}
    names = {(node.name, node.type): node.names for node in trace.nodes}
    assert names["scorekeep", "AWS::DynamoDB::Table"] == ["scorekeep", "dynamodb"]


def test_links_point_at_the_traces_that_caused_this_one():
    other = "1-58406520-" + "b" * 24
    kind = "aws.xray.reserved.reference_type"
    links = [
        {"trace_id": other, "id": "7" * 16, "attributes": {kind: "parent"}},
        {"trace_id": other, "id": "8" * 16},
        {"trace_id": other, "id": "9" * 16, "attributes": {kind: "child"}},
        {"trace_id": TRACE_ID, "id": "1" * 16},
        {"trace_id": "nonsense", "id": "1" * 16},
    ]
    trace = compile_documents(segment("1", "consumer", links=links))
    assert [(link.trace_id, link.id, link.node.name) for link in trace.links] == [
        (other, "7" * 16, "consumer"),
        (other, "8" * 16, "consumer"),
    ]


def test_documents_are_left_untouched():
    documents = accept(
        segment("1", "root", subsegments=[subsegment("2", "a", namespace="remote")]),
        subsegment("3", "b", parent="2"),
    )
    before = msgspec.json.encode(documents)
    first = compile_trace(TRACE_ID, documents, now=START, last_received=START)
    assert msgspec.json.encode(documents) == before
    second = compile_trace(TRACE_ID, documents, now=START, last_received=START)
    assert frozen(first) == frozen(second)


def frozen(trace):
    """All of a trace in one value, dictionaries in order."""
    return msgspec.json.encode(trace, order="deterministic")


@settings(deadline=None)
@given(document_lists(), st.randoms(use_true_random=False), st.booleans())
def test_any_order_of_arrival_gives_the_same_trace(documents, chance, is_settled):
    shuffled = list(documents)
    random.Random(chance.random()).shuffle(shuffled)
    now = START + 60 if is_settled else START
    first = compile_trace(TRACE_ID, documents, now=now, last_received=START)
    second = compile_trace(TRACE_ID, shuffled, now=now, last_received=START)
    assert frozen(first) == frozen(second)
    assert summarize(first) == summarize(second)
    assert render_trace(first) == render_trace(second)


@settings(deadline=None)
@given(document_lists())
def test_nothing_is_lost_and_nothing_is_shown_twice(documents):
    trace = compile_trace(TRACE_ID, documents, now=START + 60, last_received=START)
    sent = set()
    stack = list(documents)
    while stack:
        document = stack.pop()
        sent.add(document.id)
        stack.extend(document.subsegments)
    placed = [entity for top in trace.segments for entity in top.walk()]
    shown = [e.id for e in placed if not (e.inferred or e.placeholder)]
    # A body that a complete one replaced may have held subsegments that were sent nowhere else.
    assert len(shown) == len(set(shown))
    assert set(shown) <= sent
    assert {document.id for document in documents} <= set(shown)
    assert set(trace.entities) == {entity.id for entity in placed}
    assert trace.root is not None
