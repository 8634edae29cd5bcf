"""Each of the 38 operations, called by an unmodified boto3 and understood by it."""

from __future__ import annotations

import json

import pytest
from api_endpoint import MODEL, NOW, segment, served_endpoint, trace_id
from botocore import xform_name
from botocore.exceptions import ClientError

WINDOW = {"StartTime": NOW - 600, "EndTime": NOW + 600}
RULE = {
    "RuleName": "r1",
    "ResourceARN": "*",
    "Priority": 1000,
    "FixedRate": 0.05,
    "ReservoirSize": 1,
    "ServiceName": "*",
    "ServiceType": "*",
    "Host": "*",
    "HTTPMethod": "*",
    "URLPath": "/x/*",
    "Version": 1,
    "Attributes": {"a": "b*"},
}
STATISTICS = {
    "RuleName": "r1",
    "ClientID": "a" * 24,
    "Timestamp": NOW,
    "RequestCount": 3,
    "SampledCount": 1,
}
INSIGHT = {"InsightId": "12345678-1234-1234-8234-123456789012"}
DEFAULT = "arn:aws:xray:us-east-1:000000000000:group/Default"


def calls(token: str = ""):
    """Operation, arguments and the members of the answer that must not be empty."""
    segments = [json.dumps(segment(1, 1, "世界", 0, annotations={"k": "v"}))]
    return [
        ("PutTraceSegments", {"TraceSegmentDocuments": segments}, []),
        ("PutTelemetryRecords", {"TelemetryRecords": [{"Timestamp": NOW}]}, []),
        ("BatchGetTraces", {"TraceIds": [trace_id(1)]}, ["Traces"]),
        ("GetTraceSummaries", WINDOW, ["TraceSummaries", "ApproximateTime"]),
        ("GetTraceGraph", {"TraceIds": [trace_id(1)]}, ["Services"]),
        ("GetServiceGraph", WINDOW, ["Services", "StartTime"]),
        ("GetTimeSeriesServiceStatistics", WINDOW, ["TimeSeriesServiceStatistics"]),
        ("CreateGroup", {"GroupName": "G", "FilterExpression": 'service("世界")'}, ["Group"]),
        ("GetGroup", {"GroupName": "G"}, ["Group"]),
        ("GetGroups", {}, ["Groups"]),
        ("UpdateGroup", {"GroupName": "G", "FilterExpression": "fault"}, ["Group"]),
        ("DeleteGroup", {"GroupName": "G"}, []),
        ("TagResource", {"ResourceARN": DEFAULT, "Tags": [{"Key": "k", "Value": "v"}]}, []),
        ("ListTagsForResource", {"ResourceARN": DEFAULT}, ["Tags"]),
        ("UntagResource", {"ResourceARN": DEFAULT, "TagKeys": ["k"]}, []),
        ("CreateSamplingRule", {"SamplingRule": RULE}, ["SamplingRuleRecord"]),
        ("GetSamplingRules", {}, ["SamplingRuleRecords"]),
        (
            "GetSamplingTargets",
            {"SamplingStatisticsDocuments": [STATISTICS]},
            ["SamplingTargetDocuments", "LastRuleModification"],
        ),
        ("GetSamplingStatisticSummaries", {}, ["SamplingStatisticSummaries"]),
        (
            "UpdateSamplingRule",
            {"SamplingRuleUpdate": {"RuleName": "r1", "Priority": 7}},
            ["SamplingRuleRecord"],
        ),
        ("DeleteSamplingRule", {"RuleName": "r1"}, ["SamplingRuleRecord"]),
        ("GetEncryptionConfig", {}, ["EncryptionConfig"]),
        ("PutEncryptionConfig", {"Type": "KMS", "KeyId": "alias/x"}, ["EncryptionConfig"]),
        ("PutResourcePolicy", {"PolicyName": "p", "PolicyDocument": "{}"}, ["ResourcePolicy"]),
        ("ListResourcePolicies", {}, ["ResourcePolicies"]),
        ("DeleteResourcePolicy", {"PolicyName": "p", "PolicyRevisionId": "1"}, []),
        ("GetIndexingRules", {}, ["IndexingRules"]),
        (
            "UpdateIndexingRule",
            {"Name": "Default", "Rule": {"Probabilistic": {"DesiredSamplingPercentage": 5.0}}},
            ["IndexingRule"],
        ),
        ("GetTraceSegmentDestination", {}, ["Destination", "Status"]),
        ("UpdateTraceSegmentDestination", {"Destination": "XRay"}, ["Destination", "Status"]),
        ("StartTraceRetrieval", {"TraceIds": [trace_id(1)], **WINDOW}, ["RetrievalToken"]),
        ("ListRetrievedTraces", {"RetrievalToken": token}, ["Traces", "RetrievalStatus"]),
        ("GetRetrievedTracesGraph", {"RetrievalToken": token}, ["Services"]),
        ("CancelTraceRetrieval", {"RetrievalToken": token}, []),
        ("GetInsightSummaries", {**WINDOW, "GroupName": "Default"}, []),
        ("GetInsight", INSIGHT, None),
        ("GetInsightEvents", INSIGHT, None),
        ("GetInsightImpactGraph", {**INSIGHT, **WINDOW}, None),
    ]


def test_every_operation_is_called():
    assert sorted(name for name, _, _ in calls()) == sorted(MODEL.operation_names)


def test_every_operation_answers_what_botocore_expects():
    with served_endpoint() as (_, client):
        token = ""
        for number, (name, _, _) in enumerate(calls()):
            _, arguments, filled = calls(token)[number]
            call = getattr(client, xform_name(name))
            if filled is None:
                with pytest.raises(ClientError) as refused:
                    call(**arguments)
                assert refused.value.response["Error"]["Code"] == "InvalidRequestException"
                continue
            answer = call(**arguments)
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
            assert [member for member in filled if not answer[member]] == []
            token = answer.get("RetrievalToken", token)
