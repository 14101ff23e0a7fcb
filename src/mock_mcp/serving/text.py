"""How values become the text an assistant reads."""

from __future__ import annotations

from typing import Any

from mock_mcp.wire.json import encode

__all__ = ["dump"]


def dump(value: Any) -> str:
    """Return the JSON of a value; a struct is dumped with its wire names."""
    return encode(value).decode()
