"""The projects of a run: a test has the settings and contracts of the project it lies in.

A run has one daemon, that of pytest's root directory. What the daemon does not know of a project
further down, its contract, travels with the calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mock_mcp.client.police import ContractMode, OpenApi
from mock_mcp.pytest_plugin.settings import project_settings
from mock_mcp.real_files import on_real_files
from mock_mcp.runtime.project import Project
from mock_mcp.scope import Polices, ScopeSettings
from mock_mcp.settings_table import root_with_table

__all__ = ["ProjectPart", "Projects"]


@dataclass(frozen=True, slots=True)
class ProjectPart:
    """What a run knows of one project.

    Attributes:
        settings: The plugin's part of its ``[tool.mock-mcp]``.
        polices: Who judges by its contracts.
        openapi, contract: Its documents and mode where the daemon is another project's, else none.
    """

    settings: dict[str, Any]
    polices: Polices
    openapi: tuple[OpenApi, ...] = ()
    contract: ContractMode | None = None

    def complete(self, settings: ScopeSettings) -> ScopeSettings:
        """Return settings with what the daemon must be told of the contracts."""
        if self.contract is None:
            return settings
        return msgspec.structs.replace(
            settings,
            openapi=(*settings.openapi, *self.openapi),
            contract=settings.contract or self.contract,
        )


class Projects:
    """The projects with settings of their own, from the root of the run downwards.

    Args:
        run: The project of pytest's root directory.
    """

    def __init__(self, run: Project) -> None:
        self._run = run
        self._by_root: dict[Path, ProjectPart] = {}
        self._by_directory: dict[str, ProjectPart] = {}

    def of(self, directory: str) -> ProjectPart:
        """Return the project whose settings hold in a directory.

        Raises:
            ConfigurationError: Its settings cannot be used.
        """
        if directory not in self._by_directory:
            self._by_directory[directory] = self._find(directory)
        return self._by_directory[directory]

    @on_real_files
    def _find(self, directory: str) -> ProjectPart:
        root = root_with_table(Path(directory), self._run.root)
        if root not in self._by_root:
            self._by_root[root] = self._read(root)
        return self._by_root[root]

    def _read(self, root: Path) -> ProjectPart:
        settings = project_settings(root)
        if root == self._run.root:
            return ProjectPart(settings, Polices(self._run))
        from mock_mcp.contract.config import load_project_config  # a run of one project needs none

        contract = load_project_config(root)
        documents = (
            {"path": str(document.path)}
            | ({} if document.server is None else {"server": document.server})
            for document in contract.documents
        )
        return ProjectPart(
            settings, Polices(Project.resolve(root)), tuple(documents), contract.mode
        )
