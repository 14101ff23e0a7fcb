"""What the broker says has happened, for the shell to act on and to log."""

from __future__ import annotations

import msgspec

from mock_mcp.errors import MockMcpError
from mock_mcp.types import Mock, MockRequest

__all__ = [
    "Acknowledged",
    "Cancelled",
    "Claimed",
    "Delivered",
    "Effect",
    "Expired",
    "Failed",
    "Rejected",
    "Released",
    "Replaced",
    "Reused",
    "RunEnded",
    "Submitted",
]


class Effect(msgspec.Struct, frozen=True):
    """Something happened to a batch of a run."""

    run_id: str
    batch_id: str


class Submitted(Effect, frozen=True):
    """The batch was parked and is claimable, unless what follows answers it at once."""

    requests: tuple[MockRequest, ...] = ()


class Reused(Effect, frozen=True):
    """These requests of the batch have the answer that was given before for the whole run."""

    request_ids: tuple[str, ...]


class Claimed(Effect, frozen=True):
    """A responder holds the batch."""

    adapter_id: str


class Released(Effect, frozen=True):
    """The holder gave the batch back; it is claimable again, or was given up."""

    adapter_id: str
    reason: str | None


class Expired(Effect, frozen=True):
    """The lease ran out; the batch is claimable again, or was given up."""

    adapter_id: str


class Rejected(Effect, frozen=True):
    """The contract gate refused the data; the holder keeps the batch."""

    adapter_id: str
    reason: str


class Delivered(Effect, frozen=True):
    """Send the result to the run's connection, if it has one.

    ``rejections`` counts the earlier answers that the contract gate refused.
    """

    adapter_id: str
    mocks: tuple[Mock, ...]
    rejections: int = 0


class Acknowledged(Effect, frozen=True):
    """The test has the result."""


class Cancelled(Effect, frozen=True):
    """The test stopped waiting for these requests; ``whole`` when none is left."""

    request_ids: tuple[str, ...]
    whole: bool


class Failed(Effect, frozen=True):
    """The batch ended without an answer: tell the test the reason."""

    error: MockMcpError


class Replaced(Effect, frozen=True):
    """Close this connection: a newer session of its run is live. ``batch_id`` is empty."""

    connection_id: int


class RunEnded(Effect, frozen=True):
    """The run and its batches are gone. ``batch_id`` is empty."""
