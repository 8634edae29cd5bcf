"""Root causes name the way a fault, an error or the slowness came."""

import pytest
from trace_strategies import compile_documents, segment, subsegment

from xrayd.dev.rootcauses import CAUSES_MAX
from xrayd.dev.summary import summarize


def causes(kind, *documents, **options):
    return summarize(compile_documents(*documents, **options))[f"{kind}RootCauses"]


def paths(found):
    return [
        [
            (service["Name"], [entity["Name"] for entity in service["EntityPath"]])
            for service in cause["Services"]
        ]
        for cause in found
    ]


def exceptions(entity):
    return [(exception["Name"], exception["Message"]) for exception in entity["Exceptions"]]


BOOM = {"exceptions": [{"id": "e" * 16, "type": "Boom", "message": "went off"}]}


def test_a_slow_trace_is_explained_as_in_the_documentation():
    documents = [
        segment(
            "1",
            "GetWeatherData",
            0,
            4,
            subsegments=[
                subsegment("2", "quick", 0, 1),
                subsegment("3", "get_temperature", 1, 4),
            ],
        ),
        segment("4", "GetTemperature", 1.2, 3.5, parent_id="3" * 16),
    ]
    (cause,) = causes("ResponseTime", *documents)
    assert cause == {
        "ClientImpacting": True,
        "Services": [
            {
                "Name": "GetWeatherData",
                "Names": ["GetWeatherData"],
                "Type": "",
                "Inferred": False,
                "EntityPath": [
                    {"Name": "GetWeatherData", "Coverage": 1.0, "Remote": False},
                    {"Name": "get_temperature", "Coverage": 0.75, "Remote": False},
                ],
            },
            {
                "Name": "GetTemperature",
                "Names": ["GetTemperature"],
                "Type": "",
                "Inferred": False,
                "EntityPath": [{"Name": "GetTemperature", "Coverage": 0.575, "Remote": False}],
            },
        ],
    }
    assert causes("ResponseTime", *documents, slow_s=4.1) == []


def test_the_path_of_time_ends_where_no_call_takes_half_of_it():
    calls = [subsegment("2", "half", 0, 1), subsegment("3", "less", 1, 1.99)]
    (cause,) = causes("ResponseTime", segment("1", "api", 0, 2, subsegments=calls))
    assert paths([cause]) == [[("api", ["api", "half"])]]
    (cause,) = causes("ResponseTime", segment("1", "api", 0, 2, subsegments=calls[1:]))
    assert paths([cause]) == [[("api", ["api"])]]


def test_slowness_crosses_into_inferred_services_under_their_own_name():
    call = subsegment(
        "2", "dynamodb", 0, 2, namespace="aws", aws={"table_name": "traces"}, id="2" * 16
    )
    (cause,) = causes("ResponseTime", segment("1", "api", 0, 2.5, subsegments=[call]))
    api, table = cause["Services"]
    assert api["EntityPath"][1] == {"Name": "dynamodb", "Coverage": 0.8, "Remote": True}
    assert (table["Name"], table["Type"], table["Inferred"]) == (
        "traces",
        "AWS::DynamoDB::Table",
        True,
    )
    assert table["EntityPath"] == [{"Name": "traces", "Coverage": 0.8, "Remote": True}]


def test_a_fault_is_followed_to_where_it_began():
    (cause,) = causes(
        "Fault",
        segment(
            "1",
            "api",
            fault=True,
            subsegments=[
                subsegment("2", "orders", namespace="remote", fault=True),
                subsegment("3", "fine", namespace="remote"),
            ],
        ),
        segment("4", "orders", parent_id="2" * 16, fault=True, cause=BOOM),
    )
    assert cause["ClientImpacting"]
    assert paths([cause]) == [[("api", ["api", "orders"]), ("orders", ["orders"])]]
    assert cause["Services"][1]["EntityPath"] == [
        {
            "Name": "orders",
            "Remote": False,
            "Exceptions": [{"Name": "Boom", "Message": "went off"}],
        }
    ]


def test_every_beginning_of_a_fault_is_a_cause():
    found = causes(
        "Fault",
        segment(
            "1",
            "api",
            fault=True,
            subsegments=[
                subsegment("2", "first", 0.1, fault=True),
                subsegment("3", "second", 0.2, fault=True),
            ],
        ),
    )
    assert paths(found) == [[("api", ["api", "first"])], [("api", ["api", "second"])]]


def test_a_handled_fault_is_a_cause_that_the_client_did_not_see():
    found = causes(
        "Fault",
        segment(
            "1",
            "api",
            subsegments=[
                subsegment("2", "try", subsegments=[subsegment("3", "inner", fault=True)])
            ],
        ),
    )
    assert paths(found) == [[("api", ["api", "try", "inner"])]]
    assert [cause["ClientImpacting"] for cause in found] == [False]


def test_errors_have_causes_of_their_own():
    documents = [segment("1", "api", error=True), segment("2", "b", 0.1, parent_id="9" * 16)]
    assert paths(causes("Error", *documents)) == [[("api", ["api"])]]
    assert causes("Fault", *documents) == []


@pytest.mark.parametrize(
    "cause",
    [
        BOOM,
        "e" * 16,
        {"id": "3" * 16},
        {"id": "3" * 16, "exceptions": []},
        "3" * 16,
    ],
)
def test_a_cause_is_resolved_in_each_of_its_shapes(cause):
    inner = subsegment("3", "inner", fault=True, cause=BOOM)
    outer = subsegment("2", "outer", fault=True, cause=cause, subsegments=[inner])
    (found,) = causes("Fault", segment("1", "api", fault=True, cause=cause, subsegments=[outer]))
    entities = found["Services"][0]["EntityPath"]
    assert [exceptions(entity) for entity in entities] == [[("Boom", "went off")]] * 3


@pytest.mark.parametrize(
    "cause",
    ["f" * 16, "1" * 16, {"id": 3}, {"exceptions": "none"}, {"exceptions": [3]}, {}],
)
def test_a_cause_that_leads_nowhere_gives_no_exceptions(cause):
    (found,) = causes("Fault", segment("1", "api", fault=True, cause=cause))
    assert found["Services"][0]["EntityPath"][0]["Exceptions"] == []


def test_exceptions_without_type_or_message_have_empty_ones():
    cause = {"exceptions": [{"id": "e" * 16, "type": None}]}
    (found,) = causes("Fault", segment("1", "api", fault=True, cause=cause))
    assert exceptions(found["Services"][0]["EntityPath"][0]) == [("", "")]


def test_an_inferred_service_has_the_exceptions_of_the_call():
    call = subsegment("2", "s3", namespace="aws", fault=True, cause=BOOM)
    (found,) = causes("Fault", segment("1", "api", fault=True, subsegments=[call]))
    assert exceptions(found["Services"][1]["EntityPath"][0]) == [("Boom", "went off")]


def test_a_trace_failing_everywhere_lists_a_bounded_number_of_causes():
    failing = [
        {"id": f"{number:016x}", "name": "x", "start_time": 1, "end_time": 2, "fault": True}
        for number in range(16, 316)
    ]
    found = causes("Fault", segment("1", "api", fault=True, subsegments=failing))
    assert len(found) == CAUSES_MAX
