"""Every command xrayd has, found by asking the commands themselves."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click

from xrayd.cli.main import COMMANDS


def every_command() -> list[tuple[str, ...]]:
    """The words of each, such as ("dev", "export"); what one forgets to freeze is missing in it."""
    found: list[tuple[str, ...]] = []
    for name, _ in COMMANDS:
        module = importlib.import_module(f"xrayd.cli.{name}")
        command = getattr(module, f"{name}_command", None)  # the health check is none of click's
        found += [(name,), *_below(name, command)]
    return found


def _below(name: str, command: click.Command | None) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            yield from ((name, word), *_below(word, command.get_command(context, word)))
