"""httplib2, and what is built on it (google-api-python-client): a socket in memory.

Its connections are http.client's, and connect in their own way; the rest is as there.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any

from mock_mcp.exchange import Origin
from mock_mcp.interceptors.http_client import forward, patch_connections, timeout_s
from mock_mcp.interceptors.memory import MemorySocket
from mock_mcp.interceptors.patches import Patches

__all__ = ["patch"]


def patch(httplib2: ModuleType, patches: Patches) -> None:
    """Hook the connections of ``httplib2``."""

    def open_socket(connection: Any, origin: Origin) -> MemorySocket:
        return MemorySocket(origin, timeout_s(connection), partial(forward, connection))

    plain, secure = httplib2.HTTPConnectionWithTimeout, httplib2.HTTPSConnectionWithTimeout
    patch_connections(plain, secure, open_socket, patches)
