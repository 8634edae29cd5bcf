"""How much memory the host or the container has, and how much of it xrayd may hold."""

from __future__ import annotations

import contextlib
from pathlib import Path

_MB = 1_000_000
_MIB = 1024 * 1024
_BUDGET_MIN = 3 * _MB
_BUDGET_USUAL_MIN = 16 * _MB
# What an idle xrayd takes, and what the budget's documents may cost beside themselves (bodies in
# flight, allocator): a container's limit must hold these too.
_PROCESS = 48 * _MIB


def memory_limit(root: Path = Path("/")) -> tuple[int, bool]:
    """Bytes this process may use, and whether a container (cgroup v1 or v2) limits it."""
    total = _host_memory(root)
    limits = [limit for limit in _cgroup_limits(root) if limit < total]
    return (min(limits), True) if limits else (total, False)


def budget(setting_mb: int, limit: int) -> int:
    """Bytes for everything held: the setting, or 1 % of the limit as in the X-Ray daemon.

    At least 16 MB where the limit leaves room for it, and never under 3.
    """
    if setting_mb:
        return setting_mb * _MB
    room = max(_BUDGET_MIN, (limit - _PROCESS) // 2)
    return max(_BUDGET_MIN, limit // 100, min(_BUDGET_USUAL_MIN, room))


def receive_buffer(setting_mb: int, limit: int) -> int:
    """Bytes of kernel receive buffer to ask for; the kernel's share counts in a container too."""
    return min(setting_mb * _MIB, limit // 32)


def _host_memory(root: Path) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    return 2 * 1024 * _MIB


def _cgroup_limits(root: Path) -> list[int]:
    """Limits of this process's cgroup and of those above it."""
    limits: list[int] = []
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                base, name = root / "sys/fs/cgroup", "memory.max"
            elif "memory" in controllers.split(","):
                base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
            else:
                continue
            folder = base / path.lstrip("/")
            for place in [folder, *folder.parents]:
                with contextlib.suppress(OSError, ValueError):
                    limits.append(int((place / name).read_text()))  # "max" is no number
                if place == base:
                    break
    return limits
