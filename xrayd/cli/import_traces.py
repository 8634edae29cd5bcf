"""`xrayd dev import`: traces from files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from xrayd.cli.endpoint import file_endpoint_option, refuse
from xrayd.cli.terminal import tame
from xrayd.dev.client import BATCH_DOCUMENTS_MAX, ApiClient, CallError

_BATCH_CHARACTERS = 1024 * 1024
_REFUSALS_SHOWN = 20


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data", default=None, help="The data file of xrayd dev.")
@file_endpoint_option
@click.pass_context
def import_command(
    context: click.Context, files: tuple[Path, ...], *, data: str | None, endpoint_url: str | None
) -> int:
    """Take in the traces of FILES.

    They are what `xrayd dev export` wrote, the JSON of `aws xray batch-get-traces`, JSON lines of
    segment documents, or of captured datagrams (base64 in `b64`). Exit code 1 says that some
    documents were refused.
    """
    from xrayd.cli.data import open_traces  # noqa: PLC0415 - not for `xrayd dev` itself

    data = data or (context.parent.params.get("data") if context.parent else None)
    try:
        with open_traces(data, endpoint_url, create=True) as client:
            sent, refused = _import(client, files)
    except CallError as error:
        refuse(error)
    click.echo(f"{sent - len(refused)} documents imported, {len(refused)} refused", err=True)
    for code, count in sorted(Counter(code for _, code in refused).items()):
        click.echo(f"  {count} × {code}", err=True)
    for document_id, code in refused[:_REFUSALS_SHOWN]:
        click.echo(f"  {document_id}: {code}", err=True)
    if len(refused) > _REFUSALS_SHOWN:
        click.echo(f"  … and {len(refused) - _REFUSALS_SHOWN} more", err=True)
    return 1 if refused else 0


def _import(client: ApiClient, files: tuple[Path, ...]) -> tuple[int, list[tuple[str, str]]]:
    """How many documents were sent; id and code of those that were refused."""
    from xrayd.cli.trace_files import read_file  # noqa: PLC0415

    sizes = [path.stat().st_size for path in files if path.exists()]
    sent = 0
    refused: list[tuple[str, str]] = []
    with click.progressbar(length=sum(sizes), label="bytes", file=sys.stderr) as bar:
        for path in files:
            for batch in _batches(read_file(path, bar.update)):
                sent += len(batch)
                refused += [
                    (tame(one.get("Id") or "(no id)"), tame(one.get("ErrorCode") or "unknown"))
                    for one in client.put(batch)
                ]
    return sent, refused


def _batches(documents: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document)
        if len(batch) == BATCH_DOCUMENTS_MAX or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
