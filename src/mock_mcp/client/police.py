"""Police the requests of the code under test: a call that breaks the contract fails at once.

Contracts are imported and read only where there are any, so that a test without them pays nothing.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mock_mcp.errors import ConfigurationError, ContractViolation, ContractWarning
from mock_mcp.runtime.cache import contract_cache
from mock_mcp.runtime.project import Project, display_path, mentions_contracts
from mock_mcp.types import Violation

if TYPE_CHECKING:
    from mock_mcp.contract.gate import Contracts
    from mock_mcp.contract.project import ProjectContracts

__all__ = ["ContractMode", "OpenApi", "Police"]

ContractMode = Literal["enforce", "warn", "off"]
OpenApi = str | os.PathLike[str] | Mapping[str, str]
"""A document: its path, or ``{"path": …, "server": …}``; relative paths are the project's."""

_MODES = ("enforce", "warn", "off")


class Police:
    """Know the contracts of one test client, and check its requests against them.

    Args:
        project: The project, whose ``[tool.mock-mcp]`` settings hold unless the rest says more.
        cache_dir: The directory that holds ``mock-mcp/``.
        openapi: Documents of this client alone.
        mode: How violations are treated; the project's setting when None.

    Raises:
        ConfigurationError: A document is not there, or the mode is unknown.
    """

    def __init__(
        self,
        project: Project,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        openapi: OpenApi | Sequence[OpenApi] | None = None,
        mode: ContractMode | None = None,
    ) -> None:
        self._project = project
        self._cache_dir = cache_dir
        self._documents = [self._document(entry) for entry in _listed(openapi)]
        self._mode = _check_mode(mode)
        self._contracts: ProjectContracts | None = None

    def contract_of(self, mode: ContractMode | None) -> dict[str, Any] | None:
        """Return what travels in a request's ``contract``: documents and mode, None for neither."""
        fields: dict[str, Any] = {}
        if self._documents:
            fields["documents"] = self._documents
        chosen = _check_mode(mode) or self._mode
        if chosen is not None:
            fields["mode"] = chosen
        return fields or None

    def check(self, request: Mapping[str, Any], *, stacklevel: int) -> None:
        """Check a request before it is parked.

        Args:
            request: The wire object.
            stacklevel: Frames between this method and the caller to warn.

        Raises:
            ContractViolation: It breaks the contract and the mode is ``enforce``.
            MockMcpError: A document or setting cannot be used.
        """
        sources = self.contracts_for(request)
        if sources is None:
            return
        contracts, mode = sources
        violations = contracts.check_request(request)
        if violations:
            what = f"{request['method']} {request['endpoint']}"
            self.report(what, violations, mode, stacklevel=stacklevel + 1)

    def contracts_for(self, request: Mapping[str, Any]) -> tuple[Contracts, ContractMode] | None:
        """Return the contracts that may apply to a request, and how violations are treated.

        None when no contract can apply, or the mode is ``off``.

        Raises:
            ConfigurationError: The project's settings cannot be used.
        """
        contract = request.get("contract") or {}
        chosen = contract.get("mode")
        if chosen == "off" or (self._contracts is None and not self.has_contract(request)):
            return None
        contracts, project_mode = self._load().current()
        mode: ContractMode = chosen or project_mode
        return None if mode == "off" else (contracts, mode)

    @staticmethod
    def report(
        what: str,
        violations: Sequence[Violation],
        mode: ContractMode,
        *,
        stacklevel: int,
        advice: str | None = None,
    ) -> None:
        """Raise for violations, or warn of them, as the mode says.

        Args:
            what: What breaks the contract.
            violations: How.
            mode: Whether to raise or to warn.
            stacklevel: Frames between this method and the caller to warn.
            advice: What to do if that is meant to be so, for the one who is refused.

        Raises:
            ContractViolation: The mode is ``enforce``.
        """
        lines = [f"  {found.pointer}: {found.advice}" for found in violations]
        message = "\n".join([f"{what} breaks the API's contract:", *lines])
        if mode == "enforce":
            if advice is not None:
                message = f"{message}\n{advice}"
            raise ContractViolation(message, violations)
        warnings.warn(message, ContractWarning, stacklevel=stacklevel + 1)

    def has_contract(self, request: Mapping[str, Any]) -> bool:
        """Return whether any contract may apply to a request, whatever the mode."""
        metadata = request.get("metadata")
        if self._documents or (isinstance(metadata, Mapping) and "schemaUrl" in metadata):
            return True
        return mentions_contracts(self._project.root)

    def _load(self) -> ProjectContracts:
        if self._contracts is None:
            from mock_mcp.contract.project import ProjectContracts

            cache_dir = contract_cache(self._cache_dir)
            self._contracts = ProjectContracts(self._project.root, cache_dir=cache_dir)
        return self._contracts

    def _document(self, entry: OpenApi) -> dict[str, str]:
        fields: dict[str, Any] = dict(entry) if isinstance(entry, Mapping) else {"path": entry}
        if not (_is_path(fields.get("path")) and isinstance(fields.get("server", ""), str)) or (
            fields.keys() - {"path", "server"}
        ):
            raise ConfigurationError(
                'openapi takes a path, {"path": …, "server": …}, or a list of these, not '
                f"{entry!r}."
            )
        path = Path(self._project.root, fields["path"])
        if not path.is_file():
            raise ConfigurationError(
                f"The OpenAPI document {display_path(path)} is not there; a relative path is "
                "relative to the project's root."
            )
        return {**fields, "path": str(path)}


def _listed(openapi: OpenApi | Sequence[OpenApi] | None) -> Sequence[OpenApi]:
    if openapi is None:
        return ()
    if isinstance(openapi, str | bytes | os.PathLike | Mapping) or not isinstance(
        openapi, Iterable
    ):
        return (openapi,)
    return openapi


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str)


def _check_mode(mode: ContractMode | None) -> ContractMode | None:
    if mode is not None and mode not in _MODES:
        raise ConfigurationError(f"contract must be one of {', '.join(_MODES)}, not {mode!r}.")
    return mode
