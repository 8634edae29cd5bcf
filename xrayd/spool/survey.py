"""A look at a spool from outside, also while a daemon has it locked. Changes nothing."""

from __future__ import annotations

import os

import msgspec

from xrayd.errors import ConfigError
from xrayd.spool.cursor import SECRET_BYTES, Cursor
from xrayd.spool.disk import Disk
from xrayd.spool.files import SpoolFile, find_files
from xrayd.spool.quarantine import Quarantine
from xrayd.spool.shelf import mark_done


class Survey(msgspec.Struct, frozen=True):
    """What lies in a spool's directory."""

    files: list[SpoolFile]
    """Oldest first; what is `pending` in each is as of the last acknowledgement noted on disk."""
    unreadable: list[str]
    """Files that the next start will move to the quarantine."""
    quarantined: list[str]
    """What is in the quarantine."""


def survey(directory: str | os.PathLike[str], disk: Disk | None = None) -> Survey:
    """Look at a spool.

    Raises:
        ConfigError: The directory does not exist or cannot be read.
    """
    disk = disk or Disk()
    path = os.fspath(directory)
    try:
        fd = disk.open_directory(path)
    except OSError as error:
        raise _cannot_read(path, error) from error
    try:
        state = Cursor(disk, fd).read()
        found = find_files(disk, fd, state.secret if state else bytes(SECRET_BYTES))
        quarantine = Quarantine(disk, fd)
        quarantined = quarantine.names
        quarantine.close()
    except OSError as error:
        raise _cannot_read(path, error) from error
    finally:
        disk.close(fd)
    if state:
        mark_done(found.files, state)
    return Survey(found.files, found.unreadable, quarantined)


def _cannot_read(path: str, error: OSError) -> ConfigError:
    why = os.strerror(error.errno or 0)
    return ConfigError(f"spool directory {path} cannot be read: {why}")
