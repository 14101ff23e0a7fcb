"""One mocked test: every call it makes is policed, then replayed or obtained, then staged.

`Scope` (`scope.scope`) owns the way of a call; beside it are its settings and what they mean, the
ruling of the contracts, the answers that a test writes by hand, what the real API answers, and the
assistant, whose client connects when the first call needs it.
"""

from mock_mcp.scope.call import Call
from mock_mcp.scope.client import LazyClient
from mock_mcp.scope.hand import UnusedResponse
from mock_mcp.scope.live import ApiDrift, UnrecordableAnswer
from mock_mcp.scope.scope import Scope
from mock_mcp.scope.settings import (
    MODES,
    SOURCES,
    Mode,
    ScopeSettings,
    Source,
    make_settings,
    resolve_mode,
)
from mock_mcp.scope.shared import Polices

__all__ = [
    "MODES",
    "SOURCES",
    "ApiDrift",
    "Call",
    "LazyClient",
    "Mode",
    "Polices",
    "Scope",
    "ScopeSettings",
    "Source",
    "UnrecordableAnswer",
    "UnusedResponse",
    "make_settings",
    "resolve_mode",
]
