"""A spool can be looked at from outside without disturbing whoever has it."""

from __future__ import annotations

import os

import pytest

from xrayd.errors import ConfigError
from xrayd.spool.disk import Disk
from xrayd.spool.spool import Spool
from xrayd.spool.survey import survey

NOW = 1_700_000_000.0


def state_of(path) -> dict:
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    return {name: (os.stat(name).st_mtime_ns, os.stat(name).st_size) for name in files}


def test_it_sees_what_the_spool_itself_sees_and_changes_nothing(tmp_path):
    path = tmp_path / "spool"
    spool = Spool.open(path, now=NOW, file_bytes=4096)
    for n in range(40):
        spool.append([b"x" * 400], NOW + n)
    spool.acknowledge([*range(1, 15), 30, 31])
    (path / "00000000000000ff.seg").write_bytes(b"nonsense")
    before = state_of(path)
    seen = survey(path)
    assert sum(file.pending for file in seen.files) == spool.figures().pending_records == 24
    assert sum(file.size for file in seen.files) == spool.figures().bytes_on_disk
    assert seen.unreadable == ["00000000000000ff.seg"]
    assert seen.quarantined == []
    assert state_of(path) == before
    spool.append([b"y"], NOW)
    spool.close(NOW)
    Spool.open(path, now=NOW).close(NOW)
    assert survey(path).quarantined == ["00000000000000ff.seg"]


def test_an_empty_directory_is_an_empty_spool(tmp_path):
    assert survey(tmp_path).files == []
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_an_operators_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        survey(tmp_path / "spool")


class Delivering(Disk):
    """The disk of a daemon that delivers what is in a file just before it is opened once more."""

    def __init__(self, name: str, opened: int) -> None:
        self.name = name
        self.left = opened

    def open(self, directory: int, name: str, flags: int) -> int:
        if name == self.name:
            if self.left == 0:
                self.unlink(directory, name)
            self.left -= 1
        return super().open(directory, name, flags)


@pytest.mark.parametrize("opened", [0, 1])
def test_what_is_delivered_meanwhile_is_not_called_damaged(tmp_path, opened):
    spool = Spool.open(tmp_path, now=NOW, file_bytes=4096)
    for n in range(12):
        spool.append([b"x" * 400], NOW + n)
    *older, newest = sorted(path.name for path in tmp_path.glob("*.seg"))
    seen = survey(tmp_path, Delivering(newest, opened))
    assert [file.name for file in seen.files] == older
    assert seen.unreadable == []
    spool.close(NOW)
