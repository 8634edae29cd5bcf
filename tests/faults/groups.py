"""Control groups of a test's own, version 1 or 2: only root makes them, others skip the test."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000


class Group:
    """A control group with one controller, `memory` or `cpu`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, pid: int) -> None:
        """Move a process into the group."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def command(self) -> list[str]:
        """Starts xrayd inside the group."""
        return [
            "sh", "-c", f'echo $$ > {self._path}/cgroup.procs && exec "$@"', "sh",
            sys.executable, "-m", "xrayd",
        ]  # fmt: skip

    def limit_memory(self, limit: int) -> None:
        """Bytes."""
        self._write({"memory.max": str(limit), "memory.limit_in_bytes": str(limit)})

    def limit_cpu(self, share: float) -> None:
        """Give the group this share of one processor, in tenths of a second."""
        quota = int(share * PERIOD_US)
        self._write({"cpu.max": f"{quota} {PERIOD_US}", "cpu.cfs_quota_us": str(quota)})

    def free_cpu(self) -> None:
        """Take the quota away."""
        self._write({"cpu.max": "max", "cpu.cfs_quota_us": "-1"})

    def times_throttled(self) -> int:
        """Tenths of a second in which the quota was used up."""
        found = re.search(
            r"^nr_throttled (\d+)$", (self._path / "cpu.stat").read_text(), re.MULTILINE
        )
        assert found is not None
        return int(found[1])

    def _write(self, files: dict[str, str]) -> None:
        name = next((name for name in files if (self._path / name).exists()), None)
        if name is None:
            pytest.skip(f"the control group has none of {', '.join(files)}")
        (self._path / name).write_text(files[name])


@contextlib.contextmanager
def own_group(controller: str) -> Iterator[Group]:
    """A group of our own; processes still in it at the end go back to the root group."""
    base = ROOT / controller
    try:
        if not base.is_dir():
            base = ROOT
            (base / "cgroup.subtree_control").write_text(f"+{controller}")
        path = base / f"xrayd-test-{os.getpid()}"
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of our own: {error}")
    try:
        yield Group(path)
    finally:
        for pid in (path / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (base / "cgroup.procs").write_text(pid)
        path.rmdir()
