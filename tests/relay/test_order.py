"""Documents of one segment keep their order while one in progress is on its way or on disk."""

from hypothesis import given
from hypothesis import strategies as st

from xrayd.relay.order import Order, Place, Waiting
from xrayd.relay.segment import Head


def document(segment_id: str, step: int, *, in_progress: bool) -> bytes:
    flag = ',"in_progress":true' if in_progress else ""
    return f'{{"id":"{segment_id}","step":{step}{flag}}}'.encode()


def entry(segment_id: str, step: int, *, in_progress: bool, backlog: bool = False) -> Waiting:
    text = document(segment_id, step, in_progress=in_progress)
    return Waiting(text, step, in_progress, backlog)


def test_a_complete_document_waits_for_the_one_in_progress() -> None:
    order = Order(10_000)
    first, last = entry("a", 1, in_progress=True), entry("a", 2, in_progress=False)
    assert order.place("a", first) is Place.GO
    assert order.place("a", last) is Place.WAIT
    assert order.place("b", entry("b", 3, in_progress=False)) is Place.GO
    assert list(order.let_go(first.document)) == [last]
    assert (order.documents, order.bytes_held) == (0, 0)
    assert not order.ids


def test_several_in_progress_go_one_after_the_other() -> None:
    order = Order(10_000)
    entries = [entry("a", n, in_progress=n < 3) for n in range(1, 4)]
    assert [order.place("a", one) for one in entries] == [Place.GO, Place.WAIT, Place.WAIT]
    assert list(order.let_go(entries[0].document)) == [entries[1]]
    assert list(order.let_go(entries[1].document)) == [entries[2]]


def test_what_waits_is_bounded() -> None:
    order = Order(1000)
    assert order.place("a", entry("a", 0, in_progress=True)) is Place.GO
    places = [order.place("a", entry("a", n, in_progress=False)) for n in range(50)]
    assert set(places) == {Place.WAIT, Place.NO_ROOM}
    for n in range(50):
        order.place(f"b{n}", entry(f"b{n}", n, in_progress=True))
        order.place(f"c{n}", entry(f"c{n}", n, in_progress=False), is_in_doubt=True)
    assert order.bytes_held <= 1000
    assert len(order.ids) <= 3


def test_a_document_in_doubt_waits_until_all_that_the_disk_had_was_seen() -> None:
    order = Order(10_000)
    one, other = entry("a", 1, in_progress=False), entry("b", 2, in_progress=False)
    assert order.place("a", one, is_in_doubt=True) is Place.WAIT
    assert order.place("b", other, is_in_doubt=True) is Place.WAIT
    back = entry("a", 77, in_progress=True, backlog=True)
    assert list(order.come_back(Head(id="a", in_progress=True), back)) == [back]
    assert list(order.end_doubt()) == [other]
    assert list(order.let_go(back.document)) == [one]
    assert not order.ids
    assert order.documents == order.bytes_held == 0


def test_a_document_in_doubt_waits_for_the_second_in_progress_too() -> None:
    order = Order(10_000)
    last = entry("a", 1, in_progress=False)
    order.place("a", last, is_in_doubt=True)
    backs = [entry("a", n, in_progress=True, backlog=True) for n in (77, 78)]
    for back in backs:
        assert list(order.come_back(Head(id="a", in_progress=True), back)) == [back]
        assert not list(order.let_go(back.document))
    assert list(order.end_doubt()) == [last]


def test_a_complete_document_waits_for_one_in_progress_that_only_the_disk_has() -> None:
    order = Order(10_000)
    first, last = entry("a", 1, in_progress=True), entry("a", 2, in_progress=False)
    order.place("a", first)
    order.go_to_disk([first.document])
    assert order.place("a", last) is Place.WAIT
    back = entry("a", 77, in_progress=True, backlog=True)
    assert list(order.come_back(Head(id="a", in_progress=True), back)) == [back]
    assert list(order.let_go(first.document)) == [last]
    assert not order.ids


def test_what_the_disk_has_lost_is_not_waited_for() -> None:
    order = Order(10_000)
    first, last = entry("a", 1, in_progress=True), entry("a", 2, in_progress=False)
    order.place("a", first)
    order.go_to_disk([first.document])
    order.place("a", last)
    assert list(order.forget_disk()) == [last]
    assert not order.ids


class Way:
    """Memory, a disk behind it, and a service that answers in any order, around an Order."""

    def __init__(self) -> None:
        self.order = Order(1_000_000)
        self.flying: list[Waiting] = []
        self.disk: list[Waiting] = []
        self.delivered: list[Waiting] = []

    def arrive(self, one: Waiting, segment_id: str) -> None:
        is_watched = one.is_unfinished or segment_id in self.order.ids
        if not is_watched or self.order.place(segment_id, one) is Place.GO:
            self.flying.append(one)

    def let_go_to_disk(self, which: int) -> None:
        one = self.flying.pop(which)
        self.order.go_to_disk([one.document])
        self.disk.append(one)
        self.disk.sort(key=lambda waiting: waiting.number)

    def read_back(self) -> None:
        one = self.disk.pop(0)
        back = Waiting(one.document, one.number, one.is_unfinished, is_backlog=True)
        segment_id = one.document.decode()[7]
        if one.is_unfinished or segment_id in self.order.ids:
            head = Head(id=segment_id, in_progress=one.is_unfinished)
            self.flying += self.order.come_back(head, back)
        else:
            self.flying.append(back)

    def deliver(self, which: int) -> None:
        one = self.flying.pop(which)
        self.delivered.append(one)
        self.flying.extend(self.order.let_go(one.document))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=30), st.data())
def test_no_document_overtakes_one_in_progress_of_its_id(
    arrivals: list[tuple[str, bool]], data: st.DataObject
) -> None:
    way = Way()
    for step, (segment_id, in_progress) in enumerate(arrivals):
        way.arrive(entry(segment_id, step, in_progress=in_progress), segment_id)
        for _ in range(data.draw(st.integers(0, 2))):
            what = data.draw(st.sampled_from(["deliver", "let go", "read back"]))
            if what == "read back" and way.disk:
                way.read_back()
            elif what != "read back" and way.flying:
                which = data.draw(st.integers(0, len(way.flying) - 1))
                way.deliver(which) if what == "deliver" else way.let_go_to_disk(which)
    while way.flying or way.disk:
        if way.disk and (not way.flying or data.draw(st.booleans())):
            way.read_back()
        else:
            way.deliver(data.draw(st.integers(0, len(way.flying) - 1)))
    assert sorted(one.number for one in way.delivered) == list(range(len(arrivals)))
    assert not way.order.ids
    assert way.order.documents == way.order.bytes_held == 0
    for wanted in "ab":
        got = [one for one in way.delivered if one.document.decode()[7] == wanted]
        for position, one in enumerate(got):
            if one.is_unfinished:
                assert all(earlier.number < one.number for earlier in got[:position])
