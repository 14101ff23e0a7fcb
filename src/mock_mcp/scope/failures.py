"""Keep this project's errors, which the code under test may swallow, for the end of the test."""

from __future__ import annotations

from mock_mcp.errors import MockMcpError
from mock_mcp.exchange import TransportFailure

__all__ = ["Noted"]


class Noted:
    """A context manager that keeps the error it lets through, once; not a failure asked for.

    Args:
        failures: Where they are kept.
    """

    __slots__ = ("_failures",)

    def __init__(self, failures: list[MockMcpError]) -> None:
        self._failures = failures

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if exc is None or isinstance(exc, TransportFailure) or exc in self._failures:
            return
        if isinstance(exc, MockMcpError):
            self._failures.append(exc)
