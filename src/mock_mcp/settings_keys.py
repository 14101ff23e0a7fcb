"""The keys of ``[tool.mock-mcp]``, by who reads them; no other key is allowed there.

The contract and the pytest plugin read the same table, and neither knows the other.
"""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["CONTRACT_KEYS", "PLUGIN_KEYS", "unknown_key"]

CONTRACT_KEYS = ("openapi", "contract")
PLUGIN_KEYS = (
    *("mode", "source", "timeout", "match", "ignore", "hosts", "passthrough"),
    *("redact", "response_headers"),
)


def unknown_key(keys: Collection[str]) -> str | None:
    """Return what is wrong with the keys of the table, None if all of them are known."""
    known = {*CONTRACT_KEYS, *PLUGIN_KEYS}
    unknown = sorted(set(keys) - known)
    if not unknown:
        return None
    names = ", ".join(sorted(known))
    return f"[tool.mock-mcp] has the unknown key {unknown[0]!r}; known are {names}."
