"""The spool in the daemon: nothing that was taken is lost to a kill, an outage or an exit."""

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from fakes.documents import make_document
from fakes.factory import XraydFactory
from fakes.process import Xrayd, clean_environment, free_port
from fakes.verdict import Verdict
from fakes.xray import FakeXRay, Unprocessed, refuse_containing

SPOOL = {"Spool": {"Directory": "spool"}}


def final_ledger(process: Xrayd) -> dict[str, int]:
    process.sigterm()
    assert process.wait(20) == 0
    line = process.wait_for_line(r"Stopped: (.*)")[1]
    ledger = {name: int(value) for name, value in re.findall(r"(\w+)=(-?\d+)", line)}
    assert ledger["difference"] == 0
    return ledger


def wait_spooled(process: Xrayd, port: int, count: int) -> None:
    """Wait until so many bytes of documents are in the spool's files."""
    probe = Xrayd(home=process.home, port=port)
    for _ in range(400):
        text = probe.get("/metrics").body.decode()
        found = re.search(r"^xrayd_spool_bytes (\S+)$", text, re.MULTILINE)
        if found and float(found[1]) >= count:
            probe.stop()
            return
    raise AssertionError(f"the spool never held {count} bytes")


def test_delivered_documents_leave_nothing_in_the_spool(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    process = xrayd(config=SPOOL)
    documents = [make_document() for _ in range(500)]
    process.send_document(*documents)
    fake_xray.wait_documents(500)
    ledger = final_ledger(process)
    assert (ledger["sent"], ledger["spooled"]) == (500, 0)
    again = xrayd(config=SPOOL, home=process.home)
    again.wait_for_line(r"Spool spool: 0 segments found")
    folder = process.home / "spool"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_an_exit_with_a_dead_endpoint_keeps_everything(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.down()
    process = xrayd(config=SPOOL)
    documents = [make_document() for _ in range(300)]
    process.send_document(*documents)
    ledger = final_ledger(process)
    assert (ledger["received"], ledger["spooled"], ledger["spilled"]) == (300, 300, 0), ledger
    fake_xray.up()
    again = xrayd(config=SPOOL, home=process.home)
    fake_xray.wait_documents(300)
    ledger = final_ledger(again)
    assert (ledger["recovered"], ledger["sent"], ledger["spooled"]) == (300, 300, 0)
    assert Counter(fake_xray.documents) == Counter(documents)


@pytest.mark.parametrize("answers", [False, True])
def test_a_kill_loses_nothing_that_was_written(
    xrayd: XraydFactory, fake_xray: FakeXRay, answers: bool
) -> None:
    if not answers:
        fake_xray.answer(Verdict(status=500))
    port = free_port()
    config = {**SPOOL, "Metrics": {"Address": f"127.0.0.1:{port}"}}
    process = xrayd(config=config)
    documents = [make_document() for _ in range(400)]
    process.send_document(*documents)
    if answers:
        fake_xray.wait_documents(100)
    else:
        wait_spooled(process, port, sum(map(len, documents)))
    process.kill()
    fake_xray.answer(None)
    again = xrayd(config=config, home=process.home)
    if not answers:
        fake_xray.wait_documents(400)
    ledger = final_ledger(again)
    stored = Counter(fake_xray.documents)
    if not answers:
        assert stored.keys() == set(documents)
        assert ledger["recovered"] == 400
    assert ledger["recovered"] == ledger["sent"]
    # At most what was in flight or not yet noted as delivered comes twice.
    assert max(stored.values()) <= 2


def test_an_outage_larger_than_memory_loses_nothing(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.down()
    port = free_port()
    process = xrayd("-m", "3", config={**SPOOL, "Metrics": {"Address": f"127.0.0.1:{port}"}})
    documents = [make_document(size=20_000) for _ in range(600)]  # 12 MB
    for start in range(0, 600, 50):
        process.send_document(*documents[start : start + 50])
        process.get("/healthz")
    wait_spooled(process, port, 11_000_000)
    assert process.peak_rss_mib() < 3 + 64
    fake_xray.up()
    fake_xray.wait_documents(600, timeout=60)
    ledger = final_ledger(process)
    assert (ledger["sent"], ledger["spilled"], ledger["spooled"]) == (600, 0, 0)
    assert Counter(fake_xray.documents) == Counter(documents)


def test_without_room_on_disk_the_oldest_are_given_up_and_counted(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.down()
    port = free_port()
    process = xrayd(
        "-m", "3",
        config={
            "Spool": {"Directory": "spool", "MaxMB": 4},
            "Metrics": {"Address": f"127.0.0.1:{port}"},
        },
    )  # fmt: skip
    documents = [make_document(size=20_000) for _ in range(800)]  # 16 MB
    for start in range(0, 800, 50):
        process.send_document(*documents[start : start + 50])
        process.get("/healthz")
    process.wait_for_line("connection_refused")
    fake_xray.up()
    fake_xray.wait_ids(json.loads(documents[-1])["id"], timeout=60)
    ledger = final_ledger(process)
    assert ledger["spilled"] > 0
    assert ledger["sent"] + ledger["spilled"] == 800
    assert len(set(fake_xray.documents)) == ledger["sent"]


def test_live_documents_do_not_wait_for_the_backlog(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.down()
    process = xrayd(config=SPOOL)
    process.send_document(*(make_document() for _ in range(3000)))
    final_ledger(process)
    fake_xray.up()
    fake_xray.answer(Verdict(delay_s=0.2))
    again = xrayd(config=SPOOL, home=process.home)
    fresh = make_document(start_time=time.time())
    again.send_document(fresh)
    fake_xray.wait_ids(json.loads(fresh)["id"])
    assert len(fake_xray.documents) < 3001
    fake_xray.wait_documents(3001, timeout=60)


def test_a_refused_document_is_kept_to_be_looked_at(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.answer(refuse_containing("POISON"))
    process = xrayd(config=SPOOL)
    poison = make_document(name="POISON")
    process.send_document(make_document(), poison)
    process.wait_for_line("Unprocessed segment")
    ledger = final_ledger(process)
    assert (ledger["unprocessed"], ledger["spooled"]) == (1, 0)
    kept = b"".join(p.read_bytes() for p in (process.home / "spool" / "dead").iterdir())
    assert poison.encode() in kept


def test_a_second_daemon_on_the_same_spool_exits(xrayd: XraydFactory) -> None:
    first = xrayd(config=SPOOL)
    other = xrayd(config={"Spool": {"Directory": str(first.home / "spool")}}, ready=None)
    assert other.wait(20) == 1
    assert len(other.stderr) == 1
    assert str(first.pid) in other.stderr[0]


@pytest.mark.parametrize("mode", [0o777, 0o720])
def test_a_directory_others_may_write_to_is_refused(xrayd: XraydFactory, mode: int) -> None:
    home = xrayd().home
    (home / "shared").mkdir()
    os.chmod(home / "shared", mode)
    process = xrayd(config={"Spool": {"Directory": str(home / "shared")}}, ready=None)
    assert process.wait(20) == 1
    assert "shared" in process.stderr[0]


def test_a_spool_that_is_taken_away_does_not_stop_delivery(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    import shutil

    process = xrayd(config=SPOOL)
    process.send_document(make_document())
    fake_xray.wait_documents(1)
    shutil.rmtree(process.home / "spool")
    process.send_document(*(make_document() for _ in range(100)))
    fake_xray.wait_documents(101)
    ledger = final_ledger(process)
    assert (ledger["sent"], ledger["spilled"]) == (101, 0)


def test_a_complete_segment_never_arrives_before_it_was_in_progress(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.script(Verdict(status=500), Verdict(status=500))
    process = xrayd()
    complete = make_document()
    fields = json.loads(complete)
    del fields["end_time"]
    begun = json.dumps({**fields, "in_progress": True})
    process.send_document(begun)
    process.wait_for_line("HTTP 500")
    process.send_document(complete)
    assert fake_xray.wait_documents(2) == [begun, complete]
    assert final_ledger(process)["sent"] == 2


@pytest.mark.parametrize("restarts", [False, True])
def test_order_is_kept_by_way_of_the_disk(
    xrayd: XraydFactory, fake_xray: FakeXRay, restarts: bool
) -> None:
    """The one in progress has left memory for the disk when the complete one arrives."""
    fake_xray.down()
    port = free_port()
    config = {**SPOOL, "Metrics": {"Address": f"127.0.0.1:{port}"}}
    process = xrayd("-m", "3", config=config)
    pairs = []
    for _ in range(40):
        complete = make_document(size=1000)
        fields = json.loads(complete)
        del fields["end_time"]
        pairs.append((json.dumps({**fields, "in_progress": True}), complete))
    process.send_document(*(begun for begun, _ in pairs))
    filler = [make_document(size=20_000) for _ in range(300)]
    for start in range(0, 300, 50):
        process.send_document(*filler[start : start + 50])
        process.get("/healthz")
    process.send_document(*(complete for _, complete in pairs))
    wait_spooled(process, port, 6_000_000)
    if restarts:
        final_ledger(process)
    fake_xray.script(Verdict(status=503), None, Verdict(status=503))  # so that some come again
    fake_xray.up()
    last = xrayd("-m", "3", config=config, home=process.home) if restarts else process
    fake_xray.wait_documents(380, timeout=60)
    ledger = final_ledger(last)
    assert (ledger["sent"], ledger["spilled"]) == (380, 0)
    at = {document: position for position, document in enumerate(fake_xray.documents)}
    assert all(at[begun] < at[complete] for begun, complete in pairs)


def in_progress(complete: str) -> str:
    """What was sent of a segment while it was not complete yet."""
    fields = json.loads(complete)
    del fields["end_time"]
    return json.dumps({**fields, "in_progress": True})


def test_a_complete_segment_does_not_overtake_one_in_progress_that_a_restart_left_on_disk(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """Nobody knows its id until all before it has been read back; what began later goes ahead."""
    fake_xray.down()
    process = xrayd("-m", "3", config=SPOOL)
    complete = [make_document() for _ in range(100)]
    process.send_document(*(make_document() for _ in range(2000)))
    process.send_document(*map(in_progress, complete))
    final_ledger(process)
    fake_xray.up()
    fake_xray.answer(Verdict(delay_s=0.2))
    again = xrayd("-m", "3", config=SPOOL, home=process.home)
    late = make_document(start_time=time.time())
    again.send_document(*complete, late)
    stored = fake_xray.wait_documents(2201, timeout=60)
    assert (final_ledger(again)["sent"], len(set(stored))) == (2201, 2201)
    at = {document: position for position, document in enumerate(stored)}
    assert all(at[in_progress(one)] < at[one] for one in complete)
    assert at[late] < at[in_progress(complete[0])]


def test_a_complete_segment_does_not_wait_for_one_that_was_given_up(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.down()
    process = xrayd("-m", "3", config={"Spool": {"Directory": "spool", "MaxMB": 4}})
    complete = make_document()
    fields = json.loads(complete)
    del fields["end_time"]
    process.send_document(json.dumps({**fields, "in_progress": True}))
    filler = [make_document(size=20_000) for _ in range(800)]
    for start in range(0, 800, 50):
        process.send_document(*filler[start : start + 50])
        process.get("/healthz")
    process.send_document(complete)
    process.wait_for_line("connection_refused")
    fake_xray.up()
    fake_xray.wait_for(lambda: complete in fake_xray.documents, 60.0, "the complete one")
    assert final_ledger(process)["spilled"] > 0


def command(home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xrayd", *args],
        env=clean_environment(home), cwd=home, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def test_the_spool_can_be_looked_at_and_sent_by_another_daemon(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.down()
    gone = xrayd(config=SPOOL)
    documents = [make_document() for _ in range(120)]
    gone.send_document(*documents)
    final_ledger(gone)
    directory = str(gone.home / "spool")
    assert "120 segments wait" in command(gone.home, "spool", "--directory", directory, "ls").stdout
    listed = json.loads(
        command(gone.home, "spool", "--directory", directory, "ls", "--json").stdout
    )
    assert sum(file["pending"] for file in listed["files"]) == 120
    fake_xray.up()
    running = xrayd()
    to = f"127.0.0.1:{running.port}"
    sent = command(gone.home, "spool", "--directory", directory, "replay", "--to", to)
    assert sent.returncode == 0, sent.stderr
    assert "120 segments sent" in sent.stdout
    assert Counter(fake_xray.wait_documents(120)) == Counter(documents)
    assert "0 segments wait" in command(gone.home, "spool", "--directory", directory, "ls").stdout


def test_refused_documents_can_be_read_and_sent_again(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    fake_xray.answer(refuse_containing("POISON"))
    process = xrayd(config=SPOOL)
    poison = make_document(name="POISON")
    process.send_document(poison)
    process.wait_for_line("Unprocessed segment")
    final_ledger(process)
    args = ("spool", "--directory", str(process.home / "spool"))
    shown = command(process.home, *args, "dead").stdout
    assert "InvalidRequestException" in shown
    assert json.loads(poison)["trace_id"] in shown
    letter = json.loads(command(process.home, *args, "dead", "--json").stdout)
    assert letter["document"] == poison
    fake_xray.answer(None)
    running = xrayd()
    command(process.home, *args, "replay", "--dead", "--to", f"127.0.0.1:{running.port}")
    assert fake_xray.wait_documents(1) == [poison]


@pytest.mark.parametrize("dead", [False, True])
def test_documents_that_grow_as_json_can_be_sent_again(
    xrayd: XraydFactory, fake_xray: FakeXRay, dead: bool
) -> None:
    """Together they are three MB, but each quotation mark takes two bytes on the way."""
    if dead:
        every = Unprocessed(match=lambda _: True, code="InvalidName")
        fake_xray.answer(Verdict(unprocessed=every))
    else:
        fake_xray.down()
    gone = xrayd(config=SPOOL)
    documents = [make_document(metadata={"x": '"\\' * 14_000}) for _ in range(50)]
    gone.send_document(*documents)
    if dead:
        gone.wait_for_line("Unprocessed segment")
    final_ledger(gone)
    if not dead:
        fake_xray.up()
    fake_xray.answer(None)
    running = xrayd("-m", "40")
    args = ["replay", "--to", f"127.0.0.1:{running.port}", *(["--dead"] if dead else [])]
    sent = command(gone.home, "spool", "--directory", str(gone.home / "spool"), *args)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert "50 segments sent" in sent.stdout
    assert Counter(fake_xray.wait_documents(50)) == Counter(documents)


@pytest.mark.parametrize("to", ["127.0.0.1:port", "[::1", "::::"])
def test_a_bad_address_to_send_to_is_one_line(xrayd: XraydFactory, to: str) -> None:
    process = xrayd(config=SPOOL)
    final_ledger(process)
    result = command(process.home, "spool", "--directory", "spool", "replay", "--to", to)
    assert result.returncode == 1
    assert result.stderr.startswith("xrayd: --to")
    assert len(result.stderr.splitlines()) == 1


def test_a_bug_in_the_spools_thread_ends_the_process_loudly(
    xrayd: XraydFactory, tmp_path: Path
) -> None:
    """Else everything would be counted as spooled from then on, and nothing be on disk."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, threading\n"
        "sync = os.fdatasync\n"
        "def fail_in_thread(descriptor):\n"
        "    if threading.current_thread().name == 'spool':\n"
        "        raise ValueError('as a bug would')\n"
        "    sync(descriptor)\n"
        "os.fdatasync = fail_in_thread\n"
    )
    env = {"PYTHONPATH": str(tmp_path)}
    process = xrayd(config=SPOOL, env=env, allow_traceback=True, ready=None)
    process.wait_for_line("Spool spool: 0 segments found")
    process.send_document(make_document())
    assert process.wait(20) == 70
    assert "xrayd: bug: thread spool" in process.stderr


def test_spool_commands_without_a_spool_say_so(xrayd: XraydFactory) -> None:
    home = xrayd().home
    for args in (("spool", "ls"), ("spool", "--directory", "absent", "ls"),
                 ("spool", "--directory", "absent", "dead"),
                 ("spool", "--directory", "absent", "replay", "--dead"),
                 ("spool", "--directory", "absent", "replay")):  # fmt: skip
        result = command(home, *args)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
