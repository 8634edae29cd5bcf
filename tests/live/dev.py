"""`xrayd dev`: daemon and X-Ray in one process, data in a file of its own."""

import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

from fakes.process import Xrayd
from live.daemon import wait_until


class Dev:
    """An `xrayd dev` process. Start and stop it with `with`."""

    is_broker = False  # it is X-Ray itself

    def __init__(self) -> None:
        self._running = ExitStack()
        self._rules: set[str] = set()

    def __enter__(self) -> Self:
        home = Path(self._running.enter_context(tempfile.TemporaryDirectory()))
        self._data = home / "traces.sqlite"
        address = "127.0.0.1:{port}"
        arguments = ("-b", address, "-t", address, "dev", "--data", str(self._data))
        self._process = self._running.enter_context(Xrayd(*arguments, home=home))
        self.udp_address = self.tcp_address = f"127.0.0.1:{self._process.port}"
        self.endpoint_url: str | None = f"http://{self.tcp_address}"
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    def documents(self) -> list[str]:
        """What is stored: a document as it was sent, a span as the document it was made."""
        with closing(sqlite3.connect(f"file:{self._data}?mode=ro", uri=True)) as data:
            return [body for (body,) in data.execute("SELECT body FROM document ORDER BY number")]

    def wait_for_documents(
        self, predicate: Callable[[list[str]], bool], timeout: float = 30.0
    ) -> list[str]:
        documents: list[str] = []

        def has_them() -> bool:
            documents[:] = self.documents()
            return predicate(documents)

        try:
            wait_until(has_them, "the documents", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; stored: {documents}") from None
        return documents

    def sampling_calls(self) -> None:
        """It keeps no count of calls."""

    def put_rules(self, rules: Sequence[dict[str, Any]]) -> None:
        for rule in rules:  # named by name or by ARN, as X-Ray demands
            self.call(
                "/CreateSamplingRule",
                SamplingRule={key: value for key, value in rule.items() if key != "RuleARN"},
            )

    def change_rate(self, rule_name: str, fixed_rate: float) -> None:
        update = {"RuleName": rule_name, "FixedRate": fixed_rate}
        self.call("/UpdateSamplingRule", SamplingRuleUpdate=update)

    def cut_off(self) -> None:
        raise NotImplementedError("X-Ray is in the same process")

    restore = cut_off

    def reported_requests(self) -> dict[str, int]:
        requests = Counter[str]()
        for window in self.call("/SamplingStatisticSummaries")["SamplingStatisticSummaries"]:
            requests[window["RuleName"]] += window["RequestCount"]
        return requests

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """A trace's segments as BatchGetTraces shows them, by start time."""
        (trace,) = self.call("/Traces", TraceIds=[trace_id])["Traces"]
        return [json.loads(segment["Document"]) for segment in trace["Segments"]]

    def call(self, path: str, **members: Any) -> dict[str, Any]:
        """Call an operation as an API client does; AssertionError where it is refused."""
        answer = self._process.post(path, json.dumps(members))
        assert answer.status == 200, answer
        return json.loads(answer.body)
