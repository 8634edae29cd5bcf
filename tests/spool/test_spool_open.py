"""Opening a directory: whose it is, who may write to it, who else has it, and what lies in it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys

import pytest
from spool.memory_disk import MemoryDisk

from xrayd.errors import ConfigError
from xrayd.spool.dead import DeadLetter, DeadLetters
from xrayd.spool.report import Degraded, SpoolUnavailableError
from xrayd.spool.spool import Spool

NOW = 1_700_000_000.0


def fill(path, **settings) -> None:
    """A spool with files, a cursor, a quarantine and dead letters."""
    spool = Spool.open(path, now=NOW, file_bytes=1024, **settings)
    for _ in range(10):
        spool.append([b"x" * 400], NOW)
    spool.acknowledge([5])
    names = sorted(name for name in os.listdir(path) if name.endswith(".seg"))
    with open(path / names[1], "r+b") as file:
        file.seek(100)
        file.write(b"damage")
    assert spool.read(0, 100, 10_000)
    assert spool.figures().quarantined == 1
    letters = DeadLetters.open(path)
    assert letters.add(DeadLetter(NOW, "unprocessed", "InvalidSegment", "no", "1-2-3", b"{}"))
    letters.close()
    spool.close(NOW)


def refusal(path) -> str:
    with pytest.raises(ConfigError) as refused:
        Spool.open(path, now=NOW)
    message = str(refused.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_file_with_a_number_beyond_all_stops_nothing(tmp_path, content):
    (tmp_path / f"{'f' * 16}.seg").write_bytes(content)
    spool = Spool.open(tmp_path, now=NOW)
    assert spool.append([b"one"], NOW) == range(1, 2)
    spool.close(NOW)
    assert Spool.open(tmp_path, now=NOW).recovered == 1
    assert [path.read_bytes() for path in (tmp_path / "quarantine").iterdir()] == [content]


def test_a_missing_directory_is_made_and_nobody_else_may_look(tmp_path):
    umask = os.umask(0)
    try:
        fill(tmp_path / "spool")
    finally:
        os.umask(umask)
    modes = {}
    for folder, names, files in os.walk(tmp_path / "spool"):
        for name in ["", *names, *files]:
            path = os.path.join(folder, name)
            mode = stat.S_IMODE(os.stat(path).st_mode)
            assert mode == (0o700 if os.path.isdir(path) else 0o600), path
            modes[os.path.basename(path.rstrip("/"))] = mode
    assert {"spool", "quarantine", "dead", "lock", "cursor"} <= modes.keys()
    assert len(modes) >= 9


def test_a_missing_parent_is_not_made(tmp_path):
    assert "parent directory does not exist: create it" in refusal(tmp_path / "typo" / "spool")


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "spool").write_text("")
    assert "name a directory itself" in refusal(tmp_path / "spool")


def test_a_link_in_its_place_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "spool").symlink_to(tmp_path / "real")
    assert "name a directory itself" in refusal(tmp_path / "spool")


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o720])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path, mode):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(mode)
    assert f"other users (mode {mode:04o}): chmod 700 it" in refusal(tmp_path / "spool")


@pytest.mark.root
def test_a_directory_of_another_user_is_refused(tmp_path):
    (tmp_path / "spool").mkdir(mode=0o700)
    os.chown(tmp_path / "spool", 12345, 12345)
    assert "belongs to user 12345, not to user 0" in refusal(tmp_path / "spool")


def test_a_directory_that_others_may_only_read_is_fine(tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o755)
    Spool.open(tmp_path / "spool", now=NOW).close(NOW)


@pytest.mark.parametrize("name", ["lock", "cursor", "0000000000000001.seg", "new"])
def test_links_in_the_directory_are_never_followed(tmp_path, name):
    fill(tmp_path / "spool")
    target = tmp_path / "target"
    target.write_bytes(b"not the spool's")
    (tmp_path / "spool" / name).unlink(missing_ok=True)
    (tmp_path / "spool" / name).symlink_to(target)
    if name == "lock":
        assert "look at its file lock" in refusal(tmp_path / "spool")
    else:
        spool = Spool.open(tmp_path / "spool", now=NOW)
        spool.append([b"one more"], NOW)
        spool.sync(NOW)
        assert spool.read(0, 100, 100_000)[-1].document == b"one more"
        spool.close(NOW)
    assert target.read_bytes() == b"not the spool's"


def test_a_second_instance_is_told_who_has_it(tmp_path):
    code = (
        "import sys; from xrayd.spool.spool import Spool\n"
        "spool = Spool.open(sys.argv[1], now=1.0)\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "spool")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert first.stdout.readline() == b"open\n"
        assert f"in use by process {first.pid}: stop it" in refusal(tmp_path / "spool")
    finally:
        first.communicate()
    Spool.open(tmp_path / "spool", now=NOW).close(NOW)


def test_a_second_instance_in_the_same_process_is_refused_and_the_first_unharmed(tmp_path):
    spool = Spool.open(tmp_path / "spool", now=NOW)
    assert f"in use by process {os.getpid()}" in refusal(tmp_path / "spool")
    spool.append([b"still fine"], NOW)
    assert [r.document for r in spool.read(0, 9, 99)] == [b"still fine"]
    spool.close(NOW)


def test_opening_leaves_no_file_open_but_its_own(tmp_path):
    fill(tmp_path / "spool")
    before = len(os.listdir("/proc/self/fd"))
    spool = Spool.open(tmp_path / "spool", now=NOW)
    assert len(os.listdir("/proc/self/fd")) <= before + 4  # Directory, lock, cursor, quarantine.
    spool.append([b"x"], NOW)
    spool.read(0, 9, 99)
    assert len(os.listdir("/proc/self/fd")) <= before + 6
    spool.close(NOW)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_refused_directory_leaves_no_file_open(tmp_path):
    spool = Spool.open(tmp_path / "spool", now=NOW)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    before = len(os.listdir("/proc/self/fd"))
    refusal(tmp_path / "spool")
    refusal(tmp_path / "open")
    assert len(os.listdir("/proc/self/fd")) == before
    spool.close(NOW)


def test_files_are_not_inherited_by_child_processes(tmp_path):
    spool = Spool.open(tmp_path / "spool", now=NOW)
    spool.append([b"x"], NOW)
    spool.read(0, 9, 99)
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
        if path.startswith(str(tmp_path)):
            assert not os.get_inheritable(fd)
    spool.close(NOW)


def test_a_new_spool_has_nothing_recovered_and_counts_from_one(tmp_path):
    spool = Spool.open(tmp_path / "spool", now=NOW)
    assert spool.recovered == 0
    assert spool.append([b"a", b"b"], NOW) == range(1, 3)
    assert spool.append([], NOW) == range(3, 3)
    spool.close(NOW)


def test_numbers_go_on_rising_after_a_restart_even_if_nothing_is_left(tmp_path):
    spool = Spool.open(tmp_path / "spool", now=NOW)
    spool.acknowledge(spool.append([b"a"] * 9, NOW))
    spool.close(NOW)
    assert not [name for name in os.listdir(tmp_path / "spool") if name.endswith(".seg")]
    spool = Spool.open(tmp_path / "spool", now=NOW)
    assert spool.append([b"b"], NOW) == range(10, 11)
    spool.close(NOW)


def test_the_settings_need_not_fit_the_last_ones(tmp_path):
    fill(tmp_path / "spool")
    spool = Spool.open(tmp_path / "spool", now=NOW, bytes_max=3000, file_bytes=700)
    left = spool.recovered
    assert left == 8  # Of ten, one acknowledged and one damaged.
    spool.append([b"x" * 300], NOW)
    assert sum(e.records for e in spool.take_evictions()) + len(spool.read(0, 99, 99_999)) == 9
    assert spool.figures().bytes_on_disk <= 3000
    spool.close(NOW)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_too_full_for_the_directory_is_no_reason_not_to_start(number):
    disk = MemoryDisk()
    disk.fail("make_directory", number)
    spool = Spool.open("spool", now=NOW, disk=disk)
    assert spool.figures().degraded is Degraded.DISK_FULL
    with pytest.raises(SpoolUnavailableError):
        spool.append([b"x"], NOW)
    assert spool.read(0, 9, 99) == []
    assert spool.acknowledge([1]) == 0
    spool.sync(NOW + 2)
    assert spool.figures().degraded is Degraded.DISK_FULL
    disk.mend()
    assert spool.append([b"y"], NOW + 4) == range(1, 2)
    assert spool.figures().degraded is None
    spool.close(NOW + 5)


def test_a_read_only_disk_is_no_reason_not_to_start_and_to_drain(tmp_path):
    disk = MemoryDisk()
    spool = Spool.open("spool", now=NOW, disk=disk, file_bytes=1024)
    for n in range(10):
        spool.append([b"%d" % n * 400], NOW)
    disk.kill()
    disk.is_read_only = True
    spool = Spool.open("spool", now=NOW, disk=disk, file_bytes=1024)
    assert spool.recovered == 10
    assert len(spool.read(0, 99, 99_999)) == 10
    assert spool.acknowledge(range(1, 11)) == 10
    spool.sync(NOW)
    figures = spool.figures()
    assert figures.pending_records == 0
    assert figures.degraded is Degraded.READ_ONLY
    with pytest.raises(SpoolUnavailableError):
        spool.append([b"x"], NOW + 2)
    disk.mend()
    assert spool.append([b"y"], NOW + 4) == range(11, 12)
    spool.sync(NOW + 6)
    assert spool.figures().degraded is None
    assert spool.figures().files == 1


def test_a_read_only_disk_without_even_a_lock_file_is_no_reason_not_to_start():
    disk = MemoryDisk()
    disk.make_directory("spool")
    disk.is_read_only = True
    spool = Spool.open("spool", now=NOW, disk=disk)
    with pytest.raises(SpoolUnavailableError) as refused:
        spool.append([b"x"], NOW)
    assert refused.value.reason is Degraded.READ_ONLY


def test_a_directory_that_cannot_be_listed_is_refused():
    disk = MemoryDisk()
    disk.fail("listdir", errno.EIO, after=0)
    with pytest.raises(ConfigError, match="cannot be read"):
        Spool.open("spool", now=NOW, disk=disk)
