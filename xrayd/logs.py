"""Log lines in the X-Ray daemon's shape or as JSON, written by a thread so that none can block.

No document body and no secret is ever passed to a logger; what senders wrote is escaped.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import logging.handlers
import queue
import sys
import threading
import time
from typing import Any, TextIO

from xrayd.errors import ConfigError

_LEVELS = {
    "dev": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "prod": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "silent": logging.CRITICAL + 1,
}
_WORDS = {"WARNING": "Warn", "CRITICAL": "Critical"}
_QUEUED_MAX = 2000
_ROTATE_BYTES = 50 * 1024 * 1024
_LINE_MAX = 1000


def printable(text: str, limit: int = 128) -> str:
    r"""Text from outside for a log line: control characters escaped, cut to a length."""
    if len(text) <= limit and text.isprintable():
        return text
    cut = text[:limit]
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return safe if len(text) <= limit else safe + "…"


class Throttle:
    """Lets `lines` lines in `seconds` through for each cause, and counts the rest.

    `allow` returns None for a line to be suppressed, else a text to append: empty, or how many
    were suppressed before.
    """

    _CAUSES_MAX = 200

    def __init__(self, lines: int = 10, seconds: float = 1.0) -> None:
        self._lines = lines
        self._seconds = seconds
        self._seen: dict[str, list[float]] = {}

    def allow(self, cause: str, now: float) -> str | None:
        """Ask for one line at `now`, in seconds."""
        state = self._seen.get(cause)
        if state is None:
            if len(self._seen) >= self._CAUSES_MAX:
                self._seen.clear()
            state = self._seen[cause] = [now, 0.0, 0.0]
        if now - state[0] >= self._seconds:
            state[0], state[1] = now, 0.0
        if state[1] >= self._lines:
            state[2] += 1
            return None
        state[1] += 1
        suppressed, state[2] = int(state[2]), 0.0
        return f" ({suppressed} more like this)" if suppressed else ""

    def suppress(self, cause: str, count: int) -> None:
        """Count lines of a cause that `allow` has just refused one of, without asking for each."""
        self._seen[cause][2] += count


class _TextFormatter(logging.Formatter):
    """`2006-01-02T15:04:05Z07:00 [Level] message`; a record that `is_plain` is its message."""

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "is_plain", False):
            return _message(record)
        word = _WORDS.get(record.levelname, record.levelname.capitalize())
        return f"{_stamp(record.created)} [{word}] {_message(record)}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _stamp(record.created),
            "level": _WORDS.get(record.levelname, record.levelname).lower(),
            "logger": record.name,
            "message": _message(record),
        }
        return json.dumps(fields, ensure_ascii=False)


def _stamp(epoch_s: float) -> str:
    local = dt.datetime.fromtimestamp(epoch_s, dt.UTC).astimezone()
    return local.isoformat(timespec="seconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
        return text
    return printable(text, _LINE_MAX)


class LogWriter(logging.Handler):
    """Formats and writes in a thread of its own; a full queue drops lines and counts them.

    Args:
        path: a file, or empty for `stream`.
        stream: standard output.
        style: `text` or `json`.
        rotate: whether a file is rotated at 50 MB.
    """

    def __init__(self, path: str, stream: TextIO, style: str, *, rotate: bool) -> None:
        super().__init__()
        self.setFormatter(_JsonFormatter() if style == "json" else _TextFormatter())
        self._target: logging.StreamHandler[Any]
        if path and rotate:
            self._target = logging.handlers.RotatingFileHandler(
                path, maxBytes=_ROTATE_BYTES, backupCount=1, encoding="utf-8"
            )
        elif path:
            self._target = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
        else:
            self._target = logging.StreamHandler(stream)
        self._target.setFormatter(self.formatter)
        self._target.handleError = self._count_drop  # type: ignore[method-assign]  # no traceback
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(_QUEUED_MAX)
        self._written = threading.Event()
        self._must_reopen = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; never waits."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def reopen(self) -> None:
        """Close the log file; the next line opens it anew, where something has moved it away."""
        if isinstance(self._target, logging.FileHandler):
            self._must_reopen = True  # not by the queue, which may be full

    def stop(self, seconds: float = 0.5) -> None:
        """Write what is queued, for at most `seconds`, for the pipe may be one nobody reads."""
        deadline = time.monotonic() + seconds
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _write_all(self) -> None:
        while (record := self._queue.get()) is not None:
            if self._must_reopen:
                self._must_reopen = False
                with contextlib.suppress(OSError):  # its last lines have no room on the disk
                    self._target.close()
            self._target.emit(record)

    def _count_drop(self, record: logging.LogRecord) -> None:
        self.dropped += 1


def open_log(path: str, level: str, style: str, *, rotate: bool) -> LogWriter:
    """Send the `xrayd` loggers to a file or standard output.

    Raises:
        ConfigError: the file cannot be opened.
    """
    try:
        writer = LogWriter(path, sys.stdout, style, rotate=rotate)
    except OSError as error:
        raise ConfigError(f"Logging.LogPath: {path}: {error}") from error
    root = logging.getLogger("xrayd")
    root.handlers[:] = [writer]
    root.propagate = False
    set_level(level)
    return writer


def set_level(level: str) -> None:
    """Log lines of this level (a word of the configuration) and above from now on."""
    logging.getLogger("xrayd").setLevel(_LEVELS[level])
