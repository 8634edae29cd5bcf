"""Where the X-Ray API that a command reads is."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from xrayd.cli.flags import CommandLine
from xrayd.cli.terminal import tame
from xrayd.config_sources import load
from xrayd.dev.client import CallError
from xrayd.dev.filters.errors import FilterError
from xrayd.dev.filters.parser import parse
from xrayd.net.sockets import parse_address

Command = TypeVar("Command", bound=Callable[..., Any])

_POSITION = re.compile(r"Invalid filter expression at position (\d+)")


def endpoint_option(command: Command) -> Command:
    """Add `--endpoint-url` to a command that asks an `xrayd dev`."""
    return click.option(
        "--endpoint-url",
        default=None,
        help="URL of xrayd dev's X-Ray API; by default where -t, the file or"
        " XRAYD_SOCKET_TCP_ADDRESS say that it listens.",
    )(command)


def file_endpoint_option(command: Command) -> Command:
    """Add `--endpoint-url` to a command that works on a data file."""
    return click.option(
        "--endpoint-url",
        default=None,
        help="URL of xrayd dev's X-Ray API; by default the data file's, where one holds it.",
    )(command)


def endpoint_of(line: CommandLine, endpoint_url: str | None) -> str:
    """The URL asked for, or of an `xrayd dev` with the same settings on this machine.

    Raises:
        ConfigError: the settings cannot be read.
    """
    if endpoint_url:
        return endpoint_url if "://" in endpoint_url else f"http://{endpoint_url}"
    config = load(line.values, os.environ, line.config_path).config
    host, port = parse_address(config.tcp_address, "Socket.TCPAddress")
    return url_of(host, port)


def url_of(host: str, port: int) -> str:
    """A URL that reaches a listener, also where it is bound to every interface."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_filter(expression: str) -> None:
    """Refuse a filter expression with a caret under what is wrong.

    Raises:
        ClickException: showing where.
    """
    try:
        parse(expression)
    except FilterError as error:
        raise click.ClickException(point_at(expression, str(error), error.position)) from error


def refuse(error: CallError, expression: str = "") -> NoReturn:
    """End with what an API said; with a caret where it named a place in the filter expression."""
    match = _POSITION.search(str(error)) if expression else None
    message = tame(error, 1000)
    if match is not None and int(match[1]) <= len(expression):
        message = point_at(expression, message, int(match[1]))
    elif not error.code:
        message += "; is `xrayd dev` running there? (--endpoint-url)"
    raise click.ClickException(message) from error


def point_at(expression: str, message: str, position: int) -> str:
    """A message, the expression in one line, and a caret under one of its characters."""
    shown = "".join(c if c.isprintable() else " " for c in expression)
    before = "".join(
        "" if unicodedata.combining(c) else "  " if unicodedata.east_asian_width(c) in "WF" else " "
        for c in shown[:position]
    )
    return f"{tame(message, 1000)}\n  {shown}\n  {before}^"
