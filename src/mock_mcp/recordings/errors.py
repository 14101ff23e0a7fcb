"""Errors of recording files."""

from __future__ import annotations

from mock_mcp.errors import FileError

__all__ = ["RecordingError"]


class RecordingError(FileError):
    """A recording, or one place in it, cannot be read or written; the file was not changed."""

    code = "recording"
