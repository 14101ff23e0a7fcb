"""Errors of setting up."""

from __future__ import annotations

from mock_mcp.errors import FileError, MockMcpError

__all__ = ["ProbeFailed", "SetupError"]


class SetupError(FileError):
    """A configuration file cannot be changed as it is; no file was changed."""

    code = "setup"


class ProbeFailed(MockMcpError):
    """The command in an MCP client's configuration does not start an adapter.

    ``started`` tells whether there was such a program at all.
    """

    code = "probe-failed"

    def __init__(self, message: str, *, started: bool = True) -> None:
        super().__init__(message)
        self.started = started
