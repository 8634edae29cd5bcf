"""Splitting a datagram: the X-Ray daemon's verdict for any bytes, and no other exception."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayd.errors import DatagramError
from xrayd.relay.datagram import Refusal, find_noise, split

NOISE = [b"", b"junk", b"junk\n{}", b"\x00{}\n{}", b"[1]\n{}", b"\xff\xfe\n"]


def verdict(datagram: bytes) -> bytes | str:
    try:
        return split(datagram)
    except DatagramError as error:
        return error.reason


@pytest.mark.parametrize(
    "header",
    [
        b'{"format":"json","version":1}',
        b'{"format": "json", "version": 1}',
        b'{"format":"JSON","version":1}',
        b'{"Format":"json","VERSION":1}',
        b'  {"version" : 1 , "format":"json"}  \r',
        b'{"format":"json","version":1,"extra":{"a":[1,2]}}',
        b'{"format":"xml","format":"json","version":1}',
    ],
)
def test_headers_that_the_contract_allows(header: bytes) -> None:
    assert split(header + b"\nbody") == b"body"


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", Refusal.NO_NEWLINE),
        (b'{"format":"json","version":1}', Refusal.NO_NEWLINE),
        (b'{"format":"json","version":1}\n', Refusal.EMPTY_BODY),
        (b"\nbody", Refusal.INVALID_HEADER),
        (b"null\nbody", Refusal.INVALID_HEADER),
        (b"[1]\nbody", Refusal.INVALID_HEADER),
        (b'\xef\xbb\xbf{"format":"json","version":1}\nbody', Refusal.INVALID_HEADER),
        (b'{"format":"json","version":1}x\nbody', Refusal.INVALID_HEADER),
        (b'{"format":"json","version":NaN}\nbody', Refusal.INVALID_HEADER),
        (b"[" * 60_000 + b"\nbody", Refusal.INVALID_HEADER),
        (b'{"version":1}\nbody', Refusal.WRONG_FORMAT),
        (b'{"format":"xml","version":1}\nbody', Refusal.WRONG_FORMAT),
        (b'{"format":1,"version":1}\nbody', Refusal.WRONG_FORMAT),
        (b'{"format":"json"}\nbody', Refusal.WRONG_VERSION),
        (b'{"format":"json","version":2}\nbody', Refusal.WRONG_VERSION),
        (b'{"format":"json","version":"1"}\nbody', Refusal.WRONG_VERSION),
        (b'{"format":"json","version":1.0}\nbody', Refusal.WRONG_VERSION),
        (b'{"format":"json","version":true}\nbody', Refusal.WRONG_VERSION),
        (b'{"format":"json","version":' + b"9" * 50_000 + b"}\nbody", Refusal.INVALID_HEADER),
    ],
)
def test_refusals_name_their_reason(datagram: bytes, reason: Refusal) -> None:
    assert verdict(datagram) == reason


def test_only_the_first_newline_separates() -> None:
    assert split(b'{"format":"json","version":1}\n\na\nb\n') == b"\na\nb\n"


def expected(datagram: bytes) -> bytes | str:
    """The contract, written down plainly."""
    header, newline, body = datagram.partition(b"\n")
    if not newline:
        return "no_newline"
    try:
        fields = json.loads(header.decode(), parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return "invalid_header"
    if not isinstance(fields, dict):
        return "invalid_header"
    lowered = {key.lower(): value for key, value in fields.items()}
    if not isinstance(lowered.get("format"), str) or lowered["format"].lower() != "json":
        return "wrong_format"
    if lowered.get("version") != 1 or type(lowered.get("version")) is not int:
        return "wrong_version"
    return body or "empty_body"


header_values = st.one_of(
    st.sampled_from(["json", "JSON", "Json", "xml", "", 1, 2, 1.0, True, None]),
    st.text(max_size=5),
)
headers = st.dictionaries(
    st.sampled_from(["format", "Format", "version", "VERSION", "x"]), header_values, max_size=4
).map(lambda fields: json.dumps(fields).encode())


@given(
    st.one_of(st.binary(max_size=40), headers),
    st.sampled_from([b"\n", b"\r\n", b""]),
    st.binary(max_size=40),
)
def test_any_datagram_gets_the_contracts_verdict(header: bytes, line: bytes, body: bytes) -> None:
    datagram = header + line + body
    assert verdict(datagram) == expected(datagram)


@given(st.one_of(st.binary(max_size=40), st.sampled_from(NOISE)))
def test_noise_is_refused_for_the_reason_it_would_be_refused_for_anyway(datagram: bytes) -> None:
    noise = find_noise(datagram)
    assert noise is None or verdict(datagram) == noise


@pytest.mark.parametrize("datagram", NOISE)
def test_noise_is_told_by_its_first_byte(datagram: bytes) -> None:
    assert find_noise(datagram) is not None
