"""The forms a body takes in a message (DESIGN section 6) and the value a schema judges.

A JSON media type is a JSON value; text is a string; a form is ``{"$form": {name: value | list}}``;
multipart is ``{"$multipart": [{"name", "data" | "$base64", "filename"?, "contentType"?}, …]}``;
binary is ``{"$base64": "…"}``. Server-sent events and JSON lines are text, or a list of items.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from mock_mcp.contract.operation import FORM
from mock_mcp.media_types import base_type, is_json
from mock_mcp.sequential import is_sequential

__all__ = ["BodyShape", "form_pairs", "header", "media_type_of", "multipart_fields", "shape_error"]

BodyShape = tuple[str, str]
"""What the body must look like, and the sentence that says how to write it."""


def header(headers: Mapping[str, Any] | None, name: str) -> str | None:
    """Return a header's value, several joined by ", "; None when it is absent."""
    wanted = name.lower()
    for key, value in headers.items() if headers else ():
        if key.lower() == wanted:
            if isinstance(value, list):
                return ", ".join(str(item) for item in value)
            return None if value is None else str(value)
    return None


def media_type_of(headers: Mapping[str, Any] | None) -> str | None:
    """Return the content type that ``headers`` give, or None."""
    return header(headers, "content-type")


def shape_error(media_type: str, body: Any) -> BodyShape | None:
    """Return how a body of ``media_type`` must be written, when ``body`` is not written so."""
    kind = base_type(media_type)
    if is_json(kind) or kind in ("*/*", "application/*"):
        return None
    if kind == FORM:
        if _is_wrapped(body, "$form", dict) or isinstance(body, str):
            return None
        return '{"$form": {name: value}}', f'For {kind} send {{"$form": {{"name": "value"}}}}.'
    if kind.startswith("multipart/"):
        if _is_wrapped(body, "$multipart", list) and all(
            isinstance(part, dict) for part in body["$multipart"]
        ):
            return None
        part = '{"$multipart": [{"name": "field", "data": "value"}]}'
        return '{"$multipart": [parts]}', f"For {kind} send {part}."
    if isinstance(body, str):
        return None
    if is_sequential(kind):
        if isinstance(body, list):
            return None
        return "a list of its items, or text", f"For {kind} send a list, one item for each value."
    if _is_wrapped(body, "$base64", str):
        if _is_base64(body["$base64"]):
            return None
        return "valid base64", 'Encode the bytes in base64 inside {"$base64": "…"}.'
    return (
        'text, or {"$base64": "…"} for bytes',
        f'For {kind} send a string, or {{"$base64": "…"}} for bytes.',
    )


def form_pairs(form: Any) -> list[tuple[str, Any]]:
    """Return the fields of a form body, each value by itself, in order."""
    pairs: list[tuple[str, Any]] = []
    for name, value in form.items():
        pairs.extend((name, item) for item in (value if isinstance(value, list) else [value]))
    return pairs


def multipart_fields(parts: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return the named parts of a multipart body; a file stands for itself as text."""
    pairs: list[tuple[str, Any]] = []
    for part in parts:
        name = part.get("name")
        if isinstance(name, str):
            value = part.get("data", part.get("value", part.get("$base64", "")))
            if isinstance(value, dict) and "$base64" in value:
                value = value["$base64"]
            pairs.append((name, value))
    return pairs


def _is_wrapped(body: Any, key: str, kind: type) -> bool:
    return isinstance(body, dict) and len(body) == 1 and isinstance(body.get(key), kind)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
