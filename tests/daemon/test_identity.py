"""Where credentials, region and endpoint come from, and what happens when they change."""

import json
import signal
from pathlib import Path

import pytest
from fakes.documents import make_document
from fakes.factory import XraydFactory
from fakes.metadata import FakeContainerCredentials, FakeEcsMetadata, FakeImds, FakeSts
from fakes.proxy import FakeProxy
from fakes.tls import Certificates
from fakes.verdict import Verdict
from fakes.xray import ACCESS_KEY, CREDENTIALS, SECRET_KEY, FakeXRay

NOBODY: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


def test_container_credentials(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    with FakeContainerCredentials(accepted_by=fake_xray) as container:
        process = xrayd(env={**NOBODY, **container.environment()})
        process.send_document(make_document())
        fake_xray.wait_documents(1)
        process.wait_for_line("credentials from container-role")


def test_instance_credentials_and_region(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    with FakeImds(accepted_by=fake_xray, region="us-east-1") as imds:
        process = xrayd("-o=false", region=None, env={**NOBODY, **imds.environment()})
        process.send_document(make_document())
        fake_xray.wait_documents(1)
        process.wait_for_line(
            r"region us-east-1 \(EC2 instance metadata\), credentials from iam-role"
        )
        process.sigterm()
        process.wait(20)
        record = json.loads(fake_xray.requests("/TelemetryRecords")[0].body)
        assert record["EC2InstanceId"] == imds.instance_id


def test_local_mode_does_not_ask_the_instance_for_a_region(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    with FakeImds(accepted_by=fake_xray) as imds:
        process = xrayd(region=None, env=imds.environment())
        process.wait_for_line("Segments are held, not sent: no region")
        assert imds.requests() == []


def test_ecs_task_metadata_gives_the_region(xrayd: XraydFactory) -> None:
    with FakeEcsMetadata(region="us-east-1") as task:
        process = xrayd(region=None, env=task.environment())
        process.wait_for_line(r"region us-east-1 \(ECS task metadata\)")


def test_ecs_metadata_file_gives_the_region(xrayd: XraydFactory, tmp_path: Path) -> None:
    path = tmp_path / "metadata.json"
    path.write_text('{"TaskARN":"arn:aws:ecs:us-east-1:1234:task/x"}')
    variables = {"ECS_ENABLE_CONTAINER_METADATA": "true", "ECS_CONTAINER_METADATA_FILE": str(path)}
    process = xrayd(region=None, env={**variables, "AWS_DEFAULT_REGION": "eu-west-1"})
    process.wait_for_line(r"region us-east-1 \(ECS metadata file\)")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"TaskARN":"x"}', '{"TaskARN":[1]}'])
def test_a_malformed_metadata_file_is_one_line_and_exit_1(
    xrayd: XraydFactory, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "metadata.json"
    path.write_text(text)
    variables = {"ECS_ENABLE_CONTAINER_METADATA": "true", "ECS_CONTAINER_METADATA_FILE": str(path)}
    process = xrayd(region=None, env=variables, ready=None)
    assert process.wait(20) == 1
    assert len(process.stderr) == 1
    assert "ECS_CONTAINER_METADATA_FILE" in process.stderr[0]


def test_a_region_that_turns_bad_while_running_changes_nothing(
    xrayd: XraydFactory, fake_xray: FakeXRay, tmp_path: Path
) -> None:
    profile = tmp_path / "profile"
    profile.write_text("[default]\nregion = us-east-1\n")
    process = xrayd(region=None, env={"AWS_CONFIG_FILE": str(profile)})
    process.wait_for_line(r"region us-east-1 \(profile default\)")
    profile.write_text("[default]\nregion = no region!\n")
    process.signal(signal.SIGHUP)
    process.wait_for_line("Reloaded")
    process.wait_for_line("found before is used: profile default: 'no region!' is no region")
    process.send_document(make_document())
    fake_xray.wait_documents(1)


@pytest.mark.parametrize(
    ("env", "origin"),
    [
        ({"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "eu-west-1"}, "AWS_REGION"),
        ({"AWS_DEFAULT_REGION": "us-east-1"}, "AWS_DEFAULT_REGION"),
    ],
)
def test_the_environment_gives_the_region(
    xrayd: XraydFactory, env: dict[str, str], origin: str
) -> None:
    xrayd(region=None, env=env).wait_for_line(rf"region us-east-1 \({origin}\)")


def test_a_role_is_assumed_with_session_name_and_external_id(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    role = "arn:aws:iam::123456789012:role/tracing"
    with FakeSts(accepted_by=fake_xray) as sts:
        process = xrayd("-r", role, config={"RoleExternalID": "ext-1"}, env=sts.environment())
        process.send_document(make_document())
        fake_xray.wait_documents(1)
        call = sts.calls[0]
        assert (call.role_arn, call.session_name, call.external_id) == (
            role,
            "xray-daemon",
            "ext-1",
        )
        process.wait_for_line(f"credentials from {role} by env")


def test_web_identity(xrayd: XraydFactory, fake_xray: FakeXRay, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("web-token")
    with FakeSts(accepted_by=fake_xray) as sts:
        variables = {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/pod",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        }
        process = xrayd(env={**NOBODY, **variables, **sts.environment()})
        process.send_document(make_document())
        fake_xray.wait_documents(1)
        assert sts.calls[0].web_identity_token == "web-token"


def test_a_profile(xrayd: XraydFactory, fake_xray: FakeXRay, tmp_path: Path) -> None:
    (tmp_path / "aws").write_text(
        f"[profile tracing]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n"
        "region=us-east-1\n"
    )
    env = {**NOBODY, "AWS_PROFILE": "tracing", "AWS_CONFIG_FILE": str(tmp_path / "aws")}
    process = xrayd(region=None, env=env)
    process.send_document(make_document())
    fake_xray.wait_documents(1)
    process.wait_for_line(r"region us-east-1 \(profile tracing\)")


def test_short_lived_credentials_are_refreshed_before_they_expire(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    with FakeContainerCredentials(accepted_by=fake_xray, ttl_s=4.0) as container:
        process = xrayd(env={**NOBODY, **container.environment()})
        for round_ in range(1, 6):
            process.send_document(make_document())
            fake_xray.wait_documents(round_)
            seen = len(container.issued)
            container.wait_for(lambda seen=seen: len(container.issued) > seen, what="a refresh")
        assert all(r.signature and r.signature.ok for r in fake_xray.requests("/TraceSegments"))


def test_expired_credentials_are_replaced_and_nothing_is_lost(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    with FakeContainerCredentials(accepted_by=fake_xray) as container:
        process = xrayd(env={**NOBODY, **container.environment()})
        process.send_document(make_document())
        fake_xray.wait_documents(1)
        fake_xray.expire(container.issued[-1].access_key)
        container.rotate()
        process.send_document(make_document())
        fake_xray.wait_documents(2, timeout=20)
        process.wait_for_line("ExpiredTokenException")


def test_denied_access_is_held_until_it_is_granted(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.answer(Verdict(status=403, error="AccessDeniedException"))
    process = xrayd()
    process.send_document(make_document())
    process.wait_for_line("AccessDeniedException.*held")
    fake_xray.answer(None)
    fake_xray.wait_documents(1)


@pytest.mark.parametrize("offset_s", [960.0, -960.0, 7200.0])
def test_a_clock_that_is_off_is_corrected_by_the_services(
    xrayd: XraydFactory, fake_xray: FakeXRay, offset_s: float
) -> None:
    fake_xray.clock_offset_s = offset_s
    process = xrayd()
    process.send_document(make_document())
    fake_xray.wait_documents(1)
    process.send_document(make_document())
    fake_xray.wait_documents(2)
    refused = [
        r for r in fake_xray.requests("/TraceSegments") if not (r.signature and r.signature.ok)
    ]
    assert len(refused) == 1


def test_hostile_credentials_are_not_used(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    with FakeContainerCredentials(accepted_by=fake_xray) as container:
        container.answer(
            Verdict(
                body={
                    "AccessKeyId": "AKID\r\nX-Evil: 1",
                    "SecretAccessKey": "s",
                    "Token": "t",
                    "Expiration": "2999-01-01T00:00:00Z",
                }
            ),
            path="*",
        )
        process = xrayd(env={**NOBODY, **container.environment()})
        process.wait_for_line("hold control characters")
        process.send_document(make_document())
        assert fake_xray.requests() == []


def names_of(endpoint_env: dict[str, str], region: str, xrayd: XraydFactory) -> str:
    """The host a process connects to, by the proxy it asks."""
    with FakeProxy() as proxy:
        process = xrayd(
            region=region,
            config={"Endpoint": None, "ProxyAddress": proxy.url},
            env=endpoint_env,
        )
        process.send_document(make_document())
        proxy.wait_for(lambda: proxy.tunnels, what="a tunnel")
        return proxy.tunnels[0].target


@pytest.mark.parametrize(
    ("region", "env", "target"),
    [
        ("us-west-2", {}, "xray.us-west-2.amazonaws.com:443"),
        ("cn-north-1", {}, "xray.cn-north-1.amazonaws.com.cn:443"),
        ("us-iso-east-1", {}, "xray.us-iso-east-1.c2s.ic.gov:443"),
        ("us-isob-east-1", {}, "xray.us-isob-east-1.sc2s.sgov.gov:443"),
        (
            "us-east-1",
            {"AWS_USE_FIPS_ENDPOINT": "true"},
            "xray-fips.us-east-1.amazonaws.com:443",
        ),
        ("us-east-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "xray.us-east-1.api.aws:443"),
        (
            "us-east-1",
            {"AWS_ENDPOINT_URL": "https://general.example"},
            "general.example:443",
        ),
        (
            "us-east-1",
            {
                "AWS_ENDPOINT_URL": "https://general.example",
                "AWS_ENDPOINT_URL_XRAY": "https://special.example:8443",
            },
            "special.example:8443",
        ),
    ],
)
def test_endpoints(xrayd: XraydFactory, region: str, env: dict[str, str], target: str) -> None:
    assert names_of(env, region, xrayd) == target


def test_no_secret_is_ever_logged(xrayd: XraydFactory, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with (
        FakeXRay(tls=certificates.good("xray.example.test")) as fake,
        FakeProxy(resolve={"xray.example.test:443": fake.address[1]}) as proxy,
        FakeContainerCredentials(accepted_by=fake, authorization="canary-pod") as container,
    ):
        variables = {"AWS_CA_BUNDLE": str(certificates.ca_path), **container.environment()}
        process = xrayd(
            "-l",
            "dev",
            config={
                "Endpoint": "https://xray.example.test",
                "ProxyAddress": f"http://user:canary-proxy@127.0.0.1:{proxy.address[1]}",
            },
            env={**NOBODY, **variables},
        )
        process.send_document(make_document(metadata={"a": {"b": "canary-body"}}))
        fake.wait_documents(1)
        fake.script(Verdict(status=500))
        process.send_document(make_document(metadata={"a": {"b": "canary-body"}}))
        process.wait_for_line("failed with: HTTP 500")
        process.sigterm()
        process.wait(20)
        issued = container.issued[0]
    for secret in ("canary-proxy", "canary-pod", issued.secret, issued.token, "AWS4-HMAC"):
        assert secret not in process.output
    assert "canary-body" not in process.output


def test_the_fakes_credentials_are_what_this_table_means() -> None:
    assert set(CREDENTIALS) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
