"""`xrayd config`: the effective settings with the origin of each."""

from __future__ import annotations

import json
import os

import click

from xrayd.cli.flags import CommandLine
from xrayd.config import load, options


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def config_command(line: CommandLine, *, as_json: bool) -> None:
    """Print the effective settings and where each comes from.

    Flags of the daemon before the word `config`, its file and its environment count as they would
    for the daemon itself.
    """
    loaded = load(line.values, os.environ, line.config_path)
    rows = [
        (option.key, getattr(loaded.config, option.name), loaded.origins[option.key])
        for option in options()
    ]
    if as_json:
        table = {key: {"value": value, "origin": origin} for key, value, origin in rows}
        click.echo(json.dumps(table, indent=2))
        return
    texts = [(key, _text(value), origin) for key, value, origin in rows]
    widths = [max(len(row[column]) for row in texts) for column in (0, 1)]
    for key, value, origin in texts:
        click.echo(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(value) + "]"
    if value == "":
        return '""'
    return str(value)
