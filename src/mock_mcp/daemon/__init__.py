"""The daemon process: HTTP and WebSocket shells over the broker."""

from mock_mcp.daemon.server import MockMcpDaemon

__all__ = ["MockMcpDaemon"]
