"""The buffer against a plain model: bytes, order, counts and time."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from xrayd.relay.buffer import (
    BATCH_BYTES_MAX,
    BATCH_OVERHEAD,
    DOCUMENT_OVERHEAD,
    DOCUMENTS_MAX,
    Batch,
    Buffer,
    halves,
)


def test_a_batch_is_due_when_it_is_full() -> None:
    buffer = Buffer(10_000_000)
    for number in range(DOCUMENTS_MAX):
        assert buffer.take(0.0) is None
        buffer.append(b"%d" % number, 0.0)
    batch = buffer.take(0.0)
    assert batch is not None
    assert batch.documents == [b"%d" % n for n in range(DOCUMENTS_MAX)]


def test_a_batch_is_due_when_it_is_a_second_old() -> None:
    buffer = Buffer(10_000_000)
    buffer.append(b"a", 5.0)
    assert buffer.due_in(5.4) == 0.6000000000000001 or abs((buffer.due_in(5.4) or 0) - 0.6) < 1e-9
    assert buffer.take(5.9) is None
    batch = buffer.take(6.0)
    assert batch is not None
    assert batch.documents == [b"a"]
    assert buffer.due_in(6.0) is None


def test_large_documents_make_small_batches() -> None:
    buffer = Buffer(100_000_000)
    for _ in range(20):
        buffer.append(b"x" * 60_000, 0.0)
    batch = buffer.take(0.0)
    assert batch is not None
    assert sum(map(len, batch.documents)) <= BATCH_BYTES_MAX
    assert len(batch.documents) == 8


def test_the_oldest_spill_over_first_and_are_counted() -> None:
    buffer = Buffer(3_000_000)
    given_up = [
        batch for n in range(100) for batch in buffer.append(b"%05d" % n + b"x" * 60_000, float(n))
    ]
    spilled = sum(len(batch.documents) for batch in given_up)
    assert spilled > 0
    kept: list[bytes] = []
    while (batch := buffer.take(1e9)) is not None:
        kept += batch.documents
        buffer.settle(batch)
    assert len(kept) + spilled == 100
    assert [d[:5] for d in kept] == [b"%05d" % n for n in range(spilled, 100)]
    assert buffer.bytes_held == 0


def test_a_document_spills_itself_when_all_else_is_in_flight() -> None:
    buffer = Buffer(3_000_000)
    while buffer.has_room(60_000):
        buffer.append(b"x" * 60_000, 0.0)
    taken = []
    while (batch := buffer.take(1.0, linger=False)) is not None:
        taken.append(batch)
    given_up = buffer.append(b"y" * 60_000, 2.0, 7)
    assert [batch.documents for batch in given_up] == [[b"y" * 60_000]]
    assert list(given_up[0].numbers) == [7]
    assert buffer.queued == 0


def test_a_batch_put_back_goes_first_when_its_time_has_come() -> None:
    buffer = Buffer(10_000_000)
    for n in range(DOCUMENTS_MAX * 2):
        buffer.append(b"%d" % n, 0.0)
    first = buffer.take(0.0)
    assert first is not None
    buffer.put_back(first, not_before=7.0)
    second = buffer.take(1.0)
    assert second is not None
    assert second is not first
    assert buffer.take(6.9) is None
    assert buffer.due_in(6.0) == 1.0
    assert buffer.take(7.0) is first


def test_a_batch_larger_than_the_service_takes_is_halved_before_it_is_sent() -> None:
    buffer = Buffer(10_000_000)
    for _ in range(DOCUMENTS_MAX):
        buffer.append(b"x" * 10_000, 0.0)
    buffer.limit_batches(100_000)
    sizes = []
    while (batch := buffer.take(0.0)) is not None:
        assert batch.size <= 100_000
        sizes.append(len(batch.documents))
        buffer.settle(batch)
    assert sum(sizes) == DOCUMENTS_MAX
    assert (buffer.queued, buffer.in_flight, buffer.bytes_held) == (0, 0, 0)


def test_what_came_at_different_times_does_not_expire_together() -> None:
    buffer = Buffer(10_000_000, age_max_s=160.0)
    for second in range(100):
        buffer.append(b"%d" % second, float(second))
    expired = [document for batch in buffer.expire(200.0) for document in batch.documents]
    # 40 are too old; a batch spans a sixteenth of the age.
    assert expired == [b"%d" % second for second in range(44)]


def test_what_is_too_old_expires() -> None:
    buffer = Buffer(10_000_000, age_max_s=100.0)
    for n in range(DOCUMENTS_MAX):
        buffer.append(b"%d" % n, 0.0)
    retried = buffer.take(0.0)
    assert retried is not None
    buffer.put_back(retried, 50.0)
    for n in range(DOCUMENTS_MAX):
        buffer.append(b"%d" % n, 90.0)
    assert buffer.expire(99.0) == []
    assert [len(batch.documents) for batch in buffer.expire(101.0)] == [DOCUMENTS_MAX]
    assert buffer.queued == DOCUMENTS_MAX


def test_halves_of_one_position_are_that_position() -> None:
    assert halves([4]) == [[4]]
    assert halves(range(3)) == [[0, 1], [2]]


def test_parts_of_a_batch_keep_their_numbers_and_the_rest_is_settled() -> None:
    buffer = Buffer(10_000_000)
    settled: list[list[int]] = []
    buffer.on_settled = lambda batch, positions: settled.append(
        [batch.numbers[position] for position in positions]
    )
    for number in range(1, 6):
        buffer.append(b"%d" % number, 0.0, number)
    batch = buffer.take(0.0, linger=False)
    assert batch is not None
    buffer.divide(batch, [[0, 3], [4]], 0.0)
    assert settled == [[2, 3]]
    parts = [buffer.take(0.0), buffer.take(0.0)]
    assert [(p.documents, list(p.numbers)) for p in parts if p] == [
        ([b"1", b"4"], [1, 4]),
        ([b"5"], [5]),
    ]


def test_backlog_is_sent_apart_and_given_up_first() -> None:
    buffer = Buffer(10_000)
    buffer.add_backlog([b"x" * 3000], [77], 0.0, has_unfinished=False)
    assert buffer.take(100.0, linger=False) is None
    given_up = buffer.append(b"y" * 8000, 0.0)
    assert [(list(b.numbers), b.is_backlog) for b in given_up] == [([77], True)]
    buffer.add_backlog([b"z"], [78], 0.0, has_unfinished=False)
    batch = buffer.take_backlog(0.0)
    assert batch is not None
    assert (batch.is_backlog, list(batch.numbers)) == (True, [78])


def test_those_who_flood_are_sent_behind_all_others() -> None:
    buffer = Buffer(10_000_000, linger_s=1.0)
    for _ in range(DOCUMENTS_MAX):
        buffer.append(b"flood", 0.0, is_flood=True)
    buffer.append(b"flood", 0.0, is_flood=True)
    buffer.append(b"a", 0.5)
    assert buffer.due_in(0.5) == 0.0
    sent = []
    while (batch := buffer.take(1.5)) is not None:
        sent.append(batch.documents)
    assert sent == [[b"a"], [b"flood"] * DOCUMENTS_MAX, [b"flood"]]


def test_those_who_flood_lose_before_others_do() -> None:
    buffer = Buffer(100_000)
    for number in range(50):
        buffer.append(b"%05d" % number + b"x" * 900, 0.0)
    given_up = [
        document
        for _ in range(500)
        for batch in buffer.append(b"flood" + b"x" * 900, 1.0, is_flood=True)
        for document in batch.documents
    ]
    assert given_up
    assert {document[:5] for document in given_up} == {b"flood"}
    kept = [document for batch in buffer.clear() for document in batch.documents]
    assert sum(not document.startswith(b"flood") for document in kept) == 50


def test_those_who_flood_drive_out_nobody_else() -> None:
    buffer = Buffer(100_000)
    while buffer.has_room(1000):
        buffer.append(b"x" * 1000, 0.0)
    held = buffer.queued
    given_up = buffer.append(b"flood" + b"x" * 3000, 1.0, 7, is_flood=True)
    assert [list(batch.numbers) for batch in given_up] == [[7]]
    assert buffer.queued == held


class BufferMachine(RuleBasedStateMachine):
    """Whatever happens: nothing is lost uncounted, and the budget holds."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = Buffer(40_000, linger_s=1.0, age_max_s=50.0)
        self.now = 0.0
        self.appended = 0
        self.gone = 0
        self.flying: list[Batch] = []

    @rule(size=st.integers(0, 9000), count=st.integers(1, 60), is_flood=st.booleans())
    def append(self, size: int, count: int, is_flood: bool) -> None:
        for _ in range(count):
            self.appended += 1
            given_up = self.buffer.append(b"x" * size, self.now, is_flood=is_flood)
            self.gone += sum(len(batch.documents) for batch in given_up)

    @rule(seconds=st.floats(0.0, 30.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(linger=st.booleans())
    def take(self, linger: bool) -> None:
        batch = self.buffer.take(self.now, linger=linger)
        if batch is not None:
            assert 1 <= len(batch.documents) <= DOCUMENTS_MAX
            self.flying.append(batch)

    @precondition(lambda self: self.flying)
    @rule(position=st.integers(0, 99), ending=st.sampled_from(["settle", "put_back", "divide"]))
    def end(self, position: int, ending: str) -> None:
        batch = self.flying.pop(position % len(self.flying))
        if ending == "settle":
            self.gone += len(batch.documents)
            self.buffer.settle(batch)
        elif ending == "put_back":
            self.buffer.put_back(batch, self.now + 3.0)
        else:
            keep = halves(range(len(batch.documents)))[:1]
            self.gone += len(batch.documents) - len(keep[0])
            self.buffer.divide(batch, keep, self.now)

    @rule()
    def expire(self) -> None:
        self.gone += sum(len(batch.documents) for batch in self.buffer.expire(self.now))

    @rule()
    def clear(self) -> None:
        self.gone += sum(len(batch.documents) for batch in self.buffer.clear())
        assert self.buffer.queued == 0

    @invariant()
    def nothing_is_lost_and_the_budget_holds(self) -> None:
        buffer = self.buffer
        assert buffer.in_flight == sum(len(b.documents) for b in self.flying)
        assert self.appended == self.gone + buffer.queued + buffer.in_flight
        # Splitting may add a batch's own overhead now and then.
        assert buffer.bytes_held <= 40_000 + BATCH_OVERHEAD * 64
        if buffer.queued + buffer.in_flight == 0:
            assert buffer.bytes_held == 0

    @invariant()
    def due_tells_the_truth(self) -> None:
        due = self.buffer.due_in(self.now)
        assert (due is None) == (self.buffer.queued == 0)


BufferMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestBuffer = BufferMachine.TestCase


def test_overhead_is_what_python_takes() -> None:
    import sys
    import tracemalloc

    tracemalloc.start()
    try:
        buffer = Buffer(1 << 30)
        before = tracemalloc.get_traced_memory()[0]
        for n in range(20_000):
            buffer.append(b"%030d" % n, 0.0)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used <= buffer.bytes_held
    assert sys.getsizeof(b"x" * 30) + 8 <= 30 + DOCUMENT_OVERHEAD
