"""`xrayd dev`: X-Ray on this machine."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

import click

from xrayd.cli.flags import CommandLine
from xrayd.config import load, options
from xrayd.errors import ConfigError


def _daemon_flags(command: Any) -> Any:
    """Take the daemon's flags behind the word `dev` too."""
    for option in reversed(options()):
        if option.long:
            names = [f"--{option.long}", *([f"-{option.short}"] if option.short else [])]
            is_flag = isinstance(option.default, bool)
            command = click.option(
                *names,
                option.name,
                default=None,
                is_flag=is_flag,
                type=None if is_flag else type(option.default),
                help=option.doc,
            )(command)
    return click.option("-c", "--config", "config_path", default=None, help="Configuration file.")(
        command
    )


@click.command("dev")
@click.option(
    "--data", default=None, help="SQLite file for traces and settings, or :memory: for none."
)
@click.option("--demo", is_flag=True, help="Also send the traces of a small made-up shop.")
@_daemon_flags
@click.pass_obj
def dev_command(
    line: CommandLine, /, *, data: str | None, demo: bool, config_path: str | None, **flags: Any
) -> None:
    """Run the relay with X-Ray itself behind it: no account, no region, no credentials.

    SDKs write to UDP 2000 as always; boto3, the AWS CLI and the SDKs' samplers use TCP 2000 as
    their endpoint.
    """
    behind = {
        option.key: (flags[option.name], f"--{option.long}")
        for option in options()
        if flags.get(option.name) is not None
    }
    loaded = load({**line.values, **behind}, os.environ, config_path or line.config_path)
    config = loaded.config
    # Bound before the rest is imported, so that the kernel keeps what is sent meanwhile.
    from xrayd.net.sockets import bind  # noqa: PLC0415

    udp = bind(config.udp_address, socket.SOCK_DGRAM, "Socket.UDPAddress")
    tcp = bind(config.tcp_address, socket.SOCK_STREAM, "Socket.TCPAddress")
    from xrayd import logs  # noqa: PLC0415
    from xrayd.dev.server import DevSettings, run_dev  # noqa: PLC0415
    from xrayd.lifecycle import run_loop  # noqa: PLC0415
    from xrayd.memory import budget, memory_limit, receive_buffer  # noqa: PLC0415

    limit, _ = memory_limit()
    settings = DevSettings(
        udp=udp,
        tcp=tcp,
        data=data or _default_data(),
        region=config.region or os.environ.get("AWS_REGION") or "us-east-1",
        demo=demo,
        allowed_hosts=config.proxy_hosts,
        bytes_max=budget(config.buffer_mb, limit),
        receive_buffer_bytes=receive_buffer(config.receive_buffer_mb, limit),
        concurrency=config.concurrency,
    )
    writer = logs.open_log(
        config.log_path, config.log_level, config.log_format, rotate=config.log_rotation
    )
    if loaded.origins["Logging.LogLevel"] == "default":
        # Every trace has a line of its own here; a line a batch would only hide them.
        logging.getLogger("xrayd.uploader").setLevel(logging.WARNING)
    try:
        run_loop(run_dev(settings))
    finally:
        writer.stop()


def _default_data() -> str:
    """A file of the user's own, by the XDG base directory rules."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    folder = Path(base) / "xrayd"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error}; name a file with --data") from error
    return str(folder / "dev.sqlite")
