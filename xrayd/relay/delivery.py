"""What an answer of PutTraceSegments means, and how fast to go on.

Pure: status, headers and body in, a verdict out; times are monotonic seconds, chance an argument.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from enum import Enum

import msgspec

from xrayd.relay.segment import read_head


class Verdict(Enum):
    """What to do with a batch."""

    SENT = "sent"
    RETRY = "retry"
    THROTTLED = "throttled"
    REFRESH = "refresh credentials and retry"
    RESIGN = "sign with the service's clock and retry"
    SPLIT = "split"
    UNREADABLE = "unreadable success"


class Unprocessed(msgspec.Struct, rename="pascal"):
    """One entry of UnprocessedTraceSegments; every member may be missing or null."""

    id: str | None = None
    error_code: str | None = None
    message: str | None = None


class _PutAnswer(msgspec.Struct, rename="pascal"):
    unprocessed_trace_segments: list[Unprocessed] | None = None


_decode_put_answer = msgspec.json.Decoder(_PutAnswer).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_EMPTY_ANSWERS = (b'{"UnprocessedTraceSegments":[]}', b"{}")

# Error words after which new credentials may help, or the operator's change of a policy.
_CREDENTIAL_WORDS = (
    "ExpiredToken",
    "UnrecognizedClient",
    "InvalidClientTokenId",
    "InvalidSignature",
    "SignatureDoesNotMatch",
    "MissingAuthenticationToken",
    "IncompleteSignature",
    "AccessDenied",
    "NotAuthorized",
    "OptInRequired",
)
_SKEW_WORDS = ("Signature expired", "Signature not yet current", "RequestTimeTooSkewed")
_THROTTLE_WORDS = ("Throttl", "TooManyRequests", "RequestLimitExceeded", "SlowDown")

# Codes that say what is wrong with the document itself, so that sending it again is no use.
_PERMANENT_CODE = re.compile(r"(Missing|Invalid|Parse|Malformed|Unsupported|Duplicate)\w*$")
TRANSIENT_TRIES = 3
UNREADABLE_TRIES = 3


class Answer(msgspec.Struct):
    """An HTTP answer as far as a verdict needs it.

    `clock_off_s` is its Date minus our time, `signed_off_s` how far from our time its request was
    signed.
    """

    status: int
    body: bytes
    error_type: str = ""
    clock_off_s: float = 0.0
    retry_after_s: float = 0.0
    signed_off_s: float = 0.0


def judge(answer: Answer) -> tuple[Verdict, list[Unprocessed]]:
    """Sort an answer; with SENT comes what AWS did not process."""
    status = answer.status
    if status == 200:
        return _judge_success(answer.body)
    text = answer.error_type + " " + answer.body[:2000].decode("utf-8", "replace")
    if status in (400, 401, 403):
        if any(word in text for word in _SKEW_WORDS):
            return Verdict.RESIGN, []
        # A signature is also refused where the clock is off by more than AWS's five minutes.
        if "ignature" in text and abs(answer.clock_off_s - answer.signed_off_s) > 240:
            return Verdict.RESIGN, []
        if any(word in text for word in _THROTTLE_WORDS):
            return Verdict.THROTTLED, []
        if status != 400 or any(word in text for word in _CREDENTIAL_WORDS):
            return Verdict.REFRESH, []
        # X-Ray says what it minds, in JSON. What stands between us and it blames no document.
        return Verdict.SPLIT if answer.error_type or _is_object(answer.body) else Verdict.RETRY, []
    if status == 413:
        return Verdict.SPLIT, []
    if status == 429:
        return Verdict.THROTTLED, []
    return Verdict.RETRY, []


def _judge_success(body: bytes) -> tuple[Verdict, list[Unprocessed]]:
    if body in _EMPTY_ANSWERS:
        return Verdict.SENT, []
    try:
        return Verdict.SENT, _decode_put_answer(body).unprocessed_trace_segments or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Verdict.UNREADABLE, []


def _is_object(body: bytes) -> bool:
    try:
        _decode_object(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def is_permanent(code: str | None) -> bool:
    """Whether an unprocessed document's code says that sending it again is no use."""
    return code is not None and _PERMANENT_CODE.match(code) is not None


class Matched(msgspec.Struct):
    """Unprocessed entries put to their documents, by position in the batch.

    `unmatched` counts entries that fit no document for certain.
    """

    entries: dict[int, Unprocessed]
    unmatched: int


def match_unprocessed(documents: Sequence[bytes], entries: Sequence[Unprocessed]) -> Matched:
    """Find the documents AWS names: by id, then by elimination.

    An entry without an id belongs to a document whose id cannot be read; where there are exactly
    as many of these as such entries, they are matched in order (AWS answers in order).
    """
    ids: dict[str, list[int]] = {}
    nameless: list[int] = []
    for position, document in enumerate(documents):
        head = read_head(document)
        if head is not None and head.id:
            ids.setdefault(head.id, []).append(position)
        else:
            nameless.append(position)
    found: dict[int, Unprocessed] = {}
    strays: list[Unprocessed] = []
    for entry in entries:
        positions = ids.get(entry.id) if entry.id else None
        if positions:
            found[positions.pop(0)] = entry
        else:
            strays.append(entry)
    if len(strays) >= len(documents) - len(found):
        del strays[len(documents) - len(found) :]  # more than there are documents: noise
        nameless = [position for position in range(len(documents)) if position not in found]
    if len(strays) == len(nameless):
        found.update(zip(nameless, strays, strict=True))
        strays = []
    return Matched(found, len(strays))


class Pace:
    """How many requests may be in flight and when the next may start.

    Healthy: up to `concurrency` at once. While nothing succeeds: one probe at a time, under full
    jitter, at most two a second (one where throttled), so that the first success comes within
    five seconds of recovery.

    Throttled now and then: requests go at a rate that climbs, ever more slowly, to the limit it was
    last throttled at, and from there doubles every half second. So the limit is met again soon
    where it still stands, with one request refused in a climb's time, and left behind within
    seconds where it does not. A limit that is met where it was expected makes the next climb
    longer. The limit is what got through, not below a part of the best of the last half minute: to
    throttling that does not depend on our rate, going slower would be no answer.

    Args:
        concurrency: requests in flight at most.
        chance: returns a float in [0, 1).
    """

    _FAILURES_TO_PROBE = 3
    _PROBE_MIN_S = 0.5
    _THROTTLED_PROBE_MIN_S = 1.0
    _PROBE_MAX_S = 4.0
    _MEMORY_S = 3.0

    _LIMIT_MIN = 1.0
    _BEST_S, _BEST_SHARE = 30.0, 0.6
    _CLIMB_FROM = 0.8
    _CLIMB_MIN_S, _CLIMB_MAX_S = 2.0, 10.0
    _CLIMB_MIN_REQUESTS = 15
    _DOUBLING_S = 0.5
    _DOUBLINGS = 10

    def __init__(self, concurrency: int, chance: Callable[[], float]) -> None:
        self.concurrency = concurrency
        self._chance = chance
        self._failures = 0
        self._next_at = 0.0
        self._asked_until = 0.0
        self._limit: float | None = None
        self._best = 0.0
        self._climb_s = self._CLIMB_MIN_S
        self._lowered_at = -1e9
        self._tokens = 0.0
        self._refilled_at = 0.0
        self._successes: float = 0.0
        self._successes_at = 0.0

    @property
    def is_probing(self) -> bool:
        """Whether nothing has succeeded for a while and requests go one by one."""
        return self._failures >= self._FAILURES_TO_PROBE

    def wait_s(self, now: float, in_flight: int) -> float | None:
        """Seconds until a request may start; 0 for now, None for when one in flight has ended."""
        if in_flight >= (1 if self.is_probing else self.concurrency):
            return None
        wait = self._next_at - now
        rate = self.rate(now)
        if rate is not None:
            self._refill(now, rate)
            if self._tokens < 1.0:
                wait = max(wait, (1.0 - self._tokens) / rate)
        return max(0.0, wait)

    def asked_wait_s(self, now: float) -> float:
        """Seconds for which the service has asked for no more requests."""
        return max(0.0, self._asked_until - now)

    def start(self) -> None:
        """A request starts."""
        if self._limit is not None:
            self._tokens -= 1.0

    def succeed(self, now: float) -> None:
        """A request was answered 200."""
        if self.is_probing and now - self._successes_at > self._MEMORY_S:
            # Nothing at all got through: that measured an outage, not a limit.
            self._limit = None
        self._failures = 0
        self._next_at = self._asked_until  # a straggler's success does not undo a Retry-After
        self._successes = self._recent_successes(now) + 1.0
        self._successes_at = now

    def fail(self, now: float, retry_after_s: float = 0.0, *, throttled: bool = False) -> float:
        """A request failed in a way that may pass; return when its batch may be tried again."""
        self._failures += 1
        if throttled:
            self._lower(now)
        least = self._THROTTLED_PROBE_MIN_S if throttled else self._PROBE_MIN_S
        over = max(0, self._failures - self._FAILURES_TO_PROBE)
        most = min(self._PROBE_MAX_S, least * 2.0 ** min(over + 1, 8))
        pause = max(least + self._chance() * (most - least), min(retry_after_s, 60.0))
        if retry_after_s:
            self._asked_until = max(self._asked_until, now + min(retry_after_s, 60.0))
        if self.is_probing or retry_after_s:
            self._next_at = max(self._next_at, now + pause)
        return now + pause

    def rate(self, now: float) -> float | None:
        """Requests a second allowed by throttling, None where there is no such limit."""
        if self._limit is None:
            return None
        calm = now - self._lowered_at
        if calm < self._climb_s:
            missing = 1.0 - calm / self._climb_s
            return self._limit * (1.0 - (1.0 - self._CLIMB_FROM) * missing * missing)
        doublings = (calm - self._climb_s) / self._DOUBLING_S
        if doublings > self._DOUBLINGS:
            self._limit = None
            return None
        return self._limit * math.exp2(doublings)

    def _lower(self, now: float) -> None:
        calm = now - self._lowered_at
        if calm < 1.0:
            return
        rate, seen = self.rate(now), self._recent_successes(now) / self._MEMORY_S
        # What got through lags behind a rate that climbs.
        limit = seen if rate is None else min(rate, max(1.2 * seen, rate / 2.0))
        is_where_expected = (
            self._limit is not None and calm >= self._climb_s and limit > 0.7 * self._limit
        )
        self._best = max(seen, self._best * math.exp(-calm / self._BEST_S))
        self._limit = max(limit, self._best * self._BEST_SHARE, self._LIMIT_MIN)
        if is_where_expected:
            climb_s = max(self._climb_s * 1.5, self._CLIMB_MIN_REQUESTS / self._limit)
            self._climb_s = min(self._CLIMB_MAX_S, climb_s)
        else:
            self._climb_s = max(self._CLIMB_MIN_S, self._climb_s * 0.9)
        self._lowered_at = self._refilled_at = now
        self._tokens = min(self._tokens, 1.0)

    def _recent_successes(self, now: float) -> float:
        return self._successes * math.exp((self._successes_at - now) / self._MEMORY_S)

    def _refill(self, now: float, rate: float) -> None:
        elapsed = max(0.0, now - self._refilled_at)
        self._refilled_at = now
        # A little more than one, so that several senders need not take turns to the millisecond.
        self._tokens = min(2.0, self._tokens + rate * elapsed)


class ResponseTimeout:
    """Seconds to wait for an answer: 10, more after time-outs and slow answers, 30 at most.

    A slow service must not get everything twice.
    """

    LEAST_S = 10.0
    MOST_S = 30.0

    def __init__(self) -> None:
        self.seconds = self.LEAST_S

    def expired(self) -> None:
        """A request got no answer in time."""
        self.seconds = min(self.MOST_S, self.seconds * 2)

    def answered(self, elapsed_s: float) -> None:
        """A request was answered after `elapsed_s`."""
        wanted = min(self.MOST_S, max(self.LEAST_S, elapsed_s * 3))
        self.seconds = wanted if wanted > self.seconds else (self.seconds * 7 + wanted) / 8
