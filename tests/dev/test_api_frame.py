"""Routing, validation and errors: what holds for every operation alike."""

from __future__ import annotations

import json

import pytest
from api_endpoint import MODEL, PATHS, endpoint, served_endpoint
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xrayd.dev.api import BODY_HANDLERS, HANDLERS
from xrayd.dev.tokens import token_of


@pytest.fixture(scope="module")
def shared():
    with endpoint() as made:
        yield made


def test_every_operation_of_the_model_has_a_handler():
    assert set(HANDLERS) | set(BODY_HANDLERS) == set(MODEL.operation_names)
    assert len(HANDLERS) >= 37


def test_an_unknown_path_is_an_unknown_operation(shared):
    answer = shared.api.handle("/NoSuchThing", b"{}")
    assert answer.status == 404
    assert dict(answer.headers)["x-amzn-ErrorType"] == "UnknownOperationException"


def test_an_answer_names_its_type_and_its_request(shared):
    first, second = (dict(shared.api.handle("/Groups", b"").headers) for _ in range(2))
    assert first["Content-Type"] == "application/json"
    assert first["x-amzn-RequestId"] != second["x-amzn-RequestId"]


def test_an_empty_body_is_an_empty_request(shared):
    assert shared.api.handle("/EncryptionConfig", b"").status == 200
    assert shared.api.handle("/GetSamplingRules", b"").status == 200


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"x"', b"null", b"\xff", b'{"TraceIds": NaN}', b"[" * 100_000],
    ids=["cut", "list", "string", "null", "not-utf8", "nan", "deep"],
)
def test_a_body_that_is_no_json_object_is_a_serialization_error(shared, body):
    answer = shared.api.handle("/Traces", body)
    assert answer.status == 400
    assert dict(answer.headers)["x-amzn-ErrorType"] == "SerializationException"
    assert json.loads(answer.body)["Message"]


VIOLATIONS = [
    ("/Traces", {}, "Value null at 'traceIds' failed to satisfy constraint: Member must not be"),
    ("/Traces", {"TraceIds": ["1" * 36]}, "at 'traceIds.1.member' failed"),
    ("/Traces", {"TraceIds": [""]}, "length greater than or equal to 1"),
    ("/CreateGroup", {"GroupName": "g" * 33}, "length less than or equal to 32"),
    ("/Insight", {"InsightId": "7"}, "regular expression pattern"),
    ("/TraceSummaries", {"StartTime": 1, "EndTime": 2, "TimeRangeType": "X"}, "enum value set"),
    ("/InsightSummaries", {"StartTime": 1, "EndTime": 2, "MaxResults": 101}, "less than or equal"),
    ("/TagResource", {"ResourceARN": "a", "Tags": [{"Key": "k"}]}, "'tags.1.member.value'"),
    ("/TraceSummaries", {}, "2 validation errors detected"),
]


@pytest.mark.parametrize(("path", "request_", "expected"), VIOLATIONS)
def test_a_constraint_of_the_model_is_a_validation_error(shared, path, request_, expected):
    answer = shared.api.handle(path, json.dumps(request_).encode())
    assert answer.status == 400
    assert dict(answer.headers)["x-amzn-ErrorType"] == "ValidationException"
    assert expected in json.loads(answer.body)["Message"]


WRONG_TYPES = [
    ("/Traces", {"TraceIds": "x"}),
    ("/Traces", {"TraceIds": [1]}),
    ("/GetGroup", {"GroupName": 1}),
    ("/TraceSummaries", {"StartTime": "yesterday", "EndTime": 1}),
    ("/TraceSummaries", {"StartTime": True, "EndTime": 1}),
    ("/TraceSummaries", {"StartTime": 1, "EndTime": 1, "Sampling": 1}),
    ("/TraceSummaries", {"StartTime": 1, "EndTime": 1, "SamplingStrategy": []}),
    ("/TimeSeriesServiceStatistics", {"StartTime": 1, "EndTime": 2, "Period": 1.5}),
    ("/TimeSeriesServiceStatistics", {"StartTime": 1, "EndTime": 2, "Period": 10**30}),
    ("/TimeSeriesServiceStatistics", {"StartTime": 10**400, "EndTime": 2}),
]


@pytest.mark.parametrize(("path", "request_"), WRONG_TYPES)
def test_a_wrong_json_type_is_a_serialization_error(shared, path, request_):
    answer = shared.api.handle(path, json.dumps(request_).encode())
    assert answer.status == 400
    assert dict(answer.headers)["x-amzn-ErrorType"] == "SerializationException"


def test_nulls_and_unknown_members_count_as_absent(shared):
    status, _ = shared.post("/Groups", {"NextToken": None, "Unheard": {"of": [1]}})
    assert status == 200


def test_times_in_milliseconds_are_understood(shared):
    request = {"StartTime": 1_795_350_000_000, "EndTime": 1_795_350_600, "GroupName": "Default"}
    assert shared.post("/InsightSummaries", request)[0] == 200


PAGINATED = [
    ("/Groups", {}),
    ("/GetSamplingRules", {}),
    ("/SamplingStatisticSummaries", {}),
    ("/ListResourcePolicies", {}),
    ("/TraceSummaries", {"StartTime": 1, "EndTime": 2}),
]


@pytest.mark.parametrize(("path", "request_"), PAGINATED)
@pytest.mark.parametrize(
    "token",
    ["garbage", "AAAA", "!", "é", token_of("DeleteGroup", "g"), token_of("DeleteGroup", (1.0, 2))],
)
def test_a_made_up_token_is_refused(shared, path, request_, token):
    status, answer = shared.post(path, {**request_, "NextToken": token})
    assert (status, answer["Message"][:9]) == (400, "NextToken")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@st.composite
def plausible_requests(draw):
    """A path, and members it knows with values that may be anything."""
    path = draw(st.sampled_from(sorted(PATHS)))
    shape = PATHS[path].input_shape
    names = sorted(shape.members) if shape is not None else []
    return path, draw(st.dictionaries(st.sampled_from([*names, "x"]), JSON, max_size=4))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plausible_requests())
def test_no_request_makes_it_fail(shared, path_and_request):
    path, request = path_and_request
    status, answer = shared.post(path, request)
    assert status in (200, 400, 404)
    assert status == 200 or set(answer) <= {"Message", "ResourceName"}


@settings(deadline=None)
@given(st.sampled_from(sorted(PATHS)), st.binary(max_size=60))
def test_no_body_makes_it_fail(shared, path, body):
    assert shared.api.handle(path, body).status in (200, 400)


def test_botocore_understands_the_errors():
    with served_endpoint() as (_, client):
        with pytest.raises(client.exceptions.InvalidRequestException) as invalid:
            client.get_group(GroupName="absent")
        assert invalid.value.response["Error"]["Message"] == "Group absent not found."
        assert invalid.value.response["ResponseMetadata"]["RequestId"]
        with pytest.raises(client.exceptions.ResourceNotFoundException) as missing:
            client.list_tags_for_resource(ResourceARN="arn:aws:xray:us-east-1:1:group/x/y")
        assert missing.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
        assert missing.value.response["ResourceName"] == "arn:aws:xray:us-east-1:1:group/x/y"
        with pytest.raises(ClientError) as violation:
            client.batch_get_traces(TraceIds=["1" * 36])
        assert violation.value.response["Error"]["Code"] == "ValidationException"
