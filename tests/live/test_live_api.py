"""API clients put a segment into X-Ray, find it again, and take part in sampling."""

import pytest
from live.conftest import RunClient
from live.daemon import DaemonUnderTest, daemon_address


@pytest.mark.parametrize("client", ["boto3", "awscli", "aws-sdk-js"])
def test_an_api_client_reads_back_what_it_put(
    client: str, daemon: DaemonUnderTest, run_client: RunClient
) -> None:
    if daemon.endpoint_url is None:
        pytest.skip("this daemon offers no X-Ray endpoint")
    report = run_client(
        client, "api", daemon_address=daemon_address(daemon), endpoint_url=daemon.endpoint_url
    )

    assert report["unprocessed"] == []
    assert report["summarised"] is True
    assert report["segments"] == [report["segment_id"]]
    assert "Default" in report["rules"]
    assert report["targets"] == ["Default"]
    assert daemon.sampling_calls() in ({"/GetSamplingRules": 1, "/SamplingTargets": 1}, None)
    assert daemon.reported_requests() == {"Default": 10}
