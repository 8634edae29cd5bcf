"""`xrayd healthcheck`: an exec probe for images without a shell.

Standard library only, and little of it, for it runs every few seconds beside a daemon that counts
its microseconds.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Mapping

from xrayd.cli.flags import CommandLine
from xrayd.net.sockets import parse_address

_SECONDS = 2.0
_DEFAULT = "127.0.0.1:2000"
_HELP = """Usage: healthcheck [--upstream]

  Ask the xrayd of the same flags, variables and file whether it is well; exit 0 or 1.

Options:
  --upstream  Be unwell as well while X-Ray cannot be reached.
  --help      Show this message and exit.
"""


def run_healthcheck(line: CommandLine, environment: Mapping[str, str]) -> int:
    """Ask GET /healthz on TCP 2000; 0 means listeners bound and loop turning.

    It never fails because AWS is down or credentials are missing: a restart would lose what is
    held. With `--upstream` it does.
    """
    if "--help" in line.rest[1:]:
        sys.stdout.write(_HELP)
        return 0
    wants_upstream = "--upstream" in line.rest[1:]
    host, port = listen_address(line, environment)
    request = f"GET /healthz HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, port), timeout=_SECONDS) as sock:
            sock.sendall(request.encode())
            answer = b""
            while chunk := sock.recv(65_536):
                answer += chunk
    except (OSError, UnicodeError) as error:
        return _fail(f"tcp {host}:{port}: {error}")
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        return _fail(f"tcp {host}:{port} answered {head[:40].decode('latin-1')!r}")
    if wants_upstream:
        import json  # noqa: PLC0415 - not for the plain probe

        try:
            health = json.loads(body)
        except ValueError:
            return _fail(f"tcp {host}:{port} is no xrayd")
        if health.get("upstream") != "ok":
            return _fail(f"upstream: {health.get('detail')}")
    return 0


def _fail(why: str) -> int:
    sys.stderr.write(f"xrayd healthcheck: {why}\n")
    return 1


def listen_address(line: CommandLine, environment: Mapping[str, str]) -> tuple[str, int]:
    """Where the daemon of the same flags, variables and file listens, seen from this machine.

    Raises:
        ConfigError: what stands there is no address.
    """
    text = environment.get("XRAYD_SOCKET_TCP_ADDRESS") or _address_in_file(line) or _DEFAULT
    if "Socket.TCPAddress" in line.values:
        text = str(line.values["Socket.TCPAddress"][0])
    host, port = parse_address(text, "Socket.TCPAddress")
    if host in ("", "0.0.0.0"):  # noqa: S104 - compared with, not bound to
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return host, port


def _address_in_file(line: CommandLine) -> str:
    """The TCPAddress line of the file; a YAML parser would cost more than the whole probe."""
    for path in (line.config_path, "/etc/amazon/xray/cfg.yaml", "cfg.yaml"):
        try:
            with open(path or os.devnull, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError):
            continue
        found = re.search(r"^\s+TCPAddress:\s*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
        if found:
            return found[1]
        if text:
            return ""
    return ""
