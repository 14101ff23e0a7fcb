"""What a responder needs of whoever writes its mocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mock_mcp.serving.claims import Next
from mock_mcp.types import Mock

__all__ = ["Source", "Unusable", "Usage", "Writing"]


class Unusable(Exception):
    """What was written cannot be provided; the text tells its writer why, as a violation does."""


class Usage:
    """What a source has cost so far: calls of a model, and tokens read and written."""

    def __init__(self) -> None:
        self.calls = 0
        self.tokens_in = 0
        self.tokens_out = 0

    def add(self, tokens_in: int, tokens_out: int) -> None:
        """Count one call."""
        self.calls += 1
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out


class Writing(Protocol):
    """The mocks of one batch, being written."""

    async def write(self, problem: str | None) -> Sequence[Mock]:
        """Return one mock for every request of the batch.

        Args:
            problem: What was wrong with those returned before; None the first time.

        Raises:
            Unusable: What was written is no set of mocks; it may be corrected.
            CannotAnswer: The batch cannot be answered.
            ResponderUnusable: No batch can.
        """
        ...


class Source(Protocol):
    """Where mocks come from.

    Attributes:
        name: How it is called in lines for people.
        corrections: How often a batch may be corrected; 0 where writing again changes nothing.
        usage: What it has cost.
    """

    name: str
    corrections: int
    usage: Usage

    async def start(self) -> None:
        """Check that it can work; raises `ResponderUnusable`."""
        ...

    def begin(self, found: Next) -> Writing:
        """Begin to write the mocks of a claimed batch."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
