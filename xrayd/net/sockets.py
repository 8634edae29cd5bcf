"""Binding the two ports, before anything slow is imported; standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from typing import Any

from xrayd.errors import ConfigError


def parse_address(text: str, what: str) -> tuple[str, int]:
    """Split `127.0.0.1:2000`, `[::1]:2000` or `:2000` (every interface) into host and port.

    Raises:
        ConfigError: naming `what`, the setting.
    """
    match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*)):(\d{1,5})", text)
    if match is None or int(match[3]) > 65_535:
        raise ConfigError(
            f"{what}: {text!r} is no address; write host:port, such as 127.0.0.1:2000"
        )
    return match[1] or match[2] or "", int(match[3])


def bind(address: str, kind: socket.SocketKind, what: str) -> socket.socket:
    """Bind a non-blocking UDP (SOCK_DGRAM) or listening TCP (SOCK_STREAM) socket.

    Raises:
        ConfigError: a bad address or a port that is taken, naming its holder where it can be found.
    """
    host, port = parse_address(address, what)
    family, where = _resolve(host, port, kind, what)
    sock = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if not host else 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        if kind == socket.SOCK_STREAM:
            sock.listen(256)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        protocol = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
        if error.errno == errno.EADDRINUSE:
            holder = find_holder(port, protocol.lower())
            raise ConfigError(
                f"{what}: {protocol} port {port} is taken{holder}; stop that process or choose"
                f" another port with -{'b' if protocol == 'UDP' else 't'}"
            ) from error
        raise ConfigError(f"{what}: cannot listen on {protocol} {address}: {error}") from error
    return sock


def _resolve(
    host: str, port: int, kind: socket.SocketKind, what: str
) -> tuple[int, tuple[Any, ...]]:
    if not host:
        if socket.has_dualstack_ipv6():
            return socket.AF_INET6, ("::", port, 0, 0)
        return socket.AF_INET, ("0.0.0.0", port)  # noqa: S104 - asked for by `:2000`
    try:
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"{what}: host {host!r} cannot be resolved: {error}") from error
    # Of a name with both, such as localhost, Go's net package takes the IPv4 address.
    family, _, _, _, where = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, where


def describe_address(sock: socket.socket) -> str:
    """`host:port` of a bound socket, IPv6 in brackets."""
    return write_address(*sock.getsockname()[:2])


def write_address(host: str, port: int) -> str:
    """`host:port`, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether an IP address or host name stands for this machine only, whatever DNS says."""
    if host in ("127.0.0.1", "localhost") or host.endswith(".localhost"):
        return True
    import ipaddress  # noqa: PLC0415 - not needed to bind, which comes first

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_host(name: str) -> bool:
    """Whether text can be a host's name or address: no empty label, none too long, no escapes."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return name != "" and "%" not in name and not any(c.isspace() for c in name)


def find_holder(port: int, protocol: str) -> str:
    """` by pid 4242 (xray)` for the process that holds a port, empty where it cannot be found."""
    from pathlib import Path  # noqa: PLC0415 - only for who finds the port taken

    inodes = set()
    for name in (protocol, protocol + "6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                fields = line.split()
                listens = protocol == "udp" or fields[3] == "0A"
                if listens and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            for descriptor in descriptors.iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) in inodes:
                        process = descriptors.parent
                        name = (process / "comm").read_text().strip()
                        return f" by pid {process.name} ({name})"
    return ""
