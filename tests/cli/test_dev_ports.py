"""Ports of `xrayd dev` beside 2000: the X-Ray API again, and /metrics."""

import json
import re

import pytest
from fakes.process import Xrayd, free_port
from shell import put, run, running_dev, segment

SAMPLE = re.compile(r"^(xrayd_dev_\w+)\{(.*)\} (.*)$", re.MULTILINE)


@pytest.fixture
def other(tmp_path):
    """A second port, and what asks it."""
    asking = Xrayd(home=tmp_path)
    yield asking
    asking.stop()


def test_the_api_is_answered_on_a_port_of_its_own_too_behind_the_same_gate(tmp_path, other):
    with running_dev(tmp_path, "--api-address", f"127.0.0.1:{other.port}") as dev:
        one = segment(name="one")
        put(other, json.dumps(one))
        body = json.dumps({"TraceIds": [one["trace_id"]]})
        for asked in (dev, other):
            assert (
                json.loads(asked.post("/Traces", body).body)["Traces"][0]["Id"] == one["trace_id"]
            )
        foreign = {"Origin": "http://evil.example"}
        assert other.post("/Traces", body, foreign).status == 403
        assert other.get("/healthz", {"Host": "evil.example"}).status == 403
        dev.wait_for_line(f"http://127.0.0.1:{other.port}")


def test_a_taken_api_port_is_said(tmp_path, other):
    with running_dev(tmp_path, "--api-address", f"127.0.0.1:{other.port}"):
        port = free_port()
        address = ("-b", f"127.0.0.1:{port}", "-t", f"127.0.0.1:{port}")
        result = run(*address, "dev", "--data", ":memory:", "--api-address",
                     f"127.0.0.1:{other.port}", home=tmp_path)  # fmt: skip
    assert result.code == 1
    assert "--api-address" in result.err
    assert "taken" in result.err


def test_metrics_count_requests_by_service_and_by_group(tmp_path, other):
    documents = [
        segment(name="api", fault=True, http={"response": {"status": 503}}),
        segment(name="api", http={"response": {"status": 404}}),
        segment(name="api", http={"response": {"status": 429}}),
        segment(name="api"),
        segment(name="we-ird", origin="AWS::Lambda::Function"),
    ]
    env = {"XRAYD_METRICS_ADDRESS": f"127.0.0.1:{other.port}"}
    with running_dev(tmp_path, env=env) as dev:
        group = {"GroupName": "api", "FilterExpression": 'service("api")'}
        assert dev.post("/CreateGroup", json.dumps(group)).status == 200
        put(dev, *map(json.dumps, documents))
        window = {"StartTime": 0, "EndTime": 9_999_999_999}  # a search compiles what it finds
        assert len(json.loads(dev.post("/TraceSummaries", json.dumps(window)).body)
                   ["TraceSummaries"]) == 5  # fmt: skip
        text = other.get("/metrics").body.decode()
        assert other.get("/readyz").status == 200
    samples = {(name, labels): float(value) for name, labels, value in SAMPLE.findall(text)}

    def of(labels: str) -> list[float]:
        kind = "group" if labels.startswith("group=") else "service"
        names = ("requests", "faults", "errors", "throttles")
        return [samples[f"xrayd_dev_{kind}_{name}_total", labels] for name in names]

    assert of('service="api",type=""') == [4, 1, 1, 1]
    assert of('service="we-ird",type="AWS::Lambda::Function"') == [1, 0, 0, 0]
    assert of('group="api"') == [4, 1, 1, 1]
    seconds = samples["xrayd_dev_service_seconds_total", 'service="api",type=""']
    assert seconds == pytest.approx(0.4, abs=0.05)
    assert samples["xrayd_dev_group_seconds_total", 'group="api"'] == pytest.approx(seconds)
    assert "xrayd_ledger_difference 0.0" in text
