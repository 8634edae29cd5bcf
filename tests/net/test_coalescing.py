"""What waits is answered together, in its order and once; what comes alone is answered at once."""

import asyncio
from collections.abc import Coroutine

from xrayd.net.coalescing import Coalescer
from xrayd.net.http_messages import Response

PAUSE_S = 0.02


class Desk:
    """Answers with what it was asked, and remembers it."""

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self.asked: list[bytes] = []
        self.coalescer = Coalescer(self._answer, pause_s)

    def _answer(self, body: bytes) -> Response:
        self.asked.append(body)
        return Response(200, body)

    def later(self, body: bytes) -> "asyncio.Future[Response]":
        answer = self.coalescer.ask(body)
        assert isinstance(answer, asyncio.Future)
        return answer

    def at_once(self, body: bytes) -> None:
        assert self.coalescer.ask(body) == Response(200, body)


def run(work: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def test_the_first_is_answered_at_once_and_the_others_at_the_end_of_its_pause():
    async def scenario() -> None:
        desk = Desk()
        began = asyncio.get_running_loop().time()
        desk.at_once(b"1")
        waiting = [desk.later(b"2"), desk.later(b"3"), desk.later(b"4")]
        await asyncio.sleep(0)
        assert desk.asked == [b"1"]
        answers = await asyncio.gather(*waiting)
        assert asyncio.get_running_loop().time() - began >= PAUSE_S
        assert [answer.body for answer in answers] == [b"2", b"3", b"4"]
        assert desk.asked == [b"1", b"2", b"3", b"4"]

    run(scenario())


def test_what_was_answered_together_is_followed_by_a_pause_too():
    async def scenario() -> None:
        desk = Desk()
        desk.at_once(b"1")
        await desk.later(b"2")
        assert (await desk.later(b"3")).body == b"3"

    run(scenario())


def test_after_a_pause_in_which_nobody_came_the_next_is_answered_at_once():
    async def scenario() -> None:
        desk = Desk()
        desk.at_once(b"1")
        await desk.later(b"2")
        await asyncio.sleep(PAUSE_S * 3)  # the loop's own timers fire in their order
        desk.at_once(b"3")

    run(scenario())


def test_others_get_their_turn_between_two_answers():
    async def scenario() -> None:
        desk = Desk()
        desk.at_once(b"0")
        seen: list[int] = []

        def look() -> None:
            seen.append(len(desk.asked))
            if len(desk.asked) < 10:
                asyncio.get_running_loop().call_soon(look)

        waiting = [desk.later(b"%d" % number) for number in range(1, 10)]
        look()
        await asyncio.gather(*waiting)
        assert set(seen) >= set(range(1, 10))

    run(scenario())


def test_who_has_gone_is_still_heard_and_costs_nobody_an_answer():
    async def scenario() -> None:
        desk = Desk()
        desk.at_once(b"1")
        gone, here = desk.later(b"2"), desk.later(b"3")
        gone.cancel()
        assert (await here).body == b"3"
        assert desk.asked == [b"1", b"2", b"3"]

    run(scenario())


def test_at_the_end_all_who_wait_are_answered_and_nobody_waits_any_more():
    async def scenario() -> None:
        desk = Desk(pause_s=3600.0)
        desk.at_once(b"1")
        waiting = [desk.later(b"2"), desk.later(b"3")]
        desk.coalescer.end()
        assert [answer.result().body for answer in waiting] == [b"2", b"3"]
        desk.at_once(b"4")
        desk.at_once(b"5")
        assert desk.asked == [b"1", b"2", b"3", b"4", b"5"]

    run(scenario())


def test_an_end_while_answers_are_given_answers_each_once():
    async def scenario() -> None:
        desk = Desk()
        desk.at_once(b"1")
        waiting = [desk.later(b"%d" % number) for number in range(2, 9)]
        await waiting[2]
        desk.coalescer.end()
        assert all(answer.done() for answer in waiting)
        await asyncio.sleep(PAUSE_S * 3)
        desk.at_once(b"9")
        assert desk.asked == [b"%d" % number for number in range(1, 10)]

    run(scenario())


def test_few_wait_so_that_what_they_take_is_little():
    async def scenario() -> None:
        desk = Desk(pause_s=3600.0)
        desk.at_once(b"first")
        for _ in range(16):
            desk.later(b"waits")
        for _ in range(100):
            desk.at_once(b"answered")
        assert len(desk.asked) == 101

    run(scenario())


def test_who_says_much_does_not_wait():
    async def scenario() -> None:
        desk = Desk(pause_s=3600.0)
        desk.at_once(b"first")
        desk.later(bytes(16 * 1024))
        desk.at_once(bytes(16 * 1024 + 1))

    run(scenario())
