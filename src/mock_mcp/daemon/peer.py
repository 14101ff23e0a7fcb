"""The daemon's end of the test channel (DESIGN section 3), without I/O of its own.

A `TestPeer` is one connection of a test. It decodes what comes in, changes the broker through the
hub, and sends through a link; what a link is (a WebSocket, a fake in a test) is not its business.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import Protocol as Interface

import msgspec

from mock_mcp.core.broker import ACK, RESUME
from mock_mcp.daemon.hub import Hub
from mock_mcp.errors import InvalidMessage, LimitExceeded, MockMcpError, RunReplaced
from mock_mcp.types import Mock
from mock_mcp.wire.channel import (
    CAPABILITIES,
    PROTOCOL,
    BatchCancel,
    BatchMockError,
    BatchMockResult,
    BatchResultAck,
    CloseReason,
    ErrorMessage,
    Heartbeat,
    HeartbeatAck,
    HelloAck,
    HelloTest,
    InvalidBatch,
    SubmittedBatch,
    decode_from_client,
    encode_message,
)

__all__ = ["Identity", "Link", "TestPeer"]

ERRORS = "errors"
"""Capability: the test understands ``BATCH_MOCK_ERROR``."""
_CLEAN = (1000, 1001)
_BATCH = b'"BATCH_MOCK_REQUEST"'
_HEAD_BYTES = 4096
"""How far into a frame that cannot be decoded its type is looked for."""


class Link(Interface):
    """A connection that carries text."""

    def send_text(self, text: bytes) -> bool:
        """Send one message; return whether the connection took it."""

    def close(self, code: int, reason: str = "") -> None:
        """Begin to close."""


class Identity(Interface):
    """What a daemon says of itself in ``HELLO_ACK``, and the token it asks for."""

    token: str
    daemon_id: str
    version: str


class TestPeer:
    """One connection of a test.

    Args:
        hub: The broker and its surroundings.
        identity: The daemon's identity and token.
        logger: Where refusals are logged.
    """

    __test__ = False  # not a test class, whatever its name begins with

    def __init__(
        self, hub: Hub, identity: Identity, *, logger: logging.Logger | None = None
    ) -> None:
        self.connection_id = hub.next_connection_id()
        self.run_id: str | None = None
        self._hub = hub
        self._identity = identity
        self._logger = logger or logging.getLogger(__name__)
        self._capabilities: frozenset[str] = frozenset()
        self._link: Link | None = None
        self._hello_timer: asyncio.TimerHandle | None = None
        self._closing = False

    # -- What the link reports -----------------------------------------------------------------

    def connect(self, link: Link) -> None:
        """Attach the link; the first message must follow within ``hello_timeout_s``."""
        self._link = link
        self._hello_timer = asyncio.get_running_loop().call_later(
            self._hub.limits.hello_timeout_s, self._close, CloseReason.HELLO_TIMEOUT
        )

    def on_open(self) -> None:
        """Note the opening handshake; the daemon speaks second."""

    def on_text(self, text: bytes) -> None:
        """Take one message."""
        if self._closing:
            return
        try:
            message = decode_from_client(text, self._hub.limits)
        except (InvalidMessage, LimitExceeded) as exc:
            self._refuse_frame(exc, is_batch=_BATCH in text[:_HEAD_BYTES])
            return
        if self.run_id is None:
            if isinstance(message, HelloTest):
                self._hello(message)
            else:
                self._close(CloseReason.EXPECTED_HELLO)
            return
        self._hub.broker.seen(self._hub.clock.now(), self.run_id)
        match message:
            case SubmittedBatch():
                self._submit(message)
            case BatchResultAck():
                self._hub.broker.acknowledge(self.run_id, message.batch_id)
                self._hub.settle()
            case BatchCancel():
                self._hub.broker.cancel(self.run_id, message.batch_id, message.request_ids)
                self._hub.settle()
            case Heartbeat():
                self._send(HeartbeatAck(self.run_id))
            case _:
                self._send_error(
                    InvalidMessage("HELLO_TEST came twice on one connection; open another one.")
                )

    def on_binary(self) -> None:
        """Refuse a binary message."""
        if not self._closing:
            self._refuse_frame(InvalidMessage("The test channel has text frames only."))

    def on_ping(self) -> None:
        """Note a sign of life."""
        if self.run_id is not None:
            self._hub.broker.seen(self._hub.clock.now(), self.run_id)

    def on_closed(self, code: int, reason: str) -> None:
        """Detach the run from its connection."""
        self._cancel_timer()
        self._link = None
        if self.run_id is None:
            return
        self._hub.detach(self.run_id, self)
        self._hub.broker.close_run(
            self._hub.clock.now(), self.run_id, self.connection_id, clean=code in _CLEAN
        )
        self._hub.settle()

    # -- What the hub asks -----------------------------------------------------------------------

    def deliver(self, batch_id: str, mocks: tuple[Mock, ...], rejections: int) -> bool:
        """Send a result; return whether the connection took it."""
        if ACK in self._capabilities:
            return self._send(BatchMockResult(batch_id, list(mocks), rejections or None))
        # An older client gets the fields it knows.
        plain = [msgspec.structs.replace(mock, source=None) for mock in mocks]
        return self._send(BatchMockResult(batch_id, plain))

    def fail(self, batch_id: str, error: MockMcpError) -> None:
        """Tell the test that a batch ended without an answer.

        A client that does not know the message is closed with the reason, so that it fails at once.
        """
        if ERRORS in self._capabilities:
            self._send(BatchMockError(batch_id, error.code, error.message))
        else:
            self._close((1008, error.message))

    def replaced(self) -> None:
        """Close: a newer session of the run is live."""
        self._close(CloseReason.REPLACED)

    # -- Inside ----------------------------------------------------------------------------

    def _hello(self, hello: HelloTest) -> None:
        limit = self._hub.limits.id_chars
        if not hmac.compare_digest(hello.token.encode(), self._identity.token.encode()):
            self._close(CloseReason.INVALID_TOKEN)
            return
        if not 0 < len(hello.run_id) <= limit:
            self._close((1008, f"runId must have 1 to {limit} characters"))
            return
        self._cancel_timer()
        capabilities = frozenset(hello.capabilities or ())
        try:
            run = self._hub.broker.open_run(
                self._hub.clock.now(),
                hello.run_id,
                self.connection_id,
                pid=hello.pid,
                cwd=hello.cwd,
                test_meta=hello.test_meta,
                capabilities=capabilities,
                session=hello.session,
                open_batches=hello.open_batches if RESUME in capabilities else None,
            )
        except RunReplaced:
            self._close(CloseReason.REPLACED)
            return
        self.run_id = run.id
        self._capabilities = capabilities
        self._hub.settle()  # the older connection is told before this one takes its place
        self._hub.attach(run.id, self)
        self._send(
            HelloAck(
                run.id,
                PROTOCOL,
                self._identity.daemon_id,
                self._identity.version,
                list(CAPABILITIES),
            )
        )

    def _submit(self, batch: SubmittedBatch) -> None:
        assert self.run_id is not None
        try:
            self._hub.broker.submit(
                self._hub.clock.now(), self.run_id, batch.requests, batch.batch_id
            )
        except MockMcpError as exc:
            self._refuse_batch(exc, batch.batch_id)
            return
        self._hub.settle()

    def _refuse_frame(self, error: MockMcpError, *, is_batch: bool = False) -> None:
        if self.run_id is None:
            self._close(CloseReason.EXPECTED_HELLO)
        elif isinstance(error, InvalidBatch):
            self._refuse_batch(error, error.batch_id)
        elif is_batch and ERRORS not in self._capabilities:
            self._refuse_batch(error, None)  # it would ignore ERROR and wait for ever
        else:
            self._send_error(error)

    def _refuse_batch(self, error: MockMcpError, batch_id: str | None) -> None:
        """Refuse a batch so that its test fails instead of waiting for ever."""
        self._logger.info("refused a batch of run %s: %s", self.run_id, error.message)
        if batch_id is not None or ERRORS not in self._capabilities:
            self.fail(batch_id or "", error)
        else:
            self._send_error(error)

    def _send_error(self, error: MockMcpError) -> None:
        self._send(ErrorMessage(error.code, error.message))

    def _send(self, message: object) -> bool:
        if self._link is None:
            return False
        return self._link.send_text(encode_message(message))  # type: ignore[arg-type]

    def _close(self, code_and_reason: tuple[int, str]) -> None:
        self._cancel_timer()
        self._closing = True
        if self._link is not None:
            self._link.close(*code_and_reason)

    def _cancel_timer(self) -> None:
        if self._hello_timer is not None:
            self._hello_timer.cancel()
            self._hello_timer = None
