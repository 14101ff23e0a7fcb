"""What scopes with the same settings share: made once in a session, not for every test."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from mock_mcp.client.police import ContractMode, OpenApi, Police
from mock_mcp.exchange import HostRules
from mock_mcp.real_files import on_real_files
from mock_mcp.recordings.match import Matching
from mock_mcp.recordings.redact import Redaction
from mock_mcp.runtime.project import Project
from mock_mcp.scope.settings import ScopeSettings

__all__ = ["Polices", "Rules", "rules_of"]


class Rules(NamedTuple):
    """What settings mean: which calls are mocked, which are alike, and what may be written down."""

    hosts: HostRules
    matching: Matching
    redaction: Redaction


def rules_of(settings: ScopeSettings) -> Rules:
    """Return what settings mean; equal settings have the same rules.

    Raises:
        ConfigurationError: One of them means nothing.
    """
    try:
        hash(settings)
    except TypeError:  # a document with its server, or a hook of the test's own
        return _make_rules(settings)
    return _shared_rules(settings)


def _make_rules(settings: ScopeSettings) -> Rules:
    """Make the rules; without names of secret fields, even (), nothing is redacted."""
    matching = Matching(settings.match, settings.ignore, settings.before_match)
    return Rules(
        HostRules(settings.hosts, passthrough=settings.passthrough),
        matching,
        Redaction(
            names=settings.redact or (),
            request_headers=matching.request_headers,
            response_headers=settings.response_headers,
            enabled=settings.redact is not None,
        ),
    )


_shared_rules = lru_cache(maxsize=16)(_make_rules)


class Polices:
    """Make one `Police` for all scopes with the same documents: contracts are read once.

    Args:
        project: The project, for its contract settings.
        cache_dir: The directory that holds ``mock-mcp/``.
    """

    def __init__(
        self, project: Project, *, cache_dir: str | os.PathLike[str] | None = None
    ) -> None:
        self._project = project
        self._cache_dir = cache_dir
        self._made: dict[tuple[ContractMode | None, str], Police] = {}

    @on_real_files
    def get(self, openapi: Sequence[OpenApi], mode: ContractMode | None) -> Police:
        """Return who judges by these documents beside the project's.

        Raises:
            ConfigurationError: A document is not there, or the mode is unknown.
        """
        key = mode, repr(openapi) if openapi else ""
        if key not in self._made:
            self._made[key] = Police(
                self._project, cache_dir=self._cache_dir, openapi=openapi, mode=mode
            )
        return self._made[key]
