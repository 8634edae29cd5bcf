"""`xrayd config`: the effective settings with the origin of each."""

from __future__ import annotations

import json
import os
import textwrap
from itertools import groupby

import click

from xrayd.cli.flags import CommandLine
from xrayd.config import Option, options
from xrayd.config_sources import load


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--example", is_flag=True, help="Print an example file with every key explained.")
@click.pass_obj
def config_command(line: CommandLine, *, as_json: bool, example: bool) -> None:
    """Print the effective settings and where each comes from.

    Flags of the daemon before the word `config`, its file and its environment count as they would
    for the daemon itself.
    """
    if example:
        click.echo(example_file(), nl=False)
        return
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


def example_file() -> str:
    """A cfg.yaml with every setting at its default, explained."""
    lines = [
        "# Every setting of xrayd with its default. The keys, the file's places",
        "# (/etc/amazon/xray/cfg.yaml, ./cfg.yaml, or -c) and its version are the X-Ray daemon's.",
        "# Each is also an environment variable; flags beat variables, variables beat the file.",
        "",
        "Version: 2 # optional; 1 and 2 mean the same",
    ]
    for section, group in groupby(options(), key=lambda option: option.key.rpartition(".")[0]):
        lines += ["", f"{section}:"] if section else []
        for option in group:
            lines += [] if section else [""]
            lines += _explained(option, "  " if section else "")
    return "\n".join(lines) + "\n"


def _explained(option: Option, indent: str) -> list[str]:
    flags = [f"-{option.short}"] if option.short else []
    flags += [f"--{option.long}"] if option.long else []
    names = ", ".join([*flags, option.variable])
    comment = textwrap.wrap(f"{option.doc} ({names})", 96 - len(indent), break_on_hyphens=False)
    value = json.dumps(option.default) if not isinstance(option.default, tuple) else "[]"
    return [*(f"{indent}# {part}" for part in comment),
            f"{indent}{option.key.rpartition('.')[2]}: {value}"]  # fmt: skip
