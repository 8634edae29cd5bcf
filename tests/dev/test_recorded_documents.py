"""What real clients sent, the odd documents among it one by one."""

import json

import pytest
from recorded import ALL, LAMBDA_SHIM, NODE, POSTGRES, POWERTOOLS, PYTHON, read_payloads

from xrayd.dev.documents import Accepted, Rejected, parse_documents
from xrayd.dev.graph import Graph, render_services
from xrayd.dev.observations import observe
from xrayd.dev.otlp import is_otlp, read_payload
from xrayd.dev.summary import render_trace, summarize
from xrayd.dev.traces import compile_trace


def verdicts(client, scenario, **options):
    return [
        verdict
        for payload in read_payloads(client)[scenario]
        for verdict in parse_documents(payload, **options)
    ]


def documents(client, scenario, **options):
    return [v.document for v in verdicts(client, scenario, **options) if isinstance(v, Accepted)]


def refusals(client, scenario):
    return [v.code for v in verdicts(client, scenario) if isinstance(v, Rejected)]


def traces(client, scenario, waited=60, **options):
    by_trace = {}
    for document in documents(client, scenario, **options):
        by_trace.setdefault(document.trace_id, []).append(document)
    return [
        compile_trace(trace_id, found, now=waited, last_received=0)
        for trace_id, found in by_trace.items()
    ]


def trace(client, scenario, **options):
    (found,) = traces(client, scenario, **options)
    return found


def named(found, name):
    """The one trace whose root has that name."""
    (match,) = [candidate for candidate in found if candidate.root.name == name]
    return match


def outline(entity):
    return {entity.name: [outline(child) for child in entity.children]}


def node_keys(found):
    return {(node.name, node.type) for node in found.nodes}


def count_entities(found):
    return sum(1 for top in found.segments if not top.inferred for _ in top.walk())


@pytest.mark.parametrize("client", ALL)
def test_every_recorded_document_has_a_verdict_and_every_trace_compiles(client):
    by_trace = {}
    for payloads in read_payloads(client).values():
        for payload in payloads:
            found = read_payload(payload).verdicts if is_otlp(payload) else None
            for verdict in parse_documents(payload) if found is None else found:
                if isinstance(verdict, Accepted):
                    by_trace.setdefault(verdict.document.trace_id, []).append(verdict.document)
    graph = Graph()
    for trace_id, found in by_trace.items():
        compiled = compile_trace(trace_id, found, now=60, last_received=0)
        assert summarize(compiled)["Id"] == trace_id
        for item in render_trace(compiled)["Segments"]:
            assert json.loads(item["Document"])["id"] == item["Id"]
        graph.add(observe(compiled))
    assert render_services(graph)


def test_not_a_number_refuses_only_its_document():
    assert refusals(PYTHON, "nan_infinity_metadata") == ["ParseError"]
    assert refusals(PYTHON, "unserializable_metadata") == []


def test_subsegments_without_a_name_refuse_the_document_unless_read_leniently():
    (verdict,) = verdicts(PYTHON, "sqlalchemy_core")
    assert (verdict.code, verdict.message) == (
        "MissingName",
        "Invalid subsegment. ErrorCode: MissingName",
    )
    found = trace(PYTHON, "sqlalchemy_core", lenient=True)
    assert ("unknown", "Database::SQL") in node_keys(found)
    (root, *_) = render_trace(found)["Segments"]
    sql = json.loads(root["Document"])["subsegments"][0]["sql"]
    assert "user" not in sql
    assert sql["database_type"] == "sqlite"


def test_lower_case_service_names_become_their_display_names():
    found = trace(PYTHON, "boto3_moto")
    types = {node.type for node in found.nodes}
    assert {"AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::SNS"} <= types
    odd = [
        entity.document.aws["table_names"]
        for entity in found.entities.values()
        if "table_names" in (entity.document.aws or {})
    ]
    assert any(isinstance(value, str) and value.startswith("dict_keys(") for value in odd)


@pytest.mark.parametrize(
    ("client", "accepted", "refused"),
    [
        (
            PYTHON,
            {"badchars", "svc with spaces", "日本語サービス", "Straße-Ünï-øæ"},
            ["InvalidName", "InvalidName", "InvalidName"],
        ),
        (
            NODE,
            {"svc with spaces", "日本語サービス", "UPPER.lower_123:/%&#=+\\-@"},
            ["InvalidName", "InvalidName", "InvalidName", "MissingName", "InvalidName"],
        ),
    ],
)
def test_names_beyond_letters_digits_and_documented_marks_are_refused(client, accepted, refused):
    assert refusals(client, "names") == refused
    assert accepted <= {document.name for document in documents(client, "names")}
    assert len(documents(client, "names", lenient=True)) == 9


def test_methods_are_returned_as_sent():
    methods = {
        entity.request.method
        for found in traces(PYTHON, "http_clients")
        for entity in found.entities.values()
        if entity.request is not None
    }
    assert {"get", "GET"} <= methods


def test_odd_ids_and_times_from_python():
    assert refusals(PYTHON, "explicit_ids_and_parent") == ["InvalidTraceId"]
    found = traces(PYTHON, "explicit_ids_and_parent")
    assert {candidate.id for candidate in found} >= {
        "1-4efaaf4d-1e8720b39541901950019ee5",
        "1-581cf771-a006649127e371903a2de979",
    }
    assert named(found, "negative-duration").duration == 0.0
    assert named(found, "int-times").duration == 1.0
    assert named(found, "child-svc").root.parent_id == "53995c3f42cd8ad8"


def test_trace_ids_of_another_version_or_length_are_refused():
    assert refusals(NODE, "explicit_ids_and_parent") == ["InvalidTraceId", "InvalidTraceId"]


def test_a_forwarding_list_stays_whole():
    addresses = [summarize(found)["Http"].get("ClientIp", "") for found in traces(PYTHON, "flask")]
    assert any("," in address for address in addresses)


def test_a_cause_that_names_the_subsegment_is_followed_to_its_exception():
    found = named(traces(NODE, "exceptions"), "exc-svc")
    (cause,) = found.fault_causes
    (service,) = cause.services
    assert [entity.name for entity in service.entity_path] == ["exc-svc", "outer", "inner"]
    for entity in service.entity_path:
        assert [(e.name, e.message) for e in entity.exceptions] == [
            ("TypeError", "bad value: 世界")
        ]
    (rendered,) = render_trace(found)["Segments"]
    assert '"line":null' not in rendered["Document"]


def test_an_exception_without_a_type_has_an_empty_one():
    found = named(traces(NODE, "exceptions"), "exc-string")
    texts = [
        (exception.name, exception.message)
        for cause in found.fault_causes
        for exception in cause.services[0].entity_path[-1].exceptions
    ]
    assert ("", "just a string") in texts


def test_a_cause_that_is_an_exception_id_is_looked_up():
    found = named(traces(PYTHON, "exceptions"), "exc-svc")
    (cause,) = found.fault_causes
    paths = [
        (entity.name, [exception.message for exception in entity.exceptions])
        for entity in cause.services[0].entity_path
    ]
    assert paths == [("exc-svc", []), ("outer", ["wrapped"]), ("inner", ["wrapped"])]
    assert not cause.client_impacting


def test_documents_over_the_loopback_maximum_are_taken_and_pinned_ends_clamped():
    for client in (PYTHON, NODE):
        assert refusals(client, "near_64k") == []
    assert max(map(len, read_payloads(NODE)["near_64k"])) > 65_000
    assert {found.duration for found in traces(NODE, "near_64k")} == {0.0}


@pytest.mark.parametrize(("client", "scenario"), [(PYTHON, "boto3_moto"), (NODE, "aws_v3_moto")])
def test_aws_calls_refused_with_4xx_are_flagged_as_faults_but_counted_as_errors(client, scenario):
    found = trace(client, scenario)
    refused = [
        entity
        for entity in found.entities.values()
        if not entity.is_segment and entity.status is not None and 400 <= entity.status < 500
    ]
    assert refused
    assert all(entity.fault and entity.error for entity in refused)
    assert {str(entity.status_class) for entity in refused} == {"error"}
    assert found.fault_causes
    assert found.error_causes


@pytest.mark.parametrize(
    ("client", "scenario", "has_throttle", "classes"),
    [
        # Python flags throttling as any 400, and a refused connection not at all.
        (PYTHON, "boto3_throttle_and_down", False, {"ok", "error"}),
        (NODE, "aws_v3_throttle_and_down", True, {"ok", "throttle", "fault"}),
    ],
)
def test_throttled_calls_count_as_the_client_says(client, scenario, has_throttle, classes):
    found = trace(client, scenario)
    assert found.has_throttle is has_throttle
    assert {str(call.entity.status_class) for call in found.calls} == classes


def test_annotation_keys_that_cannot_be_indexed_stay_in_the_document():
    found = trace(NODE, "segment_rich")
    assert "dotted.key" in found.annotations
    assert "bad key!" not in found.annotations
    (rendered,) = render_trace(found)["Segments"]
    document = json.loads(rendered["Document"])
    assert document["annotations"]["bad key!"] == "kept-by-node-sdk"
    assert document["metadata"]["AWS.reserved"] == {"aws": 1}
    assert found.users == ["alice@example.com"]


def test_a_lone_surrogate_is_read_around():
    (document,) = documents(NODE, "unicode", lenient=True)
    assert json.loads(bytes(document.metadata))["default"]["lone"] == "?"
    assert document.user == "ユーザー😀"


def test_annotations_over_the_limits_are_cut_off_in_the_index_only():
    found = trace(PYTHON, "annotations_over_limits")
    assert len(found.annotations) == 50
    assert len(found.root.document.annotations) > 60


def test_traced_calls_that_nobody_answered_are_shown_as_inferred():
    found = trace(NODE, "http_clients")
    traced = [entity for entity in found.entities.values() if entity.document.traced]
    inferred = {segment.parent_id for segment in found.segments if segment.inferred}
    assert traced
    assert {entity.id for entity in traced} <= inferred
    assert not found.is_partial


def test_fields_nobody_knows_are_dropped_and_known_ones_used():
    found = trace(NODE, "custom_attributes")
    assert found.resource_arns == ["arn:aws:lambda:us-east-1:123456789012:function:f"]
    assert [(link.trace_id, link.id) for link in found.links] == [
        ("1-5759e988-bd862e3fe1be46a994272793", "53995c3f42cd8ad8")
    ]
    (rendered,) = render_trace(found)["Segments"]
    assert "foo" in read_payloads(NODE)["custom_attributes"][0]
    assert "foo" not in rendered["Document"]


@pytest.mark.parametrize("client", [PYTHON, NODE])
def test_an_update_in_progress_is_replaced_and_one_never_completed_stays(client):
    found = traces(client, "in_progress_then_complete")
    assert not any(candidate.is_partial for candidate in found)
    sent = documents(client, "in_progress_then_complete")
    assert any(document.is_in_progress for document in sent)
    assert trace(client, "in_progress_never_completed").is_partial


@pytest.mark.parametrize(
    ("client", "scenario", "subsegments"),
    [
        (PYTHON, "streaming_default_35", 35),
        (PYTHON, "streaming_nested_120", 120),
        (PYTHON, "streaming_threshold_0", 20),
        (NODE, "streaming_default_100", None),
        (NODE, "streaming_threshold_10", None),
        (NODE, "streaming_threshold_0", None),
    ],
)
def test_streamed_subsegments_come_together_in_any_order(client, scenario, subsegments):
    found = trace(client, scenario)
    assert not found.is_partial
    assert [segment.placeholder for segment in found.segments if not segment.inferred] == [False]
    sent = documents(client, scenario)
    backwards = compile_trace(found.id, sent[::-1], now=60, last_received=0)
    assert render_trace(backwards) == render_trace(found)
    assert summarize(backwards) == summarize(found)
    if subsegments is not None:
        assert count_entities(found) >= subsegments + 1
    assert len(sent) > 1


def test_subsegments_that_end_after_their_segment_make_the_trace_longer():
    for client in (PYTHON, NODE):
        found = trace(client, "late_subsegments_after_segment_end")
        assert found.duration > found.response_time


def test_lambda_functions_without_their_service_get_a_placeholder():
    before = traces(POWERTOOLS, "lambda_ok", waited=0)
    assert [candidate.segments for candidate in before] == [[]]
    found = trace(POWERTOOLS, "lambda_fail")
    (root,) = [segment for segment in found.segments if not segment.inferred]
    assert root.placeholder
    assert outline(root) == {
        "(missing parent)": [{"## index.handler": [{"### charge": []}, {"127.0.0.1": []}]}]
    }
    assert found.is_partial
    assert [cause.client_impacting for cause in found.fault_causes] == [False]


def test_lambda_segments_below_a_queue_are_entry_points():
    found = traces(LAMBDA_SHIM, "sqs_triggered")
    assert len(found) == 3
    for candidate in found:
        assert candidate.root.document.origin == "AWS::Lambda::Function"
        assert candidate.root.parent_id == "53995c3f42cd8ad8"
        assert not candidate.is_partial


def test_queries_are_one_database_node():
    found = trace(POSTGRES, "node_pg")
    assert node_keys(found) == {
        ("node-pg-svc", "client"),
        ("node-pg-svc", ""),
        ("postgres@127.0.0.1", "Database::SQL"),
    }
    graph = Graph()
    graph.add(observe(found))
    (database,) = [s for s in render_services(graph) if s["Type"] == "Database::SQL"]
    statistics = database["SummaryStatistics"]
    assert statistics["FaultStatistics"]["TotalCount"] == 1
    assert statistics["TotalCount"] == len(found.root.children)


def test_the_hosts_an_application_ran_on_are_found():
    found = named(traces(PYTHON, "plugins_ecs_beanstalk"), "eb-svc")
    assert found.instance_ids == ["i-0123456789abcdef0"]
    assert found.availability_zones == ["us-east-1a"]
    assert ("eb-svc", "AWS::ElasticBeanstalk::Environment") in node_keys(found)
