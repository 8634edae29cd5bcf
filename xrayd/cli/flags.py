"""The X-Ray daemon's command line, parsed as Go's `flag` package parses it.

`-x v`, `--x v`, `-x=v`, long names with one dash or two, booleans as `-o` and `-o=false`; parsing
stops at the first word that is not a flag, or behind `--`. Source: Go's documentation of package
flag, and `xray -help` of the daemon.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from xrayd.config import Option, options

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class FlagError(Exception):
    """A command line Go would refuse; printed with the usage, exit 2."""


class CommandLine(NamedTuple):
    """A parsed command line.

    `values` maps file keys to (value, spelling). `rest` starts at the first word that is no flag.
    """

    values: dict[str, tuple[Any, str]]
    config_path: str
    wants_help: bool
    wants_version: bool
    rest: list[str]


def parse(arguments: Sequence[str]) -> CommandLine:
    """Parse the words behind the program's name.

    Raises:
        FlagError: an unknown flag, a missing or malformed value, in Go's words.
    """
    known = {name: option for option in options() for name in (option.short, option.long) if name}
    values: dict[str, tuple[Any, str]] = {}
    config_path = ""
    wants_help = wants_version = False
    words = list(arguments)
    while words:
        word = words[0]
        if len(word) < 2 or not word.startswith("-"):
            break
        words.pop(0)
        if word == "--":
            break
        name, has_value, value = word.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {word}")
        spelling = word.partition("=")[0]
        if name in ("h", "help"):
            wants_help = True
            break
        if name in ("v", "version"):
            wants_version = wants_version or _boolean(name, value if has_value else "true")
            continue
        option = known.get(name)
        if option is not None and isinstance(option.default, bool):
            values[option.key] = (_boolean(name, value if has_value else "true"), spelling)
            continue
        if option is None and name not in ("c", "config"):
            raise FlagError(f"flag provided but not defined: -{name}")
        if not has_value:
            if not words:
                raise FlagError(f"flag needs an argument: -{name}")
            value = words.pop(0)
        if option is None:
            config_path = value
        else:
            values[option.key] = (_typed(option, name, value), spelling)
    return CommandLine(values, config_path, wants_help, wants_version, words)


def _boolean(name: str, text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise FlagError(f'invalid boolean value "{text}" for -{name}: parse error')


def _typed(option: Option, name: str, text: str) -> Any:
    if isinstance(option.default, int):
        try:
            return int(text, 0)
        except ValueError as error:
            raise FlagError(f'invalid value "{text}" for flag -{name}: parse error') from error
    return text


def usage(program: str, commands: Sequence[tuple[str, str]]) -> str:
    """The help text; `commands` are (name, one line) of the subcommands."""
    lines = [f"Usage: {program} [flags] [command]", "", "Flags:"]
    rows = [(_names(o.short, o.long), _sentence(o)) for o in options() if o.short or o.long]
    rows += [
        (_names("c", "config"), "Configuration file."),
        (_names("v", "version"), "Print the version and exit."),
        (_names("h", "help"), "Print this text and exit."),
    ]
    lines += [f"  {names:<24} {text}" for names, text in sorted(rows)]
    lines += ["", "Commands (without one, the daemon runs):"]
    lines += [f"  {name:<24} {text}" for name, text in commands]
    return "\n".join(lines) + "\n"


def _names(short: str, long: str) -> str:
    return f"-{short}, --{long}" if short else f"    --{long}"


def _sentence(option: Option) -> str:
    default = f" [{option.default}]" if option.default not in ("", False, 0) else ""
    return option.doc.split(". ")[0].rstrip(".") + "." + default
