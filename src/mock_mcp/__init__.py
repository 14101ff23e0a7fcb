"""AI-written, contract-checked HTTP mocks for tests.

The public names are imported when they are first used, so that ``import mock_mcp`` costs nothing.
"""

from __future__ import annotations

from mock_mcp._version import __version__

TYPE_CHECKING = False  # what type checkers know by this name; importing typing takes milliseconds
if TYPE_CHECKING:
    from typing import Any

    from mock_mcp.adapter.entry import run_adapter
    from mock_mcp.client.collector import BatchMockCollector, SyncBatchMockCollector
    from mock_mcp.client.connect import connect, connect_sync
    from mock_mcp.control.client import DaemonClient
    from mock_mcp.daemon.server import MockMcpDaemon
    from mock_mcp.errors import MockMcpError
    from mock_mcp.interceptors.context import intercept, route
    from mock_mcp.limits import Limits
    from mock_mcp.runtime.launch import ensure_daemon_running, ensure_daemon_running_async
    from mock_mcp.runtime.project import compute_project_id, resolve_project_root
    from mock_mcp.types import Mock

__all__ = [
    "BatchMockCollector",
    "DaemonClient",
    "Limits",
    "Mock",
    "MockMcpDaemon",
    "MockMcpError",
    "SyncBatchMockCollector",
    "__version__",
    "compute_project_id",
    "connect",
    "connect_sync",
    "ensure_daemon_running",
    "ensure_daemon_running_async",
    "intercept",
    "resolve_project_root",
    "route",
    "run_adapter",
]

_HOMES = {
    "BatchMockCollector": "mock_mcp.client.collector",
    "DaemonClient": "mock_mcp.control.client",
    "Limits": "mock_mcp.limits",
    "Mock": "mock_mcp.types",
    "MockMcpDaemon": "mock_mcp.daemon.server",
    "MockMcpError": "mock_mcp.errors",
    "SyncBatchMockCollector": "mock_mcp.client.collector",
    "compute_project_id": "mock_mcp.runtime.project",
    "connect": "mock_mcp.client.connect",
    "connect_sync": "mock_mcp.client.connect",
    "ensure_daemon_running": "mock_mcp.runtime.launch",
    "ensure_daemon_running_async": "mock_mcp.runtime.launch",
    "intercept": "mock_mcp.interceptors.context",
    "resolve_project_root": "mock_mcp.runtime.project",
    "route": "mock_mcp.interceptors.context",
    "run_adapter": "mock_mcp.adapter.entry",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
