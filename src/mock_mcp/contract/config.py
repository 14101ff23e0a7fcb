"""The contract settings of a project: ``[tool.mock-mcp]`` in its ``pyproject.toml``.

[tool.mock-mcp]
openapi = ["openapi.json", { path = "billing.yaml", server = "https://billing.test" }]
contract = "enforce"
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.gate import MODES, Mode
from mock_mcp.errors import ConfigurationError
from mock_mcp.settings_table import read_table

__all__ = ["ProjectContract", "load_project_config"]


@dataclass(frozen=True, slots=True)
class ProjectContract:
    """The documents of a project, with absolute paths, and how violations are treated."""

    documents: tuple[DocumentSource, ...] = ()
    mode: Mode = "enforce"


def load_project_config(root: Path) -> ProjectContract:
    """Read the contract settings of the project at ``root``.

    Args:
        root: The directory that may hold a ``pyproject.toml``; without one the defaults hold.

    Raises:
        ConfigurationError: The file is not TOML, or a setting cannot be used; the message names
            the file and the key.
    """
    settings, file = read_table(root), root / "pyproject.toml"
    listed = settings.get("openapi", [])
    if isinstance(listed, (str, dict)):
        listed = [listed]
    if not isinstance(listed, list):
        raise ConfigurationError(f"{file}: tool.mock-mcp.openapi must be a list of documents")
    documents = tuple(
        _document(file, f"tool.mock-mcp.openapi[{i}]", entry) for i, entry in enumerate(listed)
    )
    return ProjectContract(documents, _mode(file, settings.get("contract", "enforce")))


def _document(file: Path, key: str, entry: Any) -> DocumentSource:
    if isinstance(entry, str):
        entry = {"path": entry}
    if not isinstance(entry, dict):
        raise ConfigurationError(f'{file}: {key} must be a path or {{ path = "…", server = "…" }}')
    unknown = sorted(entry.keys() - {"path", "server"})
    if unknown:
        raise ConfigurationError(f"{file}: {key} has the unknown key {unknown[0]!r}")
    path, server = entry.get("path"), entry.get("server")
    if not isinstance(path, str) or not path:
        raise ConfigurationError(f"{file}: {key}.path must be the path of a document")
    if "://" in path:
        raise ConfigurationError(f"{file}: {key}.path must be a local file: nothing is fetched")
    if server is not None and (not isinstance(server, str) or not server):
        raise ConfigurationError(f"{file}: {key}.server must be a URL")
    return DocumentSource(file.parent.absolute() / path, server)


def _mode(file: Path, value: Any) -> Mode:
    for mode in MODES:
        if value == mode:
            return mode
    raise ConfigurationError(
        f'{file}: tool.mock-mcp.contract must be "enforce", "warn" or "off", not {value!r}'
    )
