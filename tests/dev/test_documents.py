"""Documents are accepted and refused as X-Ray does it, one by one."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayd.dev.documents import (
    DEPTH_MAX,
    DOCUMENT_BYTES_MAX,
    Accepted,
    Rejected,
    load_document,
    normalize_trace_id,
    parse_documents,
    supersedes,
)
from xrayd.dev.model import Document

TRACE_ID = "1-58406520-a006649127e371903a2de979"
MINIMAL = {
    "name": "example.com",
    "id": "70de5b6f19ff9a0a",
    "start_time": 1.478293361271e9,
    "trace_id": "1-581cf771-a006649127e371903a2de979",
    "end_time": 1.478293361449e9,
}
SUBSEGMENT = {
    "name": "www2.example.com",
    "id": "70de5b6f19ff9a0b",
    "start_time": 1478293361.271,
    "trace_id": TRACE_ID,
    "end_time": 1478293361.449,
    "type": "subsegment",
    "parent_id": "70de5b6f19ff9a0a",
}


def judge(document, **options):
    (verdict,) = parse_documents(json.dumps(document), **options)
    return verdict


def refusal(document, **options):
    verdict = judge(document, **options)
    assert isinstance(verdict, Rejected), verdict
    return verdict.id, str(verdict.code), verdict.message


def without(document, *fields, **changes):
    return {key: value for key, value in (document | changes).items() if key not in fields}


def test_the_minimal_documented_segment_is_accepted():
    accepted = judge(MINIMAL)
    assert isinstance(accepted, Accepted)
    assert accepted.document.start_time == 1478293361.271
    assert json.loads(accepted.text) == MINIMAL


def test_a_segment_in_progress_needs_no_end():
    document = without(MINIMAL, "end_time", in_progress=True)
    assert judge(document).document.is_in_progress
    assert refusal(without(document, in_progress=False)) == (
        MINIMAL["id"],
        "MissingEndTime",
        "Invalid segment. ErrorCode: MissingEndTime",
    )


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (without(MINIMAL, "id"), "MissingId"),
        (MINIMAL | {"id": "xyz"}, "InvalidId"),
        (MINIMAL | {"id": "g0de5b6f19ff9a0a"}, "InvalidId"),
        (without(MINIMAL, "trace_id"), "MissingTraceId"),
        (MINIMAL | {"trace_id": "not-a-trace-id"}, "InvalidTraceId"),
        (MINIMAL | {"trace_id": "2-581cf771-a006649127e371903a2de979"}, "InvalidTraceId"),
        (MINIMAL | {"trace_id": "581cf771a006649127e371903a2de979"}, "InvalidTraceId"),
        (without(MINIMAL, "name"), "MissingName"),
        (MINIMAL | {"name": ""}, "MissingName"),
        (MINIMAL | {"name": {"py/newargs": ["a"]}}, "MissingName"),
        (MINIMAL | {"name": "a(b)"}, "InvalidName"),
        (MINIMAL | {"name": "n" * 201}, "InvalidName"),
        (without(MINIMAL, "start_time"), "MissingStartTime"),
        (MINIMAL | {"start_time": "soon"}, "MissingStartTime"),
        (without(MINIMAL, "end_time"), "MissingEndTime"),
        (MINIMAL | {"parent_id": "short"}, "InvalidParentId"),
    ],
)
def test_a_segment_is_refused_with_its_own_id_and_code(document, code):
    id_ = document.get("id")
    assert refusal(document) == (id_, code, f"Invalid segment. ErrorCode: {code}")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (without(SUBSEGMENT, "parent_id"), "MissingParentId"),
        (SUBSEGMENT | {"parent_id": None}, "MissingParentId"),
        (SUBSEGMENT | {"name": "local (db)"}, "InvalidName"),
        (SUBSEGMENT | {"name": "n" * 251}, "InvalidName"),
    ],
)
def test_a_subsegment_is_called_one_in_its_refusal(document, code):
    assert refusal(document) == (
        SUBSEGMENT["id"],
        code,
        f"Invalid subsegment. ErrorCode: {code}",
    )


def test_the_first_failure_in_order_names_the_refusal():
    fields = ["id", "trace_id", "name", "start_time", "end_time", "parent_id"]
    codes = [refusal(without(SUBSEGMENT, *fields[number:]))[1] for number in range(len(fields))]
    assert codes == [
        "MissingId",
        "MissingTraceId",
        "MissingName",
        "MissingStartTime",
        "MissingEndTime",
        "MissingParentId",
    ]


def test_a_bad_subsegment_inside_refuses_the_document_under_the_documents_id():
    inner = {"id": "70de5b6f19ff9a0c", "name": "ok", "start_time": 1.0}
    middle = {"id": "70de5b6f19ff9a0d", "name": "ok", "start_time": 1, "end_time": 2}
    document = MINIMAL | {"subsegments": [middle | {"subsegments": [inner]}]}
    assert refusal(document) == (
        MINIMAL["id"],
        "MissingEndTime",
        "Invalid subsegment. ErrorCode: MissingEndTime",
    )
    inner["end_time"] = 2
    assert isinstance(judge(document), Accepted)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "17",
        "null",
        '"text"',
        "{",
        '{"a": NaN}',
        '{"a": Infinity}',
        "[1, ",
        "\ud800",
    ],
)
def test_what_is_no_json_object_is_refused_without_an_id(text):
    (verdict,) = parse_documents(text)
    assert (verdict.id, str(verdict.code)) == (None, "ParseError")


def test_not_a_number_in_metadata_refuses_the_document_it_is_in():
    text = json.dumps(MINIMAL | {"metadata": {"default": {"x": float("nan")}}})
    assert "NaN" in text
    (verdict,) = parse_documents(text)
    assert (verdict.id, str(verdict.code)) == (None, "ParseError")


def test_an_array_is_so_many_documents_each_with_its_own_verdict():
    text = json.dumps([SUBSEGMENT, without(MINIMAL, "name"), 3, [], MINIMAL])
    verdicts = parse_documents(text)
    assert [type(verdict) for verdict in verdicts] == [
        Accepted,
        Rejected,
        Rejected,
        Rejected,
        Accepted,
    ]
    assert json.loads(verdicts[0].text) == SUBSEGMENT
    assert verdicts[1].code == "MissingName"


def test_an_empty_array_lacks_an_id():
    (verdict,) = parse_documents("[]")
    assert (verdict.id, verdict.message) == (None, "Invalid segment. ErrorCode: MissingId")


def test_a_trace_id_is_kept_in_lower_case_whatever_its_epoch():
    document = judge(MINIMAL | {"trace_id": "1-4EFAAF4D-1E8720B39541901950019EE5"}).document
    assert document.trace_id == "1-4efaaf4d-1e8720b39541901950019ee5"


def test_trace_ids_in_requests_may_be_w3c():
    assert normalize_trace_id("4EFAAF4D1e8720b39541901950019ee5") == (
        "1-4efaaf4d-1e8720b39541901950019ee5"
    )
    assert normalize_trace_id("1-4efaaf4d-1e8720b39541901950019ee5") is not None
    assert normalize_trace_id("1-00000005-abc") is None


def test_optional_fields_of_a_wrong_type_are_dropped_and_refuse_nothing():
    odd = MINIMAL | {
        "user": 17,
        "fault": "yes",
        "http": {"request": {"method": 3, "url": "http://a/"}, "response": {"status": 200.0}},
        "annotations": ["a"],
        "aws": {"big": 1, "account_id": None},
        "links": [{"trace_id": TRACE_ID, "id": 3}, "x"],
        "subsegments": [without(SUBSEGMENT, sql="none"), "x"],
        "Dummy": False,
        "metadata": {"default": {"x": None}},
    }
    document = judge(odd).document
    assert document.user is None
    assert document.fault is None
    assert document.http.request.method is None
    assert document.http.request.url == "http://a/"
    assert document.http.response.status == 200
    assert document.annotations is None
    assert document.links[0].id == ""
    assert [subsegment.sql for subsegment in document.subsegments] == [None]
    assert json.loads(bytes(document.metadata)) == {"default": {"x": None}}


def test_a_string_cut_inside_an_emoji_does_not_lose_the_document():
    text = json.dumps(MINIMAL | {"user": "caf\ud83d", "metadata": {"m": "\udc00 \U0001f600"}})
    (verdict,) = parse_documents(text)
    assert verdict.document.user == "caf?"
    assert json.loads(bytes(verdict.document.metadata)) == {"m": "? \U0001f600"}
    assert load_document(verdict.text) == verdict.document


def test_numbers_beyond_floats_lose_only_themselves():
    text = json.dumps(MINIMAL | {"sql": {"x": 1, "y": 2}}).replace('"x": 1', '"x": 1e999')
    (verdict,) = parse_documents(text)
    assert verdict.document.sql == {"x": None, "y": 2}


def test_a_document_of_64_kilobytes_is_taken_and_one_byte_more_is_not():
    small = json.dumps(MINIMAL | {"user": ""})
    room = DOCUMENT_BYTES_MAX - len(small)
    for filler, count in (("x", room), ("é", room // 2)):
        text = small.replace('"user": ""', f'"user": "{filler * count}"')
        (verdict,) = parse_documents(text.ljust(DOCUMENT_BYTES_MAX - count * (filler == "é")))
        assert isinstance(verdict, Accepted)
        (verdict,) = parse_documents(text.ljust(DOCUMENT_BYTES_MAX - count * (filler == "é") + 1))
        assert (verdict.id, verdict.code) == (MINIMAL["id"], "InvalidSegment")


def test_a_lenient_reading_names_the_nameless_and_takes_any_name():
    inner = {"id": "70de5b6f19ff9a0c", "start_time": 1, "end_time": 2}
    verdict = judge(MINIMAL | {"name": "a?b", "subsegments": [inner]}, lenient=True)
    assert verdict.document.name == "a?b"
    assert verdict.document.subsegments[0].name == "unknown"
    assert load_document(verdict.text).subsegments[0].name == "unknown"


@pytest.mark.parametrize("status", [10**30, 2**31, -(2**31) - 1, 1e300, -1e18, 200.5])
def test_a_status_that_no_client_could_read_is_dropped(status):
    response = {"status": status, "content_length": 5}
    kept = judge(MINIMAL | {"http": {"response": response}}).document.http.response
    assert (kept.status, kept.content_length) == (None, 5)


def test_nesting_too_deep_to_read_is_refused():
    text = '{"subsegments":[' * 30_000
    (verdict,) = parse_documents(text)
    assert verdict.code == "ParseError"
    (verdict,) = parse_documents("[" * 30_000)
    assert verdict.code == "ParseError"


def test_nesting_is_bounded_where_everything_can_still_read_it():
    def nested(levels):
        inner = '{"a":' * levels + '"]}[{"' + "}" * levels
        return json.dumps(MINIMAL)[:-1] + f', "metadata": {inner}}}'

    (deepest,) = parse_documents(nested(DEPTH_MAX - 1))
    assert isinstance(deepest, Accepted)
    assert load_document(deepest.text).id == MINIMAL["id"]
    (deeper,) = parse_documents(nested(DEPTH_MAX))
    assert (deeper.id, deeper.code) == (MINIMAL["id"], "InvalidSegment")


def test_many_things_beside_each_other_are_not_deep():
    wide = MINIMAL | {"metadata": {"default": [{"a": []}] * DEPTH_MAX}}
    assert isinstance(parse_documents(json.dumps(wide))[0], Accepted)


def test_complete_beats_in_progress_and_the_later_of_two_alike_wins():
    complete = judge(MINIMAL).document
    running = judge(without(MINIMAL, "end_time", in_progress=True)).document
    assert supersedes(complete, running)
    assert not supersedes(running, complete)
    assert supersedes(complete, complete)
    assert supersedes(running, running)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
any_documents = st.dictionaries(
    st.sampled_from([*Document.__struct_fields__, "unheard_of"]), json_values, max_size=6
)


@settings(deadline=None)
@given(
    st.one_of(
        st.text(),
        json_values.map(json.dumps),
        any_documents.map(lambda fields: json.dumps(MINIMAL | fields)),
        any_documents.map(lambda fields: json.dumps(MINIMAL | {"subsegments": [fields]})),
    ),
    st.booleans(),
)
def test_every_text_gets_a_verdict_and_what_is_accepted_reads_back_the_same(text, lenient):
    verdicts = parse_documents(text, lenient=lenient)
    assert verdicts
    for verdict in verdicts:
        if isinstance(verdict, Accepted):
            assert load_document(verdict.text) == verdict.document
        else:
            assert verdict.message.endswith(f"ErrorCode: {verdict.code}")
