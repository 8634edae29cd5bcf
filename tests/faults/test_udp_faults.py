"""Faults of the way in (E-39 … E-45)."""

import json
import re
import signal
import sys
from pathlib import Path

import pytest
from fakes.documents import HEADER, make_datagram, make_document
from fakes.factory import XraydFactory
from fakes.process import Xrayd
from fakes.verdict import Verdict
from fakes.xray import FakeXRay
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import QUICK_EXIT, Flood, Oracle, flood

from xrayd.errors import DatagramError
from xrayd.relay.datagram import split
from xrayd.relay.segment import kind_of, read_head, to_text

ASKED = 16 * 1024 * 1024


def granted(process: Xrayd) -> int:
    return int(process.wait_for_line(r"receive buffer (\d+) of")[1])


def test_a_burst_of_20000_is_absorbed(xrayd: XraydFactory) -> None:
    """E-39: with the whole buffer nothing is lost; with less, what is lost is counted.

    Where others keep the processors busy, a burst can be over before xrayd has its turn: one of
    five must find it awake.
    """
    for _ in range(5):
        with FakeXRay() as fake:
            process = xrayd("-m", "100", config=QUICK_EXIT, endpoint=fake.url)
            oracle = Oracle(process, fake)
            oracle.sent += flood(process, 20_000)
            if process.udp_drops() == 0:
                oracle.check_nothing_lost()
                return
            account = oracle.close()
            assert account.ledger["received"] + account.ledger["kernel_dropped"] == 20_000
    assert granted(process) < ASKED


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads datagrams over sockets")
def test_a_train_is_kept_though_a_small_buffer_is_all_that_was_granted(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """E-39: 212,992 bytes hold 92 datagrams of 1 KB, and nobody reads while these come."""
    process = xrayd(config={**QUICK_EXIT, "Socket": {"ReceiveBufferMB": 0}})
    oracle = Oracle(process, fake_xray, size=1024)
    process.signal(signal.SIGSTOP)
    oracle.send(500)
    process.signal(signal.SIGCONT)
    oracle.check_nothing_lost()


@pytest.mark.parametrize("megabytes", [0, 1])
@pytest.mark.parametrize("size", [300, pytest.param(16_000, marks=pytest.mark.slow)])
def test_kernel_drops_are_counted_exactly(
    xrayd: XraydFactory, fake_xray: FakeXRay, megabytes: int, size: int
) -> None:
    """E-40, E-41: a small buffer, and nobody to empty it."""
    process = xrayd(config={**QUICK_EXIT, "Socket": {"ReceiveBufferMB": megabytes}})
    oracle = Oracle(process, fake_xray, size=size)
    process.signal(signal.SIGSTOP)
    oracle.send(4_000_000 // size)
    dropped = process.udp_drops()
    process.signal(signal.SIGCONT)
    assert dropped > 0
    account = oracle.close()
    assert account.ledger["kernel_dropped"] == account.lost == dropped
    assert account.ledger["received"] + dropped == len(oracle.sent)


LARGEST = [b"x" * (65_507 - len(HEADER))]
TINY = [b'{"id":"0123456789abcdef","a":1}']
IN_PROGRESS = [b'{"id":"%016x","in_progress":true}' % number for number in range(100_000)]


@pytest.mark.parametrize(
    ("documents", "count"),
    [
        pytest.param(LARGEST, 900, id="largest"),
        pytest.param(TINY, 250_000, id="tiny", marks=pytest.mark.slow),
        pytest.param(IN_PROGRESS, 100_000, id="in progress"),
    ],
)
def test_memory_holds_with_a_hung_endpoint(
    xrayd: XraydFactory, fake_xray: FakeXRay, documents: list[bytes], count: int
) -> None:
    """E-42: far more of them than there is room for, ids to be remembered of each or not."""
    fake_xray.answer(Verdict(hang=True, stored=False))
    process = xrayd("-m", "16", config=QUICK_EXIT)
    for start in range(0, count, 200):
        numbers = range(start, min(start + 200, count))
        process.send(*[HEADER + documents[number % len(documents)] for number in numbers])
        if start % 2000 == 0:
            process.get("/healthz")
    assert process.peak_rss_mib() <= 16 * 1e6 / 2**20 + 64.0
    process.sigterm()
    assert process.wait(30) == 0
    line = process.wait_for_line(r"received=(\d+) .*difference=0 kernel_dropped=(\d+)")
    assert int(line[1]) + int(line[2]) == count


MALFORMED = [
    b"",
    b"\n",
    HEADER,
    HEADER[:-1],
    b"\xef\xbb\xbf" + HEADER + b"{}",
    b"\x00" + HEADER + b"{}",
    HEADER + b"\x00",
    HEADER + b"\xff\xfe",
    HEADER + b"[" * 60_000,
    HEADER + b'{"a":' * 10_000,
    b"[" * 60_000 + b"\n{}",
    b'{"format":"json","version":' + b"1" * 60_000 + b"}\n{}",
    HEADER + b'{"id":' + b"9" * 60_000 + b"}",
    b'{"format":"json","format":"xml","version":1}\n{}',
    b'{"format":"json","version":1e0}\n{}',
    b'{"format":"json","version":1,"x":"\\ud800"}\n{}',
    HEADER + b'{"id":"\\ud800"}',
    HEADER[:-1] + b"\r\n{}",
    HEADER + HEADER + b"{}",
]


@given(
    st.one_of(
        st.sampled_from(MALFORMED), st.binary(max_size=400), st.builds(HEADER.__add__, st.binary())
    )
)
@example(MALFORMED[0])
def test_any_datagram_is_refused_by_name_or_kept_to_the_byte(datagram: bytes) -> None:
    """E-43."""
    try:
        body = split(datagram)
    except DatagramError:
        return
    assert body
    assert datagram.endswith(b"\n" + body)
    assert kind_of(body, read_head(body))
    text, is_replaced = to_text(body)
    assert text.encode() == body or is_replaced


@pytest.mark.parametrize("number", range(len(MALFORMED)))
def test_the_corpus_is_refused_or_kept(number: int) -> None:
    """Each of them at least once, whatever hypothesis chose."""
    try:
        body = split(MALFORMED[number])
    except DatagramError:
        return
    assert MALFORMED[number].endswith(body)


def reference_verdict(datagram: bytes) -> bytes | None:
    """The X-Ray daemon's rules, written down a second time from its contract."""
    cut = datagram.find(b"\n")
    if cut < 0 or cut == len(datagram) - 1:
        return None
    try:
        header = json.loads(datagram[:cut].decode())
    except ValueError:
        return None
    if not isinstance(header, dict):
        return None
    by_name = {name.lower(): value for name, value in header.items()}
    is_ours = isinstance(by_name.get("format"), str) and by_name["format"].lower() == "json"
    version = by_name.get("version")
    is_first = type(version) is int and version == 1
    return datagram[cut + 1 :] if is_ours and is_first else None


def cased(word: str) -> st.SearchStrategy[str]:
    return st.sampled_from([word, word.upper(), word.title()])


headers = st.fixed_dictionaries(
    {},
    optional={
        "format": st.one_of(cased("json"), st.sampled_from(["xml", "", 1, None])),
        "version": st.sampled_from([1, 2, 0, -1, "1", 1.5, None, True]),
        "Format": cased("json"),
        "extra": st.integers(),
    },
)
separators = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"", b" \n"])


@given(headers, separators, st.sampled_from([b"{}", b"", b"{}\n{}", b"T1Sx"]), st.booleans())
def test_verdicts_are_the_contracts(
    header: dict[str, object], separator: bytes, body: bytes, spaced: bool
) -> None:
    """E-44, differentially."""
    text = json.dumps(header, indent=None, separators=(" , ", " : ") if spaced else None)
    datagram = text.encode() + separator + body
    try:
        mine: bytes | None = split(datagram)
    except DatagramError:
        mine = None
    assert mine == reference_verdict(datagram)


NOISE = b"junk\n{}"


def seconds_waited_for_a_processor(process: Xrayd) -> float:
    """By the scheduler's books of the main thread, which is the one that reads."""
    return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who waited for a processor")
@pytest.mark.parametrize("receive_buffer_mb", [16, 0])
@pytest.mark.parametrize("content", ["noise", "documents"])
def test_a_flood_from_one_sender_leaves_room_for_another(
    xrayd: XraydFactory, fake_xray: FakeXRay, content: str, receive_buffer_mb: int
) -> None:
    """E-45: 200,000 a second from one sender, and the other's segments arrive.

    Whatever is read of them is delivered. What the kernel has to drop meanwhile is less than one in
    a hundred, unless others keep the processors busy and xrayd mostly waits for its turn.
    """
    process = xrayd(
        "-m", "40", config={**QUICK_EXIT, "Socket": {"ReceiveBufferMB": receive_buffer_mb}}
    )
    document = make_document(size=300)
    datagram = NOISE if content == "noise" else make_datagram(document)
    victim = Oracle(process, fake_xray, foreign=[document])
    victim.warm_up()
    before = seconds_waited_for_a_processor(process)
    with Flood(process, 200_000, datagram) as another:
        victim.stream(4.0, 100.0)
        waited = seconds_waited_for_a_processor(process) - before
    victim.check_recovery()
    account = victim.close()
    ledger = account.ledger
    arrived = len(victim.sent) - account.lost
    assert ledger["received"] + ledger["kernel_dropped"] == another.sent + len(victim.sent)
    assert ledger["rejected"] + ledger["sent"] + ledger["spilled"] == ledger["received"]
    assert ledger["sent"] == arrived + account.foreign
    if content == "noise":
        assert ledger["spilled"] == account.foreign == 0
    else:
        assert process.wait_for_line(r"Flood from 127\.0\.0\.1:\d+")
    if waited < 0.5 * 4.0:
        assert another.sent > 4.0 * 50_000
        assert account.lost <= 0.01 * len(victim.sent)


def test_nothing_is_ever_sent_back(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    process = xrayd(config=QUICK_EXIT)
    process.send(*MALFORMED, make_datagram(make_document()))
    fake_xray.wait_documents(1)
    process._udp.setblocking(False)
    with pytest.raises(BlockingIOError):
        process._udp.recv(1)
    process.sigterm()
    process.wait()
    line = process.wait_for_line("Stopped: .*")[0]
    assert re.search(rf"received={len(MALFORMED) + 1} .*difference=0", line)
