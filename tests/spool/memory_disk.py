"""A disk in memory that can be full, fail, lose what was never synced, and have its plug pulled."""

from __future__ import annotations

import errno
import os
import random
import stat

from xrayd.spool.disk import Disk, FileState, Space

SECTOR = 512


class Inode:
    def __init__(self, number: int) -> None:
        self.number = number
        self.data = bytearray()
        self.durable = b""
        self.dropped: list[tuple[int, int]] = []
        """What the kernel takes for written though it is not: a sync of it has failed."""
        self.locked_by: int | None = None

    def what_was_written(self) -> bytes:
        data = bytearray(self.data)
        for start, end in self.dropped:
            data[start:end] = bytes(len(data[start:end]))
        return bytes(data)


class Folder:
    def __init__(self, number: int) -> None:
        self.number = number
        self.entries: dict[str, Inode | Folder] = {}
        self.is_removed = False


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class MemoryDisk(Disk):
    """What `Disk` does, without a disk.

    Changes of names are journalled: a power loss keeps some first part of those made since the
    last `fsync_directory`. Of data not synced, each sector is there, zero or garbage. What could
    not be synced once is lost, whatever a later sync says, and to sync the same open file again
    fails the test.
    """

    def __init__(self, total: int = 1 << 40) -> None:
        self.total = total
        self.others = 0
        """Bytes that somebody else takes."""
        self.is_read_only = False
        self.syncs = 0
        self.bytes_read = 0
        self.writes = 0
        self._numbers = iter(range(100, 1 << 60))
        self._root = Folder(next(self._numbers))
        self._durable_names = self._snapshot(self._root)
        self._journal: list[dict] = []
        self._open: dict[int, tuple[Inode | Folder, int]] = {}
        self._fds = iter(range(10, 1 << 60))
        self._failures: dict[str, list] = {}
        self._torn = 0
        self._distrusted: set[int] = set()
        self._bad: set[tuple[int, int]] = set()

    # What tests do to it

    def fail(
        self, method: str, number: int, *, times: int = 1 << 30, after: int = 0, torn: int = 0
    ) -> None:
        """Let calls of a method fail, `times` times after the next `after`.

        A write that fails leaves `torn` bytes behind.
        """
        self._failures[method] = [number, times, after]
        self._torn = torn

    def mend(self, method: str | None = None) -> None:
        """Let all calls, or those of one method, succeed again."""
        if method is not None:
            self._failures.pop(method, None)
            return
        self._failures.clear()
        self.is_read_only = False

    def file(self, path: str, name: str) -> Inode:
        return self._folder(path).entries[name]

    def names(self, path: str) -> list[str]:
        return sorted(self._folder(path).entries)

    def used(self) -> int:
        return self.others + self._bytes_in(self._root)

    def remove_tree(self, path: str) -> None:
        folder = self._root.entries.pop(path)
        self._remove(folder)
        self._note_names()

    def add_bad_sector(self, path: str, name: str, sector: int) -> None:
        self._bad.add((self.file(path, name).number, sector))

    def kill(self) -> None:
        """The process is gone; what it wrote is not."""
        for node, _ in self._open.values():
            if isinstance(node, Inode):
                node.locked_by = None
        self._open.clear()

    def lose_power(self, chance: random.Random) -> None:
        self.kill()
        keep = chance.randint(0, len(self._journal))
        if keep:
            self._durable_names = self._journal[keep - 1]
        self._journal.clear()
        self._root = self._restore(self._durable_names)
        for inode in dict.fromkeys(self._inodes(self._root)):
            inode.data = bytearray(inode.what_was_written())
            self._age(inode, chance)

    # What the spool does with it

    def make_directory(self, name: str, inside: int | None = None) -> None:
        folder = self._folder_of(inside)
        if name in folder.entries:
            return
        self._may_fail("make_directory", changes=True)
        folder.entries[name] = Folder(next(self._numbers))
        self._note_names()
        self._durable_names = self._journal.pop()
        self._journal.clear()

    def open_directory(self, name: str, inside: int | None = None) -> int:
        self._may_fail("open_directory")
        node = self._folder_of(inside).entries.get(name)
        if not isinstance(node, Folder):
            raise _error(errno.ENOENT if node is None else errno.ENOTDIR)
        return self._handle(node, 0)

    def open(self, directory: int, name: str, flags: int) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        folder = self._folder_of(directory)
        node = folder.entries.get(name)
        self._may_fail("open", changes=bool(writes))
        if flags & os.O_CREAT and node is None:
            if folder.is_removed:
                raise _error(errno.ENOENT)
            node = folder.entries[name] = Inode(next(self._numbers))
            self._note_names()
        elif flags & os.O_EXCL:
            raise _error(errno.EEXIST)
        if node is None:
            raise _error(errno.ENOENT)
        if isinstance(node, Folder):
            raise _error(errno.EISDIR)
        return self._handle(node, flags)

    def close(self, fd: int) -> None:
        node, _ = self._node(fd)
        del self._open[fd]
        if isinstance(node, Inode) and node.locked_by == fd:
            node.locked_by = None

    def write(self, fd: int, data: bytes | memoryview) -> int:
        inode, flags = self._node(fd)
        assert flags & os.O_APPEND
        self.writes += 1
        try:
            self._may_fail("write", changes=True)
        except OSError as error:
            if error.errno != errno.EROFS:
                inode.data += bytes(data[: self._torn])
            raise
        fits = self._fitting(len(data))
        inode.data += bytes(data[:fits])
        return fits

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        inode, _ = self._node(fd)
        self._may_fail("pwrite", changes=True)
        more = max(0, offset + len(data) - len(inode.data))
        fits = len(data) if not more else len(data) - more + self._fitting(more)
        if len(inode.data) < offset:
            inode.data += bytes(offset - len(inode.data))
        inode.data[offset : offset + fits] = data[:fits]
        return fits

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        inode, _ = self._node(fd)
        self._may_fail("pread")
        sectors = range(offset // SECTOR, (offset + size + SECTOR - 1) // SECTOR)
        if self._bad and any((inode.number, sector) in self._bad for sector in sectors):
            raise _error(errno.EIO)
        data = bytes(inode.data[offset : offset + size])
        self.bytes_read += len(data)
        return data

    def truncate(self, fd: int, size: int) -> None:
        inode, _ = self._node(fd)
        self._may_fail("truncate", changes=True)
        del inode.data[size:]
        inode.data += bytes(size - len(inode.data))

    def fdatasync(self, fd: int) -> None:
        inode, _ = self._node(fd)
        self.syncs += 1
        assert fd not in self._distrusted, "synced again after a sync that failed"
        try:
            self._may_fail("fdatasync")
        except OSError:
            self._distrusted.add(fd)
            inode.dropped.append((len(inode.durable), len(inode.data)))
            raise
        inode.durable = inode.what_was_written()

    def fsync_directory(self, directory: int) -> None:
        self._node(directory)
        self._may_fail("fsync_directory")
        if self._journal:
            self._durable_names = self._journal[-1]
            self._journal.clear()

    def fstat(self, fd: int) -> FileState:
        self._may_fail("fstat")
        return self._state(self._node(fd)[0])

    def stat(self, directory: int, name: str) -> FileState:
        self._may_fail("stat")
        node = self._folder_of(directory).entries.get(name)
        if node is None:
            raise _error(errno.ENOENT)
        return self._state(node)

    def unlink(self, directory: int, name: str) -> None:
        folder = self._folder_of(directory)
        if name not in folder.entries:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._may_fail("unlink", changes=True)
        del folder.entries[name]
        self._note_names()

    def rename(self, directory: int, name: str, into: int, new_name: str) -> None:
        self._may_fail("rename", changes=True)
        folder = self._folder_of(directory)
        if name not in folder.entries:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._folder_of(into).entries[new_name] = folder.entries.pop(name)
        self._note_names()

    def listdir(self, directory: int) -> list[str]:
        self._may_fail("listdir")
        return list(self._folder_of(directory).entries)

    def space(self, directory: int) -> Space:
        self._node(directory)
        self._may_fail("space")
        used = self.used()
        return Space(total=self.total, used=used, free=max(0, self.total - used))

    def lock(self, fd: int) -> bool:
        inode, _ = self._node(fd)
        self._may_fail("lock")
        if inode.locked_by is not None:
            return False
        inode.locked_by = fd
        return True

    # How it does it

    def _may_fail(self, method: str, *, changes: bool = False) -> None:
        if changes and self.is_read_only:
            raise _error(errno.EROFS)
        failure = self._failures.get(method)
        if failure is None or failure[1] < 1:
            return
        if failure[2] > 0:
            failure[2] -= 1
            return
        failure[1] -= 1
        raise _error(failure[0])

    def _fitting(self, size: int) -> int:
        fits = min(size, max(0, self.total - self.used()))
        if size and not fits:
            raise _error(errno.ENOSPC)
        return fits

    def _handle(self, node: Inode | Folder, flags: int) -> int:
        fd = next(self._fds)
        self._open[fd] = (node, flags)
        return fd

    def _node(self, fd: int) -> tuple:
        if fd not in self._open:
            raise _error(errno.EBADF)
        return self._open[fd]

    def _folder(self, path: str) -> Folder:
        folder = self._root
        for part in path.split("//"):
            folder = folder.entries[part]
        return folder

    def _folder_of(self, fd: int | None) -> Folder:
        return self._root if fd is None else self._node(fd)[0]

    def _state(self, node: Inode | Folder) -> FileState:
        is_file = isinstance(node, Inode)
        return FileState(
            size=len(node.data) if is_file else 0,
            inode=node.number,
            owner=os.geteuid(),
            mode=(stat.S_IFREG | 0o600) if is_file else (stat.S_IFDIR | 0o700),
        )

    def _bytes_in(self, folder: Folder) -> int:
        return sum(
            len(node.data) if isinstance(node, Inode) else self._bytes_in(node)
            for node in folder.entries.values()
        )

    def _inodes(self, folder: Folder):
        for node in folder.entries.values():
            if isinstance(node, Inode):
                yield node
            else:
                yield from self._inodes(node)

    def _remove(self, folder: Folder) -> None:
        folder.is_removed = True
        for node in folder.entries.values():
            if isinstance(node, Folder):
                self._remove(node)
        folder.entries.clear()

    def _note_names(self) -> None:
        self._journal.append(self._snapshot(self._root))

    def _snapshot(self, folder: Folder) -> dict:
        return {
            name: node if isinstance(node, Inode) else (node.number, self._snapshot(node))
            for name, node in folder.entries.items()
        }

    def _restore(self, names: dict, number: int = 1) -> Folder:
        folder = Folder(number)
        for name, node in names.items():
            is_file = isinstance(node, Inode)
            folder.entries[name] = node if is_file else self._restore(node[1], node[0])
        return folder

    def _age(self, inode: Inode, chance: random.Random) -> None:
        old, new = inode.durable, bytes(inode.data)
        size = chance.choice([len(old), len(new), chance.randint(*sorted((len(old), len(new))))])
        data = bytearray()
        for at in range(0, size, SECTOR):
            end = min(at + SECTOR, size)
            was, will_be = old[at:end], new[at:end]
            same = 0
            while same < min(len(was), len(will_be)) and was[same] == will_be[same]:
                same += 1
            # Bytes that never changed cannot be lost; of the rest of a sector nothing is certain.
            rest = end - at - same
            kinds = [will_be[same:], was[same:], bytes(rest), chance.randbytes(rest)]
            if len(was) == end - at:
                kinds = kinds[:2]  # Overwritten in place: one or the other.
            data += (will_be[:same] + chance.choice(kinds)).ljust(end - at, b"\0")
        inode.data, inode.durable = data, bytes(data)
