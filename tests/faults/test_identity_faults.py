"""Faults of credentials and of the clock (E-23 … E-30)."""

import time
from pathlib import Path

import pytest
from fakes.factory import XraydFactory
from fakes.metadata import FakeContainerCredentials, FakeEcsMetadata, FakeImds, FakeSts
from fakes.process import Xrayd
from fakes.verdict import Verdict
from fakes.xray import ACCESS_KEY, SECRET_KEY, TRACE_SEGMENTS, FakeXRay
from oracle import QUICK_EXIT, Oracle, table

NOBODY: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


def refused(fake: FakeXRay) -> int:
    """Requests with segments whose signature did not hold."""
    signatures = (r.signature for r in fake.requests(TRACE_SEGMENTS))
    return sum(1 for signature in signatures if signature is not None and not signature.ok)


def test_an_expired_token_is_replaced_under_traffic(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-23."""
    with FakeContainerCredentials(accepted_by=fake_xray) as container:
        oracle = Oracle(
            xrayd(config=QUICK_EXIT, env={**NOBODY, **container.environment()}), fake_xray
        )
        oracle.warm_up()
        fake_xray.expire(container.issued[-1].access_key)
        oracle.stream(3.0)
        assert refused(fake_xray) > 0
        container.rotate()
        oracle.check_recovery()
        oracle.check_nothing_lost()


@pytest.mark.parametrize(
    ("ttl_s", "seconds"),
    [
        (4.0, 8.0),
        pytest.param(
            60.0, 150.0, marks=[pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]
        ),
    ],
)
def test_short_lived_credentials_never_sign_when_expired(
    xrayd: XraydFactory, fake_xray: FakeXRay, ttl_s: float, seconds: float
) -> None:
    """E-24."""
    with FakeContainerCredentials(accepted_by=fake_xray, ttl_s=ttl_s) as container:
        oracle = Oracle(
            xrayd(config=QUICK_EXIT, env={**NOBODY, **container.environment()}), fake_xray
        )
        oracle.stream(seconds, 100.0)
        assert len(container.issued) >= 3
        oracle.check_nothing_lost()
    assert refused(fake_xray) == 0


@pytest.mark.slow
def test_a_source_that_is_down_does_not_matter_while_its_credentials_hold(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-25: asked again now and then, and not a log full of it."""
    with FakeContainerCredentials(accepted_by=fake_xray, ttl_s=12.0) as container:
        process = xrayd(config=QUICK_EXIT, env={**NOBODY, **container.environment()})
        oracle = Oracle(process, fake_xray)
        oracle.warm_up()
        container.down()
        oracle.stream(8.0, 100.0)
        oracle.wait_all()
        assert refused(fake_xray) == 0
        container.up()
        oracle.check_recovery()
        oracle.check_nothing_lost()
    assert len(process.lines) < 200


def test_instance_metadata_that_forgets_its_token_is_asked_for_another(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-26: botocore holds on to what it has, so the service must refuse it first."""
    with FakeImds(accepted_by=fake_xray) as imds:
        process = xrayd("-o=false", config=QUICK_EXIT, env={**NOBODY, **imds.environment()})
        oracle = Oracle(process, fake_xray)
        oracle.warm_up()
        imds.expire_tokens()
        imds.rotate()
        imds.script(Verdict(status=401), path=imds.ROLES_PATH)
        fake_xray.expire(imds.issued[-1].access_key)
        oracle.stream(2.0, 100.0)
        oracle.check_recovery()
        oracle.check_nothing_lost()
        assert len(imds.issued) >= 2


BAD_CREDENTIALS: dict[str, Verdict] = {
    "401": Verdict(status=401, body="Unauthorized"),
    "500": Verdict(status=500, body=""),
    "html": Verdict(body="<html>"),
    "no JSON object": Verdict(body="[]"),
    "null": Verdict(body="null"),
    "nothing in it": Verdict(body={}),
    "nulls": Verdict(body={"AccessKeyId": None, "SecretAccessKey": None, "Token": None}),
    "no date": Verdict(
        body={"AccessKeyId": "A", "SecretAccessKey": "B", "Token": "C", "Expiration": "soon"}
    ),
    "a number": Verdict(
        body={"AccessKeyId": 1, "SecretAccessKey": 2, "Token": 3, "Expiration": 4}
    ),
    "cut": Verdict(abort_at=60),
    "line breaks": Verdict(
        body={
            "AccessKeyId": "AKID\r\nX-Evil: 1", "SecretAccessKey": "s", "Token": "t",
            "Expiration": "2999-01-01T00:00:00Z",
        }
    ),
}  # fmt: skip


@pytest.mark.parametrize("answer", table(BAD_CREDENTIALS, ["nothing in it", "a number"]))
def test_a_source_that_talks_nonsense_is_waited_out(
    xrayd: XraydFactory, fake_xray: FakeXRay, answer: Verdict
) -> None:
    """E-25 … E-27: whatever a credentials endpoint says, segments are held until it talks sense."""
    with FakeContainerCredentials(accepted_by=fake_xray) as container:
        container.answer(answer, path="*")
        process = xrayd(config=QUICK_EXIT, env={**NOBODY, **container.environment()})
        oracle = Oracle(process, fake_xray)
        oracle.send(10)
        process.wait_for_line("Segments are held, not sent", timeout=40)
        assert fake_xray.requests() == []
        container.answer(None, path="*")
        oracle.check_recovery(10.0)
        oracle.check_nothing_lost()


STS_NONSENSE = {
    "html": Verdict(body="<html>"),
    "empty": Verdict(body=""),
    "refused": Verdict(status=403, error="InvalidIdentityToken"),
    "503": Verdict(status=503, body="busy"),
    "nothing in it": Verdict(body="<AssumeRoleWithWebIdentityResponse/>"),
}


@pytest.mark.parametrize("answer", table(STS_NONSENSE, ["html"]))
def test_an_sts_that_talks_nonsense_is_waited_out(
    xrayd: XraydFactory, fake_xray: FakeXRay, tmp_path: Path, answer: Verdict
) -> None:
    (tmp_path / "token").write_text("web-token")
    with FakeSts(accepted_by=fake_xray) as sts:
        sts.answer(answer, path="*")
        variables = {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/pod",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            **sts.environment(),
        }
        process = xrayd(config=QUICK_EXIT, env={**NOBODY, **variables})
        oracle = Oracle(process, fake_xray)
        oracle.send(10)
        process.wait_for_line("Segments are held, not sent", timeout=40)
        sts.answer(None, path="*")
        oracle.check_recovery(10.0)
        oracle.check_nothing_lost()


METADATA_NONSENSE = {
    "500": Verdict(status=500),
    "html": Verdict(body="<html>"),
    "no object": Verdict(body="[]"),
    "cut": Verdict(abort_at=5),
}


@pytest.mark.parametrize("answer", table(METADATA_NONSENSE, ["no object"]))
def test_task_metadata_that_talks_nonsense_is_passed_over(
    xrayd: XraydFactory, fake_xray: FakeXRay, answer: Verdict
) -> None:
    with FakeEcsMetadata() as task:
        task.answer(answer, path="*")
        process = xrayd(region=None, config=QUICK_EXIT, env=task.environment())
        process.wait_for_line("Segments are held, not sent: no region")
        task.answer(None, path="*")
        oracle = Oracle(process, fake_xray)
        oracle.check_recovery(10.0)
        oracle.check_nothing_lost()


@pytest.mark.parametrize(
    "text", table({"truncated": "", "line breaks": "web\r\nX-Evil: 1"}, ["line breaks"])
)
def test_a_web_identity_file_is_read_again(
    xrayd: XraydFactory, fake_xray: FakeXRay, tmp_path: Path, text: str
) -> None:
    """E-27."""
    path = tmp_path / "token"
    path.write_text("first")
    with FakeSts(accepted_by=fake_xray, ttl_s=6.0) as sts:
        variables = {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/pod",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(path),
            **sts.environment(),
        }
        process = xrayd(config=QUICK_EXIT, env={**NOBODY, **variables})
        oracle = Oracle(process, fake_xray)
        oracle.warm_up()
        path.write_text(text)
        oracle.stream(3.0, 100.0)
        path.write_text("second")
        sts.wait_for(lambda: "second" in [c.web_identity_token for c in sts.calls], 30.0)
        oracle.check_recovery()
        oracle.check_nothing_lost()
        assert all("X-Evil" not in dict(r.headers) for r in sts.requests())


def test_credentials_may_come_later(
    xrayd: XraydFactory, fake_xray: FakeXRay, tmp_path: Path
) -> None:
    """E-28: what came before them is kept."""
    path = tmp_path / "credentials"
    process = xrayd(config=QUICK_EXIT, env={**NOBODY, "AWS_SHARED_CREDENTIALS_FILE": str(path)})
    oracle = Oracle(process, fake_xray)
    oracle.stream(3.0, 100.0)
    process.wait_for_line("no credentials; tried")
    path.write_text(
        f"[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n"
    )
    oracle.check_recovery()
    oracle.check_nothing_lost()


@pytest.mark.parametrize("step_s", [960.0, -3600.0])
def test_a_clock_that_steps_while_running_is_followed(
    xrayd: XraydFactory, fake_xray: FakeXRay, step_s: float
) -> None:
    """E-30: one request learns it; what is in the air at that moment may be refused with it."""
    oracle = Oracle(xrayd(config={**QUICK_EXIT, "Concurrency": 1}), fake_xray)
    oracle.warm_up()
    fake_xray.clock_offset_s = step_s
    oracle.stream(1.0, 200.0)
    oracle.wait_all()
    fake_xray.clock_offset_s = 0.0
    oracle.check_recovery()
    assert refused(fake_xray) == 2  # there and back
    oracle.check_nothing_lost()


def test_a_wrong_secret_is_not_blamed_on_the_clock(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-23 with E-30: once the clock is corrected, a refused signature means the credentials."""
    with FakeContainerCredentials(accepted_by=fake_xray) as container:
        fake_xray.clock_offset_s = 960.0
        process = xrayd(config=QUICK_EXIT, env={**NOBODY, **container.environment()})
        oracle = Oracle(process, fake_xray)
        oracle.warm_up()
        issued = container.issued[-1]
        fake_xray.trust(issued.access_key, "another secret", issued.token)
        container.rotate()
        oracle.check_recovery()
        oracle.check_nothing_lost()


def run_faked(xrayd: XraydFactory, control: Path, library: str) -> Xrayd:
    variables = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(control),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return xrayd(config=QUICK_EXIT, env=variables)


@pytest.mark.root
@pytest.mark.parametrize("step", ["+16m", "-16m", "+1h", "-1h"])
def test_the_machines_clock_may_step(
    xrayd: XraydFactory, fake_xray: FakeXRay, tmp_path: Path, step: str
) -> None:
    """E-30 with libfaketime: timers are not the wall clock's."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed")
    control = tmp_path / "clock"
    control.write_text("+0")
    oracle = Oracle(run_faked(xrayd, control, str(found[0])), fake_xray)
    oracle.warm_up()
    control.write_text(step)
    started = time.monotonic()
    oracle.stream(4.0, 200.0)
    control.write_text("+0")
    oracle.check_recovery()
    assert time.monotonic() - started < 4.0 + 12.0
    assert refused(fake_xray) >= 2
    oracle.check_nothing_lost()
