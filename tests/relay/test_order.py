"""Documents of one segment keep their order while one in progress is on its way."""

from hypothesis import given
from hypothesis import strategies as st

from xrayd.relay.order import Order, Waiting


def document(segment_id: str, step: int, *, in_progress: bool) -> bytes:
    flag = ',"in_progress":true' if in_progress else ""
    return f'{{"id":"{segment_id}","step":{step}{flag}}}'.encode()


def entry(segment_id: str, step: int, *, in_progress: bool) -> Waiting:
    return Waiting(document(segment_id, step, in_progress=in_progress), step, in_progress)


def test_a_complete_document_waits_for_the_one_in_progress() -> None:
    order = Order(10_000)
    first, last = entry("a", 1, in_progress=True), entry("a", 2, in_progress=False)
    assert not order.must_wait("a", first)
    assert order.must_wait("a", last)
    assert not order.must_wait("b", entry("b", 3, in_progress=False))
    assert list(order.let_go(first.document)) == [last]
    assert (order.documents, order.bytes_held) == (0, 0)
    assert "a" not in order.ids


def test_several_in_progress_go_one_after_the_other() -> None:
    order = Order(10_000)
    entries = [entry("a", n, in_progress=n < 3) for n in range(1, 4)]
    assert [order.must_wait("a", one) for one in entries] == [False, True, True]
    assert list(order.let_go(entries[0].document)) == [entries[1]]
    assert list(order.let_go(entries[1].document)) == [entries[2]]


def test_what_waits_is_bounded() -> None:
    order = Order(100)
    assert not order.must_wait("a", entry("a", 0, in_progress=True))
    waits = [order.must_wait("a", entry("a", n, in_progress=False)) for n in range(50)]
    assert any(waits)
    assert not all(waits)
    assert order.bytes_held <= 100


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=30), st.data())
def test_no_document_overtakes_one_in_progress_of_its_id(
    arrivals: list[tuple[str, bool]], data: st.DataObject
) -> None:
    order = Order(1_000_000)
    flying: list[Waiting] = []
    arrived: dict[str, list[int]] = {"a": [], "b": []}
    delivered: dict[str, list[Waiting]] = {"a": [], "b": []}

    def deliver() -> None:
        one = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
        delivered["a" if b'"a"' in one.document else "b"].append(one)
        flying.extend(order.let_go(one.document))

    for step, (segment_id, in_progress) in enumerate(arrivals):
        one = entry(segment_id, step, in_progress=in_progress)
        arrived[segment_id].append(step)
        must_wait = in_progress or segment_id in order.ids
        if not (must_wait and order.must_wait(segment_id, one)):
            flying.append(one)
        if flying and data.draw(st.booleans()):
            deliver()
    while flying:
        deliver()
    for segment_id, steps in arrived.items():
        got = delivered[segment_id]
        assert sorted(one.number for one in got) == steps
        for position, one in enumerate(got):
            if one.is_unfinished:
                assert all(earlier.number < one.number for earlier in got[:position])
