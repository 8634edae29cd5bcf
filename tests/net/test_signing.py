"""The signer against botocore's, and against a verifier that shares nothing with either."""

import datetime as dt

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from fakes.sigv4 import Credential, verify
from hypothesis import given
from hypothesis import strategies as st

from xrayd.net.signing import Keys, Signer

texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)


@given(
    st.binary(max_size=500),
    texts.filter(lambda text: "/" not in text and "," not in text and "=" not in text),
    texts,
    st.one_of(st.just(""), texts),
    st.floats(0, 4e9),
)
def test_signatures_verify_and_equal_botocores(
    body: bytes, access_key: str, secret: str, token: str, epoch_s: float
) -> None:
    signer = Signer("xray.us-east-1.amazonaws.com", "us-east-1")
    given_headers = {"content-type": "application/json", "x-amzn-xray-timestamp": "1.5"}
    keys = Keys(access_key, secret, token)
    for _ in range(2):  # the second time with the kept signing key
        headers = signer.sign("/TraceSegments", given_headers, body, keys, epoch_s)
    verdict = verify(
        "POST",
        "/TraceSegments",
        list(headers.items()),
        body,
        credentials={access_key: Credential(secret, token or None)},
        service="xray",
        region="us-east-1",
        now=epoch_s,
    )
    assert verdict.ok, verdict
    assert headers["authorization"] == by_botocore(given_headers, body, keys, headers["x-amz-date"])


def by_botocore(headers: dict[str, str], body: bytes, keys: Keys, stamp: str) -> str:
    class Auth(SigV4Auth):
        def add_auth(self, request: AWSRequest) -> None:
            request.context["timestamp"] = stamp
            self._modify_request_before_signing(request)
            canonical = self.canonical_request(request)
            signature = self.signature(self.string_to_sign(request, canonical), request)
            self._inject_signature_to_request(request, signature)

    url = "https://xray.us-east-1.amazonaws.com/TraceSegments"
    request = AWSRequest("POST", url, data=body, headers=dict(headers))
    request.headers["X-Amz-Date"] = stamp
    Auth(Credentials(keys.access_key, keys.secret_key, keys.token or None), "xray", "us-east-1"
         ).add_auth(request)  # fmt: skip
    return str(request.headers["Authorization"])


def test_the_signing_key_changes_with_the_day_and_the_keys() -> None:
    signer = Signer("h", "us-east-1")
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()
    for epoch_s, keys in (
        (day, Keys("A", "s1", "")),
        (day, Keys("A", "s2", "")),
        (day + 86_400, Keys("A", "s2", "")),
    ):
        headers = signer.sign("/x", {}, b"", keys, epoch_s)
        verdict = verify(
            "POST", "/x", list(headers.items()), b"",
            credentials={"A": Credential(keys.secret_key)}, service="xray", region="us-east-1",
            now=epoch_s,
        )  # fmt: skip
        assert verdict.ok, verdict


def test_keys_do_not_show_their_secret() -> None:
    shown = repr(Keys("AKIDEXAMPLE", "secret", "token"))
    assert "secret" not in shown
    assert "token" not in shown
