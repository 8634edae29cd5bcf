"""Groups, tags, policies, encryption, indexing rules, destinations, insights, telemetry."""

from __future__ import annotations

import json

import pytest
from api_endpoint import NOW, endpoint, served_endpoint
from botocore.exceptions import ClientError

from xrayd.dev.operations.intake import HOSTS_KEPT, TELEMETRY, TELEMETRY_KEPT
from xrayd.dev.resources import reading_resources

WINDOW = {"StartTime": NOW - 600, "EndTime": NOW}


@pytest.fixture
def served():
    with served_endpoint() as made:
        yield made


@pytest.fixture
def client(served):
    return served[1]


@pytest.fixture
def shared():
    with endpoint() as made:
        yield made


def refusal(call, **arguments) -> tuple[str, str]:
    """The error code and message that a boto3 call ends in."""
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    error = raised.value.response["Error"]
    return error["Code"], error["Message"]


class TestGroups:
    def test_the_default_group_is_always_there(self, client):
        groups = client.get_groups()["Groups"]
        assert [group["GroupName"] for group in groups] == ["Default"]
        assert groups[0]["GroupARN"] == "arn:aws:xray:us-east-1:000000000000:group/Default"
        assert client.get_group(GroupName="Default")["Group"] == groups[0]

    def test_a_group_is_made_found_by_name_and_arn_changed_and_deleted(self, client):
        made = client.create_group(
            GroupName="slow",
            FilterExpression="responsetime > 5",
            InsightsConfiguration={"InsightsEnabled": True, "NotificationsEnabled": True},
        )["Group"]
        assert made["FilterExpression"] == "responsetime > 5"
        assert made["GroupARN"].startswith("arn:aws:xray:us-east-1:000000000000:group/slow/")
        assert client.get_group(GroupARN=made["GroupARN"])["Group"] == made
        changed = client.update_group(GroupName="slow", FilterExpression="fault")["Group"]
        assert changed == {**made, "FilterExpression": "fault"}
        client.delete_group(GroupARN=made["GroupARN"])
        assert refusal(client.get_group, GroupName="slow")[0] == "InvalidRequestException"
        again = client.create_group(GroupName="slow")["Group"]
        assert again["GroupARN"] != made["GroupARN"]
        assert "FilterExpression" not in again

    def test_names_are_unique_and_have_case(self, client):
        client.create_group(GroupName="a")
        client.create_group(GroupName="A")
        assert refusal(client.create_group, GroupName="a") == (
            "InvalidRequestException",
            "Group a already exists.",
        )

    def test_the_default_group_keeps_its_name_and_its_lack_of_a_filter(self, client):
        for call, arguments in [
            (client.create_group, {"GroupName": "Default"}),
            (client.delete_group, {"GroupName": "Default"}),
            (client.update_group, {"GroupName": "Default", "FilterExpression": "ok"}),
        ]:
            assert refusal(call, **arguments)[0] == "InvalidRequestException"
        insights = {"InsightsEnabled": True, "NotificationsEnabled": False}
        updated = client.update_group(GroupName="Default", InsightsConfiguration=insights)
        assert updated["Group"]["InsightsConfiguration"] == insights
        assert len(client.get_groups()["Groups"]) == 1

    def test_a_bad_filter_says_where_it_is_bad(self, client):
        code, message = refusal(client.create_group, GroupName="g", FilterExpression="ok =")
        assert code == "InvalidRequestException"
        assert "position" in message

    def test_notifications_need_insights(self, client):
        wanted = {"InsightsEnabled": False, "NotificationsEnabled": True}
        code, _ = refusal(client.create_group, GroupName="g", InsightsConfiguration=wanted)
        assert code == "InvalidRequestException"
        assert len(client.get_groups()["Groups"]) == 1

    def test_a_group_is_named_one_way(self, client):
        for arguments in ({}, {"GroupName": "Default", "GroupARN": "arn"}):
            assert refusal(client.get_group, **arguments)[0] == "InvalidRequestException"

    def test_there_are_at_most_25_beside_the_default(self, client):
        for number in range(25):
            client.create_group(GroupName=f"g{number}")
        assert refusal(client.create_group, GroupName="one-more")[0] == "InvalidRequestException"
        assert (
            len(client.get_paginator("get_groups").paginate().build_full_result()["Groups"]) == 26
        )


class TestTags:
    def test_tags_come_with_creation_are_added_replaced_and_removed(self, client):
        arn = client.create_group(GroupName="g", Tags=[{"Key": "k", "Value": "v"}])["Group"][
            "GroupARN"
        ]
        client.tag_resource(
            ResourceARN=arn, Tags=[{"Key": "k", "Value": "w"}, {"Key": "K", "Value": ""}]
        )
        assert client.list_tags_for_resource(ResourceARN=arn)["Tags"] == [
            {"Key": "K", "Value": ""},
            {"Key": "k", "Value": "w"},
        ]
        client.untag_resource(ResourceARN=arn, TagKeys=["k", "absent"])
        assert client.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "K", "Value": ""}]
        client.delete_group(GroupName="g")
        assert (
            refusal(client.list_tags_for_resource, ResourceARN=arn)[0]
            == "ResourceNotFoundException"
        )

    def test_defaults_can_be_tagged(self, client):
        for name in ("group/Default", "sampling-rule/Default"):
            arn = f"arn:aws:xray:us-east-1:000000000000:{name}"
            client.tag_resource(ResourceARN=arn, Tags=[{"Key": "k", "Value": "v"}])
            assert client.list_tags_for_resource(ResourceARN=arn)["Tags"]

    @pytest.mark.parametrize(
        "arn",
        [
            "arn:aws:xray:us-east-1:123456789012:group/Default",
            "arn:aws:xray:us-east-1:000000000000:group/other/ID",
            "arn:aws:xray:us-east-1:000000000000:group/g/WRONG-ID",
            "arn:aws:xray:us-east-1:000000000000:telemetry/Default",
            "g",
        ],
    )
    def test_what_is_not_there_has_no_tags(self, client, arn):
        client.create_group(GroupName="g")
        for call, more in [
            (client.list_tags_for_resource, {}),
            (client.tag_resource, {"Tags": []}),
            (client.untag_resource, {"TagKeys": []}),
        ]:
            assert refusal(call, ResourceARN=arn, **more)[0] == "ResourceNotFoundException"

    def test_fifty_are_the_most(self, client):
        arn = client.create_group(GroupName="g")["Group"]["GroupARN"]
        many = [{"Key": f"k{number}", "Value": ""} for number in range(50)]
        client.tag_resource(ResourceARN=arn, Tags=many)
        one_more = [{"Key": "more", "Value": ""}]
        assert refusal(client.tag_resource, ResourceARN=arn, Tags=one_more)[0] == (
            "TooManyTagsException"
        )
        assert refusal(client.create_group, GroupName="h", Tags=[*many, *one_more])[0] == (
            "InvalidRequestException"
        )
        assert len(client.list_tags_for_resource(ResourceARN=arn)["Tags"]) == 50

    def test_reserved_keys_are_refused(self, client):
        arn = client.create_group(GroupName="g")["Group"]["GroupARN"]
        tags = [{"Key": "aws:owner", "Value": ""}]
        assert refusal(client.tag_resource, ResourceARN=arn, Tags=tags)[0] == (
            "InvalidRequestException"
        )


class TestEncryption:
    def test_it_is_none_at_first(self, client):
        assert client.get_encryption_config()["EncryptionConfig"] == {
            "Type": "NONE",
            "Status": "ACTIVE",
        }

    @pytest.mark.parametrize(
        ("key", "arn"),
        [
            ("alias/aws/xray", "arn:aws:kms:us-east-1:000000000000:alias/aws/xray"),
            ("1234-abcd", "arn:aws:kms:us-east-1:000000000000:key/1234-abcd"),
            ("arn:aws:kms:eu-west-1:1:key/x", "arn:aws:kms:eu-west-1:1:key/x"),
        ],
    )
    def test_a_key_is_stored_as_an_arn_and_becomes_active(self, client, key, arn):
        put = client.put_encryption_config(Type="KMS", KeyId=key)["EncryptionConfig"]
        assert put == {"Type": "KMS", "Status": "UPDATING", "KeyId": arn}
        assert client.get_encryption_config()["EncryptionConfig"] == {**put, "Status": "ACTIVE"}

    @pytest.mark.parametrize("arguments", [{"Type": "KMS"}, {"Type": "NONE", "KeyId": "k"}])
    def test_a_key_goes_with_kms_and_nothing_else(self, client, arguments):
        assert refusal(client.put_encryption_config, **arguments)[0] == "InvalidRequestException"


class TestResourcePolicies:
    def test_a_policy_is_stored_revised_and_deleted(self, client):
        first = client.put_resource_policy(
            PolicyName="p", PolicyDocument="{}", PolicyRevisionId="0"
        )["ResourcePolicy"]
        assert (first["PolicyName"], first["PolicyDocument"]) == ("p", "{}")
        second = client.put_resource_policy(
            PolicyName="p", PolicyDocument='{"a":1}', PolicyRevisionId=first["PolicyRevisionId"]
        )["ResourcePolicy"]
        assert second["PolicyRevisionId"] != first["PolicyRevisionId"]
        assert client.list_resource_policies()["ResourcePolicies"] == [second]
        assert (
            refusal(client.delete_resource_policy, PolicyName="p", PolicyRevisionId="1")[0]
            == "InvalidPolicyRevisionIdException"
        )
        client.delete_resource_policy(PolicyName="p", PolicyRevisionId="2")
        assert client.list_resource_policies()["ResourcePolicies"] == []
        assert refusal(client.delete_resource_policy, PolicyName="p")[0] == (
            "InvalidRequestException"
        )

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            ({"PolicyDocument": "{"}, "MalformedPolicyDocumentException"),
            ({"PolicyDocument": "[]"}, "MalformedPolicyDocumentException"),
            ({"PolicyDocument": "[" * 5000}, "MalformedPolicyDocumentException"),
            ({"PolicyDocument": " " * 5200}, "PolicySizeLimitExceededException"),
            (
                {"PolicyDocument": "{}", "PolicyRevisionId": "0", "PolicyName": "there"},
                "InvalidPolicyRevisionIdException",
            ),
            (
                {"PolicyDocument": "{}", "PolicyRevisionId": "1"},
                "InvalidPolicyRevisionIdException",
            ),
            ({"PolicyDocument": "{}", "PolicyName": "a b"}, "ValidationException"),
        ],
    )
    def test_what_cannot_be_stored_says_why(self, client, arguments, code):
        client.put_resource_policy(PolicyName="there", PolicyDocument="{}")
        assert refusal(client.put_resource_policy, **{"PolicyName": "p", **arguments})[0] == code

    def test_there_are_at_most_five(self, client):
        for number in range(5):
            client.put_resource_policy(PolicyName=f"p{number}", PolicyDocument="{}")
        assert refusal(client.put_resource_policy, PolicyName="p5", PolicyDocument="{}")[0] == (
            "PolicyCountLimitExceededException"
        )
        client.put_resource_policy(PolicyName="p4", PolicyDocument='{"again":1}')


class TestIndexingAndDestination:
    def test_the_indexing_rule_starts_at_everything_and_is_stored(self, served, client):
        (rule,) = client.get_indexing_rules()["IndexingRules"]
        assert rule["Name"] == "Default"
        assert rule["Rule"]["Probabilistic"] == {
            "DesiredSamplingPercentage": 100.0,
            "ActualSamplingPercentage": 100.0,
        }
        updated = client.update_indexing_rule(
            Name="Default", Rule={"Probabilistic": {"DesiredSamplingPercentage": 5.0}}
        )["IndexingRule"]
        assert updated["Rule"]["Probabilistic"]["DesiredSamplingPercentage"] == 5.0
        assert updated["ModifiedAt"].timestamp() == served[0].clock.now
        assert client.get_indexing_rules()["IndexingRules"] == [updated]

    @pytest.mark.parametrize(
        ("name", "rule", "code"),
        [
            ("Other", {"Probabilistic": {"DesiredSamplingPercentage": 5}}, "ResourceNotFound"),
            ("Default", {"Probabilistic": {"DesiredSamplingPercentage": 101}}, "InvalidRequest"),
            ("Default", {"Probabilistic": {"DesiredSamplingPercentage": -1}}, "InvalidRequest"),
        ],
    )
    def test_other_indexing_rules_are_refused(self, client, name, rule, code):
        assert refusal(client.update_indexing_rule, Name=name, Rule=rule)[0] == f"{code}Exception"

    def test_an_empty_rule_is_refused(self, shared):
        assert shared.post("/UpdateIndexingRule", {"Name": "Default", "Rule": {}})[0] == 400

    def test_segments_go_to_xray(self, client):
        for answer in (
            client.get_trace_segment_destination(),
            client.update_trace_segment_destination(Destination="XRay"),
        ):
            assert (answer["Destination"], answer["Status"]) == ("XRay", "ACTIVE")
        for arguments in ({"Destination": "CloudWatchLogs"}, {}):
            assert refusal(client.update_trace_segment_destination, **arguments)[0] == (
                "InvalidRequestException"
            )


class TestInsights:
    ID = "12345678-1234-1234-8234-123456789012"

    def test_there_are_none(self, client):
        answer = client.get_insight_summaries(**WINDOW, GroupName="Default", States=["ACTIVE"])
        assert answer["InsightSummaries"] == []
        for call, more in [
            (client.get_insight, {}),
            (client.get_insight_events, {"MaxResults": 10}),
            (client.get_insight_impact_graph, WINDOW),
        ]:
            code, message = refusal(call, InsightId=self.ID, **more)
            assert code == "InvalidRequestException"
            assert "not found" in message

    def test_summaries_are_of_a_group_and_a_window_that_exist(self, client):
        turned = {"StartTime": NOW, "EndTime": NOW - 1, "GroupName": "Default"}
        for arguments in ({**WINDOW, "GroupName": "g"}, WINDOW, turned):
            assert refusal(client.get_insight_summaries, **arguments)[0] == (
                "InvalidRequestException"
            )


def telemetry_of(shared):
    """The kept records by host."""
    with reading_resources(shared.api.backend.store.database) as resources:
        return resources.all(TELEMETRY)


class TestTelemetry:
    def test_the_latest_records_of_each_host_are_kept(self, shared):
        for number in range(TELEMETRY_KEPT + 5):
            record = {"Timestamp": NOW + number, "SegmentsReceivedCount": number}
            shared.post("/TelemetryRecords", {"TelemetryRecords": [record], "Hostname": "a"})
        shared.post("/TelemetryRecords", {"TelemetryRecords": [{"Timestamp": 1}]})
        kept = telemetry_of(shared)
        assert kept[""] == [{"Timestamp": 1.0}]
        assert [record["SegmentsReceivedCount"] for record in kept["a"]] == list(
            range(5, TELEMETRY_KEPT + 5)
        )

    def test_hosts_without_end_do_not_fill_the_store(self, shared):
        for number in range(HOSTS_KEPT + 3):
            shared.post(
                "/TelemetryRecords",
                {"TelemetryRecords": [{"Timestamp": 1}], "EC2InstanceId": f"i-{number:03}"},
            )
        kept = telemetry_of(shared)
        assert len(kept) == HOSTS_KEPT
        assert f"i-{HOSTS_KEPT + 2:03}" in kept

    def test_boto3_sends_them(self, client):
        client.put_telemetry_records(
            TelemetryRecords=[
                {
                    "Timestamp": NOW,
                    "SegmentsReceivedCount": 1,
                    "BackendConnectionErrors": {"TimeoutCount": 0},
                }
            ],
            EC2InstanceId="i-1",
            Hostname="h",
            ResourceARN="arn",
        )


def test_settings_outlive_the_process(tmp_path):
    path = str(tmp_path / "data.sqlite")
    with endpoint(path) as first:
        first.post("/CreateGroup", {"GroupName": "g", "FilterExpression": "fault"})
        first.post("/PutEncryptionConfig", {"Type": "KMS", "KeyId": "k"})
        before = first.post("/Groups")
    with endpoint(path) as second:
        assert second.post("/Groups") == before
        assert second.post("/EncryptionConfig")[1]["EncryptionConfig"]["Type"] == "KMS"
        assert json.dumps(before).count("GroupName") == 2
