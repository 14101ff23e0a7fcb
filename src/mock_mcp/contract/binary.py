"""Samples of bodies that are bytes: the smallest file of the kind that programs open."""

from __future__ import annotations

import base64
from typing import Any

from mock_mcp.media_types import base_type

__all__ = ["binary_sample"]

_FILES = {
    "image/png": (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    ),
    "image/gif": "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
    "image/jpeg": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////"
        "////////////////////////////wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAA//EABQQAQAAAAAAAAAA"
        "AAAAAAAAAAD/2gAIAQEAAD8AN//Z"
    ),
    "image/webp": "UklGRhoAAABXRUJQVlA4TA4AAAAvAAAAAAcQEf0PRET/Aw==",
    "image/bmp": (
        "Qk1CAAAAAAAAAD4AAAAoAAAAAQAAAAEAAAABAAEAAAAAAAQAAADEDgAAxA4AAAIAAAACAAAAAAAAAP///wAAAAAA"
    ),
    "application/zip": base64.b64encode(b"PK\5\6" + bytes(18)).decode(),
    "application/gzip": "H4sIAAAAAAACAwMAAAAAAAAAAAA=",
    "application/pdf": base64.b64encode(
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>endobj\n"
        b"trailer<</Root 1 0 R>>\n%%EOF\n"
    ).decode(),
}
"""The content of a file of each kind, in base64."""

_ALIASES = {
    "image/*": "image/png",
    "image/jpg": "image/jpeg",
    "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": "application/zip",
}
_BINARY = ("image/", "audio/", "video/", "font/")
_BYTES = base64.b64encode(bytes(range(16))).decode()


def binary_sample(media_type: str) -> tuple[str, dict[str, Any]] | None:
    """Return a body of a binary media type and the type it has; None when the type is text.

    Args:
        media_type: The contract's; of a range such as ``image/*`` one type is chosen.
    """
    kind = base_type(media_type)
    found = _FILES.get(_ALIASES.get(kind, kind))
    if found is not None:
        return (_ALIASES[kind] if "*" in kind else media_type), {"$base64": found}
    is_binary = kind.startswith(_BINARY) and not kind.endswith("+xml")
    if is_binary or kind == "application/octet-stream":
        return media_type, {"$base64": _BYTES}
    return None
