"""Errors of files that other tools wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mock_mcp.errors import MockMcpError

__all__ = ["ConversionError"]


class ConversionError(MockMcpError):
    """A file of another tool cannot be imported; the message names the file and the place in it.

    Args:
        file: The file, as text a person recognises.
        reason: What is wrong there and what to do.
        line: Line of the place, from 1, when the text itself is malformed.
        path: JSON path of the place (``$.log.entries``), when it is not.
    """

    code = "conversion"

    def __init__(
        self, file: object, reason: str, *, line: int | None = None, path: str | None = None
    ) -> None:
        place = f"{file}:{line}" if line is not None else str(file)
        super().__init__(f"{place}: {f'{path}: ' if path else ''}{reason}")
        self.file = str(file)
        self.line = line
        self.path = path
        self.reason = reason

    @property
    def data(self) -> Mapping[str, Any]:
        """The file, the place in it and the reason."""
        return {"file": self.file, "line": self.line, "path": self.path, "reason": self.reason}
