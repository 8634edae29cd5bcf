"""`xrayd trace`: one trace, drawn as a waterfall."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from xrayd.cli.endpoint import endpoint_of, endpoint_option, refuse
from xrayd.cli.flags import CommandLine
from xrayd.cli.terminal import Terminal, find_terminal, show_seconds, tame
from xrayd.cli.traces import describe_status, show_time
from xrayd.cli.waterfall import draw
from xrayd.dev.client import ApiClient, CallError
from xrayd.dev.documents import load_document, normalize_trace_id
from xrayd.dev.model import Trace
from xrayd.dev.summary import summarize
from xrayd.dev.traces import MISSING_PARENT, compile_trace


@click.command("trace")
@click.argument("trace_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print BatchGetTraces' answer.")
@click.option("--no-color", is_flag=True, help="No colours.")
@endpoint_option
@click.pass_obj
def trace_command(
    line: CommandLine, trace_id: str, *, as_json: bool, no_color: bool, endpoint_url: str | None
) -> None:
    """Draw the trace with this ID (X-Ray or W3C form): what ran when, and what failed."""
    wanted = normalize_trace_id(trace_id)
    if wanted is None:
        raise click.ClickException(
            f"{tame(trace_id)!r} is no trace id; it looks like 1-581cf771-a006649127e371903a2de979"
        )
    terminal = find_terminal(no_color=no_color)
    url = endpoint_of(line, endpoint_url)
    try:
        with ApiClient(url) as client:
            answer = client.call("/Traces", TraceIds=[wanted])
    except CallError as error:
        refuse(error)
    found = answer.get("Traces") or ()
    if not found:
        raise click.ClickException(f"there is no trace {wanted} at {url}")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    trace = read_trace(found[0])
    for text in (*_head(trace, terminal), "", *draw(trace, terminal)):
        click.echo(text)


def read_trace(rendered: dict[str, Any]) -> Trace:
    """A trace of BatchGetTraces put together again: inferred segments are made, not taken over."""
    documents = []
    for segment in rendered.get("Segments") or ():
        try:
            document = load_document(segment["Document"])
        except ValueError as error:
            raise click.ClickException(f"a document cannot be read: {tame(error)}") from error
        if not document.inferred:
            documents.append(document)
    trace = compile_trace(rendered["Id"], documents, now=time.time(), last_received=0.0)
    for segment in trace.segments:
        segment.placeholder = segment.placeholder or segment.name == MISSING_PARENT
    return trace


def _head(trace: Trace, terminal: Terminal) -> list[str]:
    summary = summarize(trace)
    lines = [
        "  ".join(
            (
                tame(trace.id),
                show_time(trace.start),
                describe_status(summary, terminal),
                show_seconds(trace.duration),
            )
        )
    ]
    http = summary["Http"]
    if http.get("HttpURL"):
        lines.append(tame(f"{http.get('HttpMethod', '')} {http['HttpURL']}".strip(), 1000))
    if trace.users:
        lines.append(f"user {tame(', '.join(trace.users), 500)}")
    if trace.is_partial and "partial" not in lines[0]:
        lines.append("partial: something has not ended, or has not arrived")
    return lines
