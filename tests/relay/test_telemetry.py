"""The ledger's identity and the telemetry record made from it."""

import json

from xrayd.relay.ledger import Ledger, Spill
from xrayd.relay.telemetry import RECORDS_MAX, RECORDS_PER_CALL, TelemetryRecords


def test_nothing_is_reported_before_the_first_datagram() -> None:
    records = TelemetryRecords("", "", "")
    assert not records.cut(Ledger(), 1.0)
    assert records.next_body() is None


def test_a_record_is_the_difference_since_the_last() -> None:
    ledger = Ledger(received_udp=10, received_tcp=1, sent=5, expired=1)
    ledger.rejected["no_newline"] += 2
    ledger.unprocessed["InvalidName"] += 1
    ledger.spilled[Spill.MEMORY_FULL] += 2
    ledger.connection_errors.timeout = 3
    assert ledger.difference(0, 0) == 0
    records = TelemetryRecords("i-1", "host", "arn")
    assert records.cut(ledger, 1.5)
    ledger.received_udp += 7
    ledger.sent += 7
    assert records.cut(ledger, 2.5)
    body = json.loads(records.next_body() or b"")
    assert {k: v for k, v in body.items() if k != "TelemetryRecords"} == {
        "EC2InstanceId": "i-1", "Hostname": "host", "ResourceARN": "arn"}  # fmt: skip
    first, second = body["TelemetryRecords"]
    assert first == {
        "Timestamp": 1.5,
        "SegmentsReceivedCount": 11,
        "SegmentsSentCount": 5,
        "SegmentsSpilloverCount": 3,
        "SegmentsRejectedCount": 3,
        "BackendConnectionErrors": {
            "TimeoutCount": 3, "ConnectionRefusedCount": 0, "HTTPCode4XXCount": 0,
            "HTTPCode5XXCount": 0, "UnknownHostCount": 0, "OtherCount": 0,
        },
    }  # fmt: skip
    assert (second["SegmentsReceivedCount"], second["SegmentsSentCount"]) == (7, 7)
    assert second["BackendConnectionErrors"]["TimeoutCount"] == 0


def test_the_queue_keeps_the_newest_thirty_and_sends_ten_a_call() -> None:
    ledger = Ledger()
    records = TelemetryRecords("", "", "")
    for minute in range(RECORDS_MAX + 5):
        ledger.received_udp += 1
        records.cut(ledger, float(minute))
    stamps = []
    while (body := records.next_body()) is not None:
        batch = [record["Timestamp"] for record in json.loads(body)["TelemetryRecords"]]
        assert len(batch) == RECORDS_PER_CALL
        stamps += batch
        records.sent()
    assert stamps == [float(n) for n in range(5, RECORDS_MAX + 5)]


def test_unheard_of_codes_share_a_bounded_set() -> None:
    ledger = Ledger()
    for number in range(1000):
        ledger.count_unprocessed(f"Code{number}")
    assert ledger.unprocessed.total() == 1000
    assert len(ledger.unprocessed) <= 51
