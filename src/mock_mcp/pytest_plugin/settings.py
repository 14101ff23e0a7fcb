"""What the command line, the marker, the project and the environment say, in this order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mock_mcp.errors import ConfigurationError
from mock_mcp.scope import ScopeSettings, make_settings, resolve_mode
from mock_mcp.settings_table import PLUGIN_KEYS, read_table

__all__ = ["KEYS", "MARKER_KEYS", "project_settings", "settings_of"]

KEYS = PLUGIN_KEYS
"""Keys of ``[tool.mock-mcp]`` that the plugin reads, beside ``openapi`` and ``contract``."""

MARKER_KEYS = (*KEYS, "instructions", "openapi", "contract", "before_record", "before_match")


def project_settings(root: Path) -> dict[str, Any]:
    """Return the plugin's part of ``[tool.mock-mcp]`` of the project at ``root``.

    Raises:
        ConfigurationError: The file is not TOML, a key is unknown or a value of the wrong kind.
    """
    table = read_table(root)
    settings = {key: table[key] for key in KEYS if key in table}
    _checked(settings, f"{root / 'pyproject.toml'}: [tool.mock-mcp] ")
    return settings


def settings_of(node: pytest.Item | pytest.Collector, project: dict[str, Any]) -> ScopeSettings:
    """Return how the calls of a test, or of the fixtures of its class or module, are treated.

    Raises:
        ConfigurationError: A marker cannot be used.
    """
    found: dict[str, Any] = dict(project)
    for marker in reversed(list(node.iter_markers("mock_mcp"))):  # the closest one last
        if marker.args:
            raise ConfigurationError(
                f"The marker mock_mcp takes keywords: {', '.join(MARKER_KEYS)}."
            )
        unknown = sorted(marker.kwargs.keys() - set(MARKER_KEYS))
        if unknown:
            raise ConfigurationError(
                f"The marker mock_mcp has no {unknown[0]!r}; known are {', '.join(MARKER_KEYS)}."
            )
        found |= marker.kwargs
    option = node.config.getoption
    source, timeout_s = option("mock_source"), option("mock_timeout")
    found["mode"] = resolve_mode(
        option("mock_mode"),
        found.get("mode"),
        asks_nobody=source in ("example", "live") or option("mock_responder") is not None,
    )
    if source is not None:
        found["source"] = source
    if timeout_s is not None:
        found["timeout"] = timeout_s
    return _checked(found, "The marker mock_mcp: ")


def _checked(settings: dict[str, Any], where: str) -> ScopeSettings:
    fields = {"timeout_s" if key == "timeout" else key: value for key, value in settings.items()}
    try:
        return make_settings(fields)
    except ConfigurationError as exc:
        raise ConfigurationError(f"{where}{exc.message}") from None
