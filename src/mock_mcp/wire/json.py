"""JSON in and out, with the checks that opaque values need before they are passed on.

Everything a peer sends is decoded once in full: that is what finds malformed JSON, NaN, lone
surrogates, invalid UTF-8 and numbers nobody can represent, wherever they hide. Values that must be
echoed unchanged are then cut out of the same bytes as `msgspec.Raw`.
"""

from __future__ import annotations

import gc
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

from mock_mcp import integers
from mock_mcp.errors import InvalidMessage, LimitExceeded, ParseError

__all__ = ["check_depth", "convert", "decode", "encode"]

T = TypeVar("T")

encode = msgspec.json.Encoder().encode
"""Encode any value of this project as UTF-8 JSON."""

_decode = msgspec.json.Decoder().decode
_LARGE_BYTES = 256 * 1024
_NOT_MARKS = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_ROUNDS = 16
"""Levels that are taken away one by one; deeper ones, which are rare, are counted in one pass."""
_STEP = ((ord("[") + ord("]")) // 2).__sub__
"""1 for a bracket that opens, -1 for one that closes."""
_ONE_KIND = bytes.maketrans(b"{}", b"[]")


def check_depth(text: bytes, depth: int) -> None:
    """Check how deep a JSON text nests, as far as it is valid.

    Raises:
        LimitExceeded: Deeper than ``depth`` arrays and objects.
    """
    if len(text) < 2 * depth:  # each level has two brackets
        return
    if _count(text, b"[", depth) + _count(text, b"{", depth) < depth:
        return
    brackets = _brackets(text)
    rounds = min(depth, _ROUNDS)
    for _ in range(rounds):  # each takes away the innermost level
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets and max(accumulate(map(_STEP, brackets))) > depth - rounds:
        raise LimitExceeded(f"The JSON nests deeper than {depth} levels (limit depth).")


def _count(text: bytes, byte: bytes, most: int) -> int:
    """Count a byte, up to so many; faster than ``count`` where it is rare."""
    return len(text) - len(text.replace(byte, b"", most))


def _brackets(text: bytes) -> bytes:
    """Return the brackets of a JSON text that are not in its strings, all as square ones."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = text.translate(_ONE_KIND, _NOT_MARKS)
    marks = marks.replace(b'""', b"")  # strings without any, or what is between two strings
    return b"".join(marks.split(b'"')[::2])


def decode(text: bytes, depth: int) -> Any:
    """Decode a JSON text and check everything in it.

    Args:
        text: UTF-8 bytes.
        depth: Deepest nesting accepted.

    Raises:
        ParseError: Not JSON (RFC 8259) in UTF-8.
        InvalidMessage: A number no peer could represent.
        LimitExceeded: Nested too deep.
    """
    collecting = len(text) > _LARGE_BYTES and gc.isenabled()
    if collecting:
        gc.disable()  # millions of new containers would be scanned again and again
    try:
        value = _decode(text)
    except RecursionError:
        raise LimitExceeded(f"The JSON nests deeper than {depth} levels (limit depth).") from None
    except msgspec.ValidationError as exc:
        raise InvalidMessage(f"The JSON cannot be represented: {exc}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ParseError(f"Not JSON in UTF-8: {exc}") from None
    finally:
        if collecting:
            gc.enable()
    check_depth(text, depth)
    return value


def convert(value: Any, type_: type[T]) -> T:
    """Convert decoded JSON into a struct; ``200.0`` is an integer.

    Raises:
        InvalidMessage: The message names the field and what is wrong with it.
    """
    try:
        return integers.convert(value, type_)
    except msgspec.ValidationError as exc:
        raise InvalidMessage(str(exc)) from None
