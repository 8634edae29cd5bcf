"""Sampling over TCP 2000: many clients, one of AWS's; outages; rules of one's own."""

import json
import math
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from fakes.captures import CapturedRequest, Captures
from fakes.factory import XraydFactory
from fakes.process import Xrayd, free_port
from fakes.sampling import SamplingService, make_record, make_rule, report, rule_names, statistics
from fakes.verdict import Verdict
from fakes.xray import CREDENTIALS, FakeXRay
from live.daemon import wait_until

RULES = "/GetSamplingRules"
TARGETS = "/SamplingTargets"
FORTY_CLIENTS = range(40)


def metrics_of(process: Xrayd, port: int) -> dict[str, float]:
    scraper = Xrayd(home=process.home, port=port)
    text = scraper.get("/metrics").body.decode()
    scraper.stop()
    rows = re.findall(r"^(xrayd_\w+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in rows}


def test_all_clients_are_given_the_rules_of_one_fetch(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    service = SamplingService(fake_xray, make_rule("a"), make_rule("b"), make_rule("c"), page=3)
    process = xrayd()
    assert service.calls(RULES) == 0
    with ThreadPoolExecutor(20) as pool:
        names = list(pool.map(lambda _: rule_names(process), FORTY_CLIENTS))
    assert all(sorted(each) == ["Default", "a", "b", "c"] for each in names)
    assert service.calls(RULES) == 2  # two pages
    assert all(request.signature.ok for request in fake_xray.requests(RULES))


def test_rules_that_do_not_come_are_502_in_time(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    fake_xray.answer(Verdict(hang=True), path=RULES)
    process = xrayd()
    assert process.post(RULES).status == 502
    fake_xray.answer(None, path=RULES)  # its usual answer holds no rule at all
    assert process.post(RULES).status == 502


def test_pages_without_end_are_a_failed_fetch(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    endless = {"SamplingRuleRecords": [make_record(make_rule("a"))], "NextToken": "again"}
    fake_xray.answer(Verdict(body=endless), path=RULES)
    process = xrayd()
    answer = process.post(RULES)
    assert answer.status == 502, answer
    process.wait_for_line("more than 100 pages")


def test_rules_that_cannot_be_read_are_left_out_and_the_log_says_so(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    no_rate = {name: value for name, value in make_rule("b").items() if name != "FixedRate"}
    SamplingService(fake_xray, make_rule("a"), no_rate)
    process = xrayd()
    assert sorted(rule_names(process)) == ["Default", "a"]
    process.wait_for_line("1 sampling rules without a usable name or rate left out")


def sampler_calls(captures: Captures) -> dict[str, list[CapturedRequest]]:
    calls: dict[str, list[CapturedRequest]] = {}
    for request in captures.requests:
        if request.path in (RULES, TARGETS) and not request.client.startswith("api"):
            calls.setdefault(request.client, []).append(request)
    return calls


def send_as_recorded(process: Xrayd, request: CapturedRequest) -> tuple[int, bytes]:
    """A recorded call with its own headers, all but those that name its recorder."""
    lines = [f"{request.method} {request.path} HTTP/1.1", f"Host: localhost:{process.port}"]
    lines += [
        f"{name}: {value}"
        for name, value in request.headers
        if name.lower() not in ("host", "connection")
    ]
    with process.tcp() as sock:
        sock.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + request.body)
        answer = b""
        while chunk := sock.recv(65_536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_recorded_samplers_are_answered_over_the_socket(
    xrayd: XraydFactory, fake_xray: FakeXRay, captures: Captures
) -> None:
    recorded = sampler_calls(captures)
    assert len(recorded) >= 3
    asked = {
        row["RuleName"]
        for calls in recorded.values()
        for call in calls
        if call.path == TARGETS
        for row in json.loads(call.body)["SamplingStatisticsDocuments"]
    } - {"Default"}
    SamplingService(fake_xray, *(make_rule(name) for name in sorted(asked)))
    process = xrayd()
    for client, calls in recorded.items():
        for call in calls:
            status, body = send_as_recorded(process, call)
            assert status == 200, (client, body)
            answer = json.loads(body)
            if call.path == RULES:
                for record in answer["SamplingRuleRecords"]:
                    assert record["SamplingRule"]["Attributes"] == {}
                    assert type(record["SamplingRule"]["Version"]) is int
            else:
                assert answer["UnprocessedStatistics"] == []
                assert answer["LastRuleModification"] > 0


def test_statistics_that_cannot_be_taken_are_refused_one_by_one(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    SamplingService(fake_xray)
    process = xrayd()
    rule_names(process)
    answer = report(
        process,
        statistics("gone", 1, 5),
        statistics("Default", 1, "many"),  # type: ignore[arg-type]
        statistics("Default", 1, 3),
    )
    codes = {each["RuleName"]: each["ErrorCode"] for each in answer["UnprocessedStatistics"]}
    assert codes == {"gone": "404", "Default": "400"}
    assert process.post(TARGETS, b"no JSON").status == 400


def test_an_outage_is_survived_and_every_count_arrives_once(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    service = SamplingService(fake_xray, make_rule("a"))
    service.quotas["a"] = 10
    port = free_port()
    process = xrayd(config={"Metrics": {"Address": f"127.0.0.1:{port}"}})
    assert math.isnan(metrics_of(process, port)["xrayd_sampling_rules_age_seconds"])
    assert sorted(rule_names(process)) == ["Default", "a"]
    fake_xray.down()
    report(process, statistics("a", 1, 7))
    report(process, statistics("a", 2, 5))
    failures = 'xrayd_sampling_upstream_failures_total{path="/SamplingTargets"}'
    wait_until(lambda: metrics_of(process, port)[failures] >= 1, "a failed round")
    assert sorted(rule_names(process)) == ["Default", "a"]
    shown = metrics_of(process, port)
    assert shown["xrayd_sampling_rules_age_seconds"] > 0
    assert shown["xrayd_sampling_rules"] == 2
    assert shown["xrayd_sampling_clients"] == 2
    assert shown['xrayd_sampling_rule_requests_total{rule="a"}'] == 12
    fake_xray.up()
    fake_xray.script(Verdict(status=500), path=TARGETS)  # and once more without success
    report(process, statistics("a", 1, 30))
    service.wait_counted("a", 1)
    assert service.counted["a"] == 42
    wait_until(lambda: report(process, statistics("a", 1))["SamplingTargetDocuments"], "a target")


def test_what_waits_for_its_round_is_reported_before_the_end(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    service = SamplingService(fake_xray, make_rule("a"))
    process = xrayd()
    rule_names(process)
    report(process, statistics("a", 1, 7))
    service.wait_counted("a", 7)
    report(process, statistics("a", 1, 5))
    process.sigterm()
    assert process.wait() == 0
    assert service.counted["a"] == 12


def targets_call(*rows: dict[str, object]) -> bytes:
    body = json.dumps({"SamplingStatisticsDocuments": rows})
    head = f"POST {TARGETS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def status_of(client: socket.socket) -> bytes:
    with client.makefile("rb") as answer:
        return answer.readline()


def end_while_three_report(process: Xrayd, rule: str) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(process.tcp()) for _ in range(3)]
        for client in clients:
            client.sendall(targets_call(statistics(rule, 1, 5)))
        process.get("/healthz")  # what was said before that is read
        process.sigterm()
        assert {status_of(client) for client in clients} == {b"HTTP/1.1 200 OK\r\n"}
    assert process.wait() == 0


AT_ONCE = {"Drain": {"QuietSeconds": 0, "ListenSeconds": 0}}


def test_reports_that_wait_for_each_other_at_the_end_are_answered_and_counted(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    service = SamplingService(fake_xray, make_rule("a"))
    process = xrayd(config=AT_ONCE)
    rule_names(process)
    end_while_three_report(process, "a")
    assert service.counted["a"] == 15


def test_reports_that_wait_at_the_end_are_answered_where_there_are_no_credentials(
    xrayd: XraydFactory, tmp_path: Path
) -> None:
    (tmp_path / "rules.json").write_text(json.dumps(LOCAL_2))
    rules = {"RulesFile": str(tmp_path / "rules.json")}
    process = xrayd(config={**AT_ONCE, "Sampling": rules}, env=dict.fromkeys(CREDENTIALS))
    rule_names(process)
    end_while_three_report(process, "Default")


def test_a_report_that_ends_late_at_the_end_is_answered_at_once(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    SamplingService(fake_xray, make_rule("a"))
    process = xrayd(config=AT_ONCE)
    rule_names(process)
    fake_xray.answer(Verdict(hang=True), path=TARGETS)  # the last words take a second
    call = targets_call(statistics("a", 1, 5))
    with ExitStack() as stack:
        clients = [stack.enter_context(process.tcp()) for _ in range(3)]
        for client in clients:
            client.sendall(call[:-5])
        report(process, statistics("a", 1, 7))
        process.sigterm()
        process.wait_for_line("Got shutdown signal")
        for client in clients:
            client.sendall(call[-5:])
            assert status_of(client) == b"HTTP/1.1 200 OK\r\n"
    assert process.wait() == 0


def test_more_clients_than_there_may_be_connections_are_all_answered(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    SamplingService(fake_xray, make_rule("a"))
    process = xrayd()
    rule_names(process)
    call = targets_call(statistics("a", 1, 1)).replace(b"Host", b"Connection: close\r\nHost")
    with ExitStack() as stack:
        clients = []
        for _ in range(300):
            clients.append(stack.enter_context(process.tcp()))
            clients[-1].sendall(call)
        assert {status_of(client) for client in clients} == {b"HTTP/1.1 200 OK\r\n"}


def test_an_end_waits_a_second_at_most_for_the_last_report(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    SamplingService(fake_xray, make_rule("a"))
    process = xrayd()
    rule_names(process)
    fake_xray.answer(Verdict(hang=True), path=TARGETS)
    report(process, statistics("a", 1, 7))
    process.sigterm()
    assert process.wait(5) == 0


def test_200_clients_cost_one_round_per_interval_and_share_the_quota(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    rules = [make_rule(f"r{number:02}") for number in range(25)]
    names = [rule["RuleName"] for rule in rules] + ["Default"]
    service = SamplingService(fake_xray, *rules)
    service.quotas = dict.fromkeys(names, 150)
    process = xrayd()
    rule_names(process)
    said = 0
    last: dict[tuple[int, str], int] = {}

    def poll(client: int) -> None:
        answer = report(process, *(statistics(name, client, client % 7) for name in names))
        assert answer["UnprocessedStatistics"] == []
        for target in answer["SamplingTargetDocuments"]:
            # None: the client keeps what it has, until others have given up what it is due.
            if "ReservoirQuota" in target:
                last[client, target["RuleName"]] = target["ReservoirQuota"]

    with ThreadPoolExecutor(200) as pool:
        for wave in range(3):
            list(pool.map(poll, range(200)))
            said += sum(client % 7 for client in range(200))
            service.wait_counted("Default", said)
            assert all(service.counted[name] == said for name in names), wave
            for name in names:
                held = sum(quota for (_, rule), quota in last.items() if rule == name)
                assert held <= 150
    assert len({client for client, _ in last}) == 200
    assert service.documents_max == 25
    # Two calls carry 26 rules. The first round may hold any part of the first wave.
    rounds = sorted(request.at for request in fake_xray.requests(TARGETS))
    apart = [later - earlier for earlier, later in zip(rounds, rounds[2:], strict=False)]
    assert all(seconds > 8 for seconds in apart[1:]), apart
    assert len(rounds) <= 2 * 4


def test_the_quota_is_never_exceeded_while_it_moves_to_the_client_that_needs_it(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    service = SamplingService(fake_xray, make_rule("a", ReservoirSize=10))
    service.quotas["a"] = 10
    process = xrayd()
    rule_names(process)
    held: dict[int, int] = {}

    def poll(*requests: int) -> dict[int, int]:
        """Each client reports its requests; what all of them hold after that."""
        for client, count in enumerate(requests):
            for target in report(process, statistics("a", client, count))[
                "SamplingTargetDocuments"
            ]:
                held[client] = target.get("ReservoirQuota", held.get(client, 0))
            assert sum(held.values()) <= 10, held
        return held

    wait_until(lambda: poll(50, 50, 50) == {0: 4, 1: 3, 2: 3}, "even shares")
    wait_until(lambda: poll(50, 0, 0) == {0: 8, 1: 1, 2: 1}, "the share of who is idle")
    wait_until(lambda: poll(50, 0, 0, 50) == {0: 4, 1: 1, 2: 1, 3: 4}, "a share for who is new")
    wait_until(lambda: poll(0, 50, 0, 0) == {0: 1, 1: 7, 2: 1, 3: 1}, "the share of who was busy")


def test_a_change_of_rules_is_seen_within_an_interval(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    service = SamplingService(fake_xray, make_rule("old"))
    process = xrayd()
    assert sorted(rule_names(process)) == ["Default", "old"]
    service.rules.insert(0, make_rule("new"))
    service.modified_at += 100
    before = report(process, statistics("old", 1, 1))["LastRuleModification"]
    wait_until(lambda: "new" in rule_names(process), "the new rule")
    assert report(process, statistics("new", 1, 1))["LastRuleModification"] > before


LOCAL_2 = {
    "version": 2,
    "rules": [
        {"host": "*", "http_method": "*", "url_path": "/x/*", "fixed_target": 4, "rate": 0.5}
    ],
    "default": {"fixed_target": 1, "rate": 0.1},
}
LOCAL_1 = {
    "version": 1,
    "rules": [
        {"service_name": "*", "http_method": "*", "url_path": "/x/*", "fixed_target": 4,
         "rate": 0.5}
    ],
    "default": {"fixed_target": 1, "rate": 0.1},
}  # fmt: skip
RECORDS = {
    "SamplingRuleRecords": [{"SamplingRule": make_rule("local-1", FixedRate=0.5, ReservoirSize=4)}]
}


@pytest.mark.parametrize("content", [LOCAL_1, LOCAL_2, RECORDS])
@pytest.mark.parametrize("name", ["rules.json", "rules.yaml"])
def test_a_rules_file_is_served_without_aws(
    xrayd: XraydFactory, fake_xray: FakeXRay, tmp_path: Path, content: object, name: str
) -> None:
    path = tmp_path / name
    indented = json.dumps(content, indent="\t")
    path.write_text(indented if name.endswith("json") else yaml.safe_dump(content))
    process = xrayd(config={"Sampling": {"RulesFile": str(path)}})
    assert sorted(rule_names(process)) == ["Default", "local-1"]

    def quota_of(client: int) -> int | None:
        (target,) = report(process, statistics("local-1", client, 10))["SamplingTargetDocuments"]
        assert target["FixedRate"] == 0.5
        return target.get("ReservoirQuota")

    assert quota_of(1) == 4
    wait_until(lambda: [quota_of(1), quota_of(2)] == [2, 2], "shares for both")
    assert fake_xray.requests(RULES) == fake_xray.requests(TARGETS) == []


def test_a_rules_file_is_read_again_at_sighup(xrayd: XraydFactory, tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(LOCAL_2))
    process = xrayd(config={"Sampling": {"RulesFile": str(path)}})
    path.write_text(json.dumps([make_rule("other")]))
    process.signal(signal.SIGHUP)
    process.wait_for_line("Sampling rules: 2 from")
    assert sorted(rule_names(process)) == ["Default", "other"]
    path.write_text('{"version": 3}')
    process.signal(signal.SIGHUP)
    process.wait_for_line("version: 3 is not known.*stay as they were")
    assert sorted(rule_names(process)) == ["Default", "other"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rules.yaml", "version: 2\nrules: [{}]\nrules: []\n", "line 3: rules stands here twice"),
        ("rules.yaml", "- RuleName: a\n  Host: b\n  Host: c\n", "line 3: Host stands here twice"),
        ("rules.json", '[{"Host": "b", "URLPath": "*", "Host": "c"}]', "Host stands twice"),
    ],
)
def test_a_rules_file_that_says_something_twice_is_refused(
    xrayd: XraydFactory, tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    process = xrayd(config={"Sampling": {"RulesFile": str(path)}}, ready=None)
    assert process.wait() == 1
    assert message in process.output


def test_a_rules_file_may_have_anchors_and_merged_keys(xrayd: XraydFactory, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "- &a {RuleName: a, Priority: 1, FixedRate: 0.5, ReservoirSize: 1}\n"
        "- &b {<<: *a, RuleName: b}\n"
        "- {<<: [*b, *a], RuleName: c}\n"
    )
    process = xrayd(config={"Sampling": {"RulesFile": str(path)}})
    assert sorted(rule_names(process)) == ["Default", "a", "b", "c"]


@pytest.mark.parametrize("value", ["!!timestamp x", '!!int ""', "!!bool x"])
def test_a_value_that_is_not_what_its_tag_says_ends_no_running_xrayd(
    xrayd: XraydFactory, tmp_path: Path, value: str
) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps([make_rule("known")]))
    process = xrayd(config={"Sampling": {"RulesFile": str(path)}})
    path.write_text(f"- {{RuleName: {value}}}")
    process.signal(signal.SIGHUP)
    process.wait_for_line("not what its YAML tag says.*stay as they were")
    assert sorted(rule_names(process)) == ["Default", "known"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": 3}', "version: 3 is not known; write 1 or 2"),
        ('{"version": 2}', "default: missing"),
        ("{", "not valid YAML or JSON"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_rules_file_is_one_line_and_exit_1(
    xrayd: XraydFactory, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "rules.json"
    if text is not None:
        path.write_text(text)
    process = xrayd(config={"Sampling": {"RulesFile": str(path)}}, ready=None)
    assert process.wait() == 1
    assert message in process.output


def test_settings_that_contradict_each_other_are_refused(xrayd: XraydFactory) -> None:
    process = xrayd(config={"Sampling": {"Proxy": "forward", "RulesFile": "x"}}, ready=None)
    assert process.wait() == 1
    assert "Sampling.RulesFile needs Sampling.Proxy: broker" in process.output


def test_forwarded_calls_are_each_a_call_of_aws(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    service = SamplingService(fake_xray)
    process = xrayd(config={"Sampling": {"Proxy": "forward"}})
    for _ in range(3):
        rule_names(process)
        report(process, statistics("Default", 1, 2))
    assert (service.calls(RULES), service.calls(TARGETS)) == (3, 3)
    assert service.counted["Default"] == 6
    assert process.get("/sampling").status == 404


def test_clients_that_start_together_are_all_forwarded(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.answer(Verdict(body={"SamplingRuleRecords": []}, delay_s=0.1), path=RULES)
    process = xrayd(config={"Sampling": {"Proxy": "forward"}})
    with ThreadPoolExecutor(len(FORTY_CLIENTS)) as pool:
        statuses = list(pool.map(lambda _: process.post(RULES).status, FORTY_CLIENTS))
    assert statuses == [200] * len(FORTY_CLIENTS)


def outer_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent; it only names an address of ours
        except OSError:
            pytest.skip("this machine has no address beside loopback")
        return str(probe.getsockname()[0])


def test_the_state_of_sampling_is_shown_to_loopback_only(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    SamplingService(fake_xray, make_rule("a", FixedRate=0.25))
    process = xrayd("-t", "0.0.0.0:{port}")
    view = json.loads(process.get("/sampling").body)
    assert [each["rule"]["RuleName"] for each in view["rules"]] == ["a", "Default"]
    assert process.request("GET", "/sampling", b"", {"Origin": "null"}).status == 403
    address = outer_address()
    with socket.create_connection((address, process.port), timeout=10) as sock:
        sock.sendall(b"GET /sampling HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 403 ")


def test_the_state_of_sampling_is_shown_to_callers_from_the_one_address_listened_on(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    SamplingService(fake_xray, make_rule("a", FixedRate=0.25))
    address = outer_address()
    process = xrayd("-t", f"{address}:{{port}}", ready=": region us-east-1")
    with socket.create_connection((address, process.port), timeout=10) as sock:
        sock.sendall(b"GET /sampling HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
