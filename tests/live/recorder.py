"""The simplest daemon: it records datagrams and answers X-Ray's API with what clients need."""

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

SAMPLING_PATHS = ("/GetSamplingRules", "/SamplingTargets")
DEFAULT_RULE = {
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
}


class Recorder:
    """Daemon and X-Ray in one. Start and stop it with `with`."""

    is_broker = False

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._documents: list[str] = []
        self._calls: list[tuple[str, dict[str, Any]]] = []
        self._rules: dict[str, dict[str, Any]] = {"Default": DEFAULT_RULE}
        self._target_rates: dict[str, float] = {}
        self._modified_at = time.time()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._udp.bind(("127.0.0.1", 0))
        self._http = _Server(self)
        self._threads = [
            threading.Thread(target=self._receive),
            threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}),
        ]
        self.udp_address = f"127.0.0.1:{self._udp.getsockname()[1]}"
        self.tcp_address = f"127.0.0.1:{self._http.server_port}"
        self.endpoint_url: str | None = f"http://{self.tcp_address}"

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._udp.sendto(
            b"", self._udp.getsockname()
        )  # wakes the receiver: no client sends nothing
        for thread in self._threads:
            thread.join()
        self._http.server_close()
        self._udp.close()

    def documents(self) -> list[str]:
        with self._changed:
            return list(self._documents)

    def wait_for_documents(
        self, predicate: Callable[[list[str]], bool], timeout: float = 30.0
    ) -> list[str]:
        with self._changed:
            held = self._changed.wait_for(lambda: predicate(self._documents), timeout)
            assert held, f"not within {timeout:g} s; arrived: {self._documents}"
            return list(self._documents)

    def sampling_calls(self) -> dict[str, int]:
        with self._changed:
            return Counter(path for path, _ in self._calls if path in SAMPLING_PATHS)

    def put_rules(self, rules: Sequence[dict[str, Any]]) -> None:
        with self._changed:
            self._rules |= {rule["RuleName"]: rule for rule in rules}
            self._modified_at = time.time()

    def change_rate(self, rule_name: str, fixed_rate: float) -> None:
        with self._changed:
            self._target_rates[rule_name] = fixed_rate

    def cut_off(self) -> None:
        raise NotImplementedError("a recorder is its own X-Ray")

    restore = cut_off

    def reported_requests(self) -> dict[str, int]:
        requests = Counter[str]()
        for row in self.statistics():
            requests[row["RuleName"]] += row["RequestCount"]
        return requests

    def statistics(self) -> list[dict[str, Any]]:
        """Every row of SamplingStatisticsDocuments received so far."""
        with self._changed:
            bodies = [body for path, body in self._calls if path == "/SamplingTargets"]
        return [row for body in bodies for row in body["SamplingStatisticsDocuments"]]

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """What X-Ray answers to a call; None for a path it does not have."""
        with self._changed:
            self._calls.append((path, body))
            self._changed.notify_all()
            match path:
                case "/GetSamplingRules":
                    return {
                        "SamplingRuleRecords": [self._record(rule) for rule in self._rules.values()]
                    }
                case "/SamplingTargets":
                    return self._targets(body["SamplingStatisticsDocuments"])
                case "/TraceSegments":
                    self._documents += body["TraceSegmentDocuments"]
                    return {"UnprocessedTraceSegments": []}
                case "/TraceSummaries":
                    return {"TraceSummaries": [{"Id": trace_id} for trace_id in self._traces()]}
                case "/Traces":
                    known = self._traces()
                    wanted = [trace_id for trace_id in body["TraceIds"] if trace_id in known]
                    traces = [{"Id": trace_id, "Segments": known[trace_id]} for trace_id in wanted]
                    return {"Traces": traces, "UnprocessedTraceIds": []}
                case _:
                    return None

    def _record(self, rule: dict[str, Any]) -> dict[str, Any]:
        return {"SamplingRule": rule, "CreatedAt": 0.0, "ModifiedAt": self._modified_at}

    def _targets(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        known = [self._rules[row["RuleName"]] for row in rows if row["RuleName"] in self._rules]
        targets = [
            {
                "RuleName": rule["RuleName"],
                "FixedRate": self._target_rates.get(rule["RuleName"], rule["FixedRate"]),
                "ReservoirQuota": rule["ReservoirSize"],
                "ReservoirQuotaTTL": int(time.time()) + 300,
                "Interval": 10,
            }
            for rule in known
        ]
        return {
            "SamplingTargetDocuments": targets,
            "LastRuleModification": self._modified_at,
            "UnprocessedStatistics": [],
        }

    def _traces(self) -> dict[str, list[dict[str, str]]]:
        traces: dict[str, list[dict[str, str]]] = {}
        for line in self._documents:
            if line.startswith("{"):
                document = json.loads(line)
                segment = {"Id": document["id"], "Document": line}
                traces.setdefault(document["trace_id"], []).append(segment)
        return traces

    def _receive(self) -> None:
        while datagram := self._udp.recv(65_536):
            header, _, document = datagram.partition(b"\n")
            assert json.loads(header) == {"format": "json", "version": 1}
            with self._changed:
                self._documents.append(document.decode())
                self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may end in mid-call
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.server.recorder.answer(self.path, json.loads(body or b"{}"))
        if answer is None:
            answer = {"Message": f"no operation {self.path}"}
            self.send_response(404)
            self.send_header("x-amzn-ErrorType", "UnknownOperationException")
        else:
            self.send_response(200)
        encoded = json.dumps(answer).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Quiet: the tests read what was recorded."""
