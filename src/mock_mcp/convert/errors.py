"""Errors of files that other tools wrote."""

from __future__ import annotations

from mock_mcp.errors import FileError

__all__ = ["ConversionError"]


class ConversionError(FileError):
    """A file of another tool cannot be imported; the message names the file and the place in it."""

    code = "conversion"
