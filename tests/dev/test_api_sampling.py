"""Sampling rules and targets, and the small omissions that real samplers stumble over."""

from __future__ import annotations

import json

import pytest
from api_endpoint import NOW, SettableClock, endpoint, served_endpoint
from botocore.exceptions import ClientError

from xrayd.sampling.validation import CUSTOM_RULES_MAX

RULE = {
    "RuleName": "r1",
    "ResourceARN": "*",
    "Priority": 1000,
    "FixedRate": 0.05,
    "ReservoirSize": 10,
    "ServiceName": "*",
    "ServiceType": "*",
    "Host": "*",
    "HTTPMethod": "*",
    "URLPath": "/x/*",
    "Version": 1,
}


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


def refusal(call, **arguments) -> str:
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    return raised.value.response["Error"]["Code"]


def report(rule="Default", client="a" * 24, requests=10, sampled=3, **more):
    return {
        "RuleName": rule,
        "ClientID": client,
        "Timestamp": NOW,
        "RequestCount": requests,
        "SampledCount": sampled,
        **more,
    }


class TestRules:
    def test_the_default_rule_samples_everything_and_has_all_members(self, shared):
        _, answer = shared.post("/GetSamplingRules")
        (record,) = answer["SamplingRuleRecords"]
        assert record == {
            "CreatedAt": 0.0,
            "ModifiedAt": 0.0,
            "SamplingRule": {
                "RuleName": "Default",
                "RuleARN": "arn:aws:xray:us-east-1:000000000000:sampling-rule/Default",
                "ResourceARN": "*",
                "Priority": 10000,
                "FixedRate": 1.0,
                "ReservoirSize": 1,
                "ServiceName": "*",
                "ServiceType": "*",
                "Host": "*",
                "HTTPMethod": "*",
                "URLPath": "*",
                "Version": 1,
                "Attributes": {},
            },
        }

    def test_every_rule_has_attributes_and_numbers_for_times(self, shared):
        shared.post("/CreateSamplingRule", {"SamplingRule": RULE})
        _, answer = shared.post("/GetSamplingRules")
        for record in answer["SamplingRuleRecords"]:
            assert record["SamplingRule"]["Attributes"] == {}
            assert isinstance(record["ModifiedAt"], float)

    def test_the_rule_changed_last_comes_last(self, served, client):
        # the SDK for Java takes a list for unchanged when its last rule is
        for name in ("b", "a", "z"):
            served[0].clock.now += 1
            client.create_sampling_rule(SamplingRule={**RULE, "RuleName": name})
        served[0].clock.now += 1
        client.update_sampling_rule(SamplingRuleUpdate={"RuleName": "a", "FixedRate": 0.5})
        records = client.get_sampling_rules()["SamplingRuleRecords"]
        names = [record["SamplingRule"]["RuleName"] for record in records]
        assert names == ["Default", "b", "z", "a"]

    def test_rules_outlive_the_process(self, tmp_path):
        path = str(tmp_path / "data.sqlite")
        with endpoint(path) as first:
            first.ask("/CreateSamplingRule", SamplingRule=RULE)
        with endpoint(path) as second:
            records = second.ask("/GetSamplingRules")["SamplingRuleRecords"]
        assert [record["SamplingRule"]["RuleName"] for record in records] == ["Default", "r1"]

    def test_a_rule_is_made_changed_and_deleted(self, served, client):
        boost = {"MaxRate": 0.5, "CooldownWindowMinutes": 5}
        made = client.create_sampling_rule(
            SamplingRule={**RULE, "Attributes": {"a": "b*"}, "SamplingRateBoost": boost},
            Tags=[{"Key": "k", "Value": "v"}],
        )["SamplingRuleRecord"]
        arn = made["SamplingRule"]["RuleARN"]
        assert made["SamplingRule"]["Attributes"] == {"a": "b*"}
        assert made["SamplingRule"]["SamplingRateBoost"] == boost
        assert made["CreatedAt"] == made["ModifiedAt"]
        assert client.list_tags_for_resource(ResourceARN=arn)["Tags"]
        served[0].clock.now += 60
        changed = client.update_sampling_rule(
            SamplingRuleUpdate={"RuleARN": arn, "FixedRate": 0.5, "Host": "h"}
        )["SamplingRuleRecord"]
        assert changed["SamplingRule"] == {**made["SamplingRule"], "FixedRate": 0.5, "Host": "h"}
        assert (changed["ModifiedAt"] - made["ModifiedAt"]).total_seconds() == 60
        deleted = client.delete_sampling_rule(RuleName="r1")["SamplingRuleRecord"]
        assert deleted == changed
        assert len(client.get_sampling_rules()["SamplingRuleRecords"]) == 1

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"RuleName": "taken"}, "InvalidRequestException"),
            ({"RuleName": "Default"}, "InvalidRequestException"),
            ({"RuleARN": "arn:aws:xray:::sampling-rule/r1"}, "InvalidRequestException"),
            ({"RuleName": None}, "InvalidRequestException"),
            ({"RuleName": None, "RuleARN": "nonsense"}, "InvalidRequestException"),
            ({"Version": 2}, "InvalidRequestException"),
            ({"Priority": 10000}, "ValidationException"),
            ({"Priority": 0}, "ValidationException"),
            ({"FixedRate": 1.1}, "ValidationException"),
            ({"ReservoirSize": -1}, "ValidationException"),
            ({"HTTPMethod": "PROPPATCHED"}, "ValidationException"),
            ({"URLPath": None}, "ValidationException"),
            ({"Attributes": {str(key): "v" for key in range(6)}}, "ValidationException"),
            ({"Attributes": {"k" * 33: "v"}}, "ValidationException"),
            ({"SamplingRateBoost": {"MaxRate": 0.5}}, "ValidationException"),
        ],
    )
    def test_what_is_no_rule_is_refused(self, shared, change, code):
        shared.post("/CreateSamplingRule", {"SamplingRule": {**RULE, "RuleName": "taken"}})
        rule = {name: value for name, value in {**RULE, **change}.items() if value is not None}
        body = {"SamplingRule": rule}
        answer = shared.api.handle("/CreateSamplingRule", json.dumps(body).encode())
        assert dict(answer.headers)["x-amzn-ErrorType"] == code

    @pytest.mark.parametrize(
        "change",
        [{"Priority": 10000}, {"Priority": 0}, {"FixedRate": 1.1}, {"ReservoirSize": -1}],
    )
    def test_an_update_has_the_same_ranges(self, client, change):
        client.create_sampling_rule(SamplingRule=RULE)
        assert (
            refusal(client.update_sampling_rule, SamplingRuleUpdate={"RuleName": "r1", **change})
            == "ValidationException"
        )

    def test_the_default_rule_keeps_all_but_rate_and_reservoir(self, client):
        changed = client.update_sampling_rule(
            SamplingRuleUpdate={"RuleName": "Default", "FixedRate": 0.1, "ReservoirSize": 2}
        )["SamplingRuleRecord"]["SamplingRule"]
        assert (changed["FixedRate"], changed["ReservoirSize"]) == (0.1, 2)
        with pytest.raises(ClientError, match="Invalid update request for default sampling rule"):
            client.update_sampling_rule(
                SamplingRuleUpdate={"RuleName": "Default", "Priority": 1, "FixedRate": 0.1}
            )
        assert refusal(client.delete_sampling_rule, RuleName="Default") == "InvalidRequestException"

    def test_unknown_rules_cannot_be_changed(self, client):
        assert refusal(client.delete_sampling_rule, RuleName="r") == "InvalidRequestException"
        assert (
            refusal(client.update_sampling_rule, SamplingRuleUpdate={"RuleName": "r"})
            == "InvalidRequestException"
        )

    def test_there_are_at_most_25_beside_the_default(self, client):
        for number in range(CUSTOM_RULES_MAX):
            client.create_sampling_rule(SamplingRule={**RULE, "RuleName": f"r{number}"})
        more = {**RULE, "RuleName": "more"}
        assert refusal(client.create_sampling_rule, SamplingRule=more) == (
            "RuleLimitExceededException"
        )
        # samplers do not follow NextToken: all rules come at once
        answer = client.get_sampling_rules()
        assert len(answer["SamplingRuleRecords"]) == CUSTOM_RULES_MAX + 1
        assert "NextToken" not in answer


class TestTargets:
    def test_a_target_always_has_a_quota_with_a_time_to_live(self, shared):
        status, answer = shared.post(
            "/SamplingTargets", {"SamplingStatisticsDocuments": [report(BorrowCount=1)]}
        )
        assert status == 200
        assert answer == {
            "SamplingTargetDocuments": [
                {
                    "RuleName": "Default",
                    "FixedRate": 1.0,
                    "ReservoirQuota": 1,
                    "ReservoirQuotaTTL": int(NOW) + 30,
                    "Interval": 10,
                }
            ],
            # when they were loaded; the SDKs compare whole seconds
            "LastRuleModification": int(NOW) + 1,
            "UnprocessedStatistics": [],
        }

    def test_any_change_of_rules_is_seen_in_the_answer(self, shared):
        def last():
            body = {"SamplingStatisticsDocuments": []}
            return shared.post("/SamplingTargets", body)[1]["LastRuleModification"]

        assert last() == int(shared.clock.now) + 1
        for path, body in [
            ("/CreateSamplingRule", {"SamplingRule": RULE}),
            ("/UpdateSamplingRule", {"SamplingRuleUpdate": {"RuleName": "r1", "FixedRate": 1}}),
            ("/DeleteSamplingRule", {"RuleName": "r1"}),
        ]:
            shared.clock.now += 7
            assert shared.post(path, body)[0] == 200
            assert last() == int(shared.clock.now) + 1

    def test_a_reservoir_is_divided_among_live_clients_and_never_exceeded(self, shared):
        shared.post("/CreateSamplingRule", {"SamplingRule": RULE})
        held = {}

        def poll(*clients):
            for client in clients:
                body = {"SamplingStatisticsDocuments": [report("r1", client * 24)]}
                _, answer = shared.post("/SamplingTargets", body)
                for target in answer["SamplingTargetDocuments"]:
                    held[client] = target.get("ReservoirQuota", 0)
            assert sum(held.values()) <= 10

        poll("a")
        assert held == {"a": 10}
        for _ in range(3):
            shared.clock.now += 10
            poll("a", "b", "c")
        assert sorted(held.values()) == [3, 3, 4]
        shared.clock.now += 31  # b and c are taken for gone
        held = {}
        poll("a")
        assert held == {"a": 10}

    def test_a_rule_that_is_gone_is_unprocessed_with_a_client_side_code(self, shared):
        boost = {
            "RuleName": "gone",
            "ServiceName": "s",
            "Timestamp": NOW,
            "AnomalyCount": 0,
            "TotalCount": 1,
            "SampledAnomalyCount": 0,
        }
        _, answer = shared.post(
            "/SamplingTargets",
            {
                "SamplingStatisticsDocuments": [report("gone"), report()],
                "SamplingBoostStatisticsDocuments": [boost],
            },
        )
        assert len(answer["SamplingTargetDocuments"]) == 1
        (unprocessed,) = answer["UnprocessedStatistics"]
        assert unprocessed["RuleName"] == "gone"
        # the SDK for Go fetches the rules again for codes that begin with 4
        assert unprocessed["ErrorCode"] == "404"
        assert answer["UnprocessedBoostStatistics"] == [unprocessed]

    def test_the_sampler_of_the_python_distro_is_understood(self, shared):
        document = report(BorrowCount=1, SampleCount=2)
        del document["SampledCount"]
        body = {
            "SamplingStatisticsDocuments": [document],
            "SamplingBoostStatisticsDocuments": [],
        }
        assert shared.post("/SamplingTargets", body)[0] == 200
        (summary,) = shared.post("/SamplingStatisticSummaries")[1]["SamplingStatisticSummaries"]
        assert summary["SampledCount"] == 2

    def test_milliseconds_are_understood(self, shared):
        body = {"SamplingStatisticsDocuments": [report(Timestamp=int(NOW * 1000))]}
        assert shared.post("/SamplingTargets", body)[0] == 200
        (summary,) = shared.post("/SamplingStatisticSummaries")[1]["SamplingStatisticSummaries"]
        assert summary["Timestamp"] == NOW // 10 * 10

    def test_reports_about_more_than_25_rules_are_understood(self, shared):
        documents = [report(requests=0, sampled=0), *(report(f"r{n}") for n in range(40))]
        status, answer = shared.post("/SamplingTargets", {"SamplingStatisticsDocuments": documents})
        assert (status, len(answer["SamplingTargetDocuments"])) == (200, 1)
        assert len(answer["UnprocessedStatistics"]) == 40

    def test_counts_may_be_missing(self, shared):
        document = report(BorrowCount=None)
        del document["RequestCount"], document["SampledCount"]
        assert (
            shared.post("/SamplingTargets", {"SamplingStatisticsDocuments": [document]})[0] == 200
        )


class TestStatisticSummaries:
    def test_windows_sum_all_clients_and_last_an_hour(self, shared):
        def put(when, client="a" * 24):
            body = {
                "SamplingStatisticsDocuments": [
                    report(client=client, Timestamp=when, BorrowCount=1)
                ]
            }
            assert shared.post("/SamplingTargets", body)[0] == 200

        put(NOW)
        put(NOW + 1, "b" * 24)  # a clock that is ahead
        put(NOW - 15)
        put(NOW - 4000)  # too old to be believed: it counts as of now
        _, answer = shared.post("/SamplingStatisticSummaries")
        assert answer["SamplingStatisticSummaries"] == [
            {
                "RuleName": "Default",
                "Timestamp": NOW // 10 * 10 - 10,
                "RequestCount": 10,
                "BorrowCount": 1,
                "SampledCount": 3,
            },
            {
                "RuleName": "Default",
                "Timestamp": NOW // 10 * 10,
                "RequestCount": 30,
                "BorrowCount": 3,
                "SampledCount": 9,
            },
        ]
        shared.clock.now += 3700
        assert shared.post("/SamplingStatisticSummaries")[1]["SamplingStatisticSummaries"] == []

    def test_boto3_pages_through_them(self):
        clock = SettableClock()
        with served_endpoint(clock=clock) as (served, client):
            for number in range(5):
                client.create_sampling_rule(SamplingRule={**RULE, "RuleName": f"r{number}"})
            for _ in range(300):
                clock.now += 10
                documents = [report(f"r{number}", Timestamp=clock.now) for number in range(5)]
                served.post("/SamplingTargets", {"SamplingStatisticsDocuments": documents})
            pages = list(client.get_paginator("get_sampling_statistic_summaries").paginate())
        assert [len(page["SamplingStatisticSummaries"]) for page in pages] == [1000, 500]
        keys = [
            (one["Timestamp"], one["RuleName"])
            for page in pages
            for one in page["SamplingStatisticSummaries"]
        ]
        assert len(set(keys)) == 1500
        assert keys == sorted(keys)
