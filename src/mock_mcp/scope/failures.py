"""Keep this project's errors, which the code under test may swallow, for the end of the test."""

from __future__ import annotations

import os
import sys

from mock_mcp.errors import MockMcpError
from mock_mcp.exchange import TransportFailure

__all__ = ["Noted"]


class Noted:
    """A context manager that keeps the error it lets through, once; not a failure asked for.

    What a forked child keeps, its parent never sees: there it is also written to standard error,
    which pytest shows beside the failure that it caused.

    Args:
        failures: Where they are kept.
    """

    __slots__ = ("_failures", "_process")

    def __init__(self, failures: list[MockMcpError]) -> None:
        self._failures = failures
        self._process = os.getpid()

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if exc is None or isinstance(exc, TransportFailure) or exc in self._failures:
            return
        if isinstance(exc, MockMcpError):
            self.keep(exc)

    def keep(self, error: MockMcpError) -> None:
        """Keep an error that nobody lets through."""
        self._failures.append(error)
        if os.getpid() != self._process:
            sys.stderr.write(f"mock-mcp, in a forked child: {error.message}\n")
            sys.stderr.flush()
