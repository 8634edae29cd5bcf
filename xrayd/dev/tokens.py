"""Pagination tokens: opaque to clients, self-contained, stable while data arrives.

A token names the last item given, so that what is added meanwhile neither repeats nor hides items.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from xrayd.dev.answers import invalid

Item = TypeVar("Item")


def token_of(operation: str, cursor: object) -> str:
    """A token that continues `operation` after `cursor`: a number, a string or a tuple of them."""
    packed = msgspec.msgpack.encode((operation, cursor))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def cursor_of(operation: str, token: str, kind: Any) -> Any:
    """The cursor inside a token.

    Args:
        operation: must be the one that the token was given by.
        token: as the client sent it.
        kind: the cursor's type, e.g. `str` or `tuple[float, int]`.

    Raises:
        ApiError: `InvalidRequestException`, the token is not one of this operation's.
    """
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        given, cursor = msgspec.msgpack.decode(packed, type=tuple[str, kind])
    except (ValueError, msgspec.DecodeError):
        given, cursor = "", None
    if given != operation:
        raise invalid("NextToken is not valid: take it from the previous answer of this operation")
    return cursor


def page(
    operation: str,
    items: Sequence[Item],
    *,
    key: Callable[[Item], Any],
    kind: Any,
    token: str | None,
    size: int,
) -> tuple[list[Item], dict[str, object]]:
    """One page of sorted items, and `NextToken` as a member where more follow.

    Args:
        operation: whose token this is.
        items: everything there is, ascending by `key`.
        key: what sorts the items.
        kind: the type of what `key` returns, e.g. `str` or `tuple[float, str]`.
        token: what the previous page's `NextToken` was, None for the first page.
        size: items to a page.

    Raises:
        ApiError: `InvalidRequestException`, the token is not one of this operation's.
    """
    if token is not None:
        after = cursor_of(operation, token, kind)
        items = [item for item in items if key(item) > after]
    shown = list(items[:size])
    return shown, {"NextToken": token_of(operation, key(shown[-1]))} if len(items) > size else {}
