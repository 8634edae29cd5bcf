"""The fields of a document that a sampling decision reads, beside its head."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from xrayd.relay.segment import Head


class HttpRequest(msgspec.Struct, gc=False):
    """`http.request`."""

    url: str = ""
    method: str = ""


class Http(msgspec.Struct, gc=False):
    """`http`; only a segment's request is read."""

    request: HttpRequest | None = None


class XRay(msgspec.Struct, gc=False):
    """`aws.xray`: the rule an SDK decided by, in the spelling of Python and .NET or of Node."""

    sampling_rule_name: str = ""
    rule_name: str = ""


class Aws(msgspec.Struct, gc=False):
    """`aws`."""

    xray: XRay | None = None


class FullHead(Head, gc=False):
    """A head with what sampling rules match.

    Source: AWS X-Ray Developer Guide, "X-Ray segment documents".
    """

    parent_id: str = ""
    origin: str = ""
    resource_arn: str = ""
    http: Http | None = None

    def sdk_rule(self) -> str:
        """The rule an SDK decided by; "" where none is named, or where it is not read."""
        return ""


class NamingHead(FullHead, gc=False):
    """A full head with the rule an SDK decided by. To read that too costs 0.1 µs."""

    aws: Aws | None = None

    def sdk_rule(self) -> str:
        """The rule an SDK decided by; "" where none is named."""
        xray = self.aws.xray if self.aws is not None else None
        return "" if xray is None else xray.sampling_rule_name or xray.rule_name


class OddHead(NamingHead, gc=False):
    """The head of a document that only the slower way could read."""


def _reader(kind: type[FullHead]) -> Callable[[bytes], FullHead | None]:
    decode = msgspec.json.Decoder(kind).decode

    def read(document: bytes) -> FullHead | None:
        try:
            return decode(document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _read_odd(document)

    return read


def _read_odd(document: bytes) -> OddHead | None:
    if not document.lstrip().startswith(b"{"):
        return None
    try:
        # So it is sent, too. No number is read, and of some Python makes none: they are too long.
        fields = json.loads(document.decode("utf-8", "replace"), parse_int=float)
    except (ValueError, RecursionError):
        return None
    request = _object(_object(fields, "http"), "request")
    xray = _object(_object(fields, "aws"), "xray")
    return OddHead(
        id=_text(fields, "id"),
        trace_id=_text(fields, "trace_id"),
        name=_text(fields, "name"),
        type=_text(fields, "type"),
        in_progress=fields.get("in_progress") is True,
        parent_id=_text(fields, "parent_id"),
        origin=_text(fields, "origin"),
        resource_arn=_text(fields, "resource_arn"),
        http=Http(HttpRequest(_text(request, "url"), _text(request, "method"))),
        aws=Aws(XRay(_text(xray, "sampling_rule_name"), _text(xray, "rule_name"))),
    )


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


read_full_head = _reader(FullHead)
"""Decodes the fields, or gives None where the document cannot be read.

A document with a field of another type, with a NaN in it, or with bytes that are no UTF-8, is read
by a slower way: it belongs to its trace all the same.
"""

read_naming_head = _reader(NamingHead)
"""Like `read_full_head`, with the rule an SDK decided by."""
