"""What unmodified clients send is kept or dropped as a whole where xrayd itself samples."""

import re

import pytest
from fakes.sampling import rule_names
from live.conftest import RunClient
from live.daemon import daemon_address, wait_for_ids
from live.relay import Relay
from live.test_live_sampling import rule


def relay_with(rate: float) -> Relay:
    """A relay that applies one rate to all traces."""
    relay = Relay(apply="all")
    relay.put_rules([rule("Default", "*", "*", rate, 10_000)])
    return relay


def fates(relay: Relay) -> dict[str, int]:
    """Where every document went, as the relay says at its end."""
    relay.process.sigterm()
    assert relay.process.wait(30) == 0
    line = relay.process.wait_for_line(r"Stopped: (.*)")[1]
    return {name: int(count) for name, count in re.findall(r"(\w+)=(-?\d+)", line)}


@pytest.mark.parametrize("client", ["python", "node", "java", "go"])
def test_a_trace_of_an_xray_sdk_is_kept_or_dropped_as_a_whole(
    client: str, run_client: RunClient
) -> None:
    with relay_with(1.0) as relay:
        assert rule_names(relay.process) == ["Default"]
        sent = run_client(client, "udp", daemon_address=daemon_address(relay))
        wait_for_ids(relay, set(sent["ids"].values()))
        assert fates(relay)["sampled_out"] == 0
    with relay_with(0.0) as relay:
        assert rule_names(relay.process) == ["Default"]
        run_client(client, "udp", daemon_address=daemon_address(relay))
        summary = fates(relay)
        assert summary["sampled_out"] == summary["received"] > 0
        assert summary["sent"] == summary["difference"] == 0


def test_sampled_payloads_of_the_opentelemetry_distro_are_decided_by_their_trace(
    run_client: RunClient,
) -> None:
    with relay_with(1.0) as relay:
        assert rule_names(relay.process) == ["Default"]
        sent = run_client("adot", "udp", daemon_address=daemon_address(relay))
        relay.wait_for_documents(lambda documents: len(documents) >= len(sent["ids"]))
        assert fates(relay)["sampled_out"] == 0
    with relay_with(0.0) as relay:
        assert rule_names(relay.process) == ["Default"]
        run_client("adot", "udp", daemon_address=daemon_address(relay))
        summary = fates(relay)
        assert summary["sampled_out"] == summary["received"] > 0
        assert summary["sent"] == 0
