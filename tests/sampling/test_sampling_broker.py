from __future__ import annotations

import json

import pytest
from sampling_samples import (
    NOW,
    OWN_ID,
    body,
    client,
    grant,
    records,
    row,
    rule,
    targets,
    upstream_answer,
)

from xrayd.sampling.broker import Broker
from xrayd.sampling.report import ReportError, Statistics
from xrayd.sampling.rule import AnswerError

A, B = client(10), client(11)


def broker(*rules, **options) -> Broker:
    made = Broker(OWN_ID, **options)
    made.absorb_rules(records(*rules), NOW - 60)
    return made


def authority(*rules, **options) -> Broker:
    return broker(*rules, is_authority=True, **options)


def sent(call) -> dict[str, tuple[int, int, int]]:
    documents = json.loads(call.body)["SamplingStatisticsDocuments"]
    return {
        each["RuleName"]: (each["RequestCount"], each["SampledCount"], each["BorrowCount"])
        for each in documents
    }


def run_round(made: Broker, now: float, *documents, **more) -> None:
    for call in made.due_round(now):
        made.absorb_targets(call, upstream_answer(*documents, **more), now)


# Rules


def test_before_the_first_fetch_there_are_no_rules_to_serve_and_a_fetch_is_due():
    fresh = Broker(OWN_ID)
    assert fresh.rules_answer() is None
    assert fresh.rules_age_s(NOW) is None
    assert fresh.rules_due(NOW)


def test_rules_are_served_from_memory_and_fetched_anew_after_the_interval_and_its_jitter():
    made = Broker(OWN_ID)
    assert made.absorb_rules(records(rule("a")), NOW, jitter_s=4.0)
    answer = made.rules_answer()
    assert b'"a"' in answer
    assert not made.rules_due(NOW + 303.9)
    assert made.rules_due(NOW + 304)
    assert made.rules_answer() is answer


def test_the_last_known_rules_are_served_without_a_time_limit_and_their_age_is_known():
    made = broker(rule("a"))
    made.rules_failed(NOW + 300)
    assert b'"a"' in made.rules_answer()
    assert made.rules_age_s(NOW + 1_000_000) == 1_000_060


def test_after_failures_the_fetch_is_repeated_ever_more_slowly_up_to_the_interval():
    made = Broker(OWN_ID)
    waits, now = [], NOW
    for _ in range(9):
        made.rules_failed(now)
        wait = next(wait for wait in range(400) if made.rules_due(now + wait))
        waits.append(wait)
        now += wait
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_fetches_that_clients_ask_for_in_vain_do_not_put_off_the_next_one():
    made = Broker(OWN_ID)
    for tenth in range(40):
        made.rules_failed(NOW + tenth / 10)
    assert not made.rules_due(NOW + 4.9)
    assert made.rules_due(NOW + 5)


def test_an_answer_without_any_rule_is_a_failed_fetch_for_every_account_has_a_default():
    made = broker(rule("a"))
    assert not made.absorb_rules([], NOW + 300)
    assert b'"a"' in made.rules_answer()
    assert not made.rules_due(NOW + 301)
    assert made.rules_due(NOW + 305)


def test_the_default_rule_is_added_where_it_is_missing():
    made = Broker(OWN_ID, is_authority=True)
    made.absorb_rules(records(rule("a"))[:1], NOW)
    assert [each.rule_name for each in made.rules] == ["a", "Default"]


def test_a_rule_that_is_on_two_pages_is_served_once_as_last_read():
    made = broker(rule("a", priority=5), rule("b"), rule("a", priority=9))
    served = json.loads(made.rules_answer())["SamplingRuleRecords"]
    priorities = {
        each["SamplingRule"]["RuleName"]: each["SamplingRule"]["Priority"] for each in served
    }
    assert len(served) == 3
    assert priorities == {each.rule_name: each.priority for each in made.rules}
    assert priorities["a"] == 9


def test_news_of_a_modification_makes_a_fetch_due_at_once_and_only_once():
    made = broker(rule("a"))
    made.report(body(row("a", A, 1)), NOW)
    run_round(made, NOW, grant("a", 1), modified=NOW - 5)
    assert made.rules_due(NOW + 1)
    made.absorb_rules(records(rule("a"), rule("b")), NOW + 2)
    assert not made.rules_due(NOW + 3)
    made.report(body(row("a", A, 1)), NOW + 10)
    run_round(made, NOW + 10, grant("a", 1), modified=NOW - 5)
    assert not made.rules_due(NOW + 11)


def test_news_is_settled_by_one_fetch_also_when_the_clock_stepped_back_before_it():
    made = broker(rule("a"))
    made.report(body(row("a", A, 1)), NOW)
    run_round(made, NOW, grant("a", 1), modified=NOW - 5)
    earlier = NOW - 3600
    assert made.rules_due(earlier)
    made.absorb_rules(records(rule("a"), rule("b")), earlier + 1, asked_at=earlier)
    assert not made.rules_due(earlier + 2)


def test_a_fetch_that_began_before_the_news_does_not_settle_it():
    made = broker(rule("a"))
    made.report(body(row("a", A, 1)), NOW)
    run_round(made, NOW, grant("a", 1), modified=NOW - 5)
    made.absorb_rules(records(rule("a")), NOW + 1, asked_at=NOW - 1)
    assert made.rules_due(NOW + 1)


def test_a_clock_that_stepped_back_makes_a_fetch_due():
    assert broker().rules_due(NOW - 3600)


def test_a_client_hears_of_new_rules_only_when_they_are_here_to_fetch():
    """A client that fetched between AWS's change and ours must learn that its copy is old."""
    made = broker(rule("a"))
    made.report(body(row("a", A, 1)), NOW)
    run_round(made, NOW, grant("a", 1), modified=NOW - 50)
    client_fetched_at = NOW + 5  # still the old rules, but later than AWS's change
    assert last_modification(made, NOW + 6) <= client_fetched_at
    made.absorb_rules(records(rule("a"), rule("b")), NOW + 7)
    assert last_modification(made, NOW + 8) > client_fetched_at
    made.absorb_rules(records(rule("a"), rule("b")), NOW + 307)
    assert last_modification(made, NOW + 308) == last_modification(made, NOW + 8)


def last_modification(made: Broker, now: float) -> float:
    return json.loads(made.report(b"", now))["LastRuleModification"]


def test_python_and_node_need_last_rule_modification_to_be_there_and_not_zero():
    for made in (Broker(OWN_ID), authority(rule("a"))):
        value = last_modification(made, NOW)
        assert isinstance(value, int)
        assert value > 0


def test_x_ray_sdks_compare_whole_seconds_so_a_change_within_a_clients_second_is_seen():
    made = authority(rule("a"))
    client_fetched_at = int(NOW + 0.2)
    made.absorb_rules(records(rule("b")), NOW + 0.7)
    assert int(last_modification(made, NOW + 10)) > client_fetched_at


def test_a_clock_that_stepped_back_does_not_make_clients_fetch_for_ever():
    made = authority(rule("a"))
    first = last_modification(made, NOW - 3600)
    assert last_modification(made, NOW - 3500) == first
    assert first <= NOW - 3599


# Clients, upstream


def test_before_aws_has_answered_a_client_gets_no_target_and_goes_on_borrowing():
    answer = json.loads(broker(rule("a")).report(body(row("a", A, 5, 2, 1)), NOW))
    assert answer["SamplingTargetDocuments"] == []
    assert answer["UnprocessedStatistics"] == []


def test_quota_ttl_interval_and_rate_are_awss_and_there_together():
    made = broker(rule("a"))
    made.report(body(row("a", A, 50)), NOW)
    run_round(made, NOW, {**grant("a", 7, rate=0.25, ttl=NOW + 123), "Interval": 20})
    assert targets(made.report(body(row("a", A, 50)), NOW + 10))["a"] == {
        "RuleName": "a",
        "FixedRate": 0.25,
        "ReservoirQuota": 7,
        "ReservoirQuotaTTL": int(NOW) + 123,
        "Interval": 20,
    }


def test_numbers_from_aws_are_told_to_clients_as_they_can_hold_them():
    made = broker(rule("a"))
    made.report(body(row("a", A, 50)), NOW)
    run_round(made, NOW, {**grant("a", 10**12), "Interval": 10**12})
    target = targets(made.report(body(row("a", A, 50)), NOW + 10))["a"]
    assert target["ReservoirQuota"] == target["Interval"] == 2**31 - 1


def test_a_first_answer_without_a_quota_is_passed_on_without_one():
    made = broker(rule("a"))
    made.report(body(row("a", A, 50)), NOW)
    run_round(made, NOW, grant("a"))
    assert targets(made.report(body(row("a", A, 50)), NOW + 10))["a"] == {
        "RuleName": "a",
        "FixedRate": 0.5,
        "Interval": 10,
    }


def test_when_awss_quota_has_expired_a_client_keeps_what_it_has():
    made = broker(rule("a"))
    made.report(body(row("a", A, 50)), NOW)
    run_round(made, NOW, grant("a", 7, ttl=NOW + 30))
    assert "a" in targets(made.report(body(row("a", A, 50)), NOW + 30.9))
    assert "a" not in targets(made.report(body(row("a", A, 50)), NOW + 31))


def test_a_changed_rate_reaches_clients_before_aws_has_answered_for_the_changed_rule():
    made = broker(rule("a", fixed_rate=0.5))
    made.report(body(row("a", A, 50)), NOW)
    run_round(made, NOW, grant("a", 7, rate=0.5))
    made.absorb_rules(records(rule("a", fixed_rate=0.9)), NOW + 5)
    assert targets(made.report(body(row("a", A, 50)), NOW + 10))["a"]["FixedRate"] == 0.9


def test_two_clients_never_hold_more_than_aws_granted_and_share_it_in_the_end():
    made = broker(rule("a"))
    made.report(body(row("a", A, 500)), NOW)
    run_round(made, NOW, grant("a", 10))
    first = targets(made.report(body(row("a", A, 500)), NOW + 10))["a"]
    second = targets(made.report(body(row("a", B, 500)), NOW + 11))["a"]
    assert first["ReservoirQuota"] == 10
    assert "ReservoirQuota" not in second  # so the client borrows
    assert targets(made.report(body(row("a", A, 500)), NOW + 20))["a"]["ReservoirQuota"] == 5
    assert targets(made.report(body(row("a", B, 500)), NOW + 21))["a"]["ReservoirQuota"] == 5


def test_shares_of_a_rule_that_was_deleted_and_made_again_still_count():
    made = broker(rule("a"))
    made.report(body(row("a", A, 500)), NOW)
    run_round(made, NOW, grant("a", 10))
    made.report(body(row("a", A, 500)), NOW + 10)
    made.absorb_rules(records(rule("b")), NOW + 11)
    made.absorb_rules(records(rule("a")), NOW + 12)
    assert targets(made.report(body(row("a", B, 500)), NOW + 20)) == {}  # it is not granted yet
    run_round(made, NOW + 20, grant("a", 10))
    assert "ReservoirQuota" not in targets(made.report(body(row("a", B, 500)), NOW + 30))["a"]
    assert made.statistics(NOW + 30)[0].requests == 2_000


def test_an_unknown_rule_is_unprocessed_with_a_code_that_makes_go_fetch_the_rules():
    answer = json.loads(broker(rule("a")).report(body(row("gone", A, 5), row("a", A, 5)), NOW))
    (refused,) = answer["UnprocessedStatistics"]
    assert refused["RuleName"] == "gone"
    assert refused["ErrorCode"] == "404"
    assert refused["Message"]


def test_a_malformed_document_is_unprocessed_and_the_others_count():
    made = broker(rule("a"))
    answer = json.loads(made.report(body(row("a", A, -5), row("a", A, 3)), NOW))
    assert [each["ErrorCode"] for each in answer["UnprocessedStatistics"]] == ["400"]
    assert sent(made.due_round(NOW)[0]) == {"a": (3, 0, 0)}


def test_a_body_that_is_none_is_the_callers_error():
    with pytest.raises(ReportError):
        broker().report(b"[1", NOW)


def test_a_boost_reaches_only_clients_that_know_boosts():
    made = broker(rule("a"))
    made.report(body(row("a", A, 50)), NOW)
    boost = {"BoostRate": 0.8, "BoostRateTTL": NOW + 60}
    run_round(made, NOW, {**grant("a", 7), "SamplingBoost": boost})
    plain = made.report(body(row("a", A, 50)), NOW + 10)
    speaking = made.report(body(row("a", A, 50), SamplingBoostStatisticsDocuments=[]), NOW + 20)
    assert "SamplingBoost" not in targets(plain)["a"]
    assert "UnprocessedBoostStatistics" not in json.loads(plain)
    assert targets(speaking)["a"]["SamplingBoost"] == boost
    assert json.loads(speaking)["UnprocessedBoostStatistics"] == []


# Upstream


def test_there_is_no_round_unless_a_client_reported_since_the_last():
    made = broker(rule("a"))
    assert made.due_round(NOW) == []
    made.report(body(row("a", A, 1)), NOW)
    run_round(made, NOW)
    assert made.due_round(NOW + 100) == []


def test_many_clients_are_one_client_and_one_call_a_round():
    made = broker(rule("a"), rule("b"))
    for number in range(50):
        rows = row("a", client(number), number, 1, 1), row("b", client(number), 1)
        made.report(body(*rows), NOW + number / 10)
    (call,) = made.due_round(NOW + 10)
    documents = json.loads(call.body)["SamplingStatisticsDocuments"]
    assert {each["ClientID"] for each in documents} == {OWN_ID}
    assert {each["Timestamp"] for each in documents} == {int(NOW) + 10}
    assert sent(call) == {"a": (sum(range(50)), 50, 50), "b": (50, 0, 0)}
    made.report(body(row("a", A, 1)), NOW + 11)
    assert made.due_round(NOW + 25) == []  # one is under way
    made.absorb_targets(call, upstream_answer(), NOW + 26)
    assert sent(made.due_round(NOW + 26)[0]) == {"a": (1, 0, 0)}


def test_there_is_one_round_an_interval():
    made = broker(rule("a"))
    rounds = 0
    for second in range(100):
        made.report(body(row("a", A, 1)), NOW + second)
        for call in made.due_round(NOW + second):
            rounds += 1
            made.absorb_targets(call, upstream_answer(), NOW + second)
    assert rounds == 10


def test_a_round_has_as_many_calls_as_its_rules_need_at_25_each():
    rules = [rule(f"r{number}") for number in range(60)]
    made = broker(*rules)
    made.report(body(*(row(each.rule_name, A, 1) for each in rules)), NOW)
    calls = made.due_round(NOW)
    assert [len(sent(call)) for call in calls] == [25, 25, 10]
    assert len({name for call in calls for name in sent(call)}) == 60


def test_rows_of_zeros_keep_a_rules_quota_alive_upstream():
    made = broker(rule("a"))
    made.report(body(row("a", A, 0)), NOW)
    assert sent(made.due_round(NOW)[0]) == {"a": (0, 0, 0)}


def test_a_failed_call_loses_and_doubles_nothing():
    made = broker(rule("a"))
    made.report(body(row("a", A, 3, 2, 1)), NOW)
    (call,) = made.due_round(NOW)
    made.report(body(row("a", B, 10, 5, 1)), NOW + 1)
    made.round_failed(call, NOW + 2)
    made.round_failed(call, NOW + 2)  # said twice, counted once
    assert made.due_round(NOW + 11) == []
    assert sent(made.due_round(NOW + 12)[0]) == {"a": (13, 7, 2)}


def test_a_call_that_is_answered_twice_counts_once():
    made = broker(rule("a"))
    made.report(body(row("a", A, 3)), NOW)
    (call,) = made.due_round(NOW)
    refused = [{"RuleName": "a", "ErrorCode": "500", "Message": ""}]
    made.absorb_targets(call, upstream_answer(unprocessed=refused), NOW)
    made.absorb_targets(call, upstream_answer(unprocessed=refused), NOW)
    assert sent(made.due_round(NOW + 10)[0]) == {"a": (3, 0, 0)}


def test_of_a_round_half_failed_only_the_failed_half_is_sent_again():
    rules = [rule(f"r{number:02}") for number in range(30)]
    made = broker(*rules)
    made.report(body(*(row(each.rule_name, A, 1) for each in rules)), NOW)
    first, second = made.due_round(NOW)
    made.absorb_targets(first, upstream_answer(), NOW)
    made.round_failed(second, NOW)
    (again,) = made.due_round(NOW + 10)
    assert sent(again) == sent(second)


def test_an_answer_that_cannot_be_read_is_a_failed_call():
    made = broker(rule("a"))
    made.report(body(row("a", A, 3)), NOW)
    (call,) = made.due_round(NOW)
    with pytest.raises(AnswerError, match="GetSamplingTargets"):
        made.absorb_targets(call, b"<html>", NOW)
    assert sent(made.due_round(NOW + 10)[0]) == {"a": (3, 0, 0)}


@pytest.mark.parametrize("code", ["500", "503", "429", "ThrottlingException"])
def test_statistics_that_aws_could_not_take_now_are_sent_again(code):
    made = broker(rule("a"), rule("b"))
    made.report(body(row("a", A, 3), row("b", A, 4)), NOW)
    refused = [{"RuleName": "a", "ErrorCode": code, "Message": ""}]
    run_round(made, NOW, unprocessed=refused)
    assert sent(made.due_round(NOW + 10)[0]) == {"a": (3, 0, 0)}


def test_statistics_that_aws_refuses_are_not_sent_again_but_counted_as_refused():
    made = broker(rule("a"))
    made.report(body(row("a", A, 3)), NOW)
    run_round(made, NOW, unprocessed=[{"RuleName": "a", "ErrorCode": "400", "Message": ""}])
    assert made.due_round(NOW + 10) == []
    assert made.statistics(NOW)[0].refused == 3


def test_a_rule_with_a_longer_interval_is_reported_less_often():
    made = broker(rule("a"), rule("b"))
    made.report(body(row("a", A, 1), row("b", A, 1)), NOW)
    run_round(made, NOW, {**grant("a", 5), "Interval": 60}, grant("b", 5))
    seen = []
    for turn in range(1, 8):
        now = NOW + 10 * turn
        made.report(body(row("a", A, 1), row("b", A, 1)), now)
        for call in made.due_round(now):
            seen.append((turn, sent(call)))
            made.absorb_targets(call, upstream_answer(), now)
    assert [turn for turn, rows in seen if "b" in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [(turn, rows["a"]) for turn, rows in seen if "a" in rows] == [(6, (6, 0, 0))]


def test_a_failed_report_of_a_rule_with_a_longer_interval_is_repeated_at_the_next_round():
    made = broker(rule("a"))
    made.report(body(row("a", A, 1)), NOW)
    run_round(made, NOW, {**grant("a", 5), "Interval": 60})
    made.report(body(row("a", A, 1)), NOW + 60)
    (call,) = made.due_round(NOW + 60)
    made.round_failed(call, NOW + 60)
    assert sent(made.due_round(NOW + 70)[0]) == {"a": (1, 0, 0)}


def test_counts_beyond_a_32_bit_integer_go_out_over_several_rounds():
    made = broker(rule("a"))
    most = 2**31 - 1
    for _ in range(3):
        made.report(body(row("a", A, most)), NOW)
    total = 0
    for turn in range(5):
        for call in made.due_round(NOW + 10 * turn):
            (counts,) = sent(call).values()
            assert counts[0] <= most
            total += counts[0]
            made.absorb_targets(call, upstream_answer(), NOW + 10 * turn)
    assert total == 3 * most


def test_counts_of_a_deleted_rule_do_not_go_upstream():
    made = broker(rule("a"), rule("b"))
    made.report(body(row("a", A, 1), row("b", A, 1)), NOW)
    (call,) = made.due_round(NOW)
    made.absorb_rules(records(rule("b")), NOW + 1)
    made.round_failed(call, NOW + 2)
    assert sent(made.due_round(NOW + 12)[0]) == {"b": (1, 0, 0)}


def test_statistics_that_come_before_the_rules_are_known_are_counted_on_trust_and_bounded():
    made = Broker(OWN_ID)
    answer = json.loads(made.report(body(*(row(f"r{n}", A, 1) for n in range(300))), NOW))
    codes = [each["ErrorCode"] for each in answer["UnprocessedStatistics"]]
    assert codes == ["500"] * 44
    made.absorb_rules(records(rule("r1")), NOW + 1)
    assert sent(made.due_round(NOW + 1)[0]) == {"r1": (1, 0, 0)}


def boost_document(name: str, service: str, *counts: int) -> dict:
    fields = zip(("AnomalyCount", "TotalCount", "SampledAnomalyCount"), counts, strict=True)
    return {"RuleName": name, "ServiceName": service, "Timestamp": NOW, **dict(fields)}


def test_the_last_round_is_of_all_that_waits_whatever_is_due_or_under_way():
    made = broker(rule("a"))
    made.report(body(row("a", A, 3)), NOW)
    (under_way,) = made.due_round(NOW)
    made.report(body(row("a", A, 4), row("Default", A, 1)), NOW + 1)
    (last,) = made.last_round(NOW + 2)
    assert sent(under_way) == {"a": (3, 0, 0)}
    assert sent(last) == {"a": (4, 0, 0), "Default": (1, 0, 0)}
    assert made.last_round(NOW + 2) == []


def test_boost_statistics_are_merged_by_rule_and_service_and_survive_a_failure():
    made = broker(rule("a"))
    for who, service, counts in ((A, "s", (1, 10, 1)), (B, "s", (2, 20, 0)), (B, "t", (3, 30, 1))):
        documents = [boost_document("a", service, *counts), boost_document("gone", "s", 1, 1, 1)]
        answer = made.report(
            body(row("a", who, 1), SamplingBoostStatisticsDocuments=documents), NOW
        )
        refused = json.loads(answer)["UnprocessedBoostStatistics"]
        assert [(each["RuleName"], each["ErrorCode"]) for each in refused] == [("gone", "404")]
    (call,) = made.due_round(NOW)
    expected = [
        {**boost_document("a", "s", 3, 30, 1), "Timestamp": int(NOW)},
        {**boost_document("a", "t", 3, 30, 1), "Timestamp": int(NOW)},
    ]
    assert json.loads(call.body)["SamplingBoostStatisticsDocuments"] == expected
    made.round_failed(call, NOW)
    (again,) = made.due_round(NOW + 10)
    later = [{**each, "Timestamp": int(NOW) + 10} for each in expected]
    assert json.loads(again.body)["SamplingBoostStatisticsDocuments"] == later


def test_boost_statistics_of_too_many_services_are_refused_for_now():
    made = broker(rule("a"))
    documents = [boost_document("a", f"s{number}", 1, 1, 1) for number in range(501)]
    answer = json.loads(made.report(body(SamplingBoostStatisticsDocuments=documents), NOW))
    assert [each["ErrorCode"] for each in answer["UnprocessedBoostStatistics"]] == ["500"]
    assert len(made.due_round(NOW)) == 20


def test_our_own_sampler_is_one_client_among_the_others():
    made = broker(rule("a"))
    from xrayd.sampling.report import Report

    made.exchange(Report(statistics=[Statistics("a", OWN_ID, 8, 4, 2)]), NOW)
    made.report(body(row("a", A, 1, 1, 1)), NOW)
    assert sent(made.due_round(NOW)[0]) == {"a": (9, 5, 3)}


def test_our_client_id_must_be_24_hex_digits():
    with pytest.raises(ValueError, match="24 hex"):
        Broker("me")


# Authority


def test_the_authority_gives_the_rules_own_reservoir_with_ttl_and_interval():
    made = authority(rule("a", reservoir_size=5, fixed_rate=0.25))
    assert targets(made.report(body(row("a", A, 1), row("Default", A, 0)), NOW)) == {
        "a": {
            "RuleName": "a",
            "FixedRate": 0.25,
            "ReservoirQuota": 5,
            "ReservoirQuotaTTL": int(NOW) + 30,
            "Interval": 10,
        },
        "Default": {
            "RuleName": "Default",
            "FixedRate": 0.05,
            "ReservoirQuota": 1,
            "ReservoirQuotaTTL": int(NOW) + 30,
            "Interval": 10,
        },
    }


def test_the_authority_never_goes_upstream():
    made = authority(rule("a"))
    made.report(body(row("a", A, 1)), NOW)
    assert made.due_round(NOW + 60) == []
    assert not made.rules_due(NOW + 10_000)


def test_a_changed_rule_is_in_the_next_answer():
    made = authority(rule("a", reservoir_size=5))
    made.report(body(row("a", A, 1)), NOW)
    made.absorb_rules(records(rule("a", reservoir_size=2, fixed_rate=0.9)), NOW + 1)
    document = targets(made.report(body(row("a", A, 1)), NOW + 10))["a"]
    assert (document["ReservoirQuota"], document["FixedRate"]) == (2, 0.9)


def test_after_a_restart_of_the_application_its_new_client_gets_the_reservoir_within_the_ttl():
    made = authority(rule("a", reservoir_size=5))
    made.report(body(row("a", A, 1)), NOW)
    for late in (10, 20, 30):
        assert "ReservoirQuota" not in targets(made.report(body(row("a", B, 1)), NOW + late))["a"]
    assert targets(made.report(body(row("a", B, 1)), NOW + 40))["a"]["ReservoirQuota"] == 5


def test_the_ttl_can_be_chosen():
    made = authority(rule("a"), quota_ttl_s=300)
    document = targets(made.report(body(row("a", A, 1)), NOW))["a"]
    assert document["ReservoirQuotaTTL"] == int(NOW) + 300


def test_an_authority_without_rules_knows_no_rule():
    answer = json.loads(Broker(OWN_ID, is_authority=True).report(body(row("a", A, 1)), NOW))
    assert [each["ErrorCode"] for each in answer["UnprocessedStatistics"]] == ["404"]


# To look at


def test_the_statistics_of_a_rule_show_what_clients_said_and_what_aws_granted():
    made = broker(rule("a", priority=5, reservoir_size=9))
    made.report(body(row("a", A, 10, 5, 1)), NOW)
    run_round(made, NOW, grant("a", 7, rate=0.25))
    made.report(body(row("a", A, 1, 1, 0)), NOW + 10)
    shown, default = made.statistics(NOW + 10)
    assert (shown.rule_name, shown.priority, shown.reservoir_size) == ("a", 5, 9)
    assert (shown.requests, shown.sampled, shown.borrowed) == (11, 6, 1)
    assert (shown.quota, shown.quota_ttl, shown.handed_out) == (7, int(NOW) + 300, 7)
    assert (shown.fixed_rate, shown.clients, shown.last_seen) == (0.25, 1, NOW + 10)
    assert made.statistics(NOW + 41)[0].clients == 0
    assert made.statistics(NOW + 301)[0].quota is None
    assert (default.rule_name, default.quota, default.last_seen) == ("Default", None, None)


def test_summaries_are_ten_second_windows_of_all_clients_and_of_the_last_hour():
    made = authority(rule("a"), rule("b"))
    start = NOW - NOW % 10
    made.report(body({**row("a", A, 10, 5, 1), "Timestamp": start + 1}), start + 1)
    made.report(body({**row("a", B, 1, 1, 1), "Timestamp": (start + 9) * 1000}), start + 9.9)
    made.report(body({**row("b", B, 2), "Timestamp": 5}), start + 10)  # no clock at all
    made.report(body(row("a", B, 0)), start + 20)
    shown = [
        (each.rule_name, each.timestamp, each.requests, each.sampled, each.borrowed)
        for each in made.summaries(start + 20)
    ]
    assert shown == [("a", start, 11, 6, 2), ("b", start + 10, 2, 0, 0)]
    assert [each.rule_name for each in made.summaries(start + 3_611)] == ["b"]
    assert made.summaries(start + 3_630) == []


def test_a_window_never_shows_more_than_the_models_integer():
    made = authority(rule("a"))
    for _ in range(3):
        made.report(body(row("a", A, 2**31 - 1, 2**31 - 1, 2**31 - 1)), NOW)
    (shown,) = made.summaries(NOW)
    assert (shown.requests, shown.sampled, shown.borrowed) == (2**31 - 1,) * 3
