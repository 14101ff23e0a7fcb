"""The table ``[tool.mock-mcp]`` of a ``pyproject.toml``: where it is, and which keys it may have.

The contract and the pytest plugin read the same table, and neither knows the other.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from mock_mcp.errors import ConfigurationError

__all__ = ["PLUGIN_KEYS", "read_table", "root_with_table"]

_CONTRACT_KEYS = ("openapi", "contract")
PLUGIN_KEYS = (
    *("mode", "source", "timeout", "match", "ignore", "hosts", "passthrough"),
    *("redact", "response_headers"),
)


def read_table(root: Path) -> dict[str, Any]:
    """Return the table of the ``pyproject.toml`` in ``root``; an empty one where there is none.

    Raises:
        ConfigurationError: The file is not TOML, the table is none, or a key is unknown.
    """
    file = root / "pyproject.toml"
    try:
        tool = tomllib.loads(file.read_text("utf-8")).get("tool")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{file} cannot be read: {exc}") from None
    table = tool.get("mock-mcp", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise ConfigurationError(f"{file}: [tool.mock-mcp] must be a table, not {table!r}.")
    known = {*_CONTRACT_KEYS, *PLUGIN_KEYS}
    unknown = sorted(table.keys() - known)
    if unknown:
        names = ", ".join(sorted(known))
        raise ConfigurationError(
            f"{file}: [tool.mock-mcp] has the unknown key {unknown[0]!r}; known are {names}."
        )
    return table


def root_with_table(directory: Path, root: Path) -> Path:
    """Return the project whose table holds in a directory: the nearest at or above it with one.

    Args:
        directory: A directory of the tests.
        root: The project where the search ends; returned, too, when no other has a table.
    """
    here, root = Path(os.path.realpath(directory)), Path(os.path.realpath(root))
    for candidate in (here, *here.parents):
        if candidate == root:
            break
        if _has_table(candidate / "pyproject.toml"):
            return candidate
    return root


def _has_table(file: Path) -> bool:
    """Tell whether a file holds the table; whoever reads it will say what is wrong with it."""
    try:
        text = file.read_bytes()
        return b"mock-mcp" in text and "mock-mcp" in tomllib.loads(text.decode())["tool"]
    except (OSError, KeyError, TypeError):
        return False
    except ValueError:
        return True
