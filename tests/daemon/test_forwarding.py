"""From datagram to signed request, with the process as a user starts it."""

import json
import re
from collections import Counter

import pytest
from fakes.captures import Captures
from fakes.documents import HEADER, make_datagram, make_document
from fakes.factory import XraydFactory
from fakes.process import Xrayd
from fakes.verdict import Verdict
from fakes.xray import FakeXRay, refuse_above, refuse_containing
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayd.errors import DatagramError
from xrayd.relay.datagram import split


def final_ledger(process: Xrayd) -> dict[str, int]:
    """Stop a process and read the counts of its last line."""
    process.sigterm()
    assert process.wait(20) == 0
    line = process.wait_for_line(r"Stopped: (.*)")[1]
    return {name: int(value) for name, value in re.findall(r"(\w+)=(-?\d+)", line)}


def test_every_captured_datagram_arrives_byte_for_byte(
    xrayd: XraydFactory, fake_xray: FakeXRay, captures: Captures
) -> None:
    process = xrayd()
    bodies = Counter(datagram.body for datagram in captures.datagrams)
    for start in range(0, len(captures.datagrams), 50):
        part = captures.datagrams[start : start + 50]
        process.send(*(datagram.data for datagram in part))
        fake_xray.wait_documents(start + len(part))
    assert Counter(document.encode() for document in fake_xray.documents) == bodies
    ledger = final_ledger(process)
    assert ledger["received"] == ledger["sent"] == len(captures.datagrams)
    assert ledger["difference"] == 0


@pytest.mark.parametrize(
    "document",
    [
        b"T1SCgYKBHRlc3Q=",
        b"T1UCgYKBHRlc3Q=",
        b"M1CgYKBHRlc3Q=",
        b'{"id":"1","metadata":{"x":NaN,"y":Infinity}}',
        b'{"id":"1","name":"\\ud800 lone","a":1}',
        b' {"id" : "1"}\n\n',
        b'{"id":"1","id":"2"}',
        '{"name":"naïve \U0001f600 \u2028 <>&"}'.encode(),
        b"\x00\x01\x7f",
        b"x" * (65_507 - len(HEADER)),
    ],
)
def test_bodies_are_opaque(xrayd: XraydFactory, fake_xray: FakeXRay, document: bytes) -> None:
    xrayd().send_document(document)
    assert fake_xray.wait_documents(1) == [document.decode()]


def test_bytes_that_are_no_utf8_are_replaced_and_counted(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    process = xrayd(config={"Metrics.Address": None, "Metrics": {"Address": "127.0.0.1:0"}})
    process.send_document(b'{"id":"1","a":"\xff\xc3"}')
    assert fake_xray.wait_documents(1) == ['{"id":"1","a":"\ufffd\ufffd"}']


# Names and numbers of any shape, with the usual header before them or one nearly right.
datagrams = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda body: HEADER + body, st.binary(max_size=300)),
    st.builds(
        lambda f, v, body: json.dumps({"format": f, "version": v}).encode() + b"\n" + body,
        st.sampled_from(["json", "JSON", "xml"]),
        st.sampled_from([1, 2, "1", 1.0]),
        st.binary(min_size=1, max_size=100),
    ),
)


@settings(max_examples=15)
@given(st.lists(datagrams, min_size=1, max_size=30))
def test_any_datagrams_get_the_contracts_verdict_and_are_all_counted(
    shared: tuple[Xrayd, FakeXRay], some: list[bytes]
) -> None:
    process, fake = shared
    accepted = []
    for datagram in some:
        try:
            accepted.append(split(datagram))
        except DatagramError:
            continue
    marker = make_document()
    before = len(fake.documents)
    process.send(*some)
    process.send_document(marker)
    fake.wait_for(lambda: marker in fake.documents, what="the marker")
    texts = Counter(fake.documents[before:])
    assert texts.total() == len(accepted) + 1
    clean = Counter(body.decode() for body in accepted if is_utf8(body))
    assert not clean - texts


def is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """One process and one endpoint for many examples."""
    processes: list[Xrayd] = []
    with FakeXRay() as fake:
        process = XraydFactory(tmp_path_factory.mktemp("shared"), fake, processes)()
        yield process, fake
        ledger = final_ledger(process)
        assert ledger["difference"] == 0
        process.stop()
        process.check()


def test_refused_datagrams_are_counted_warned_about_and_escaped(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    process = xrayd()
    process.send(b"\x1b[31mred\x07\nbody", b"no newline at all")
    process.send(*[b"no newline %d" % n for n in range(500)])
    process.send_document(make_document())
    fake_xray.wait_documents(1)
    line = process.wait_for_line("Datagram refused: invalid_header")[0]
    assert line
    assert "\x1b" not in process.output
    assert r"\x1b[31mred\x07" in process.output
    ledger = final_ledger(process)
    assert ledger["rejected"] == 502
    refusals = [line for line in process.lines if "Datagram refused" in line]
    assert len(refusals) < 50


def test_batches_hold_fifty_documents_at_most(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    process = xrayd()
    process.send_document(*(make_document() for _ in range(120)))
    fake_xray.wait_documents(120)
    counts = [len(r.json()["TraceSegmentDocuments"]) for r in fake_xray.requests("/TraceSegments")]
    assert max(counts) == 50
    assert len(set(fake_xray.documents)) == 120


def test_a_request_is_the_contracts(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    process = xrayd(env={"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"})
    process.send_document(make_document())
    fake_xray.wait_documents(1)
    request = fake_xray.requests("/TraceSegments")[0]
    headers = {name.lower(): value for name, value in request.headers}
    assert request.signature is not None
    assert request.signature.ok
    assert headers["content-type"] == "application/json"
    assert re.fullmatch(r"\d{10}\.\d{9}", headers["x-amzn-xray-timestamp"])
    assert "x-amzn-xray-timestamp" in headers["authorization"]
    assert re.search(
        r"xray-agent/xray-daemon/\S+ exec-env/AWS_ECS_FARGATE OS/linux-\S+", headers["user-agent"]
    )
    assert "accept-encoding" not in headers


def test_a_session_token_is_signed(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    fake_xray.trust("AKIDTOKEN", "other-secret", "the-token")
    process = xrayd(
        env={
            "AWS_ACCESS_KEY_ID": "AKIDTOKEN",
            "AWS_SECRET_ACCESS_KEY": "other-secret",
            "AWS_SESSION_TOKEN": "the-token",
        }
    )
    process.send_document(make_document())
    fake_xray.wait_documents(1)
    request = fake_xray.requests("/TraceSegments")[0]
    assert ("x-amz-security-token", "the-token") in [(n.lower(), v) for n, v in request.headers]


def test_a_failed_batch_is_held_and_sent_again(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    fake_xray.script(Verdict(status=500), Verdict(status=503), Verdict(abort_at=0, stored=False))
    process = xrayd()
    documents = [make_document() for _ in range(10)]
    process.send_document(*documents)
    fake_xray.wait_documents(10)
    ledger = final_ledger(process)
    assert ledger["sent"] == 10
    assert Counter(fake_xray.documents) == Counter(documents)
    process.wait_for_line("Sending segment batch failed with: HTTP 500")


def test_a_poison_document_costs_its_neighbours_nothing(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.answer(refuse_containing("POISON"))
    process = xrayd()
    documents = [make_document() for _ in range(49)]
    documents.insert(17, make_document(name="POISON"))
    process.send_document(*documents)
    fake_xray.wait_documents(49)
    process.wait_for_line("Unprocessed segment: InvalidRequestException.*service POISON")
    assert len(fake_xray.requests("/TraceSegments")) <= 13
    ledger = final_ledger(process)
    assert (ledger["sent"], ledger["unprocessed"], ledger["difference"]) == (49, 1, 0)


def test_a_request_too_large_is_halved_and_the_size_remembered(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.answer(refuse_above(150_000))
    process = xrayd()
    for _ in range(4):
        process.send_document(*(make_document(size=5_000) for _ in range(50)))
    fake_xray.wait_documents(200)
    refused = [r for r in fake_xray.requests("/TraceSegments") if r.verdict.status == 413]  # type: ignore[union-attr]
    assert len(refused) <= 8  # those in flight before the first answer
    process.send_document(*(make_document(size=5_000) for _ in range(200)))
    fake_xray.wait_documents(400)
    refused_later = [r for r in fake_xray.requests("/TraceSegments") if r.verdict.status == 413]  # type: ignore[union-attr]
    assert len(refused_later) == len(refused)


def test_redirects_are_not_followed(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    with FakeXRay() as elsewhere:
        headers = {"Location": f"{elsewhere.url}/TraceSegments"}
        fake_xray.script(Verdict(status=307, headers=headers), Verdict(status=301, headers=headers))
        process = xrayd()
        process.send_document(make_document())
        fake_xray.wait_documents(1)
        assert elsewhere.requests() == []


@pytest.mark.parametrize("count", [200, 5000])
def test_bursts_are_taken_whole(xrayd: XraydFactory, fake_xray: FakeXRay, count: int) -> None:
    process = xrayd("-m", "100")
    datagrams = [make_datagram(make_document(size=1024)) for _ in range(count)]
    process.send(*datagrams)
    fake_xray.wait_documents(count, timeout=60)
    ledger = final_ledger(process)
    assert ledger["received"] + ledger["kernel_dropped"] == count
    assert ledger["kernel_dropped"] == 0


def test_memory_stays_in_the_budget_with_a_dead_endpoint(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.answer(Verdict(hang=True))
    process = xrayd("-m", "8")
    tiny = make_datagram(b'{"id":"0123456789abcdef","a":1}')
    for _ in range(60):
        process.send(*[tiny] * 2000)
        process.get("/healthz")
    for _ in range(20):
        process.send(*[make_datagram(b"x" * 60_000)] * 100)
        process.get("/healthz")
    assert process.peak_rss_mib() <= 8 + 64
    process.wait_for_line("Segment dropped. Consider increasing memory limit")
    ledger = final_ledger(process)
    assert ledger["difference"] == 0
    assert ledger["received"] + ledger["kernel_dropped"] == 60 * 2000 + 20 * 100
