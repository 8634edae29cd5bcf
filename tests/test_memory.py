"""Memory limits of host and container, on a made-up file system."""

from pathlib import Path

import pytest

from xrayd.memory import budget, memory_limit, receive_buffer

MIB = 1024 * 1024
GIB = 1024 * MIB


def host(root: Path, kib: int, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": f"MemTotal: {kib} kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, (8 * GIB, False)),
        (
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "67108864\n"},
            (64 * MIB, True),
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, (8 * GIB, False)),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/memory.max": "134217728\n",
            },
            (128 * MIB, True),
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,memory:/x\n2:cpu:/\n",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "134217728\n",
            },
            (128 * MIB, True),
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            (8 * GIB, False),
        ),
        ({"proc/self/cgroup": "0::/../../x\n"}, (8 * GIB, False)),
    ],
)
def test_the_smaller_limit_counts(
    tmp_path: Path, files: dict[str, str], limit: tuple[int, bool]
) -> None:
    assert memory_limit(host(tmp_path, 8 * 1024 * 1024, files)) == limit


@pytest.mark.parametrize(
    ("setting_mb", "limit", "wanted"),
    [
        (50, GIB, 50_000_000),
        (0, 8 * GIB, 8 * GIB // 100),
        (0, GIB, 16_000_000),
        (0, 64 * MIB, 8 * MIB),
        (0, 40 * MIB, 3_000_000),
    ],
)
def test_the_budget(setting_mb: int, limit: int, wanted: int) -> None:
    assert budget(setting_mb, limit) == wanted


def test_the_receive_buffer_shrinks_with_the_limit() -> None:
    assert receive_buffer(16, 8 * GIB) == 16 * MIB
    assert receive_buffer(16, 64 * MIB) == 2 * MIB
