"""Which command, with which settings; sockets are bound before anything slow is imported."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Sequence

from xrayd import __version__
from xrayd.cli.flags import CommandLine, FlagError, parse, usage
from xrayd.errors import ConfigError

COMMANDS = (
    ("dev", "Be X-Ray on this machine: no account, no credentials."),
    ("traces", "List the traces a filter expression matches, from xrayd dev."),
    ("trace", "Draw one trace as a waterfall, from xrayd dev."),
    ("sampling", "List the sampling rules as they stand, or explain which takes a request."),
    ("spool", "Look into the spool, send what lies in one, read what X-Ray refused."),
    ("config", "Print the effective settings and where each comes from."),
    ("healthcheck", "Ask a running xrayd whether it is well; exit 0 or 1."),
)


def run(arguments: Sequence[str]) -> int:
    """Parse a command line and run what it asks for; return the exit code."""
    try:
        line = parse(arguments)
    except FlagError as error:
        sys.stderr.write(f"{error}\n{usage(_program(), COMMANDS)}")
        return 2
    if line.wants_help:
        print(usage(_program(), COMMANDS), end="")
        return 0
    if line.wants_version:
        print(f"xrayd version: {__version__}")
        return 0
    try:
        return _dispatch(line)
    except ConfigError as error:
        sys.stderr.write(f"xrayd: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _dispatch(line: CommandLine) -> int:
    command = line.rest[0] if line.rest else ""
    if command == "healthcheck":
        from xrayd.cli.healthcheck import run_healthcheck  # noqa: PLC0415

        return run_healthcheck(line, os.environ)
    if command in ("config", "dev", "sampling", "spool", "trace", "traces"):
        return _run_click(command, line)
    # Any other word is ignored, as by the X-Ray daemon.
    return _run_daemon(line)


def _run_click(name: str, line: CommandLine) -> int:
    """Run a subcommand; the flags before its name are handed to it as its object."""
    import importlib  # noqa: PLC0415

    import click  # noqa: PLC0415 - not for the daemon and the health check

    command = getattr(importlib.import_module(f"xrayd.cli.{name}"), f"{name}_command")
    try:
        code = command.main(line.rest[1:], f"{_program()} {name}", standalone_mode=False, obj=line)
        if sys.stdout is not None:  # closed, as by `>&-`
            sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except BrokenPipeError:  # `xrayd traces | head`; whatever is left to write shall not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write(f"xrayd: standard output: {error.strerror}\n")
        return 1
    return code if isinstance(code, int) else 0


def _run_daemon(line: CommandLine) -> int:
    from xrayd import lifecycle  # noqa: PLC0415
    from xrayd.config_sources import load  # noqa: PLC0415
    from xrayd.net.sockets import bind  # noqa: PLC0415
    from xrayd.systemd import listen_sockets  # noqa: PLC0415

    loaded = load(line.values, os.environ, line.config_path)
    config = loaded.config
    lifecycle.hold_signals()
    given = listen_sockets()
    udp = given.get(socket.SOCK_DGRAM) or bind(
        config.udp_address, socket.SOCK_DGRAM, "Socket.UDPAddress"
    )
    tcp = given.get(socket.SOCK_STREAM) or bind(
        config.tcp_address, socket.SOCK_STREAM, "Socket.TCPAddress"
    )
    # From here on the kernel keeps datagrams while the rest is imported.
    bound_at = time.time()
    from xrayd import daemon, logs  # noqa: PLC0415

    writer = logs.open_log(
        config.log_path, config.log_level, config.log_format, rotate=config.log_rotation
    )
    try:
        for warning in loaded.warnings:
            daemon.log.warning("%s", warning)
        lifecycle.run_daemon(
            daemon.run(
                config,
                daemon.Sockets(udp, tcp, bound_at, are_kept=socket.SOCK_DGRAM in given),
                writer,
                load_again=lambda: load(line.values, os.environ, line.config_path).config,
            ),
            writer.stop,
        )
    finally:
        writer.stop()
    return 0


def _program() -> str:
    return os.path.basename(sys.argv[0]) or "xrayd"
