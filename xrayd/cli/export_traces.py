"""`xrayd dev export`: traces as JSON lines or Parquet."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import click
import msgspec

from xrayd.cli.endpoint import check_filter, file_endpoint_option, refuse
from xrayd.cli.times import find_window, time_options
from xrayd.dev.client import BATCH_TRACES_MAX, ApiClient, CallError
from xrayd.errors import ConfigError

_EVER_S = 1e11


class _Writer(Protocol):
    def write(self, trace: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class JsonLinesWriter:
    """Writes one JSON object a trace, its documents as objects in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, trace: dict[str, Any]) -> None:
        """Take a trace of BatchGetTraces."""
        segments = [
            {"Id": segment["Id"], "Document": msgspec.Raw(_in_one_line(segment["Document"]))}
            for segment in trace["Segments"]
        ]
        self._file.write(msgspec.json.encode({**trace, "Segments": segments}) + b"\n")

    def close(self) -> None:
        """Nothing is held back."""


def _in_one_line(document: str) -> bytes:
    text = document.encode()
    return msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text


@click.command("export")
@click.argument("expression", metavar="[FILTER]", default="")
@time_options
@click.option("-o", "--output", default="-", help="File to write; standard output by default.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "parquet"]),
    help="By default what the file's name ends with, or jsonl.",
)
@click.option("--data", default=None, help="The data file of xrayd dev.")
@file_endpoint_option
@click.pass_context
def export_command(
    context: click.Context,
    expression: str,
    *,
    last: float | None,
    start: float | None,
    end: float | None,
    output: str,
    form: str | None,
    data: str | None,
    endpoint_url: str | None,
) -> None:
    """Write the traces that FILTER matches, all by default, the oldest first.

    JSON lines have one trace each, as BatchGetTraces gives it; Parquet has one segment a row.
    Both can be read by `xrayd dev import`.
    """
    from xrayd.cli.data import open_traces  # noqa: PLC0415 - not for `xrayd dev` itself

    check_filter(expression)
    since, until = find_window(last, start, end, _EVER_S)
    form = form or ("parquet" if output.endswith(".parquet") else "jsonl")
    if form == "parquet" and output == "-" and sys.stdout.isatty():
        raise click.UsageError("Parquet is nothing for a terminal; name a file with --output")
    data = data or (context.parent.params.get("data") if context.parent else None)
    try:
        with (
            open_traces(data, endpoint_url, create=False) as client,
            _open_output(output) as file,
        ):
            writer = _writer(form, file)
            count, waiting = _export(client, writer, since, until, expression)
            writer.close()
    except CallError as error:
        refuse(error, expression)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise click.ClickException(f"{output}: {error.strerror or error}") from error
    click.echo(f"{count} traces exported", err=True)
    if waiting:
        click.echo(
            f"{waiting} that have just begun were left out: their segments have not arrived",
            err=True,
        )


def _export(
    client: ApiClient, writer: _Writer, since: float, until: float, expression: str
) -> tuple[int, int]:
    """How many traces were written, and how many were left out for they have no segment yet."""
    # all ids before the first trace: the bar knows its length, and the oldest can come first
    ids = [str(summary["Id"]) for summary in client.summaries(since, until, expression)]
    ids.reverse()
    count = waiting = 0
    with click.progressbar(length=len(ids), label="traces", file=sys.stderr) as bar:
        for first in range(0, len(ids), BATCH_TRACES_MAX):
            wanted = ids[first : first + BATCH_TRACES_MAX]
            for trace in client.traces(wanted):
                if trace["Segments"]:
                    writer.write(trace)
                    count += 1
                else:
                    waiting += 1
            bar.update(len(wanted))
    return count, waiting


def _writer(form: str, file: BinaryIO) -> _Writer:
    if form == "jsonl":
        return JsonLinesWriter(file)
    from xrayd.cli.parquet import ParquetWriter  # noqa: PLC0415

    return ParquetWriter(file)


@contextmanager
def _open_output(name: str) -> Iterator[BinaryIO]:
    """A file that gets its name when it is whole; what was there before stays until then."""
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    if path.is_dir():
        raise ConfigError(f"{path} is a directory; name a file")
    if path.exists() and not path.is_file():  # a device or a pipe: nothing may take its place
        with path.open("wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))  # a link stays one
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
