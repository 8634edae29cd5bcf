"""A trace as lines: services, their segments and subsegments, and when each of them ran."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from xrayd.cli.terminal import Terminal, cells, fit, show_seconds, tame
from xrayd.dev.model import Entity, Node, StatusClass, Trace

_LABEL_SHARE = 0.4
_STATUS_CELLS = 15
_DURATION_CELLS = 9
_INDENT_MAX = 12  # levels; deeper ones stand where that one does
_BAR_CELLS_MIN = 10
_GAPS = 5  # between the columns, and the bars' borders

_COLORS = {
    StatusClass.OK: "green",
    StatusClass.ERROR: "yellow",
    StatusClass.THROTTLE: "magenta",
    StatusClass.FAULT: "red",
}


class _Row(NamedTuple):
    label: str
    entity: Entity


class _Columns(NamedTuple):
    label: int
    bar: int


def draw(trace: Trace, terminal: Terminal) -> list[str]:
    """Lines, none wider than the terminal."""
    groups = [(node, list(_rows(node))) for node in trace.nodes if node.segments]
    extents = [_extent(row.entity, trace) for _, rows in groups for row in rows]
    span = max([trace.duration, 1e-9, *extents])
    labels = [cells(row.label) for _, rows in groups for row in rows]
    beside = terminal.width - _STATUS_CELLS - _DURATION_CELLS - 2
    widest = min(beside, max(20, int(terminal.width * _LABEL_SHARE)))
    label = min(max([*labels, 10]), widest)
    rest = terminal.width - label - _STATUS_CELLS - _DURATION_CELLS - _GAPS
    columns = _Columns(label, rest if rest >= _BAR_CELLS_MIN else 0)
    lines = []
    for node, rows in groups:
        lines.append(_cut(_title(node), terminal))
        lines += [_line(row, trace, span, columns, terminal) for row in rows]
    for orphan in trace.orphans:
        lines.append(_cut(f"without a parent yet: {tame(orphan.name)}", terminal))
    return lines


def _title(node: Node) -> str:
    kind = f"  {tame(node.type)}" if node.type else ""
    inferred = all(segment.inferred for segment in node.segments)
    return f"{tame(node.name)}{kind}{'  (inferred)' if inferred else ''}"


def _rows(node: Node) -> Iterator[_Row]:
    for segment in sorted(node.segments, key=lambda one: (one.start, one.id)):
        stack = [(segment, 1)]
        while stack:
            entity, depth = stack.pop()
            yield _Row("  " * min(depth, _INDENT_MAX) + _name(entity), entity)
            stack += [(child, depth + 1) for child in reversed(entity.children)]


def _name(entity: Entity) -> str:
    if entity.placeholder:
        return "(its parent never arrived)"
    words = [tame(entity.name)]
    if entity.is_segment and entity.inferred:
        words.append("(inferred)")
    elif entity.is_remote:
        words.append(f"[{tame(entity.document.namespace)}]")
    return " ".join(words)


def _extent(entity: Entity, trace: Trace) -> float:
    return (entity.start if entity.end is None else entity.end) - trace.start


def _line(row: _Row, trace: Trace, span: float, columns: _Columns, terminal: Terminal) -> str:
    entity = row.entity
    color = None if entity.in_progress else _COLORS[entity.status_class]
    duration = "" if entity.duration is None else show_seconds(entity.duration)
    line = " ".join(
        (
            fit(row.label, columns.label, terminal.marks.cut),
            terminal.paint(
                fit(_status(entity, terminal), _STATUS_CELLS, terminal.marks.cut), color
            ),
            f"{duration:>{_DURATION_CELLS}}",
        )
    )
    if not columns.bar:
        return line.rstrip()
    before, length = _place(entity, trace.start, span, columns.bar)
    sign = terminal.marks.open_bar if entity.in_progress else terminal.marks.bar
    bar = terminal.paint(sign * length, color)
    return f"{line} |{' ' * before}{bar}{' ' * (columns.bar - before - length)}|"


def _status(entity: Entity, terminal: Terminal) -> str:
    marks = terminal.marks
    status = f" {tame(entity.status)}" if entity.status is not None else ""
    match entity.status_class:
        case StatusClass.FAULT:
            return f"{marks.fault} FAULT{status}"
        case StatusClass.THROTTLE:
            return f"{marks.throttle} THROTTLE{status}"
        case StatusClass.ERROR:
            return f"{marks.error} ERROR{status}"
    if entity.in_progress:
        return f"{marks.partial} in progress"
    return f"{marks.ok} ok{status}"


def _place(entity: Entity, start: float, span: float, width: int) -> tuple[int, int]:
    """Cells before a bar, and its own, at least one; what has not ended runs to the border."""
    first = min(width - 1, max(0, int((entity.start - start) / span * width)))
    if entity.end is None:
        return first, width - first
    last = min(width, max(first + 1, round((entity.end - start) / span * width)))
    return first, last - first


def _cut(text: str, terminal: Terminal) -> str:
    return fit(text, terminal.width, terminal.marks.cut).rstrip()
