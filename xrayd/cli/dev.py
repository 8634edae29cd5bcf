"""`xrayd dev`: X-Ray on this machine."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import click

from xrayd.cli.flags import CommandLine
from xrayd.config import options
from xrayd.config_sources import load


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


class _DevGroup(click.Group):
    """Imports a subcommand when it is asked for: `xrayd dev` itself has ports to bind first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["export", "import"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "export":
            from xrayd.cli.export_traces import export_command  # noqa: PLC0415

            return export_command
        if cmd_name == "import":
            from xrayd.cli.import_traces import import_command  # noqa: PLC0415

            return import_command
        return None


@click.group("dev", cls=_DevGroup, invoke_without_command=True)
@click.option(
    "--data", default=None, help="SQLite file for traces and settings, or :memory: for none."
)
@click.option("--demo", is_flag=True, help="Also send the traces of a small made-up shop.")
@click.option(
    "--api-address",
    default=None,
    help="Answer the X-Ray API there too, such as 127.0.0.1:2002.",
)
@click.option(
    "--keep-days",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Forget a trace so many days after its last document.",
)
@click.option(
    "--keep-mb",
    default=512,
    show_default=True,
    type=click.IntRange(min=1),
    help="Forget the oldest traces above so many MiB of data.",
)
@_daemon_flags
@click.pass_context
def dev_command(
    context: click.Context,
    /,
    *,
    data: str | None,
    demo: bool,
    api_address: str | None,
    keep_days: float,
    keep_mb: int,
    config_path: str | None,
    **flags: Any,
) -> None:
    """Run the relay with X-Ray itself behind it: no account, no region, no credentials.

    SDKs write to UDP 2000 as always; boto3, the AWS CLI and the SDKs' samplers use TCP 2000 as
    their endpoint.
    """
    if context.invoked_subcommand is not None:
        return
    line: CommandLine = context.obj
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
    api = bind(api_address, socket.SOCK_STREAM, "--api-address") if api_address else None
    metrics = (
        bind(config.metrics_address, socket.SOCK_STREAM, "Metrics.Address")
        if config.metrics_address
        else None
    )
    from xrayd import logs  # noqa: PLC0415
    from xrayd.cli.data import default_data  # noqa: PLC0415
    from xrayd.dev.server import DevSettings, run_dev  # noqa: PLC0415
    from xrayd.lifecycle import run_loop  # noqa: PLC0415
    from xrayd.memory import budget, memory_limit, receive_buffer  # noqa: PLC0415

    limit, _ = memory_limit()
    settings = DevSettings(
        udp=udp,
        tcp=tcp,
        api=api,
        metrics=metrics,
        data=data or default_data(),
        region=config.region or os.environ.get("AWS_REGION") or "us-east-1",
        demo=demo,
        allowed_hosts=config.proxy_hosts,
        bytes_max=budget(config.buffer_mb, limit),
        receive_buffer_bytes=receive_buffer(config.receive_buffer_mb, limit),
        concurrency=config.concurrency,
        keep_s=keep_days * 24 * 3600,
        keep_bytes=keep_mb * 1024 * 1024,
    )
    writer = logs.open_log(
        config.log_path, config.log_level, config.log_format, rotate=config.log_rotation
    )
    for warning in loaded.warnings:
        logging.getLogger("xrayd").warning("%s", warning)
    if loaded.origins["Logging.LogLevel"] == "default":
        # Every trace has a line of its own here; a line a batch would only hide them.
        logging.getLogger("xrayd.uploader").setLevel(logging.WARNING)
    try:
        run_loop(run_dev(settings))
    finally:
        writer.stop()
