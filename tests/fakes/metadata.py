"""Where credentials and region come from on AWS: IMDSv2, ECS and EKS endpoints, STS.

Every fake has `environment()`: the variables that lead botocore and xrayd to it. Where
`accepted_by` names a FakeXRay, that service accepts what is handed out here until it expires, so
that an expired credential is really refused.
"""

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from fakes.http1 import HttpServer, Request
from fakes.sigv4 import Credential, SignatureVerdict, verify
from fakes.verdict import ErrorStyle, Verdict
from fakes.xray import ACCESS_KEY, SECRET_KEY, FakeXRay

TTL_S = 6 * 3600.0
ROLE = "fake-role"


@dataclass(frozen=True)
class Issued:
    """Temporary credentials as handed out; `expires_at` is epoch seconds."""

    access_key: str
    secret: str
    token: str
    expires_at: float

    @property
    def expiration(self) -> str:
        return datetime.fromtimestamp(self.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class CredentialIssuer(HttpServer):
    """Base of the sources: hands out one credential until it is half used up, then the next."""

    def __init__(
        self, *, ttl_s: float = TTL_S, accepted_by: FakeXRay | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.ttl_s = ttl_s
        """Validity of the credentials issued from now on."""
        self.issued: list[Issued] = []
        """All that were handed out, oldest first."""
        self._accepted_by = accepted_by
        self._is_due = True

    def rotate(self) -> None:
        """Hand out a new credential from the next request on."""
        self._is_due = True

    def current(self) -> Issued:
        """The credential to hand out now."""
        now = self.now()
        if self._is_due or self.issued[-1].expires_at - now < self.ttl_s / 2:
            self._is_due = False
            self.issue(now)
        return self.issued[-1]

    def issue(self, now: float) -> Issued:
        """Make a new credential, and have it accepted."""
        issued = Issued(
            access_key=f"ASIA{secrets.token_hex(8).upper()}",
            secret=secrets.token_urlsafe(30),
            token=f"token/{secrets.token_urlsafe(60)}+==",
            expires_at=now + self.ttl_s,
        )
        self.issued.append(issued)
        if self._accepted_by is not None:
            self._accepted_by.trust(
                issued.access_key, issued.secret, issued.token, issued.expires_at
            )
        return issued

    def environment(self) -> dict[str, str]:
        """The variables that lead a client here."""
        raise NotImplementedError


class FakeImds(CredentialIssuer):
    """EC2 instance metadata, version 2 only: every read needs a session token.

    Script faults by path: `script(Verdict(status=401), path=TOKEN_PATH)`.
    """

    content_type = "text/plain"
    TOKEN_PATH = "/latest/api/token"
    ROLES_PATH = "/latest/meta-data/iam/security-credentials/"

    def __init__(
        self,
        *,
        region: str = "us-east-1",
        role: str | None = ROLE,
        instance_id: str = "i-0123456789abcdef0",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.region = region
        self.role = role
        """None: an instance without a role, 404."""
        self.instance_id = instance_id
        self._tokens: set[str] = set()

    def environment(self) -> dict[str, str]:
        return {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{self.url}/",
            "AWS_EC2_METADATA_DISABLED": "false",
        }

    def expire_tokens(self) -> None:
        """Answer 401 to every session token handed out so far."""
        self._tokens.clear()

    def usual(self, request: Request) -> Verdict:
        if request.path == self.TOKEN_PATH:
            return self._give_token(request)
        if request.header("x-aws-ec2-metadata-token") not in self._tokens:
            return Verdict(status=401, body="Unauthorized")
        value = self._look_up(request.path)
        return Verdict(status=404, body="Not Found") if value is None else Verdict(body=value)

    def _give_token(self, request: Request) -> Verdict:
        ttl = request.header("x-aws-ec2-metadata-token-ttl-seconds")
        if request.method != "PUT":
            return Verdict(status=405)
        if ttl is None or not 1 <= int(ttl) <= 21_600:
            return Verdict(status=400)
        token = secrets.token_urlsafe(40)
        self._tokens.add(token)
        return Verdict(body=token, headers={"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": ttl})

    def _look_up(self, path: str) -> str | None:
        if self.role is not None:
            if path.rstrip("/") == self.ROLES_PATH.rstrip("/"):
                return self.role
            if path == f"{self.ROLES_PATH}{self.role}":
                return self._describe_credentials()
        document = {"region": self.region, "instanceId": self.instance_id}
        return {
            "/latest/meta-data/placement/region": self.region,
            "/latest/meta-data/placement/availability-zone": f"{self.region}a",
            "/latest/meta-data/instance-id": self.instance_id,
            "/latest/meta-data/hostname": "ip-10-0-0-1.ec2.internal",
            "/latest/dynamic/instance-identity/document": json.dumps(document),
        }.get(path.rstrip("/"))

    def _describe_credentials(self) -> str:
        issued = self.current()
        return json.dumps(
            {
                "Code": "Success",
                "LastUpdated": datetime.fromtimestamp(self.now(), UTC).strftime(
                    "%Y-%m-%dT%H:%M:%SZ"
                ),
                "Type": "AWS-HMAC",
                "AccessKeyId": issued.access_key,
                "SecretAccessKey": issued.secret,
                "Token": issued.token,
                "Expiration": issued.expiration,
            }
        )


class FakeContainerCredentials(CredentialIssuer):
    """The credentials endpoint of ECS and of EKS Pod Identity, behind an authorization token."""

    PATH = "/v2/credentials"

    def __init__(self, *, authorization: str | None = "fake-pod-token", **options: Any) -> None:
        super().__init__(**options)
        self.authorization = authorization
        """The Authorization header demanded; None demands none."""

    def environment(self) -> dict[str, str]:
        variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}{self.PATH}"}
        if self.authorization is not None:
            variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = self.authorization
        return variables

    def usual(self, request: Request) -> Verdict:
        if (request.method, request.path) != ("GET", self.PATH):
            return Verdict(status=404, body={"message": "not found"})
        if self.authorization is not None and request.header("authorization") != self.authorization:
            return Verdict(status=403, body={"message": "wrong authorization token"})
        issued = self.current()
        return Verdict(
            body={
                "RoleArn": f"arn:aws:iam::123456789012:role/{ROLE}",
                "AccessKeyId": issued.access_key,
                "SecretAccessKey": issued.secret,
                "Token": issued.token,
                "Expiration": issued.expiration,
            }
        )


class FakeEcsMetadata(HttpServer):
    """The task metadata endpoint of ECS, version 4."""

    PATH = "/v4/0123456789abcdef-fake"

    def __init__(self, *, region: str = "us-east-1", **options: Any) -> None:
        super().__init__(**options)
        self.task: dict[str, Any] = {
            "Cluster": "default",
            "TaskARN": f"arn:aws:ecs:{region}:123456789012:task/default/158d1c8083dd49d6b527",
            "Family": "fake",
            "Revision": "1",
            "AvailabilityZone": f"{region}a",
            "LaunchType": "FARGATE",
        }
        """What `/task` answers; change it or empty it."""

    def environment(self) -> dict[str, str]:
        return {"ECS_CONTAINER_METADATA_URI_V4": f"{self.url}{self.PATH}"}

    def usual(self, request: Request) -> Verdict:
        if request.path == f"{self.PATH}/task":
            return Verdict(body=self.task)
        if request.path == self.PATH:
            return Verdict(body={"DockerName": "fake", "Labels": {}})
        return Verdict(status=404)


@dataclass(frozen=True)
class StsCall:
    """One request to STS that was answered with credentials."""

    action: str
    role_arn: str
    session_name: str
    external_id: str | None
    web_identity_token: str | None
    signature: SignatureVerdict | None
    """Of AssumeRole; AssumeRoleWithWebIdentity is not signed."""


class FakeSts(CredentialIssuer):
    """STS: AssumeRole and AssumeRoleWithWebIdentity.

    `credentials` are those AssumeRole must be signed with, by default the ones every FakeXRay
    accepts. Every call issues a new credential.
    """

    content_type = "text/xml"
    errors_as = ErrorStyle(
        content_type="text/xml",
        write=lambda code, message: (
            "<ErrorResponse><Error><Type>Sender</Type>"
            f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
            "<RequestId>fake</RequestId></ErrorResponse>"
        ).encode(),
    )

    def __init__(self, *, credentials: dict[str, Credential] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.credentials = credentials or {ACCESS_KEY: Credential(SECRET_KEY)}
        self.calls: list[StsCall] = []

    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_STS": self.url}

    def usual(self, request: Request) -> Verdict:
        form = request.form()
        action = form.get("Action", "")
        signature = None
        if action == "AssumeRole":
            signature = verify(
                request.method,
                request.target,
                request.headers,
                request.body,
                credentials=self.credentials,
                service="sts",
                now=self.now(),
            )
            if not signature.ok:
                message = f"{signature.reason}: {signature.detail}"
                return Verdict(status=403, error="InvalidClientTokenId", message=message)
        elif action != "AssumeRoleWithWebIdentity":
            return Verdict(status=400, error="InvalidAction", message=f"no action {action!r}")
        self.calls.append(
            StsCall(
                action=action,
                role_arn=form.get("RoleArn", ""),
                session_name=form.get("RoleSessionName", ""),
                external_id=form.get("ExternalId"),
                web_identity_token=form.get("WebIdentityToken"),
                signature=signature,
            )
        )
        return Verdict(body=_describe_role(action, self.calls[-1], self.issue(self.now())))


def _describe_role(action: str, call: StsCall, issued: Issued) -> str:
    user_arn = f"{call.role_arn.replace(':role/', ':assumed-role/')}/{call.session_name}"
    return (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>'
        f"<AssumedRoleUser><Arn>{escape(user_arn)}</Arn>"
        f"<AssumedRoleId>AROAFAKE:{escape(call.session_name)}</AssumedRoleId></AssumedRoleUser>"
        f"<Credentials><AccessKeyId>{issued.access_key}</AccessKeyId>"
        f"<SecretAccessKey>{issued.secret}</SecretAccessKey>"
        f"<SessionToken>{issued.token}</SessionToken>"
        f"<Expiration>{issued.expiration}</Expiration></Credentials>"
        f"</{action}Result><ResponseMetadata><RequestId>fake</RequestId></ResponseMetadata>"
        f"</{action}Response>"
    )
