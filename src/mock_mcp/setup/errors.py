"""Errors of setting up."""

from __future__ import annotations

from mock_mcp.errors import FileError

__all__ = ["SetupError"]


class SetupError(FileError):
    """A configuration file cannot be changed as it is; no file was changed."""

    code = "setup"
