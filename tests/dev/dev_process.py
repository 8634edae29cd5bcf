"""`xrayd dev` as a user starts it, and what its API says."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from fakes.process import PATIENCE_S, Answer, Xrayd

ADDRESS = "127.0.0.1:{port}"
SUMMARY = re.compile(r"Stopped: (.*)")


class DevProcess(Xrayd):
    """A process with helpers for the API; `args` are those behind the word `dev`."""

    def __init__(self, home: Path, *args: str, data: str = "traces.sqlite", **options: Any) -> None:
        flags = ("-b", ADDRESS, "-t", ADDRESS, "dev", "--data", data)
        super().__init__(*flags, *args, home=home, **options)

    def call(self, path: str, **members: Any) -> dict[str, Any]:
        """A call that must be answered with a 200."""
        answer = self.post(path, json.dumps(members))
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def put(self, *documents: str) -> list[dict[str, Any]]:
        """What PutTraceSegments did not process."""
        answer = self.call("/TraceSegments", TraceSegmentDocuments=documents)
        return answer["UnprocessedTraceSegments"]

    def segments(self, trace_id: str) -> list[dict[str, Any]]:
        """The segments of a trace that were sent; none where the trace is unknown."""
        traces = self.call("/Traces", TraceIds=[trace_id])["Traces"]
        documents = [json.loads(one["Document"]) for trace in traces for one in trace["Segments"]]
        return [document for document in documents if not document.get("inferred")]

    def summaries(self, seconds: float = 3600.0, **members: Any) -> list[dict[str, Any]]:
        """Summaries of all traces of the last seconds."""
        window = {"StartTime": time.time() - seconds, "EndTime": time.time() + 60}
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("/TraceSummaries", **window, **members)
            found += page["TraceSummaries"]
            if not page.get("NextToken"):
                return found
            members["NextToken"] = page["NextToken"]

    def wait_for_summaries(self, count: int) -> list[dict[str, Any]]:
        """All summaries, once there are at least so many traces."""
        deadline = time.monotonic() + PATIENCE_S
        while len(found := self.summaries()) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} traces"
            time.sleep(0.05)
        return found

    def end(self) -> dict[str, int]:
        """Stop it in good order; the relay's ledger by its last line."""
        self.sigterm()
        assert self.wait() == 0, self.output
        (ledger,) = [match[1] for line in self.lines if (match := SUMMARY.search(line))]
        return {name: int(value) for name, _, value in (p.partition("=") for p in ledger.split())}


def post_from(
    process: Xrayd, headers: dict[str, str], path: str = "/GetSamplingRules", method: str = "POST"
) -> Answer:
    """A request with the headers a browser, or something else, adds."""
    return process.request(method, path, b"{}" if method == "POST" else b"", headers)
