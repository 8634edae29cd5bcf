"""TCP 2000's sampling calls: answered from the broker's memory, which is kept fresh beside them.

Nothing is asked of AWS until a client or the daemon's own sampling wants rules, for many hosts have
neither. From then on the rules are fetched once per interval and after every change AWS tells of,
and what all clients report goes up in one round per interval.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from xrayd.errors import UpstreamError
from xrayd.net.client import XRayClient
from xrayd.net.coalescing import Coalescer
from xrayd.net.http_messages import Response, aws_error, json_response, text_response
from xrayd.relay.delivery import Answer, Verdict, judge
from xrayd.sampling.broker import Broker
from xrayd.sampling.report import ReportError
from xrayd.sampling.rule import AnswerError, SamplingRuleRecord, decode_rules
from xrayd.sampling.upstream import RoundCall
from xrayd.sampling.view import encode_view

log = logging.getLogger("xrayd.sampling")

RULES_PATH = "/GetSamplingRules"
TARGETS_PATH = "/SamplingTargets"

Labelled = Mapping[str, tuple[str, str, Mapping[str, float]]]
"""Metric name -> (help, label name, label -> value)."""

_FIRST_RULES_S = 2.0  # as long as a forwarded call is given
_CALL_S = 5.0
_TICK_S = 1.0
_JITTER_S = 30.0
_PAGES_MAX = 100
# What a report waits at most where many come: SDKs ask in the background, every ten seconds.
_REPORTS_PAUSE_S = 0.5


class _RefusedError(Exception):
    """AWS answered, but not with a 200."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.error_type}".strip())
        self.answer = answer


class SamplingDesk:
    """Answers the sampling calls of local clients, and asks AWS on behalf of all of them.

    Args:
        broker: the rules and who has which share of them.
        client: the way to AWS; None where the broker is the authority.
        wait_ready: waits until there are credentials and a region to sign with.
        refresh: asks for new credentials.
        chance: a random number from 0 to 1.
        applied: what the daemon itself samples, for the view.

    Attributes:
        broker: the rules and who has which share of them.
        on_rules: called whenever the rules have changed.
    """

    def __init__(
        self,
        broker: Broker,
        client: XRayClient | None,
        *,
        wait_ready: Callable[[], Awaitable[object]],
        refresh: Callable[[], None],
        chance: Callable[[], float],
        applied: str = "off",
    ) -> None:
        self.broker = broker
        self._client = client
        self._wait_ready = wait_ready
        self._refresh = refresh
        self._chance = chance
        self._applied = applied
        self._reports = Coalescer(self._answer_report, _REPORTS_PAUSE_S)
        self._wanted = asyncio.Event()
        self._fetch: asyncio.Task[None] | None = None
        self._refusal = text_response(502, "X-Ray cannot be reached: no answer yet")
        self._is_failing = False
        self._unreadable = 0
        self._calls = Counter({RULES_PATH: 0, TARGETS_PATH: 0})
        self._upstream_calls = Counter({RULES_PATH: 0, TARGETS_PATH: 0})
        self._upstream_failures = Counter({RULES_PATH: 0, TARGETS_PATH: 0})
        self.on_rules: Callable[[], None] = lambda: None

    # Clients

    def answer(self, path: str, body: bytes) -> Response | Awaitable[Response]:
        """Answer a client's GetSamplingRules or GetSamplingTargets call, from memory: rules at
        once, targets of many clients together.
        """
        self._calls[path] += 1
        self._wanted.set()
        if path == TARGETS_PATH:
            return self._reports.ask(body)
        rules = self.broker.rules_answer()
        return self._first_rules() if rules is None else json_response(200, rules)

    def _answer_report(self, body: bytes) -> Response:
        try:
            return json_response(200, self.broker.report(body, time.time()))
        except ReportError as error:
            return aws_error(400, error.code, error.message)

    async def _first_rules(self) -> Response:
        await self._wait_for_rules()
        rules = self.broker.rules_answer()
        return self._refusal if rules is None else json_response(200, rules)

    async def show(self) -> Response:
        """The rules and their state, for `xrayd sampling`."""
        self.want_rules()
        await self._wait_for_rules()
        return json_response(200, encode_view(self.broker, time.time(), self._applied))

    # AWS

    def want_rules(self) -> None:
        """Begin to ask AWS, though no client has asked yet."""
        self._wanted.set()

    def load_rules(self, records: list[SamplingRuleRecord]) -> bool:
        """Take over the rules of a file, as the authority; say whether they are other ones."""
        is_changed = self.broker.absorb_rules(records, time.time())
        if is_changed:
            self.on_rules()
        return is_changed

    async def run(self) -> None:
        """Keep the rules fresh and report what clients say, until cancelled."""
        if self._client is None:
            return
        await self._wanted.wait()
        now = asyncio.get_running_loop().time
        while True:
            if self.broker.rules_due(time.time()):
                await self._fetching(self._client)
            for call in self.broker.due_round(time.time()):
                await self._report(self._client, call)
            # At whole seconds, when others wake the process too.
            await asyncio.sleep(_TICK_S - now() % _TICK_S)

    def end_waiting(self) -> None:
        """Answer all who wait, and from now on everybody at once, for the end has come."""
        self._reports.end()

    async def finish(self, seconds: float) -> None:
        """Report what waits for its round, for at most `seconds`; nobody reports any more."""
        if self._client is None:
            return
        try:
            async with asyncio.timeout(seconds):
                for call in self.broker.last_round(time.time()):
                    await self._report(self._client, call)
        except TimeoutError:
            log.debug("the last sampling statistics could not be sent in time")

    async def _wait_for_rules(self) -> None:
        """Where rules are not known yet, wait a moment for them; all who ask share one fetch."""
        if self._client is not None and self.broker.rules_answer() is None:
            await asyncio.wait((self._fetching(self._client),), timeout=_FIRST_RULES_S)

    def _fetching(self, client: XRayClient) -> asyncio.Task[None]:
        if self._fetch is None or self._fetch.done():
            self._fetch = asyncio.get_running_loop().create_task(self._fetch_rules(client))
        return self._fetch

    async def _fetch_rules(self, client: XRayClient) -> None:
        # SDKs ask as soon as they start, which may be before xrayd knows who it is.
        await self._wait_ready()
        asked_at = time.time()
        try:
            records = await self._fetch_pages(client)
        except (UpstreamError, AnswerError, _RefusedError) as error:
            self._fail(error)
            return
        now = time.time()
        jitter_s = _JITTER_S * self._chance()
        is_changed = self.broker.absorb_rules(records, now, asked_at=asked_at, jitter_s=jitter_s)
        if is_changed:
            self.on_rules()
        if self._is_failing:
            self._is_failing = False
            log.info("Sampling rules can be fetched again")

    async def _fetch_pages(self, client: XRayClient) -> list[SamplingRuleRecord]:
        """The rules of all pages.

        Raises:
            UpstreamError: no answer came.
            AnswerError: an answer cannot be read, or there are no rules.
            _RefusedError: an answer is no 200.
        """
        records: list[SamplingRuleRecord] = []
        unreadable = 0
        body = b"{}"
        for _ in range(_PAGES_MAX):
            page = decode_rules(await self._ask(client, RULES_PATH, body))
            records += page.records
            unreadable += page.unreadable
            if page.next_token is None:
                break
            body = msgspec.json.encode({"NextToken": page.next_token})
        else:
            raise AnswerError(f"the GetSamplingRules answer has more than {_PAGES_MAX} pages")
        if not records:
            raise AnswerError("the GetSamplingRules answer has no rules")
        if unreadable != self._unreadable:
            self._unreadable = unreadable
            if unreadable:
                log.warning("%d sampling rules without a usable name or rate left out", unreadable)
        return records

    async def _ask(self, client: XRayClient, path: str, body: bytes) -> bytes:
        """The body of a 200.

        Raises:
            UpstreamError: no answer came.
            _RefusedError: the answer is no 200.
        """
        self._upstream_calls[path] += 1
        try:
            answer = await client.ask(path, body, _CALL_S)
        except UpstreamError:
            self._upstream_failures[path] += 1
            raise
        if answer.status == 200:
            return answer.body
        self._upstream_failures[path] += 1
        if judge(answer)[0] is Verdict.REFRESH:
            self._refresh()
        raise _RefusedError(answer)

    async def _report(self, client: XRayClient, call: RoundCall) -> None:
        try:
            answer = await self._ask(client, TARGETS_PATH, call.body)
            self.broker.absorb_targets(call, answer, time.time())
        except (UpstreamError, _RefusedError) as error:
            log.debug("Sampling statistics wait for the next round: %s", error)
            self.broker.round_failed(call, time.time())
        except AnswerError as error:
            self._upstream_failures[TARGETS_PATH] += 1
            log.debug("Sampling targets cannot be read: %s", error)

    def _fail(self, error: UpstreamError | AnswerError | _RefusedError) -> None:
        now = time.time()
        self.broker.rules_failed(now)
        match error:
            case _RefusedError(answer=answer):
                headers = [("Content-Type", "application/json")]
                if answer.error_type:
                    headers.append(("x-amzn-ErrorType", answer.error_type))
                self._refusal = Response(answer.status, answer.body, headers)
            case UpstreamError():
                self._refusal = text_response(502, f"X-Ray cannot be reached: {error.kind}")
            case _:
                self._refusal = text_response(502, f"X-Ray was not understood: {error}")
        if not self._is_failing:
            self._is_failing = True
            age = self.broker.rules_age_s(now)
            kept = "none are known yet" if age is None else f"those of {age:.0f} s ago are served"
            log.warning("Sampling rules cannot be fetched (%s); %s", error, kept)

    # To look at

    def gauges(self) -> Mapping[str, tuple[str, float]]:
        """What /metrics shows of sampling as a whole."""
        now = time.time()
        age = self.broker.rules_age_s(now)
        return {
            "sampling_rules_age_seconds": (
                "Seconds since the sampling rules were last fetched; NaN while none are known.",
                float("nan") if age is None else age,
            ),
            "sampling_rules": ("Sampling rules known.", len(self.broker.rules)),
            "sampling_clients": (
                "Samplers that reported within the last three intervals.",
                self.broker.clients(now),
            ),
        }

    def labelled(self) -> Labelled:
        """What /metrics shows by path and by rule."""
        rules = self.broker.statistics(time.time())
        return {
            "sampling_calls_total": (
                "Sampling calls of local clients.", "path", self._calls,
            ),
            "sampling_upstream_calls_total": (
                "Sampling calls made to AWS.", "path", self._upstream_calls,
            ),
            "sampling_upstream_failures_total": (
                "Sampling calls made to AWS without success.", "path", self._upstream_failures,
            ),
            "sampling_rule_requests_total": (
                "Requests that clients matched to a rule.",
                "rule",
                {rule.rule_name: rule.requests for rule in rules},
            ),
            "sampling_rule_sampled_total": (
                "Requests that clients sampled by a rule.",
                "rule",
                {rule.rule_name: rule.sampled for rule in rules},
            ),
            "sampling_rule_borrowed_total": (
                "Requests that clients sampled on borrowed reservoir.",
                "rule",
                {rule.rule_name: rule.borrowed for rule in rules},
            ),
        }  # fmt: skip
