"""The sources of credentials and region, read by a live botocore."""

import http.client
import json

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, MetadataRetrievalError
from botocore.session import Session
from botocore.utils import IMDSRegionProvider
from fakes.metadata import FakeContainerCredentials, FakeEcsMetadata, FakeImds, FakeSts
from fakes.verdict import Verdict
from fakes.xray import ACCESS_KEY, CREDENTIALS, SECRET_KEY, FakeXRay


@pytest.fixture
def session(monkeypatch, tmp_path):
    """A botocore session in an environment without any credentials, and a way to add to it."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def make(environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Session()

    return make


def call_xray(fake, credentials):
    boto3.session.Session(
        credentials.access_key, credentials.secret_key, credentials.token, "us-east-1"
    ).client(
        "xray", endpoint_url=fake.url, config=Config(retries={"total_max_attempts": 1})
    ).get_sampling_rules()


@pytest.mark.parametrize("source", [FakeImds, FakeContainerCredentials])
def test_its_credentials_are_accepted_by_x_ray_until_they_expire(source, session):
    with FakeXRay() as xray, source(accepted_by=xray, ttl_s=3600) as fake:
        credentials = session(fake.environment()).get_credentials()
        frozen = credentials.get_frozen_credentials()
        assert frozen.access_key == fake.issued[0].access_key
        call_xray(xray, frozen)
        xray.expire(frozen.access_key)
        with pytest.raises(ClientError, match="ExpiredTokenException"):
            call_xray(xray, frozen)


def test_short_lived_credentials_rotate(session):
    with FakeContainerCredentials(ttl_s=60) as fake:
        credentials = session(fake.environment()).get_credentials()
        keys = set()
        for _ in range(3):
            keys.add(credentials.get_frozen_credentials().access_key)
            fake.rotate()
        assert len(keys) == 3
        assert keys == {issued.access_key for issued in fake.issued}


@pytest.mark.parametrize("source", [FakeImds, FakeContainerCredentials])
def test_a_credential_is_handed_out_again_while_it_is_fresh(source, session):
    with source() as fake:
        environment = fake.environment()
        for _ in range(2):
            session(environment).get_credentials().get_frozen_credentials()
        assert len(fake.issued) == 1
        assert len(fake.requests()) >= 2
        fake.rotate()
        session(environment).get_credentials().get_frozen_credentials()
        assert len(fake.issued) == 2


def test_the_region_and_identity_of_an_instance_can_be_read(session):
    with FakeImds(region="eu-west-3", instance_id="i-0fake") as imds:
        environment = imds.environment()
        made = session(environment)
        provider = IMDSRegionProvider(made, {**environment, "AWS_EC2_METADATA_DISABLED": "false"})
        assert provider.provide() == "eu-west-3"
        token = send(imds, "PUT", imds.TOKEN_PATH, {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        headers = {"X-aws-ec2-metadata-token": token[1].decode()}
        assert send(imds, "GET", "/latest/meta-data/instance-id", headers) == (200, b"i-0fake")
        assert send(imds, "GET", "/latest/meta-data/placement/region", headers)[1] == b"eu-west-3"
        document = send(imds, "GET", "/latest/dynamic/instance-identity/document", headers)[1]
        assert json.loads(document) == {"region": "eu-west-3", "instanceId": "i-0fake"}
        assert send(imds, "GET", "/latest/meta-data/nothing", headers)[0] == 404


def send(fake, method, path, headers=None):
    connection = http.client.HTTPConnection(*fake.address, timeout=20)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_instance_metadata_needs_a_session_token_that_may_expire():
    with FakeImds() as imds:
        path = "/latest/meta-data/instance-id"
        assert send(imds, "GET", path)[0] == 401
        assert send(imds, "GET", imds.TOKEN_PATH)[0] == 405
        assert send(imds, "PUT", imds.TOKEN_PATH)[0] == 400
        _, token = send(
            imds, "PUT", imds.TOKEN_PATH, {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
        )
        headers = {"X-aws-ec2-metadata-token": token.decode()}
        assert send(imds, "GET", path, headers)[0] == 200
        imds.expire_tokens()
        assert send(imds, "GET", path, headers)[0] == 401
        assert len(imds.requests(path)) == 3


@pytest.mark.parametrize("fault", [Verdict(status=401), Verdict(abort_at=0), Verdict(hang=True)])
def test_instance_metadata_may_refuse_break_or_hang(session, fault):
    with FakeImds() as imds:
        imds.answer(fault, path=imds.TOKEN_PATH)
        made = session(imds.environment())
        made.set_config_variable("metadata_service_timeout", 1)
        try:
            found = made.get_credentials()
        except MetadataRetrievalError:
            found = None
        assert found is None
        imds.answer(None, path=imds.TOKEN_PATH)
        again = session(imds.environment())
        assert again.get_credentials().access_key == imds.issued[0].access_key


def test_an_instance_without_a_role_has_no_credentials(session):
    with FakeImds(role=None) as imds:
        assert session(imds.environment()).get_credentials() is None


def test_a_container_endpoint_demands_its_token():
    with FakeContainerCredentials() as fake:
        assert send(fake, "GET", fake.PATH)[0] == 403
        assert send(fake, "GET", fake.PATH, {"Authorization": "another"})[0] == 403
        assert fake.issued == []
        assert send(fake, "GET", fake.PATH, {"Authorization": fake.authorization})[0] == 200


def test_the_task_metadata_of_ecs_names_the_region():
    with FakeEcsMetadata(region="ap-south-1") as ecs:
        uri = ecs.environment()["ECS_CONTAINER_METADATA_URI_V4"]
        status, body = send(ecs, "GET", f"{uri.removeprefix(ecs.url)}/task")
        assert status == 200
        assert json.loads(body)["TaskARN"].split(":")[3] == "ap-south-1"
        assert json.loads(body)["AvailabilityZone"] == "ap-south-1a"
        ecs.answer(Verdict(body="{malformed"))
        assert send(ecs, "GET", f"{ecs.PATH}/task")[1] == b"{malformed"


def make_sts_client(session, sts, secret=SECRET_KEY):
    return session(
        {**sts.environment(), **CREDENTIALS, "AWS_SECRET_ACCESS_KEY": secret}
    ).create_client(
        "sts", region_name="us-east-1", config=Config(retries={"total_max_attempts": 1})
    )


def test_a_role_is_assumed_with_a_verified_signature(session):
    with FakeXRay() as xray, FakeSts(accepted_by=xray) as sts:
        answer = make_sts_client(session, sts).assume_role(
            RoleArn="arn:aws:iam::123456789012:role/tracer",
            RoleSessionName="xray-daemon",
            ExternalId="<external & id>",
        )
        found = answer["Credentials"]
        call_xray(
            xray,
            Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]),
        )
    [call] = sts.calls
    assert (call.action, call.role_arn) == ("AssumeRole", "arn:aws:iam::123456789012:role/tracer")
    assert (call.session_name, call.external_id) == ("xray-daemon", "<external & id>")
    assert call.signature.access_key == ACCESS_KEY


def test_a_wrong_signature_or_the_script_refuses_the_role(session):
    request = {"RoleArn": "arn:aws:iam::123456789012:role/tracer", "RoleSessionName": "xray-daemon"}
    with FakeSts() as sts:
        with pytest.raises(ClientError, match=r"InvalidClientTokenId.*signature_mismatch"):
            make_sts_client(session, sts, "wrong").assume_role(**request)
        sts.script(Verdict(status=403, error="AccessDenied", message="no <role>"))
        with pytest.raises(ClientError, match=r"AccessDenied.*no <role>"):
            make_sts_client(session, sts).assume_role(**request)
    assert sts.calls == []
    assert sts.issued == []


def test_a_web_identity_is_exchanged_for_credentials(session, tmp_path):
    (tmp_path / "token").write_text("the.web.identity")
    with FakeXRay() as xray, FakeSts(accepted_by=xray) as sts:
        made = session(
            {
                **sts.environment(),
                "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/pod",
                "AWS_ROLE_SESSION_NAME": "xray-daemon",
                "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        )
        call_xray(xray, made.get_credentials().get_frozen_credentials())
    [call] = sts.calls
    assert call.action == "AssumeRoleWithWebIdentity"
    assert (call.web_identity_token, call.session_name) == ("the.web.identity", "xray-daemon")
    assert call.signature is None
