"""Turn what a test asks into the JSON of one request.

JSON values go as they are. What is not JSON (bytes, class instances, NaN, lone surrogates) is left
out, with one warning that names every path, because a mock can still be written without it.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from typing import Any

import msgspec

from mock_mcp.errors import DroppedValueWarning, LimitExceeded
from mock_mcp.limits import Limits
from mock_mcp.wire.json import check_depth
from mock_mcp.words import some

__all__ = ["encode_request", "is_utf8"]

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_DROPPED: Any = object()
_PATHS_SHOWN = 10
_FRAME_DEPTH = 2
"""Levels of nesting that the message puts around a request."""
_INTEGER_BITS = 4096
"""Integers beyond this have no JSON that peers can read."""


def encode_request(
    fields: Mapping[str, Any], limits: Limits, *, stacklevel: int
) -> tuple[Mapping[str, Any], msgspec.Raw]:
    """Encode a request; a field that is None is omitted.

    Args:
        fields: The request object: ``requestId``, ``endpoint``, ``method`` and what else there is.
        limits: ``depth`` and ``frame_bytes`` apply.
        stacklevel: Frames between this function and the caller to warn.

    Returns:
        The request as it is sent, and its JSON.

    Raises:
        LimitExceeded: It nests too deep or is too large for one frame.
    """
    present = {name: value for name, value in fields.items() if value is not None}
    depth = limits.depth - _FRAME_DEPTH
    try:
        text = _encode(present).encode()
    except (TypeError, ValueError, RecursionError):
        dropped: list[str] = []
        present = _clean(present, "", dropped, depth, ())
        text = _encode(present).encode()
        if dropped:
            warnings.warn(
                "Left out of the mock request, because they are not JSON: "
                f"{some(dropped, _PATHS_SHOWN)}.",
                DroppedValueWarning,
                stacklevel=stacklevel + 1,
            )
    check_depth(text, depth)
    # Half a frame leaves room for the message around it.
    if len(text) > limits.frame_bytes // 2:
        raise LimitExceeded(
            f"The request is {len(text)} bytes as JSON, more than half of {limits.frame_bytes} "
            "(limit frame_bytes); send less of its body or metadata."
        )
    return present, msgspec.Raw(text)


def _clean(value: Any, path: str, dropped: list[str], depth: int, around: tuple[int, ...]) -> Any:
    """Return the JSON part of a value, or ``_DROPPED``; note what was left out.

    ``around`` are the ids of the containers the value is in: one that is among them is a cycle.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if is_utf8(value):
            return str.__str__(value)  # an enum's own text would be its name
    elif isinstance(value, int):
        if value.bit_length() <= _INTEGER_BITS:
            return int(value)
    elif isinstance(value, float):
        if math.isfinite(value):
            return float(value)
    elif depth > 0 and id(value) not in around and isinstance(value, Mapping):
        around = (*around, id(value))
        members = {}
        for key, item in value.items():
            if not _is_key(key):
                dropped.append(f"{path}[{key!a}]")
                continue
            clean = _clean(item, f"{path}.{key}" if path else str(key), dropped, depth - 1, around)
            if clean is not _DROPPED:
                members[key] = clean
        return members
    elif depth > 0 and id(value) not in around and isinstance(value, list | tuple):
        around = (*around, id(value))
        items = (
            _clean(item, f"{path}[{index}]", dropped, depth - 1, around)
            for index, item in enumerate(value)
        )
        return [item for item in items if item is not _DROPPED]
    dropped.append(f"{path} ({type(value).__name__})")
    return _DROPPED


def _is_key(key: Any) -> bool:
    """Tell whether the encoder makes text of a key, as JavaScript would."""
    if isinstance(key, str):
        return is_utf8(key)
    if isinstance(key, float):
        return math.isfinite(key)
    return key is None or isinstance(key, int)


def is_utf8(text: str) -> bool:
    """Tell whether a text has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
