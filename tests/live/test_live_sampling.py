"""Unmodified samplers take their rules and targets from the daemon's TCP side."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from live.clients import RunningClient
from live.conftest import StartClient
from live.daemon import DaemonUnderTest, daemon_address, wait_until
from live.dev import Dev
from live.relay import Relay

SAMPLERS = ("python", "node", "java", "go", "adot", "otel-js")
SAY_NO_RULE = {"adot", "otel-js"}
# Node's takes the quota's TTL, which is in seconds, for milliseconds: it borrows for ever.
HONOUR_QUOTAS = tuple(name for name in SAMPLERS if name != "node")

QUOTA = 60
"""Requests a second, of all samplers together."""

# They fetch rules by their timer only: Node's takes LastRuleModification, which is in seconds, for
# milliseconds, and Java's does not read it.
SEE_NO_RULE_CHANGE = {"node", "java"}


def rule(name: str, service: str, path: str, rate: float, priority: int) -> dict[str, Any]:
    return {
        "RuleName": name,
        "RuleARN": f"arn:aws:xray:us-east-1:000000000000:sampling-rule/{name}",
        "ResourceARN": "*",
        "Priority": priority,
        "FixedRate": rate,
        "ReservoirSize": 0,
        "ServiceName": service,
        "ServiceType": "*",
        "Host": "*",
        "HTTPMethod": "*",
        "URLPath": path,
        "Version": 1,
        "Attributes": {},
    }


def rules_at_first(sampler: str) -> list[dict[str, Any]]:
    service = f"{sampler}-shop"
    return [
        rule(f"{sampler}-drop", service, "/drop/*", 0.0, 100),
        rule(f"{sampler}-late", service, "/late/*", 0.0, 200),
        rule(f"{sampler}-rest", service, "/*", 1.0, 9000),
    ]


def rule_in_time(sampler: str) -> dict[str, Any]:
    return rule(f"{sampler}-new", f"{sampler}-shop", "/new/*", 0.0, 300)


def sampled_of_20(client: RunningClient, path: str) -> int:
    """20 requests tell a rate of 0 or 1 from no rules: an SDK alone keeps one a second and 5 %."""
    return client.ask(f"{path} 20")["sampled"]


def sampled_in_one_second(clients: dict[str, RunningClient]) -> dict[str, int]:
    """How much each samples of twice the quota, all within one second by the clock."""
    while True:
        second = int(time.time()) + 1
        wait_until(lambda second=second: time.time() >= second, "the next second")
        sampled = {
            name: client.ask(f"/shared/1 {2 * QUOTA}")["sampled"]
            for name, client in clients.items()
        }
        if int(time.time()) == second:
            return sampled


def start_samplers(
    running: ExitStack,
    start_client: StartClient,
    address: str,
    samplers: Sequence[str] = SAMPLERS,
) -> tuple[dict[str, RunningClient], list[str]]:
    """All samplers this machine can run, and for each of the others the reason why not."""
    clients: dict[str, RunningClient] = {}
    absent: list[str] = []
    for sampler in samplers:
        try:
            client = start_client(sampler, "sampling", f"{sampler}-shop", daemon_address=address)
        except pytest.skip.Exception as skipped:
            absent.append(str(skipped.msg))
        else:
            clients[sampler] = running.enter_context(client)
    return clients, absent


def wait_for_each(clients: dict[str, RunningClient], path: str, sampled: int, what: str) -> None:
    for sampler, client in clients.items():
        wait_until(
            lambda client=client: sampled_of_20(client, path) == sampled, f"{sampler} {what}"
        )


def survive_an_outage(
    daemon: DaemonUnderTest,
    running: ExitStack,
    start_client: StartClient,
    clients: dict[str, RunningClient],
) -> None:
    """X-Ray is away: samplers that start now have their rules all the same, and nothing that is
    reported meanwhile is lost or counted twice.
    """
    daemon.cut_off()
    late, _ = start_samplers(running, start_client, daemon_address(daemon))
    wait_for_each(late, "/keep/1", 20, "has its rules in the outage")
    for client in [*clients.values(), *late.values()]:
        assert client.ask("/drop/1 25")["sampled"] == 0
    daemon.restore()
    for sampler in clients:
        drop = f"{sampler}-drop"
        wait_until(lambda drop=drop: daemon.reported_requests().get(drop, 0) >= 100, drop)
        assert daemon.reported_requests()[drop] == 100


def test_samplers_take_rules_follow_targets_and_see_a_rule_change(
    daemon: DaemonUnderTest, start_client: StartClient
) -> None:
    """All samplers at once, because each of them asks for targets only every ten seconds."""
    daemon.put_rules([rule for sampler in SAMPLERS for rule in rules_at_first(sampler)])
    with ExitStack() as running:
        clients, absent = start_samplers(running, start_client, daemon_address(daemon))

        wait_for_each(clients, "/keep/1", 20, "has its rules")
        fetched_at = time.time()
        for sampler, client in clients.items():
            named = {} if sampler in SAY_NO_RULE else {f"{sampler}-rest": 10}
            assert client.ask("/new/1 10") == {"requested": 10, "sampled": 10, "rules": named}
            assert client.ask("/drop/1 50") == {"requested": 50, "sampled": 0, "rules": {}}
            assert client.ask("/late/1 30") == {"requested": 30, "sampled": 0, "rules": {}}

        wait_until(lambda: time.time() > fetched_at + 1, "a later second, as SDKs count whole ones")
        for sampler in clients:
            daemon.change_rate(f"{sampler}-late", 1.0)
        daemon.put_rules([rule_in_time(sampler) for sampler in clients])

        wait_for_each(clients, "/late/1", 20, "follows its target")
        seeing = {name: clients[name] for name in clients if name not in SEE_NO_RULE_CHANGE}
        wait_for_each(seeing, "/new/1", 0, "sees the new rule")
        for sampler in clients:
            drop = f"{sampler}-drop"
            wait_until(lambda drop=drop: daemon.reported_requests().get(drop, 0) >= 50, drop)
            assert daemon.reported_requests()[drop] == 50
        if daemon.is_broker:
            survive_an_outage(daemon, running, start_client, clients)

    calls = daemon.sampling_calls()
    if calls is not None and daemon.is_broker:
        assert 2 <= calls["/GetSamplingRules"] <= 4  # at first, and after the change
    elif calls is not None:
        assert calls["/GetSamplingRules"] >= len(clients) + len(seeing)
        assert calls["/SamplingTargets"] >= len(clients)
    if absent:
        pytest.skip(f"ran without {len(absent)} samplers: {'; '.join(absent)}")


@pytest.mark.parametrize("make_daemon", [Relay, Dev])
def test_samplers_of_every_kind_share_one_quota_and_never_exceed_it(
    make_daemon: type[Relay | Dev], start_client: StartClient
) -> None:
    with make_daemon() as daemon, ExitStack() as running:
        daemon.put_rules([rule("shared", "*", "/shared/*", 0.0, 100) | {"ReservoirSize": QUOTA}])
        address = daemon_address(daemon)
        clients, absent = start_samplers(running, start_client, address, HONOUR_QUOTAS)
        # Until they are given a share, they borrow: one request a second each.
        wait_until(
            lambda: all(count > 1 for count in sampled_in_one_second(clients).values()),
            "every sampler has a share of the quota",
        )

        def is_used_up() -> bool:
            together = sum(sampled_in_one_second(clients).values())
            assert together <= QUOTA
            return together == QUOTA

        wait_until(is_used_up, "the whole quota is shared out")
    if absent:
        pytest.skip(f"ran without {len(absent)} samplers: {'; '.join(absent)}")


@pytest.mark.slow
@pytest.mark.parametrize("sampler", sorted(SEE_NO_RULE_CHANGE))
def test_samplers_that_fetch_by_their_timer_only_see_a_rule_change_in_its_five_minutes(
    sampler: str, start_client: StartClient
) -> None:
    with Relay() as relay:
        relay.put_rules(rules_at_first(sampler))
        address = daemon_address(relay)
        with start_client(sampler, "sampling", f"{sampler}-shop", daemon_address=address) as client:
            wait_for_each({sampler: client}, "/keep/1", 20, "has its rules")
            relay.put_rules([rule_in_time(sampler)])
            wait_until(lambda: sampled_of_20(client, "/new/1") == 0, "the new rule", timeout=400)
