"""Errors of contract documents and of the search for an operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mock_mcp.errors import MockMcpError

__all__ = ["ContractDocumentError", "NoOperation"]


class ContractDocumentError(MockMcpError):
    """A contract document, or one place in it, cannot be used.

    Args:
        file: The document, as text a person recognises.
        pointer: JSON pointer of the place, "" for the whole document.
        reason: What is wrong there and what to do.
    """

    code = "contract-document"

    def __init__(self, file: object, pointer: str, reason: str) -> None:
        place = f"{file}#{pointer}" if pointer else str(file)
        super().__init__(f"{place}: {reason}")
        self.file = str(file)
        self.pointer = pointer
        self.reason = reason

    @property
    def data(self) -> Mapping[str, Any]:
        """The file, the pointer and the reason."""
        return {"file": self.file, "pointer": self.pointer, "reason": self.reason}


class NoOperation(MockMcpError):
    """No operation of the contract answers a call.

    Args:
        message: Why, with the nearest paths or the methods that exist.
        keyword: What did not match: ``server``, ``path`` or ``method``.
        candidates: The servers, paths or methods that do exist, nearest first, bounded.
    """

    code = "no-operation"

    def __init__(self, message: str, *, keyword: str, candidates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.keyword = keyword
        self.candidates = tuple(candidates)

    @property
    def data(self) -> Mapping[str, Any]:
        """What did not match, and what exists."""
        return {"keyword": self.keyword, "candidates": list(self.candidates)}
