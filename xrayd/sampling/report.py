"""GetSamplingTargets on the wire: what clients send, read liberally; what they are answered,
written exactly.

Sources: botocore model, the X-Ray SDKs and OpenTelemetry samplers. The reasons for each liberty
stand where it is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from xrayd.errors import XraydError
from xrayd.sampling.rule import parse_object, read_number

COUNT_MAX = 2**31 - 1
"""The model's counts are 32-bit integers."""

_DOCUMENTS_MAX = 10_000
"""In each list of a request: more than any sampler has rules, and few enough to be refused one by
one in a moment.
"""

_NAME_LONGEST = 128
_MILLISECONDS_FROM = 1e11
"""A timestamp above this is in milliseconds (the X-Ray SDK for Java)."""


class ErrorCode(StrEnum):
    """`ErrorCode` of unprocessed statistics.

    The SDK for Go reads the first character: 4 makes it fetch the rules again, 5 counts as a
    failure. The others only log it.
    """

    MALFORMED = "400"
    UNKNOWN_RULE = "404"
    UNAVAILABLE = "500"


class ReportError(XraydError):
    """A caller's: a GetSamplingTargets body that is none. Answer 400 with `code` and `message`.

    Attributes:
        code: the API's error name.
        message: what is wrong.
    """

    code = "InvalidRequestException"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


_Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
_Name = Annotated[str, Meta(min_length=1, max_length=_NAME_LONGEST)]


class Statistics(Struct, frozen=True, gc=False):
    """What one client did with one rule since its last report: a document of the model.

    Attributes:
        rule_name: the rule.
        client_id: 24 hex digits, the client's own.
        requests: requests that matched.
        sampled: those recorded. Whether borrowed ones are among them depends on the client.
        borrowed: those recorded on borrowed reservoir.
        timestamp: epoch seconds by the client's clock; None where it sent none.
    """

    rule_name: _Name = field(name="RuleName")
    client_id: _Name = field(name="ClientID")
    requests: _Count = field(name="RequestCount")
    sampled: _Count = field(name="SampledCount")
    borrowed: _Count = field(name="BorrowCount")
    timestamp: float | None = field(name="Timestamp", default=None)


class BoostStatistics(Struct, frozen=True):
    """Anomalies one client saw in one service under one rule (adaptive sampling)."""

    rule_name: str
    service_name: str
    anomalies: int
    total: int
    sampled_anomalies: int


class Unprocessed(Struct, frozen=True):
    """A statistics document that was refused, in the API's form; no field is ever null."""

    rule_name: str = field(name="RuleName")
    error_code: str = field(name="ErrorCode")
    message: str = field(name="Message")


class SamplingBoost(Struct, frozen=True):
    """A raised rate and how long it holds (epoch seconds)."""

    boost_rate: float = field(name="BoostRate")
    boost_rate_ttl: float = field(name="BoostRateTTL")


class Target(Struct, frozen=True, gc=False):
    """What a client is to do with one rule from now on.

    Quota and TTL come together or not at all: the OpenTelemetry samplers take a quota without a TTL
    as expired. The rate is always there: the SDK for Java crashes without it.

    Attributes:
        rule_name: the rule.
        fixed_rate: 0 to 1.
        reservoir_quota: requests a second.
        reservoir_quota_ttl: epoch seconds.
        interval: seconds until the next report.
        sampling_boost: only for clients that report boost statistics; older OpenTelemetry
            samplers skip a target with an unknown key.
    """

    rule_name: str = field(name="RuleName")
    fixed_rate: float = field(name="FixedRate")
    reservoir_quota: int | UnsetType = field(name="ReservoirQuota", default=UNSET)
    reservoir_quota_ttl: int | UnsetType = field(name="ReservoirQuotaTTL", default=UNSET)
    interval: int | UnsetType = field(name="Interval", default=UNSET)
    sampling_boost: SamplingBoost | UnsetType = field(name="SamplingBoost", default=UNSET)


class Answer(Struct, frozen=True, kw_only=True):
    """The GetSamplingTargets answer.

    `LastRuleModification` is always a number above zero: the SDK for Python needs the key, the one
    for Node a true value.
    """

    targets: list[Target] = field(name="SamplingTargetDocuments")
    last_rule_modification: float = field(name="LastRuleModification")
    unprocessed: list[Unprocessed] = field(name="UnprocessedStatistics")
    unprocessed_boosts: list[Unprocessed] | UnsetType = field(
        name="UnprocessedBoostStatistics", default=UNSET
    )


class Report(Struct, frozen=True, kw_only=True):
    """A GetSamplingTargets request, read.

    Attributes:
        statistics: the documents that could be read.
        boosts: the boost documents that could be read.
        unprocessed: refusals of the others.
        unprocessed_boosts: refusals of the other boost documents.
        speaks_boost: whether the client knows adaptive sampling, that is sent the key at all.
    """

    statistics: list[Statistics]
    boosts: list[BoostStatistics] = field(default_factory=list)
    unprocessed: list[Unprocessed] = field(default_factory=list)
    unprocessed_boosts: list[Unprocessed] = field(default_factory=list)
    speaks_boost: bool = False


class _WireStatistics(Struct):
    """A statistics document with the liberties that clients take."""

    RuleName: _Name
    ClientID: _Name
    RequestCount: _Count
    SampledCount: _Count | None = None
    SampleCount: _Count | None = None
    BorrowCount: _Count | None = None
    Timestamp: Any = None


class _WireBoost(Struct):
    RuleName: _Name
    ServiceName: _Name
    AnomalyCount: _Count
    TotalCount: _Count
    SampledAnomalyCount: _Count


class _ModelReport(Struct):
    SamplingStatisticsDocuments: list[Statistics]
    SamplingBoostStatisticsDocuments: (
        Annotated[list[Any], Meta(max_length=_DOCUMENTS_MAX)] | UnsetType
    ) = UNSET


_decode_model = msgspec.json.Decoder(_ModelReport).decode
_encode = msgspec.json.Encoder().encode


def read_report(body: bytes) -> Report:
    """Read a client's GetSamplingTargets body.

    Accepted besides the model: `SampleCount` for `SampledCount` (OpenTelemetry distro for Python),
    no `BorrowCount`, timestamps as floats, in milliseconds (X-Ray SDK for Java) or absent, more
    than 25 documents and rows of zeros (OpenTelemetry for Node), no body at all, and a body cut
    short at its end by a Content-Length counted in UTF-16 units (X-Ray SDK for Node).

    Raises:
        ReportError: not a JSON object, or its lists are no lists, or too long.
    """
    if not body.strip():
        return Report(statistics=[])
    try:
        wire = _decode_model(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_liberally(_parsed(body))
    # Most clients keep to the model, which is read at once.
    rows, boosts = wire.SamplingStatisticsDocuments, wire.SamplingBoostStatisticsDocuments
    if rows and (rows[0].timestamp or 0.0) >= _MILLISECONDS_FROM:
        return _read_liberally(_parsed(body))
    return Report(statistics=rows) if boosts is UNSET else _report(rows, [], boosts)


def encode_answer(answer: Answer) -> bytes:
    """The body for a client."""
    return _encode(answer)


def _parsed(body: bytes) -> dict[str, Any]:
    # Whole first, then with the end a short Content-Length may have cut off, then without the
    # document it was cut in. The Node SDK writes Timestamp last, so little is ever missing.
    last_document = body[: body.rfind(b"}") + 1]
    for text in (body, body + b"}", body + b"}]}", last_document + b"]}"):
        parsed = parse_object(text)
        if parsed is not None:
            return parsed
    raise ReportError("The body is not a JSON object.")


def _read_liberally(body: dict[str, Any]) -> Report:
    """Document by document, so that one bad one costs only itself."""
    listed = body.get("SamplingStatisticsDocuments") or []
    boosts = body.get("SamplingBoostStatisticsDocuments")
    for name, value in (
        ("SamplingStatisticsDocuments", listed),
        ("SamplingBoostStatisticsDocuments", boosts),
    ):
        if not isinstance(value, list | None):
            raise ReportError(f"{name} must be a list of objects.")
        if len(value or ()) > _DOCUMENTS_MAX:
            raise ReportError(f"{name} has more than {_DOCUMENTS_MAX} documents.")
    statistics, unprocessed = [], []
    for raw in listed:
        try:
            row = msgspec.convert(raw, _WireStatistics, strict=False)
        except msgspec.ValidationError as error:
            unprocessed.append(_malformed(raw, str(error)))
            continue
        sampled = row.SampleCount if row.SampledCount is None else row.SampledCount
        if sampled is None:
            unprocessed.append(_malformed(raw, "SampledCount is missing"))
            continue
        statistics.append(
            Statistics(
                row.RuleName,
                row.ClientID,
                row.RequestCount,
                sampled,
                row.BorrowCount or 0,
                _seconds(row.Timestamp),
            )
        )
    return _report(statistics, unprocessed, boosts)


def _report(
    statistics: list[Statistics], unprocessed: list[Unprocessed], boosts: Sequence[object] | None
) -> Report:
    read_boosts, refused_boosts = [], []
    for raw in boosts or ():
        try:
            boost = msgspec.convert(raw, _WireBoost, strict=False)
        except msgspec.ValidationError as error:
            refused_boosts.append(_malformed(raw, str(error)))
            continue
        read_boosts.append(
            BoostStatistics(
                boost.RuleName,
                boost.ServiceName,
                boost.AnomalyCount,
                boost.TotalCount,
                boost.SampledAnomalyCount,
            )
        )
    return Report(
        statistics=statistics,
        boosts=read_boosts,
        unprocessed=unprocessed,
        unprocessed_boosts=refused_boosts,
        speaks_boost=boosts is not None,
    )


def _malformed(raw: object, message: str) -> Unprocessed:
    name = raw.get("RuleName") if isinstance(raw, dict) else None
    return Unprocessed(name if isinstance(name, str) else "", ErrorCode.MALFORMED, message)


def _seconds(timestamp: object) -> float | None:
    number = read_number(timestamp)
    if number is not None and number > _MILLISECONDS_FROM:
        return number / 1000
    return number
