"""Errors of setting up."""

from __future__ import annotations

from mock_mcp.errors import FileError, MockMcpError

__all__ = ["ProbeFailed", "SetupError"]


class SetupError(FileError):
    """A configuration file cannot be changed as it is; no file was changed."""

    code = "setup"


class ProbeFailed(MockMcpError):
    """The command in an MCP client's configuration does not start an adapter."""

    code = "probe-failed"
