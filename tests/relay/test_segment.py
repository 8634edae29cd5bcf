"""Reading a copy of a document, and turning it into text without changing it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrayd.relay.segment import Kind, kind_of, read_head, to_text


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (b'{"id":"1","name":"a"}', Kind.SEGMENT),
        (b'{"type":"subsegment"}', Kind.SUBSEGMENT),
        (b"T1SCg==", Kind.OTLP_SAMPLED),
        (b"T1UCg==", Kind.OTLP_UNSAMPLED),
        (b"T1Cg==", Kind.OTLP_OTHER),
        (b"M1Cg==", Kind.OTLP_OTHER),
        (b'{"metadata":{"x":NaN}}', Kind.UNREADABLE),
        (b'{"id":5}', Kind.UNREADABLE),
        (b"\xff", Kind.UNREADABLE),
        (b'{"a":' * 30_000, Kind.UNREADABLE),
        (b"[]", Kind.UNREADABLE),
    ],
)
def test_every_document_has_a_kind(document: bytes, kind: Kind) -> None:
    assert kind_of(document, read_head(document)) is kind


@given(st.text())
def test_utf8_travels_unchanged(text: str) -> None:
    assert to_text(text.encode("utf-8", "replace")) == (
        text.encode("utf-8", "replace").decode(), False)  # fmt: skip


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"\xe2\x82", "\ufffd\ufffd"),  # Go replaces each byte of a cut sequence
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),  # a lone surrogate, encoded
        (b"\xc3\xa9\xc3", "é\ufffd"),
    ],
)
def test_bytes_that_are_no_utf8_become_replacement_characters(document: bytes, text: str) -> None:
    assert to_text(document) == (text, True)


@given(st.binary(max_size=200))
def test_any_bytes_become_text_that_json_can_carry(document: bytes) -> None:
    text, is_replaced = to_text(document)
    assert json.loads(json.dumps(text).encode()) == text
    assert is_replaced == (text.encode() != document)


def test_replacing_takes_linear_time() -> None:
    text, _ = to_text(b"\xff" * 65_507)
    assert text == "\ufffd" * 65_507
