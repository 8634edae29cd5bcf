from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_samples import NOW, body, client, row

from xrayd.sampling.report import (
    Answer,
    ReportError,
    SamplingBoost,
    Statistics,
    Target,
    Unprocessed,
    encode_answer,
    read_report,
)

ROW = row("Default", client(1), 110, 20, 10)


def read_row(**changes) -> Statistics | Unprocessed:
    fields = {name: value for name, value in {**ROW, **changes}.items() if value is not ...}
    report = read_report(body(fields))
    (read,) = report.statistics + report.unprocessed
    return read


def test_a_document_as_in_the_model_is_read():
    assert read_row() == Statistics("Default", client(1), 110, 20, 10, NOW)


def test_the_otel_distro_for_python_spells_sampled_count_differently():
    assert read_row(SampledCount=..., SampleCount=7).sampled == 7


def test_java_sends_milliseconds():
    assert read_row(Timestamp=NOW * 1000 + 123).timestamp == NOW + 0.123


@pytest.mark.parametrize("timestamp", [..., None, "2026-11-22T12:37:15Z", [], True])
def test_a_timestamp_that_is_none_costs_nothing(timestamp):
    assert read_row(Timestamp=timestamp) == Statistics("Default", client(1), 110, 20, 10, None)


@pytest.mark.parametrize("borrowed", [..., None, 0])
def test_borrow_count_may_be_missing(borrowed):
    assert read_row(BorrowCount=borrowed).borrowed == 0


def test_otel_for_node_sends_rows_of_zeros_for_more_rules_than_the_model_allows():
    report = read_report(body(*(row(f"r{number}", client(1), 0) for number in range(40))))
    assert len(report.statistics) == 40
    assert not report.unprocessed


@pytest.mark.parametrize("text", [b"", b"  ", b"{}", b'{"SamplingStatisticsDocuments": null}'])
def test_an_empty_body_is_an_empty_report(text):
    assert read_report(text).statistics == []


def test_counts_may_be_integral_floats_or_digits():
    assert read_row(RequestCount=110.0, SampledCount="20") == read_row()


@pytest.mark.parametrize(
    "change",
    [
        {"RuleName": ...},
        {"RuleName": ""},
        {"RuleName": None},
        {"RuleName": 5},
        {"RuleName": "x" * 200},
        {"ClientID": ...},
        {"ClientID": ""},
        {"RequestCount": ...},
        {"RequestCount": None},
        {"RequestCount": -1},
        {"RequestCount": 1.5},
        {"RequestCount": 2**31},
        {"RequestCount": "many"},
        {"SampledCount": ...},
        {"SampledCount": -1},
        {"BorrowCount": -1},
        {"BorrowCount": "x"},
    ],
    ids=str,
)
def test_a_malformed_document_is_refused_alone_with_a_code_that_every_sdk_survives(change):
    bad = {name: value for name, value in {**ROW, **change}.items() if value is not ...}
    report = read_report(body(ROW, bad, row("other", client(1), 5)))
    assert [each.rule_name for each in report.statistics] == ["Default", "other"]
    (refusal,) = report.unprocessed
    assert refusal.error_code == "400"
    assert isinstance(refusal.rule_name, str)
    assert refusal.message


@pytest.mark.parametrize("document", [None, 5, "x", []], ids=str)
def test_what_is_no_document_is_refused_with_an_empty_rule_name(document):
    (refusal,) = read_report(body(document)).unprocessed
    assert (refusal.rule_name, refusal.error_code) == ("", "400")


@pytest.mark.parametrize(
    "text",
    [
        b"no json",
        b"[]",
        b"5",
        b'{"SamplingStatisticsDocuments": 5}',
        b'{"SamplingStatisticsDocuments": {"a": 1}}',
        b'{"SamplingStatisticsDocuments": [], "SamplingBoostStatisticsDocuments": 5}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"SamplingStatisticsDocuments":' + b"[" * 100_000,
        b'{"SamplingStatisticsDocuments": [{"RuleName": "\\ud800"}]}',
    ],
)
def test_what_is_no_report_is_the_callers_error(text):
    with pytest.raises(ReportError) as caught:
        read_report(text)
    assert caught.value.code == "InvalidRequestException"
    assert caught.value.message


def node_body(*names: str) -> bytes:
    """As the X-Ray SDK for Node writes it, cut at its Content-Length: UTF-16 units, not bytes."""
    documents = [
        {
            "RuleName": name,
            "ClientID": client(1),
            "RequestCount": 2,
            "BorrowCount": 1,
            "SampledCount": 1,
            "Timestamp": int(NOW),
        }
        for name in names
    ]
    text = json.dumps(
        {"SamplingStatisticsDocuments": documents}, ensure_ascii=False, separators=(",", ":")
    )
    return text.encode()[: len(text.encode("utf-16-le")) // 2]


@pytest.mark.parametrize("name", ["é", "éé", "ééé", "ééééé", "日本", "😀😀", "日本語のルール"])
def test_a_body_cut_short_by_nodes_content_length_is_read_as_far_as_it_goes(name):
    report = read_report(node_body("first", name))
    assert report.statistics[0].rule_name == "first"
    if len(name.encode()) - len(name) <= 10:
        assert [each.rule_name for each in report.statistics] == ["first", name]


def test_the_list_that_is_none_is_named():
    with pytest.raises(ReportError, match=r"^SamplingBoostStatisticsDocuments must be a list"):
        read_report(b'{"SamplingStatisticsDocuments": [], "SamplingBoostStatisticsDocuments": 5}')
    with pytest.raises(ReportError, match=r"^SamplingStatisticsDocuments must be a list"):
        read_report(b'{"SamplingStatisticsDocuments": {"a": 1}}')


@pytest.mark.parametrize(
    "name", ["SamplingStatisticsDocuments", "SamplingBoostStatisticsDocuments"]
)
def test_a_list_that_would_take_long_to_refuse_one_by_one_is_refused_as_a_whole(name):
    lists = {"SamplingStatisticsDocuments": [], name: [0] * 10_001}
    with pytest.raises(ReportError, match=f"^{name} has more than 10000 documents"):
        read_report(json.dumps(lists).encode())


def test_boost_documents_are_read_and_malformed_ones_refused_alone():
    boost = {
        "RuleName": "r",
        "ServiceName": "s",
        "Timestamp": NOW,
        "AnomalyCount": 3,
        "TotalCount": 9,
        "SampledAnomalyCount": 1,
    }
    report = read_report(body(ROW, SamplingBoostStatisticsDocuments=[boost, {"RuleName": "r"}, 5]))
    (read,) = report.boosts
    assert (read.rule_name, read.service_name) == ("r", "s")
    assert (read.anomalies, read.total, read.sampled_anomalies) == (3, 9, 1)
    assert [each.rule_name for each in report.unprocessed_boosts] == ["r", ""]
    assert len(report.statistics) == 1


def test_only_a_client_that_sends_the_key_speaks_boost():
    assert read_report(body(ROW, SamplingBoostStatisticsDocuments=[])).speaks_boost
    assert not read_report(body(ROW)).speaks_boost
    assert not read_report(body(ROW, SamplingBoostStatisticsDocuments=None)).speaks_boost


def test_an_answer_has_every_list_and_no_nulls():
    answer = Answer(targets=[], last_rule_modification=5, unprocessed=[])
    assert json.loads(encode_answer(answer)) == {
        "SamplingTargetDocuments": [],
        "LastRuleModification": 5,
        "UnprocessedStatistics": [],
    }


def test_a_target_has_the_apis_names_and_leaves_out_what_is_not_set():
    whole = Target(
        rule_name="r",
        fixed_rate=1.0,
        reservoir_quota=2,
        reservoir_quota_ttl=3,
        interval=10,
        sampling_boost=SamplingBoost(0.5, 4.0),
    )
    answer = Answer(
        targets=[whole, Target(rule_name="s", fixed_rate=0.0)],
        last_rule_modification=5,
        unprocessed=[Unprocessed("t", "400", "why")],
        unprocessed_boosts=[],
    )
    assert json.loads(encode_answer(answer)) == {
        "SamplingTargetDocuments": [
            {
                "RuleName": "r",
                "FixedRate": 1.0,
                "ReservoirQuota": 2,
                "ReservoirQuotaTTL": 3,
                "Interval": 10,
                "SamplingBoost": {"BoostRate": 0.5, "BoostRateTTL": 4.0},
            },
            {"RuleName": "s", "FixedRate": 0.0},
        ],
        "LastRuleModification": 5,
        "UnprocessedStatistics": [{"RuleName": "t", "ErrorCode": "400", "Message": "why"}],
        "UnprocessedBoostStatistics": [],
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*ROW, "SampleCount", "SamplingStatisticsDocuments", "x"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=15,
)


@given(json_values)
@settings(max_examples=200, deadline=None)
def test_any_json_is_read_or_refused_and_the_refusal_can_be_sent(value):
    try:
        report = read_report(json.dumps({"SamplingStatisticsDocuments": value}).encode())
    except ReportError:
        return
    encode_answer(Answer(targets=[], last_rule_modification=1, unprocessed=report.unprocessed))


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(text):
    with suppress(ReportError):
        assert read_report(text).statistics == []
