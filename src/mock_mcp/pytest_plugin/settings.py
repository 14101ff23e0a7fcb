"""What the command line, the marker, the project and the environment say, in this order."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.client.connect import is_enabled
from mock_mcp.errors import ConfigurationError
from mock_mcp.scope import MODES, SOURCES, Mode, ScopeSettings

__all__ = ["KEYS", "MARKER_KEYS", "project_settings", "settings_of"]

KEYS = ("mode", "source", "timeout", "match", "ignore", "hosts", "passthrough", "redact")
"""Keys of ``[tool.mock-mcp]`` that the plugin reads, beside ``openapi`` and ``contract``."""

MARKER_KEYS = (
    *("mode", "source", "timeout", "instructions", "openapi", "contract", "match", "ignore"),
    *("hosts", "passthrough", "before_record", "before_match", "redact"),
)
_LISTS = ("openapi", "match", "ignore", "hosts", "passthrough", "before_record", "redact")


def project_settings(root: Path) -> dict[str, Any]:
    """Return the plugin's part of ``[tool.mock-mcp]`` of the project at ``root``.

    Raises:
        ConfigurationError: The file is not TOML, or a key is unknown.
    """
    file = root / "pyproject.toml"
    try:
        tool = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get("mock-mcp", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{file} cannot be read: {exc}") from None
    unknown = sorted(tool.keys() - {*KEYS, "openapi", "contract"})
    if unknown:
        known = ", ".join(sorted((*KEYS, "openapi", "contract")))
        raise ConfigurationError(
            f"{file}: [tool.mock-mcp] has the unknown key {unknown[0]!r}; known are {known}."
        )
    return {key: tool[key] for key in KEYS if key in tool}


def settings_of(item: pytest.Item, project: dict[str, Any]) -> ScopeSettings:
    """Return how the calls of a test are treated.

    Raises:
        ConfigurationError: A value cannot be used.
    """
    found: dict[str, Any] = dict(project)
    for marker in reversed(list(item.iter_markers("mock_mcp"))):  # the closest one last
        if marker.args:
            raise ConfigurationError(
                f"{item.nodeid}: the marker mock_mcp takes keywords: {', '.join(MARKER_KEYS)}."
            )
        unknown = sorted(marker.kwargs.keys() - set(MARKER_KEYS))
        if unknown:
            raise ConfigurationError(
                f"{item.nodeid}: the marker mock_mcp has no {unknown[0]!r}; known are "
                f"{', '.join(MARKER_KEYS)}."
            )
        found |= marker.kwargs
    option = item.config.getoption
    found["mode"] = _mode(option("mock_mode"), found.get("mode"), bool(option("mock_source")))
    found["source"] = option("mock_source") or found.get("source", "ai")
    if found["source"] not in SOURCES:
        raise ConfigurationError(
            f"source must be one of {', '.join(SOURCES)}, not {found['source']!r}."
        )
    timeout_s = found.pop("timeout", 600.0)
    found["timeout_s"] = option("mock_timeout") or timeout_s
    for key in _LISTS:
        value = found.get(key)
        if value is not None:
            found[key] = (value,) if isinstance(value, str) or callable(value) else tuple(value)
    return ScopeSettings(**found)


def _mode(asked: str | None, chosen: str | None, has_source: bool) -> Mode:
    """Return the mode: the command line's; none in CI or when nobody may be asked; else chosen."""
    for value in (asked, chosen):
        if value is not None and value not in MODES:
            raise ConfigurationError(f"mode must be one of {', '.join(MODES)}, not {value!r}.")
    if asked is not None:
        return asked  # type: ignore[return-value]
    if os.environ.get("CI") or not (is_enabled() or has_source):
        return "none"
    return chosen or "once"  # type: ignore[return-value]
