"""A datagram is a JSON header, a newline and an opaque body."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from xrayd.errors import DatagramError


class Refusal(StrEnum):
    """Why a datagram or a posted document is refused: metric label, log field and test name."""

    NO_NEWLINE = "no_newline"
    INVALID_HEADER = "invalid_header"
    WRONG_FORMAT = "wrong_format"
    WRONG_VERSION = "wrong_version"
    EMPTY_BODY = "empty_body"


# What the SDKs write, to the byte; anything else is parsed.
COMPACT_HEADER = b'{"format":"json","version":1}\n'
SPACED_HEADER = b'{"format": "json", "version": 1}\n'


# A JSON object begins with one of these; its own brace, or space before it.
_BEGINNINGS = b"{ \t\r\n\v\f"


def find_noise(datagram: bytes) -> Refusal | None:
    """Tell by its first byte why `split` would refuse a datagram; None where that takes more.

    A fifth of the price of asking `split`, so that a flood of noise leaves time for the others.
    """
    if datagram and datagram[0] in _BEGINNINGS:
        return None
    return Refusal.INVALID_HEADER if b"\n" in datagram else Refusal.NO_NEWLINE


def split(datagram: bytes) -> bytes:
    r"""Return the body of a datagram, byte for byte.

    The rules are the X-Ray daemon's: the header ends at the first `\n`, is a JSON object whose
    `format` equals "json" ignoring case and whose `version` is the integer 1, keys ignoring case
    as Go's decoder does; other keys and spaces are allowed. The body is anything but empty.

    Raises:
        DatagramError: with a `Refusal` as its reason.
    """
    header, newline, body = datagram.partition(b"\n")
    if not newline:
        raise DatagramError(Refusal.NO_NEWLINE)
    _check_header(header)
    if not body:
        raise DatagramError(Refusal.EMPTY_BODY)
    return body


def _check_header(header: bytes) -> None:
    if not header.lstrip().startswith(b"{"):
        raise DatagramError(Refusal.INVALID_HEADER)
    try:
        fields = msgspec.json.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatagramError(Refusal.INVALID_HEADER) from error
    if not isinstance(fields, dict):
        raise DatagramError(Refusal.INVALID_HEADER)
    found = {key.lower(): value for key, value in fields.items()}
    wanted_format = found.get("format")
    if not isinstance(wanted_format, str) or wanted_format.lower() != "json":
        raise DatagramError(Refusal.WRONG_FORMAT)
    version = found.get("version")
    if type(version) is not int or version != 1:
        raise DatagramError(Refusal.WRONG_VERSION)
