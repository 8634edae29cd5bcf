"""boto3, the AWS SDK for Python: X-Ray's API."""

import json
import secrets
import sys
import time

import boto3

DEADLINE_S = 30.0


def main(scenario: str) -> None:
    if scenario != "api":
        raise SystemExit(f"no scenario {scenario}")
    xray = boto3.client("xray")
    now = time.time()
    trace_id, segment_id = f"1-{int(now):08x}-{secrets.token_hex(12)}", secrets.token_hex(8)
    segment = {
        "name": "boto3-shop",
        "id": segment_id,
        "trace_id": trace_id,
        "start_time": now - 0.25,
        "end_time": now,
    }
    put = xray.put_trace_segments(TraceSegmentDocuments=[json.dumps(segment)])

    summarised: list[str] = []
    while trace_id not in summarised and time.time() < now + DEADLINE_S:
        pages = xray.get_paginator("get_trace_summaries").paginate(
            StartTime=now - 60, EndTime=time.time() + 60
        )
        summarised = [summary["Id"] for page in pages for summary in page["TraceSummaries"]]
    traces = xray.batch_get_traces(TraceIds=[trace_id])["Traces"]

    rules = xray.get_paginator("get_sampling_rules").paginate().build_full_result()
    statistics = {
        "RuleName": "Default",
        "ClientID": secrets.token_hex(12),
        "Timestamp": time.time(),
        "RequestCount": 10,
        "SampledCount": 2,
        "BorrowCount": 1,
    }
    targets = xray.get_sampling_targets(SamplingStatisticsDocuments=[statistics])
    report = {
        "trace_id": trace_id,
        "segment_id": segment_id,
        "unprocessed": put["UnprocessedTraceSegments"],
        "summarised": trace_id in summarised,
        "segments": [part["Id"] for trace in traces for part in trace["Segments"]],
        "rules": [record["SamplingRule"]["RuleName"] for record in rules["SamplingRuleRecords"]],
        "targets": [target["RuleName"] for target in targets["SamplingTargetDocuments"]],
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
