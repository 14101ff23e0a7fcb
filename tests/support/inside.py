"""Everything inside the broker, private state included, as a value that can be compared."""

from __future__ import annotations

from typing import Any

import msgspec


def inside(value: Any) -> Any:
    """Return a comparable deep copy of everything reachable, private state included."""
    if isinstance(value, dict):
        return [(inside(key), inside(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [inside(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    names = getattr(value, "__slots__", None) or getattr(value, "__dict__", ())
    if isinstance(value, msgspec.Struct) or not type(value).__module__.startswith("mock_mcp.core"):
        return value
    return [(name, inside(getattr(value, name))) for name in names]
