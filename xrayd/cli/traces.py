"""`xrayd traces`: summaries of traces, as a table or as JSON lines."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

import click

from xrayd.cli.endpoint import check_filter, endpoint_of, endpoint_option, refuse
from xrayd.cli.flags import CommandLine
from xrayd.cli.terminal import Terminal, find_terminal, fit, show_seconds, tame
from xrayd.cli.times import find_window, time_options
from xrayd.dev.client import ApiClient, CallError

_HOUR_S = 3600.0
_TITLES = ("TIME", "TRACE", "STATUS", "DURATION", "METHOD", "URL", "USER", "SERVICES")
_WIDTHS_MAX = (23, 35, 18, 10, 8, 60, 24, 80)


@click.command("traces")
@click.argument("expression", metavar="[FILTER]", default="")
@time_options
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most.")
@click.option("--group", default=None, help="Only traces of this group.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--no-color", is_flag=True, help="No colours.")
@endpoint_option
@click.pass_obj
def traces_command(
    line: CommandLine,
    expression: str,
    *,
    last: float | None,
    start: float | None,
    end: float | None,
    limit: int,
    group: str | None,
    as_json: bool,
    no_color: bool,
    endpoint_url: str | None,
) -> None:
    """List the traces of the last hour that FILTER matches, the newest first.

    FILTER is an X-Ray filter expression, such as 'service("api") {fault} AND responsetime > 1'.
    """
    check_filter(expression)
    since, until = find_window(last, start, end, _HOUR_S)
    wanted = expression
    if group is not None:
        wanted = f"group.name = {json.dumps(group)}" + (f" AND ({expression})" if wanted else "")
    terminal = find_terminal(no_color=no_color)
    url = endpoint_of(line, endpoint_url)
    try:
        with ApiClient(url) as client:
            found = list(islice(client.summaries(since, until, wanted), limit + 1))
    except CallError as error:
        refuse(error, "" if group is not None else expression)
    for text in map(json.dumps, found[:limit]) if as_json else draw_table(found[:limit], terminal):
        click.echo(text)
    if not found:
        click.echo("no trace in this time matches", err=True)
    elif len(found) > limit:
        click.echo(f"there are more than {limit}; see --limit", err=True)


def draw_table(summaries: list[dict[str, Any]], terminal: Terminal) -> list[str]:
    """Lines of a table, without a title where there is nothing; the last column may be cut."""
    if not summaries:
        return []
    rows = [_row(one, terminal) for one in summaries]
    widths = [
        min(most, max(len(row[column]) for row in (_TITLES, *rows)))
        for column, most in enumerate(_WIDTHS_MAX)
    ]
    lines = []
    for row, summary in zip((_TITLES, *rows), ({}, *summaries), strict=True):
        texts = [
            fit(text, width, terminal.marks.cut) for text, width in zip(row, widths, strict=True)
        ]
        texts[2] = terminal.paint(texts[2], _color(summary))
        lines.append("  ".join(texts).rstrip())
    return lines


def _row(summary: Mapping[str, Any], terminal: Terminal) -> tuple[str, ...]:
    http = summary.get("Http") or {}
    names = [
        str(service.get("Name", ""))
        for service in summary.get("ServiceIds") or ()
        if service.get("Type") != "client"
    ]
    users = [str(user.get("UserName", "")) for user in summary.get("Users") or ()]
    return (
        show_time(summary.get("StartTime") or 0.0),
        tame(summary.get("Id", "")),
        describe_status(summary, terminal),
        show_seconds(summary.get("Duration") or 0.0),
        tame(http.get("HttpMethod") or "-"),
        tame(http.get("HttpURL") or "-"),
        tame(", ".join(users) or "-"),
        tame(f" {terminal.marks.arrow} ".join(names) or "-"),
    )


def describe_status(summary: Mapping[str, Any], terminal: Terminal) -> str:
    """A mark, a word and the HTTP status of a summary's root."""
    marks = terminal.marks
    if summary.get("HasFault"):
        word = f"{marks.fault} FAULT"
    elif summary.get("HasThrottle"):
        word = f"{marks.throttle} THROTTLE"
    elif summary.get("HasError"):
        word = f"{marks.error} ERROR"
    elif summary.get("IsPartial"):
        word = f"{marks.partial} partial"
    else:
        word = f"{marks.ok} ok"
    status = (summary.get("Http") or {}).get("HttpStatus")
    return f"{word} {tame(status)}" if status else word


def _color(summary: Mapping[str, Any]) -> str | None:
    if summary.get("HasFault"):
        return "red"
    return "yellow" if summary.get("HasError") or summary.get("HasThrottle") else None


def show_time(epoch_s: float) -> str:
    """Local date and time to the millisecond."""
    local = dt.datetime.fromtimestamp(epoch_s, dt.UTC).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S.") + f"{local.microsecond // 1000:03d}"
