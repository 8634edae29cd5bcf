"""`xrayd spool`: look into the spool, send what lies in one, read what X-Ray refused."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import click
import httpx

from xrayd.cli.flags import CommandLine
from xrayd.config_sources import load
from xrayd.errors import ConfigError
from xrayd.logs import printable
from xrayd.spool.dead import DeadLetter, read_dead_letters
from xrayd.spool.spool import Spool
from xrayd.spool.survey import survey

_DOCUMENTS_MAX = 50
# Of documents in one request: as JSON a byte may take six, and the daemon takes 4 MiB.
_BYTES_MAX = 640 * 1024
_PATIENCE_S = 30.0


@click.group("spool")
@click.option("--directory", default=None, help="The spool's directory, instead of the setting's.")
@click.pass_context
def spool_command(context: click.Context, directory: str | None) -> None:
    """Look into the spool, send what lies in one, read what X-Ray refused."""
    assert isinstance(context.obj, CommandLine)
    # Asked by the command when it runs: `--help` needs no spool.
    context.obj = partial(_choose, context.obj, directory)


def _choose(line: CommandLine, directory: str | None) -> str:
    chosen = directory or load(line.values, os.environ, line.config_path).config.spool_directory
    if not chosen:
        raise ConfigError("no spool: set Spool.Directory, or name one with --directory")
    return chosen


@spool_command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def list_spool(choose: Callable[[], str], *, as_json: bool) -> None:
    """Show the files of the spool, also while xrayd writes to it."""
    found = survey(choose())
    rows = [
        {
            "first": file.first,
            "pending": file.pending,
            "bytes": file.size,
            "last_written": _stamp(file.last_at),
        }
        for file in found.files
    ]
    if as_json:
        click.echo(
            json.dumps(
                {"files": rows, "unreadable": found.unreadable, "quarantined": found.quarantined}
            )
        )
        return
    click.echo(f"{'first':>12} {'pending':>9} {'bytes':>12}  last written")
    for row in rows:
        click.echo(
            f"{row['first']:>12} {row['pending']:>9} {row['bytes']:>12}  {row['last_written']}"
        )
    pending = sum(file.pending for file in found.files)
    size = sum(file.size for file in found.files)
    click.echo(f"{pending} segments wait in {len(rows)} files of {size} bytes")
    for name in (*found.unreadable, *found.quarantined):
        click.echo(f"damaged, kept aside: {name}")


@spool_command.command("dead")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines, documents included.")
@click.pass_obj
def list_dead(choose: Callable[[], str], *, as_json: bool) -> None:
    """Show the documents that X-Ray refused for good, and why."""
    for number, letter in _letters(choose()):
        document = letter.document.decode("utf-8", "replace")
        if as_json:
            fields = {
                "number": number,
                "refused_at": letter.refused_at,
                "code": letter.code,
                "message": letter.message,
                "trace_id": letter.trace_id,
                "document": document,
            }
            click.echo(json.dumps(fields))
            continue
        click.echo(
            f"{number:>6}  {_stamp(letter.refused_at)}  {printable(letter.code) or 'no code'}"
            f"  {printable(letter.trace_id) or 'no trace id'}  {printable(letter.message)}"
        )


@spool_command.command("replay")
@click.option("--dead", is_flag=True, help="Send the refused documents again, not the waiting.")
@click.option(
    "--to", default="127.0.0.1:2000", show_default=True, help="TCP address of a running xrayd."
)
@click.pass_obj
def replay(choose: Callable[[], str], *, dead: bool, to: str) -> None:
    """Send what lies in a spool that no daemon uses, through a running xrayd.

    For the spool of an instance that is gone, say. What the daemon has taken is removed here; it
    then has it in its own buffer, and in its own spool.
    """
    directory = choose()
    with _open_client(to) as client:
        sent = _replay_dead(client, directory) if dead else _replay_waiting(client, directory)
    click.echo(f"{sent} segments sent")


def _open_client(to: str) -> httpx.Client:
    """A client of the daemon at this address.

    Raises:
        ConfigError: it is no address.
    """
    try:
        return httpx.Client(base_url=f"http://{to}", timeout=_PATIENCE_S, trust_env=False)
    except httpx.InvalidURL as error:
        raise ConfigError(f"--to must be host:port, not {to!r}: {error}") from error


def _check_exists(directory: str) -> None:
    if not Path(directory).is_dir():
        raise ConfigError(f"spool directory {directory} does not exist")


def _letters(directory: str) -> Iterator[tuple[int, DeadLetter]]:
    """The refused documents of a spool, numbered.

    Raises:
        ConfigError: there is no such spool, or it cannot be read.
    """
    _check_exists(directory)
    try:
        yield from read_dead_letters(directory)
    except OSError as error:
        raise ConfigError(f"spool directory {directory} cannot be read: {error}") from error


def _replay_dead(client: httpx.Client, directory: str) -> int:
    letters = [letter.document for _, letter in _letters(directory)]
    with click.progressbar(length=len(letters), label="sending") as progress:
        for part in _parts(letters):
            _post(client, part)
            progress.update(len(part))
    return len(letters)


def _parts(documents: Iterable[bytes]) -> Iterator[list[bytes]]:
    """As many documents at a time as fit into a request."""
    part: list[bytes] = []
    for document in documents:
        size = sum(map(len, part)) + len(document)
        if part and (len(part) == _DOCUMENTS_MAX or size > _BYTES_MAX):
            yield part
            part = []
        part.append(document)
    if part:
        yield part


def _replay_waiting(client: httpx.Client, directory: str) -> int:
    _check_exists(directory)
    sent = 0
    spool = Spool.open(directory, now=time.time())
    try:
        with click.progressbar(length=spool.recovered, label="sending") as progress:
            for seqs, documents in _waiting(spool):
                _post(client, documents)
                spool.acknowledge(seqs)
                sent += len(documents)
                progress.update(len(documents))
    finally:
        spool.close(time.time())
    return sent


def _waiting(spool: Spool) -> Iterator[tuple[list[int], list[bytes]]]:
    after = 0
    while records := spool.read(after, _DOCUMENTS_MAX, _BYTES_MAX):
        after = records[-1].seq + 1
        yield [record.seq for record in records], [record.document for record in records]


def _post(client: httpx.Client, documents: list[bytes]) -> None:
    """Hand documents to the daemon; wait where its buffer is full.

    Raises:
        ConfigError: it cannot be reached, or will not have them.
    """
    texts = [document.decode("utf-8", "replace") for document in documents]
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            answer = client.post("/TraceSegments", json={"TraceSegmentDocuments": texts})
        except httpx.TransportError as error:
            raise ConfigError(f"--to: {client.base_url.netloc.decode()}: {error}") from error
        if answer.status_code == 200:
            return
        if answer.status_code != 429 or time.monotonic() > deadline:
            raise ConfigError(f"--to: answered HTTP {answer.status_code}: {answer.text[:200]}")
        time.sleep(0.2)


def _stamp(epoch_s: float) -> str:
    return dt.datetime.fromtimestamp(epoch_s, dt.UTC).isoformat(timespec="seconds")
