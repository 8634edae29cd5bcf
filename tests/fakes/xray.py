"""The X-Ray service as the relay meets it: PutTraceSegments, telemetry, sampling.

Signatures are verified on every request, so a wrong secret, token, header or clock is refused as
AWS refuses it, whatever the script says.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from fakes.documents import document_id
from fakes.http1 import HttpServer, Reply, Request
from fakes.server import PATIENCE_S
from fakes.sigv4 import Credential, Reason, SignatureVerdict, verify
from fakes.verdict import Unprocessed, Verdict

__all__ = [
    "ACCESS_KEY",
    "CREDENTIALS",
    "SECRET_KEY",
    "FakeXRay",
    "Reply",
    "Request",
    "Unprocessed",
    "Verdict",
    "refuse_above",
    "refuse_containing",
    "throttle_above",
]

ACCESS_KEY = "AKIDFAKEXRAY00000001"
SECRET_KEY = "fake/secret+of/the+fake+X-Ray+endpoint+0"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
"""Environment variables with the credentials every FakeXRay accepts unless told otherwise."""

DOCUMENTS_MAX = 50
"""Documents of one PutTraceSegments, more is refused (AWS X-Ray API Reference)."""

TRACE_SEGMENTS = "/TraceSegments"
TELEMETRY_RECORDS = "/TelemetryRecords"

_REFUSALS: Mapping[Reason, tuple[str, str]] = {
    Reason.MISSING_AUTHORIZATION: (
        "MissingAuthenticationTokenException",
        "Missing Authentication Token",
    ),
    Reason.MALFORMED_AUTHORIZATION: (
        "IncompleteSignatureException",
        "Authorization header is not as specified.",
    ),
    Reason.UNKNOWN_ACCESS_KEY: (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    ),
    Reason.WRONG_TOKEN: (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    ),
    Reason.EXPIRED_TOKEN: (
        "ExpiredTokenException",
        "The security token included in the request is expired",
    ),
    Reason.WRONG_REGION: (
        "InvalidSignatureException",
        "Credential should be scoped to a valid region.",
    ),
    Reason.WRONG_SERVICE: (
        "InvalidSignatureException",
        "Credential should be scoped to correct service: 'xray'.",
    ),
}
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your"
    " AWS Secret Access Key and signing method. Consult the service documentation for details."
)


class FakeXRay(HttpServer):
    """A scripted X-Ray endpoint.

    `script` and `answer` mean `/TraceSegments` unless they name a path; `path="*"` is all.
    Documents count as stored when the answer is decided, before any delay, as in the service.
    """

    scripted_path = TRACE_SEGMENTS

    def __init__(
        self,
        *,
        region: str | None = "us-east-1",
        keep: Callable[[str], str] | None = None,
        **options: Any,
    ) -> None:
        """`keep` is what to keep of each document, and drops request bodies: for long runs."""
        super().__init__(**options)
        self._keep = keep
        self.region = region
        self.verify_signatures = True
        self.credentials: dict[str, tuple[str, str | None] | Credential] = {
            ACCESS_KEY: Credential(SECRET_KEY)
        }
        """Access key -> (secret, session token or None), or a Credential."""
        self.answers: dict[str, dict[str, Any]] = {
            TELEMETRY_RECORDS: {},
            "/GetSamplingRules": {"SamplingRuleRecords": []},
            "/SamplingTargets": {
                "SamplingTargetDocuments": [],
                "LastRuleModification": 0.0,
                "UnprocessedStatistics": [],
            },
        }
        """The usual answers; set your own. A path that is not here is answered 404."""
        self._documents: list[str] = []

    def trust(
        self, access_key: str, secret: str, token: str | None, expires_at: float | None = None
    ) -> None:
        """Accept one more access key until `expires_at` (epoch seconds of the service's clock)."""
        self.credentials[access_key] = Credential(secret, token, expires_at)

    def expire(self, access_key: str = ACCESS_KEY) -> None:
        """Answer ExpiredTokenException to this access key from now on."""
        self.credentials[access_key] = Credential(*self.credentials[access_key])._replace(
            expires_at=0.0
        )

    @property
    def documents(self) -> list[str]:
        """Documents stored, in the order of storing."""
        with self.changed:
            return list(self._documents)

    @property
    def document_ids(self) -> Counter[str]:
        """How often each segment id was stored."""
        return Counter(map(document_id, self.documents))

    @property
    def telemetry_records(self) -> list[dict[str, Any]]:
        """The TelemetryRecord objects stored, in order."""
        bodies = (r.json() for r in self.requests(TELEMETRY_RECORDS) if _is_stored(r))
        return [record for body in bodies for record in body["TelemetryRecords"]]

    def wait_documents(self, count: int, timeout: float = PATIENCE_S) -> list[str]:
        """Wait until at least `count` documents are stored, and return all."""
        self.wait_for(lambda: len(self._documents) >= count, timeout, f"{count} documents")
        return self.documents

    def wait_ids(self, *ids: str, timeout: float = PATIENCE_S, since: int = 0) -> None:
        """Wait until a document with each of these segment ids is stored.

        The first `since` documents are known to be others.
        """
        wanted = set(ids)
        seen = since

        def all_there() -> bool:
            nonlocal seen
            wanted.difference_update(map(document_id, self._documents[seen:]))
            seen = len(self._documents)
            return not wanted

        self.wait_for(all_there, timeout, f"{len(ids)} ids")

    def describe(self) -> str:
        return f"{super().describe()}, {len(self._documents)} documents stored"

    def judge(self, request: Request) -> Verdict:
        if self.verify_signatures:
            request.signature = self._verify(request)
            if not request.signature.ok:
                return _refuse(request.signature)
        verdict = super().judge(request)
        if request.path == TRACE_SEGMENTS and verdict.is_stored:
            return self._store(request, verdict)
        return verdict

    def usual(self, request: Request) -> Verdict:
        if request.method == "POST":
            if request.path == TRACE_SEGMENTS:
                return Verdict()
            if request.path in self.answers:
                return Verdict(body=self.answers[request.path])
        return Verdict(status=404, error="UnknownOperationException", message="no such path")

    def _verify(self, request: Request) -> SignatureVerdict:
        return verify(
            request.method,
            request.target,
            request.headers,
            request.body,
            credentials={key: Credential(*known) for key, known in self.credentials.items()},
            service="xray",
            region=self.region,
            now=self.now(),
        )

    def _store(self, request: Request, verdict: Verdict) -> Verdict:
        documents = read_documents(request)
        if documents is None:
            refusal = Verdict(status=400, error="SerializationException", message="not understood")
            return verdict.fill(refusal)
        if len(documents) > DOCUMENTS_MAX:
            message = f"{len(documents)} segments, at most {DOCUMENTS_MAX}"
            refusal = Verdict(status=400, error="InvalidRequestException", message=message)
            return verdict.fill(refusal)
        listed: list[dict[str, str | None]] = []
        for document in documents:
            refused = verdict.unprocessed
            if refused is not None and refused.match(document):
                listed.append(_list_unprocessed(document, refused))
            else:
                self._documents.append(self._keep(document) if self._keep else document)
        if self._keep is not None:
            request.body = b""
        return verdict.fill(Verdict(body={"UnprocessedTraceSegments": listed}))


def _list_unprocessed(document: str, how: Unprocessed) -> dict[str, str | None]:
    segment_id = document_id(document) if how.with_id else None
    return {"Id": segment_id, "ErrorCode": how.code, "Message": how.message}


def read_documents(request: Request) -> list[str] | None:
    """The documents of a PutTraceSegments; None where the body is not one."""
    try:
        documents = json.loads(request.body)["TraceSegmentDocuments"]
    except (ValueError, KeyError, TypeError):
        return None
    well_formed = isinstance(documents, list) and all(isinstance(d, str) for d in documents)
    return documents if well_formed else None


def refuse_containing(
    marker: str, status: int = 400, error: str = "InvalidRequestException"
) -> Callable[[Request], Verdict | None]:
    """Refuse a request whole when its body contains `marker` (ASCII, no quotes)."""

    def reply(request: Request) -> Verdict | None:
        return Verdict(status=status, error=error) if marker.encode() in request.body else None

    return reply


def refuse_above(
    bytes_max: int, status: int = 413, error: str = "RequestEntityTooLargeException"
) -> Callable[[Request], Verdict | None]:
    """Refuse requests whose body is larger than `bytes_max`."""

    def reply(request: Request) -> Verdict | None:
        return Verdict(status=status, error=error) if len(request.body) > bytes_max else None

    return reply


def throttle_above(per_s: float, burst: float = 1.0) -> Callable[[Request], Verdict | None]:
    """Accept `per_s` requests a second (a token bucket that holds `burst`), throttle the rest."""
    tokens, last = burst, time.monotonic()

    def reply(request: Request) -> Verdict | None:
        nonlocal tokens, last
        tokens = min(burst, tokens + max(0.0, request.at - last) * per_s)
        last = max(last, request.at)
        if tokens < 1.0:
            return Verdict(status=429, error="ThrottledException")
        tokens -= 1.0
        return None

    return reply


def _is_stored(request: Request) -> bool:
    return request.verdict is not None and request.verdict.is_stored


def _refuse(signature: SignatureVerdict) -> Verdict:
    error, message = _REFUSALS.get(signature.reason, ("InvalidSignatureException", _MISMATCH))
    if signature.reason is Reason.SKEWED:
        message = signature.detail
    return Verdict(status=403, error=error, message=message)
