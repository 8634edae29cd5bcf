"""AWS Signature Version 4, verified from the request as it came over the wire.

Written from the AWS General Reference ("Signature Version 4 signing process") and shares no code
with any signer, so that a mistake in the signer shows as a refused signature.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
CLOCK_WINDOW_S = 300.0
DATE_FORMAT = "%Y%m%dT%H%M%SZ"

Headers = Iterable[tuple[str, str]]


class Reason(StrEnum):
    """Why a request was or was not accepted."""

    OK = "ok"
    MISSING_AUTHORIZATION = "missing_authorization"
    MALFORMED_AUTHORIZATION = "malformed_authorization"
    WRONG_REGION = "wrong_region"
    WRONG_SERVICE = "wrong_service"
    WRONG_SCOPE_DATE = "wrong_scope_date"
    UNSIGNED_HEADER = "unsigned_header"
    MISSING_SIGNED_HEADER = "missing_signed_header"
    UNKNOWN_ACCESS_KEY = "unknown_access_key"
    WRONG_TOKEN = "wrong_token"
    EXPIRED_TOKEN = "expired_token"
    SKEWED = "skewed"
    SIGNATURE_MISMATCH = "signature_mismatch"


class Credential(NamedTuple):
    """What the service knows of an access key: secret, session token, end of validity (epoch)."""

    secret: str
    token: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class SignatureVerdict:
    """The outcome of verifying one request; `detail` is for people who read a failed test."""

    reason: Reason
    detail: str = ""
    access_key: str = ""
    signed_headers: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.reason is Reason.OK


class _Authorization(NamedTuple):
    access_key: str
    scope: tuple[str, str, str]
    """Date, region, service."""
    signed_headers: tuple[str, ...]
    signature: str


class _Objection(NamedTuple):
    reason: Reason
    detail: str = ""


_SINGLE_HEADERS = ("authorization", "host", "x-amz-date", "x-amz-security-token")
_FIELDS = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,\s]+)\s*")


def _parse_authorization(value: str) -> _Authorization | None:
    scheme, _, rest = value.partition(" ")
    fields: dict[str, str] = {}
    for part in rest.split(","):
        match = _FIELDS.fullmatch(part)
        if match is None or match[1] in fields:
            return None
        fields[match[1]] = match[2]
    credential = fields.get("Credential", "").rsplit("/", 4)
    signed = tuple(fields.get("SignedHeaders", "").split(";"))
    if (
        scheme != ALGORITHM
        or len(fields) != 3
        or len(credential) != 5
        or credential[4] != "aws4_request"
        or list(signed) != sorted({name.lower() for name in signed})
        or not re.fullmatch("[0-9a-f]{64}", fields["Signature"])
    ):
        return None
    key, date, region, service, _ = credential
    return _Authorization(key, (date, region, service), signed, fields["Signature"])


def _canonical_path(path: str) -> str:
    """Dot segments and double slashes removed, then each segment encoded once more."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            kept = kept[:-1]
        elif segment not in ("", "."):
            kept.append(segment)
    trailing = "/" if kept and path.endswith(("/", "/.", "/..")) else ""
    encoded = [quote(s.encode("utf-8", "surrogateescape"), safe="-_.~") for s in kept]
    return "/" + "/".join(encoded) + trailing


def _canonical_query(query: str) -> str:
    pairs = []
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        pairs.append(tuple(quote(unquote_to_bytes(x), safe="-_.~") for x in (name, value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def canonical_request(
    method: str, target: str, headers: Headers, body: bytes, signed_headers: Iterable[str]
) -> str:
    """The text whose hash is signed; `target` is the request line's path and query as received."""
    path, _, query = target.partition("?")
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(" ".join(value.split()))
    names = list(signed_headers)
    return "\n".join(
        [
            method,
            _canonical_path(path),
            _canonical_query(query),
            *(f"{name}:{','.join(values.get(name, []))}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        ]
    )


def _signature(secret: str, amz_date: str, scope: tuple[str, str, str], canonical: str) -> str:
    key = f"AWS4{secret}".encode()
    for part in (*scope, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    text = "\n".join([ALGORITHM, amz_date, "/".join((*scope, "aws4_request")), digest])
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def verify(
    method: str,
    target: str,
    headers: Headers,
    body: bytes,
    *,
    credentials: Mapping[str, Credential],
    service: str,
    now: float,
    region: str | None = None,
    window_s: float = CLOCK_WINDOW_S,
) -> SignatureVerdict:
    """Judge one request as AWS's front door does; `now` is the service's clock (epoch seconds).

    `region` None accepts every region.
    """
    headers = list(headers)
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value)
    if "authorization" not in found:
        return SignatureVerdict(reason=Reason.MISSING_AUTHORIZATION)
    parsed = _parse_authorization(found["authorization"][0])
    if parsed is None or any(len(found.get(name, [])) > 1 for name in _SINGLE_HEADERS):
        return SignatureVerdict(
            reason=Reason.MALFORMED_AUTHORIZATION, detail=repr(found["authorization"])
        )

    def objections() -> Iterator[_Objection | None]:
        yield _judge_headers(parsed, found)
        amz_date = found["x-amz-date"][0]
        yield _judge_scope(parsed, amz_date, region, service)
        known = credentials.get(parsed.access_key)
        if known is None:
            yield _Objection(Reason.UNKNOWN_ACCESS_KEY, parsed.access_key)
            return
        if known.token != found.get("x-amz-security-token", [None])[0]:
            yield _Objection(Reason.WRONG_TOKEN)
        yield _judge_clock(amz_date, now, window_s)
        canonical = canonical_request(method, target, headers, body, parsed.signed_headers)
        expected = _signature(known.secret, amz_date, parsed.scope, canonical)
        if not hmac.compare_digest(expected, parsed.signature):
            yield _Objection(
                Reason.SIGNATURE_MISMATCH, f"canonical request as received:\n{canonical}"
            )
        if known.expires_at is not None and known.expires_at <= now:
            yield _Objection(Reason.EXPIRED_TOKEN)

    first = next(filter(None, objections()), _Objection(Reason.OK))
    return SignatureVerdict(
        reason=first.reason,
        detail=first.detail,
        access_key=parsed.access_key,
        signed_headers=parsed.signed_headers,
    )


def _judge_headers(parsed: _Authorization, found: Mapping[str, list[str]]) -> _Objection | None:
    required = {"host", "x-amz-date"} | ({"x-amz-security-token"} & found.keys())
    if unsigned := sorted(required - set(parsed.signed_headers)):
        return _Objection(Reason.UNSIGNED_HEADER, f"not signed: {', '.join(unsigned)}")
    if absent := [name for name in parsed.signed_headers if name not in found]:
        return _Objection(Reason.MISSING_SIGNED_HEADER, f"signed but absent: {', '.join(absent)}")
    return None


def _judge_scope(
    parsed: _Authorization, amz_date: str, region: str | None, service: str
) -> _Objection | None:
    scope_date, scope_region, scope_service = parsed.scope
    if scope_date != amz_date[:8]:
        return _Objection(Reason.WRONG_SCOPE_DATE, f"{scope_date} for a request of {amz_date}")
    if scope_service != service:
        return _Objection(Reason.WRONG_SERVICE, f"{scope_service} instead of {service}")
    if region is not None and scope_region != region:
        return _Objection(Reason.WRONG_REGION, f"{scope_region} instead of {region}")
    return None


def _judge_clock(amz_date: str, now: float, window_s: float) -> _Objection | None:
    try:
        signed_at = datetime.strptime(amz_date, DATE_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return _Objection(Reason.MALFORMED_AUTHORIZATION, f"X-Amz-Date {amz_date!r}")
    if abs(signed_at - now) <= window_s:
        return None
    return _Objection(Reason.SKEWED, _describe_skew(amz_date, signed_at, now, window_s))


def _describe_skew(amz_date: str, signed_at: float, now: float, window_s: float) -> str:
    """AWS's own words, which clients look for."""

    def stamp(epoch: float) -> str:
        return datetime.fromtimestamp(epoch, UTC).strftime(DATE_FORMAT)

    minutes = f"{window_s / 60:g} min."
    if signed_at < now:
        limit = stamp(now - window_s)
        return (
            f"Signature expired: {amz_date} is now earlier than {limit} ({stamp(now)} - {minutes})"
        )
    limit = stamp(now + window_s)
    return (
        f"Signature not yet current: {amz_date} is still later than {limit}"
        f" ({stamp(now)} + {minutes})"
    )
