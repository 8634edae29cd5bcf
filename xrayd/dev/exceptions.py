"""OpenTelemetry exceptions, with their stack traces as text, as X-Ray causes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from xrayd.dev.inferred import derive_id

FRAMES_MAX = 50
"""Stack frames kept of an exception; the rest are counted in `truncated`."""

_PYTHON_FRAME = re.compile(
    r'^ *File "(?P<path>.+)", line (?P<line>\d{1,9}), in (?P<label>.+)$', re.MULTILINE
)
_JAVASCRIPT_FRAME = re.compile(
    r"^ *at (?:async )?(?:(?P<label>[^()\n]+?) \()?(?P<path>[^()\n]+?):(?P<line>\d{1,9}):\d+\)?$",
    re.MULTILINE,
)
_JAVA_FRAME = re.compile(
    r"^[ \t]*at (?P<label>[^()\n]+)\((?P<path>[^():\n]+)(?::(?P<line>\d{1,9}))?\)$", re.MULTILINE
)


def read_cause(
    span_id: str, is_error: bool, status_message: str, exceptions: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """A document's `cause`; None where nothing is known of one.

    Args:
        span_id: Of the span; exception ids are derived from it.
        is_error: Whether the span failed.
        status_message: What it says about that, if nothing else does.
        exceptions: Attributes of its exception events, in order.
    """
    if exceptions:
        found = [
            _convert_exception(derive_id(span_id, str(number)), attributes)
            for number, attributes in enumerate(exceptions)
        ]
    elif is_error and status_message:
        found = [{"id": derive_id(span_id, "0"), "message": status_message}]
    else:
        return None
    return {"exceptions": found}


def _convert_exception(id_: str, attributes: dict[str, Any]) -> dict[str, Any]:
    exception: dict[str, Any] = {
        "id": id_,
        "type": str(attributes.get("exception.type", "")),
        "message": str(attributes.get("exception.message", "")),
    }
    stack = _read_stack(str(attributes.get("exception.stacktrace", "")))
    if stack:
        exception["stack"] = stack[:FRAMES_MAX]
    if len(stack) > FRAMES_MAX:
        exception["truncated"] = len(stack) - FRAMES_MAX
    return exception


def _read_stack(text: str) -> list[dict[str, Any]]:
    """Frames, innermost first; none where the text is of no known language."""
    frames = [_convert_frame(match) for match in _PYTHON_FRAME.finditer(text)]
    if frames:
        return frames[::-1]
    for pattern in (_JAVASCRIPT_FRAME, _JAVA_FRAME):
        frames = [_convert_frame(match) for match in pattern.finditer(text)]
        if frames:
            return frames
    return []


def _convert_frame(match: re.Match[str]) -> dict[str, Any]:
    line = match["line"]
    frame: dict[str, Any] = {"path": match["path"], "label": match["label"] or "anonymous"}
    if line is not None:
        frame["line"] = int(line)
    return frame
