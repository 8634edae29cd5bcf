"""Runs xrayd as macOS or Windows would, as far as Linux can: other_system.py SYSTEM ARGUMENT...

What those systems do not have is taken away before xrayd is imported: modules, functions,
constants, the event loop's signal handlers. With the one argument `imports`, every module of xrayd
is imported; else the arguments are xrayd's. This says nothing of what those systems do otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import pkgutil
import signal
import socket
import sys
import types

MACOS = {
    sys: ["uvloop"],
    os: ["fdatasync", "posix_fadvise", "posix_fallocate", "sched_getaffinity", "pidfd_open"],
    socket: ["SOCK_CLOEXEC", "SOCK_NONBLOCK", "TCP_USER_TIMEOUT", "SO_PEERCRED", "MSG_ERRQUEUE"],
    signal: [],
}
WINDOWS = {
    sys: ["uvloop", "fcntl", "grp", "pwd", "resource", "termios"],
    os: [*MACOS[os], "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "fchmod", "fchown",
         "fstatvfs", "getegid", "geteuid", "getpgid", "getuid", "killpg", "mkfifo", "pread",
         "pwrite", "statvfs", "uname"],
    socket: [*MACOS[socket], "CMSG_SPACE", "SCM_RIGHTS", "SO_REUSEPORT"],
    signal: ["SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "pthread_sigmask"],
}  # fmt: skip


class Absent:
    """Finds no module of these names, nor lets anybody else find one."""

    def __init__(self, names: list[str]) -> None:
        self._names = set(names)
        for name in self._names:
            sys.modules.pop(name, None)

    def find_spec(self, name, _path=None, _target=None):
        if name.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class SmallBuffers(socket.socket):
    """Refuses receive buffers that are too large, which Linux cuts."""

    def setsockopt(self, level, name, value, *rest):
        if level == socket.SOL_SOCKET and name in (socket.SO_RCVBUF, 33) and value > 1 << 20:
            raise OSError(55, "No buffer space available")
        return super().setsockopt(level, name, value, *rest)


def lock_as_windows_does() -> types.ModuleType:
    """A module `msvcrt` that locks what lies from the file's position on."""
    module = types.ModuleType("msvcrt")
    module.LK_NBLCK = 2
    module.locking = lambda descriptor, _mode, size: os.lockf(descriptor, os.F_TLOCK, size)
    return module


def main() -> None:
    system, *arguments = sys.argv[1:]
    absent = {"macOS": MACOS, "Windows": WINDOWS}[system]
    for module, names in absent.items():
        for name in names if module is not sys else []:
            with contextlib.suppress(AttributeError):  # of a later Python than this
                delattr(module, name)
    sys.meta_path.insert(0, Absent(absent[sys]))
    socket.socket = SmallBuffers
    linux = sys.platform
    if system == "Windows":
        os.supports_dir_fd.clear()
        del asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler
        sys.modules["msvcrt"] = lock_as_windows_does()
        sys.platform = "win32"
        importlib.import_module("xrayd.filelock")
        sys.platform = linux  # for what others import
    import xrayd

    names = [m.name for m in pkgutil.walk_packages(xrayd.__path__, "xrayd.")]
    for name in names:
        importlib.import_module(name)
    if arguments == ["imports"]:
        print(len(names))
        return
    if system == "Windows":
        sys.platform = "win32"
    from xrayd.__main__ import main as run

    sys.argv = ["xrayd", *arguments]
    run()


if __name__ == "__main__":
    main()
