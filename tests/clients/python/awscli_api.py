"""The AWS CLI: X-Ray's API, one command after the other."""

import json
import secrets
import subprocess
import sys
import time
from pathlib import Path

DEADLINE_S = 60.0


def aws(*arguments: str) -> dict[str, object]:
    command = [str(Path(sys.executable).with_name("aws")), "xray", *arguments, "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise SystemExit(f"aws xray {arguments[0]}: {done.stderr}")
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def main(scenario: str) -> None:
    if scenario != "api":
        raise SystemExit(f"no scenario {scenario}")
    now = time.time()
    trace_id, segment_id = f"1-{int(now):08x}-{secrets.token_hex(12)}", secrets.token_hex(8)
    segment = {
        "name": "awscli-shop",
        "id": segment_id,
        "trace_id": trace_id,
        "start_time": now - 0.25,
        "end_time": now,
    }
    put = aws("put-trace-segments", "--trace-segment-documents", json.dumps(segment))

    summarised: list[str] = []
    while trace_id not in summarised and time.time() < now + DEADLINE_S:
        window = ("--start-time", str(int(now) - 60), "--end-time", str(int(time.time()) + 60))
        summaries = aws("get-trace-summaries", *window, "--query", "{Ids: TraceSummaries[].Id}")
        summarised = summaries["Ids"]
    traces = aws(
        "batch-get-traces", "--trace-ids", trace_id, "--query", "{Ids: Traces[].Segments[].Id}"
    )

    rules = aws(
        "get-sampling-rules", "--query", "{Names: SamplingRuleRecords[].SamplingRule.RuleName}"
    )
    statistics = (
        f"RuleName=Default,ClientID={secrets.token_hex(12)},Timestamp={int(time.time())},"
        "RequestCount=10,SampledCount=2,BorrowCount=1"
    )
    targets = aws("get-sampling-targets", "--sampling-statistics-documents", statistics)
    report = {
        "trace_id": trace_id,
        "segment_id": segment_id,
        "unprocessed": put["UnprocessedTraceSegments"],
        "summarised": trace_id in summarised,
        "segments": traces["Ids"],
        "rules": rules["Names"],
        "targets": [target["RuleName"] for target in targets["SamplingTargetDocuments"]],
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
