"""What a test waits for, without I/O: the source of truth that the daemon is only a mirror of.

A `Session` keeps every request that has no answer yet, in batches whose ids it makes itself. Frames
go in, frames and resolutions come out; after a reconnect it names its open batches in the hello and
submits them again under the same ids, so that a daemon that died has lost nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from mock_mcp.errors import (
    BatchExpired,
    BatchGivenUp,
    BatchRefused,
    MockMcpError,
    UnusableContract,
    VersionMismatch,
)
from mock_mcp.limits import Limits
from mock_mcp.types import Mock, TestMeta
from mock_mcp.wire.channel import (
    CAPABILITIES,
    PROTOCOL,
    BatchCancel,
    BatchMockError,
    BatchMockRequest,
    BatchMockResult,
    BatchResultAck,
    ErrorMessage,
    HelloAck,
    HelloTest,
    decode_from_daemon,
    encode_message,
)

if TYPE_CHECKING:
    import asyncio

__all__ = ["Session", "Ticket", "Watcher"]

Watcher: TypeAlias = Callable[[Mock | BaseException], None]


class Ticket:
    """One request that waits for its mock.

    ``outcome`` is a `Mock`, or why there is none; None while it waits. A coroutine waits by
    ``waiter``, a future of the loop ``loop`` in which it is resolved; whoever waits in a thread is
    among the ``watchers``, which are called with the outcome and must not block.
    ``name`` is what an error calls it; ``timeout_s`` is how long it may wait, None for ever, and
    ``deadline`` until when; ``keep_delay`` leaves the answer's delay to the one who waits.
    """

    __slots__ = (
        "batch_id",
        "deadline",
        "json",
        "keep_delay",
        "loop",
        "name",
        "outcome",
        "request_id",
        "timeout_s",
        "waiter",
        "watchers",
    )

    def __init__(
        self,
        request_id: str,
        name: str,
        json: msgspec.Raw,
        timeout_s: float | None,
        *,
        keep_delay: bool = False,
    ) -> None:
        self.request_id = request_id
        self.name = name
        self.json = json
        self.timeout_s = timeout_s
        self.keep_delay = keep_delay
        self.batch_id: str | None = None
        self.deadline = math.inf  # on the clock of the client's loop
        self.outcome: Mock | BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.waiter: asyncio.Future[Mock] | None = None
        self.watchers: tuple[Watcher, ...] = ()

    def watch(self, watcher: Watcher) -> None:
        """Have somebody told the outcome; only where no outcome is being given meanwhile."""
        self.watchers += (watcher,)
        if self.outcome is not None:
            watcher(self.outcome)

    def settle(self, outcome: Mock | BaseException) -> None:
        """Give the outcome, and tell the watchers; the waiter is told in its loop."""
        self.outcome = outcome
        for watcher in self.watchers:
            watcher(outcome)


class Session:
    """The open batches of one run.

    Args:
        run_id: The run's id.
        pid: The test process.
        cwd: Its working directory.
        test_meta: The test it runs, if known.
        limits: ``frame_bytes`` splits a batch that would not fit into one frame.
        on_answer: Told each answered ticket and its mock.
        on_failure: Told each ticket that will not be answered, and why.
        on_error: Told the text of an ``ERROR`` message.
        first_session: The number of the first connection attempt.
        batch_prefix: What tells this session's batch ids from those of another client of the run.
    """

    def __init__(
        self,
        run_id: str,
        *,
        pid: int,
        cwd: str,
        test_meta: TestMeta | None,
        limits: Limits,
        on_answer: Callable[[Ticket, Mock], None],
        on_failure: Callable[[Ticket, MockMcpError], None],
        on_error: Callable[[str], None],
        first_session: int = 1,
        batch_prefix: str = "",
    ) -> None:
        self.run_id = run_id
        self.ready = False
        self.corrected = 0
        self._pid = pid
        self._cwd = cwd
        self._test_meta = test_meta
        self._limits = limits
        self._on_answer = on_answer
        self._on_failure = on_failure
        self._on_error = on_error
        self._batches: dict[str, dict[str, Ticket]] = {}
        self._batch_prefix = batch_prefix
        self._batch_number = 0
        self._session = first_session - 1
        self._named: set[str] = set()

    @property
    def waits(self) -> bool:
        """Tell whether any request has no answer yet."""
        return bool(self._batches)

    @property
    def waiting(self) -> Iterator[Ticket]:
        """The tickets that have no answer yet."""
        return itertools.chain.from_iterable(batch.values() for batch in self._batches.values())

    def hello(self, token: str) -> bytes:
        """Begin a connection attempt: the first frame to send."""
        self._session += 1
        self.ready = False
        self._named = set(self._batches)
        return encode_message(
            HelloTest(
                token,
                self.run_id,
                self._pid,
                self._cwd,
                self._test_meta,
                PROTOCOL,
                list(CAPABILITIES),
                self._session,
                list(self._batches),
            )
        )

    def lost(self) -> None:
        """Note that the connection is gone; what waits goes on waiting."""
        self.ready = False

    def submit(self, tickets: Iterable[Ticket]) -> list[bytes]:
        """Make batches of tickets; return the frames to send, none while not connected."""
        frames = []
        for group in self._split(tickets):
            self._batch_number += 1
            batch_id = f"batch:{self.run_id}:{self._batch_prefix}{self._batch_number}"
            for ticket in group:
                ticket.batch_id = batch_id
            self._batches[batch_id] = {ticket.request_id: ticket for ticket in group}
            frames.append(self._request(batch_id))
        return frames if self.ready else []

    def receive(self, text: bytes) -> list[bytes]:
        """Take one frame; return the frames to send.

        Raises:
            VersionMismatch: The daemon is another implementation or revision.
            InvalidMessage, LimitExceeded: The frame is not of this protocol.
        """
        message = decode_from_daemon(text, self._limits)
        match message:
            case HelloAck():
                if message.protocol != PROTOCOL:
                    raise VersionMismatch(_foreign(message))
                self.ready = True
                gone = self._named - self._batches.keys()  # cancelled since the hello
                return [
                    *(encode_message(BatchCancel(batch_id)) for batch_id in sorted(gone)),
                    *(self._request(batch_id) for batch_id in self._batches),
                ]
            case BatchMockResult():
                batch = self._batches.pop(message.batch_id, {})
                self.corrected += bool(batch and message.rejections)
                for mock in message.mocks:
                    ticket = batch.pop(mock.request_id, None)
                    if ticket is not None:
                        self._on_answer(ticket, mock)
                for ticket in batch.values():
                    self._on_failure(ticket, BatchRefused("The result has no mock for it."))
                return [encode_message(BatchResultAck(message.batch_id))]
            case BatchMockError():
                for ticket in self._batches.pop(message.batch_id, {}).values():
                    self._on_failure(ticket, _error(message))
            case ErrorMessage():
                self._on_error(f"{message.code}: {message.message}")
        return []

    def cancel(self, ticket: Ticket) -> list[bytes]:
        """Stop waiting for one request; return the frames to send."""
        batch = self._batches.get(ticket.batch_id or "")
        if batch is None or batch.pop(ticket.request_id, None) is None:
            return []
        assert ticket.batch_id is not None
        if not batch:
            del self._batches[ticket.batch_id]
        frame = encode_message(BatchCancel(ticket.batch_id, [ticket.request_id]))
        return [frame] if self.ready else []

    def fail_all(self, error: MockMcpError) -> None:
        """Give up everything that waits."""
        batches, self._batches = self._batches, {}
        for batch in batches.values():
            for ticket in batch.values():
                self._on_failure(ticket, error)

    # -- Inside ----------------------------------------------------------------------------

    def _request(self, batch_id: str) -> bytes:
        requests = [ticket.json for ticket in self._batches[batch_id].values()]
        return encode_message(BatchMockRequest(self.run_id, requests, batch_id))

    def _split(self, tickets: Iterable[Ticket]) -> list[list[Ticket]]:
        """Group tickets so that each group fits into one frame."""
        groups: list[list[Ticket]] = []
        room = 0
        for ticket in tickets:
            size = memoryview(ticket.json).nbytes + 1
            if size > room:
                groups.append([])
                room = self._limits.frame_bytes - 1024
            groups[-1].append(ticket)
            room -= size
        return groups


def _foreign(ack: HelloAck) -> str:
    theirs = "none" if ack.protocol is None else ack.protocol
    return (
        f"The daemon of this project (version {ack.version or 'unknown'}) speaks protocol revision "
        f"{theirs}, this client {PROTOCOL}: another implementation, or another version. Stop it "
        "with the tool that started it (`mock-mcp stop`, or `npx mock-mcp stop`) and run again."
    )


def _error(message: BatchMockError) -> MockMcpError:
    for cls in (BatchExpired, BatchGivenUp, UnusableContract):
        if message.code == cls.code:
            return cls(message.message)
    return BatchRefused(f"{message.message} ({message.code})")
