"""The verifier against the cases of AWS's published Signature Version 4 test suite."""

from datetime import UTC, datetime

import pytest
from fakes.sigv4 import Credential, Reason, SignatureVerdict, canonical_request, verify

KEY = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
HOST = ("Host", "example.amazonaws.com")
DATE = ("X-Amz-Date", "20150830T123600Z")
STS_TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSP"
    "fIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT"
    "7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlz"
    "m8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
SUITE_TOKEN = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
FORM = "application/x-www-form-urlencoded"
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PLAIN = "host;x-amz-date"
MINE = "host;my-header1;x-amz-date"
TYPED = "content-type;host;x-amz-date"
TOKEN = "host;x-amz-date;x-amz-security-token"
SOME = "0" * 64


def mine(*values: str) -> list[tuple[str, str]]:
    return [("My-Header1", value) for value in values]


VECTORS = {  # name: (method, target, headers beside host and date, body, signed headers, signature)
    "get-vanilla": (
        "GET", "/", [], b"", PLAIN,
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-vanilla-empty-query-key": (
        "GET", "/?Param1=value1", [], b"", PLAIN,
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    "get-vanilla-query-order-key-case": (
        "GET", "/?Param2=value2&Param1=value1", [], b"", PLAIN,
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-query-order-key": (
        "GET", "/?Param1=value2&Param1=Value1", [], b"", PLAIN,
        "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
    ),
    "get-vanilla-query-order-value": (
        "GET", "/?Param1=value2&Param1=value1", [], b"", PLAIN,
        "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
    ),
    "get-vanilla-query-order-encoded": (
        "GET", "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", [], b"", PLAIN,
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    ),
    "get-vanilla-query-unreserved": (
        "GET", f"/?{UNRESERVED}={UNRESERVED}", [], b"", PLAIN,
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    "get-vanilla-utf8-query": (
        "GET", "/?ሴ=bar", [], b"", PLAIN,
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    "get-vanilla-with-session-token": (
        "GET", "/", [("X-Amz-Security-Token", SUITE_TOKEN)], b"", TOKEN,
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    ),
    "get-unreserved": (
        "GET", f"/{UNRESERVED}", [], b"", PLAIN,
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "get-utf8": (
        "GET", "/ሴ", [], b"", PLAIN,
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    ),
    "get-header-key-duplicate": (
        "GET", "/", mine("value2", "value2", "value1"), b"", MINE,
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    "get-header-value-order": (
        "GET", "/", mine("value4", "value1", "value3", "value2"), b"", MINE,
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    "get-header-value-multiline": (
        "GET", "/", mine("value1  value2     value3"), b"", MINE,
        "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd",
    ),
    "get-header-value-trim": (
        "GET", "/", [*mine(" value1"), ("My-Header2", ' "a   b   c"')], b"",
        "host;my-header1;my-header2;x-amz-date",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "get-relative": (
        "GET", "/example/..", [], b"", PLAIN,
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-relative-relative": (
        "GET", "/example1/example2/../..", [], b"", PLAIN,
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-slash": (
        "GET", "//", [], b"", PLAIN,
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-slash-dot-slash": (
        "GET", "/./", [], b"", PLAIN,
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-slash-pointless-dot": (
        "GET", "/./example", [], b"", PLAIN,
        "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
    ),
    "get-slashes": (
        "GET", "//example//", [], b"", PLAIN,
        "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
    ),
    "get-space": (
        "GET", "/example space/", [], b"", PLAIN,
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    "post-vanilla": (
        "POST", "/", [], b"", PLAIN,
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "post-vanilla-query": (
        "POST", "/?Param1=value1", [], b"", PLAIN,
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    "post-header-key-case": (
        "POST", "/", [], b"", PLAIN,
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "post-header-key-sort": (
        "POST", "/", mine("value1"), b"", MINE,
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    "post-header-value-case": (
        "POST", "/", mine("VALUE1"), b"", MINE,
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
    "post-sts-header-before": (
        "POST", "/", [("X-Amz-Security-Token", STS_TOKEN)], b"", TOKEN,
        "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
    ),
    "post-x-www-form-urlencoded": (
        "POST", "/", [("Content-Type", FORM)], b"Param1=value1", TYPED,
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
    "post-x-www-form-urlencoded-parameters": (
        "POST", "/", [("Content-Type", f"{FORM}; charset=utf8")], b"Param1=value1", TYPED,
        "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
    ),
}  # fmt: skip


def authorization(signed: str, signature: str, scope: str = "20150830/us-east-1/service") -> str:
    return (
        f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}/aws4_request, "
        f"SignedHeaders={signed}, Signature={signature}"
    )


def judge(
    method: str = "GET",
    target: str = "/",
    extra: list[tuple[str, str]] | None = None,
    body: bytes = b"",
    *,
    authorized: str | None = None,
    host: tuple[str, str] | None = HOST,
    date: tuple[str, str] | None = DATE,
    token: str | None = None,
    expires_at: float | None = None,
    key: str = KEY,
    region: str = "us-east-1",
    service: str = "service",
    now: float = AT,
) -> SignatureVerdict:
    """Verify get-vanilla with whatever is changed."""
    if authorized is None:
        authorized = authorization(PLAIN, VECTORS["get-vanilla"][5])
    return verify(
        method,
        target,
        [*filter(None, [host, date]), *(extra or []), ("Authorization", authorized)],
        body,
        credentials={key: Credential(SECRET, token, expires_at)},
        region=region,
        service=service,
        now=now,
    )


@pytest.mark.parametrize("name", VECTORS)
def test_every_published_signature_is_accepted(name):
    method, target, extra, body, signed, signature = VECTORS[name]
    token = dict(extra).get("X-Amz-Security-Token")
    verdict = judge(
        method, target, extra, body, authorized=authorization(signed, signature), token=token
    )
    assert verdict.reason is Reason.OK, verdict.detail
    assert (verdict.access_key, ";".join(verdict.signed_headers)) == (KEY, signed)


@pytest.mark.parametrize("name", VECTORS)
def test_no_published_signature_is_accepted_once_its_body_changed(name):
    method, target, extra, body, signed, signature = VECTORS[name]
    token = dict(extra).get("X-Amz-Security-Token")
    verdict = judge(
        method, target, extra, body + b" ", authorized=authorization(signed, signature), token=token
    )
    assert verdict.reason is Reason.SIGNATURE_MISMATCH


def test_the_canonical_request_is_the_published_text():
    assert canonical_request(
        "GET", "/?Param1=value2&Param1=Value1", [HOST, DATE], b"", PLAIN.split(";")
    ) == (
        "GET\n/\nParam1=Value1&Param1=value2\nhost:example.amazonaws.com\n"
        "x-amz-date:20150830T123600Z\n\nhost;x-amz-date\n"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def test_a_token_added_after_signing_is_refused():
    """post-sts-header-after of the suite, which X-Ray does not accept."""
    verdict = judge(
        "POST",
        extra=[("X-Amz-Security-Token", STS_TOKEN)],
        authorized=authorization(PLAIN, VECTORS["post-vanilla"][5]),
        token=STS_TOKEN,
    )
    assert verdict.reason is Reason.UNSIGNED_HEADER


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        (Reason.SIGNATURE_MISMATCH, {"method": "POST"}),
        (Reason.SIGNATURE_MISMATCH, {"target": "/other"}),
        (Reason.SIGNATURE_MISMATCH, {"target": "/?a=b"}),
        (Reason.SIGNATURE_MISMATCH, {"host": ("Host", "example.amazonaws.com:443")}),
        (Reason.SIGNATURE_MISMATCH, {"authorized": authorization(PLAIN, SOME)}),
        (Reason.SIGNATURE_MISMATCH, {"date": ("X-Amz-Date", "20150830T123601Z")}),
        (Reason.MISSING_SIGNED_HEADER, {"host": None}),
        (Reason.MISSING_SIGNED_HEADER, {"authorized": authorization(MINE, SOME)}),
        (Reason.UNSIGNED_HEADER, {"authorized": authorization("host", SOME)}),
        (Reason.UNSIGNED_HEADER, {"authorized": authorization("x-amz-date", SOME)}),
        (Reason.UNKNOWN_ACCESS_KEY, {"key": "AKIDOTHER"}),
        (Reason.WRONG_TOKEN, {"token": "one the request does not have"}),
        (Reason.EXPIRED_TOKEN, {"expires_at": AT - 1}),
        (Reason.WRONG_REGION, {"region": "eu-west-1"}),
        (Reason.WRONG_SERVICE, {"service": "xray"}),
        (Reason.WRONG_SCOPE_DATE, {"date": ("X-Amz-Date", "20150831T000000Z")}),
        (Reason.SKEWED, {"now": AT + 301}),
        (Reason.SKEWED, {"now": AT - 301}),
        (Reason.OK, {"now": AT + 300}),
        (Reason.OK, {"now": AT - 300}),
        (Reason.OK, {"expires_at": AT + 1}),
        (Reason.OK, {"extra": [("User-Agent", "not signed, may change")]}),
        (Reason.MALFORMED_AUTHORIZATION, {"extra": [DATE]}),
        (Reason.MALFORMED_AUTHORIZATION, {"extra": [HOST]}),
        (Reason.MALFORMED_AUTHORIZATION, {"extra": [("authorization", "Basic x")]}),
        (Reason.MALFORMED_AUTHORIZATION, {"date": ("X-Amz-Date", "20150830 12:36")}),
        (Reason.MALFORMED_AUTHORIZATION, {"authorized": ""}),
        (Reason.MALFORMED_AUTHORIZATION, {"authorized": "Basic dXNlcjpwYXNz"}),
        (
            Reason.MALFORMED_AUTHORIZATION,
            {"authorized": authorization("x-amz-date;host", SOME)},
        ),
        (
            Reason.MALFORMED_AUTHORIZATION,
            {"authorized": authorization("Host;X-Amz-Date", SOME)},
        ),
        (Reason.MALFORMED_AUTHORIZATION, {"authorized": authorization(PLAIN, SOME[1:])}),
        (Reason.MALFORMED_AUTHORIZATION, {"authorized": authorization(PLAIN, SOME, "2015")}),
    ],
)
def test_each_fault_of_a_request_has_its_reason(reason, change):
    assert judge(**change).reason is reason


def test_a_request_without_authorization_is_told_so():
    verdict = verify("GET", "/", [HOST, DATE], b"", credentials={}, service="xray", now=AT)
    assert verdict.reason is Reason.MISSING_AUTHORIZATION


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (
            AT + 960,
            "Signature expired: 20150830T123600Z is now earlier than 20150830T124700Z"
            " (20150830T125200Z - 5 min.)",
        ),
        (
            AT - 960,
            "Signature not yet current: 20150830T123600Z is still later than 20150830T122500Z"
            " (20150830T122000Z + 5 min.)",
        ),
    ],
)
def test_a_skewed_clock_is_described_in_the_words_of_aws(now, words):
    assert judge(now=now).detail == words
