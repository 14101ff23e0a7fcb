"""One WebSocket connection on asyncio: a thin shell around the Sans-I/O protocols of `websockets`.

Both ends use it. It moves bytes, joins fragments, and reports what a peer of the test channel cares
about: an open connection, text messages, pings, and how it closed. Compression is never offered or
accepted: a local socket is faster than a compressor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Protocol as Interface
from typing import cast

from websockets.exceptions import InvalidState, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol

from mock_mcp.runtime.receiving import ReceivingProtocol

__all__ = ["ABNORMAL", "WebSocketHandler", "WebSocketLink"]

ABNORMAL = 1006
"""Close code of a connection that ended without a close frame (RFC 6455 section 7.4.1)."""
_REASON_BYTES = 123
"""Longest close reason (RFC 6455 section 5.5)."""
_REFUSAL_BYTES = 1000
"""How much is kept of what a server answered instead of opening the connection."""


class WebSocketHandler(Interface):
    """What a `WebSocketLink` reports to."""

    def on_open(self) -> None:
        """Note that the opening handshake is done."""

    def on_text(self, text: bytes) -> None:
        """Take one whole text message, as UTF-8."""

    def on_binary(self) -> None:
        """Note a binary message; the test channel has none."""

    def on_ping(self) -> None:
        """Note a ping; it has been answered."""

    def on_closed(self, code: int, reason: str) -> None:
        """Note the end of the connection, exactly once; `ABNORMAL` without a close frame."""


def _refusal(error: Exception | None) -> str:
    """Return what a server answered instead of opening the connection."""
    if not isinstance(error, InvalidStatus):
        return ""
    response = error.response
    said = (response.body or b"")[:_REFUSAL_BYTES].decode("utf-8", "replace")
    return f"HTTP {response.status_code} {said}"


def _reason_text(reason: str) -> str:
    """Cut a close reason to the 123 bytes a close frame can carry."""
    return reason.encode()[:_REASON_BYTES].decode("utf-8", "ignore")


class WebSocketLink(ReceivingProtocol):
    """One end of a WebSocket connection.

    Args:
        protocol: A Sans-I/O ``ServerProtocol`` or ``ClientProtocol``.
        handler: Who is told what happens.
        write_buffer_bytes: Bytes the peer may leave unread before it is cut off; None for any
            number.
        close_timeout_s: Seconds the peer has to finish a closing handshake.
    """

    def __init__(
        self,
        protocol: Protocol,
        handler: WebSocketHandler,
        *,
        write_buffer_bytes: int | None,
        close_timeout_s: float,
    ) -> None:
        self.protocol = protocol
        self._handler = handler
        self._write_buffer_bytes = write_buffer_bytes
        self._close_timeout_s = close_timeout_s
        self._transport: asyncio.Transport | None = None
        self._message = bytearray()
        self._reported = False
        self._is_text = True
        self._closer: asyncio.TimerHandle | None = None
        self._on_lost: Callable[[], None] | None = None

    # -- What the owner calls ----------------------------------------------------------------

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Call back when the transport is gone."""
        self._on_lost = callback

    @property
    def is_open(self) -> bool:
        """Tell whether messages can be sent."""
        return self._transport is not None and self.protocol.state is State.OPEN

    def send_text(self, text: bytes) -> bool:
        """Send one text message; return whether the connection took it."""
        if not self.is_open:
            return False
        self.protocol.send_text(text)
        self._flush()
        return self._transport is not None and not self._transport.is_closing()

    def send_ping(self) -> None:
        """Send a ping."""
        if self.is_open:
            self.protocol.send_ping(b"")
            self._flush()

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake; the transport follows within the close timeout."""
        if self._transport is None:
            return
        with contextlib.suppress(InvalidState):
            self.protocol.send_close(code, _reason_text(reason))
        self._flush()
        self._close_soon()

    def abort(self) -> None:
        """Drop the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def leave_to_parent(self) -> None:
        """Drop a fork's copy of the connection; the parent, whose it is, notices nothing.

        The descriptor is put to another use and not closed: its owner here still counts on it.
        """
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, sock.fileno(), inheritable=False)
                os.close(null)

    # -- What asyncio calls --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its classes
        self._flush()

    def data_received(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        self._after_receiving()

    def eof_received(self) -> bool:
        self.protocol.receive_eof()
        self._after_receiving()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._closer is not None:
            self._closer.cancel()
        with contextlib.suppress(Exception):
            self.protocol.receive_eof()
        self._report_closed()
        if self._on_lost is not None:
            self._on_lost()

    # -- Inside ----------------------------------------------------------------------------

    def _after_receiving(self) -> None:
        for event in self.protocol.events_received():
            if isinstance(event, Frame):
                self._on_frame(event)
            elif isinstance(event, Request):
                assert isinstance(self.protocol, ServerProtocol)
                self.protocol.send_response(self.protocol.accept(event))
                if self.protocol.state is State.OPEN:
                    self._handler.on_open()
            elif isinstance(event, Response) and self.protocol.state is State.OPEN:
                self._handler.on_open()
        if self.protocol.close_rcvd is not None:
            self._report_closed()  # now, not when the peer has read what is on its way
        self._flush()
        if self.protocol.close_expected() or self.protocol.handshake_exc is not None:
            self._close_soon()

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self._handler.on_ping()
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                self._is_text = frame.opcode is Opcode.TEXT
            if frame.fin and not self._message:
                text = bytes(frame.data)
            else:
                self._message += frame.data
                if not frame.fin:
                    return
                text = bytes(self._message)
                self._message.clear()
            if self._is_text:
                self._handler.on_text(text)
            else:
                self._handler.on_binary()

    def _flush(self) -> None:
        transport = self._transport
        for data in self.protocol.data_to_send():
            if transport is None or transport.is_closing():
                return
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()
        limit = self._write_buffer_bytes
        if limit is not None and transport and transport.get_write_buffer_size() > limit:
            transport.abort()

    def _report_closed(self) -> None:
        if self._reported:
            return
        self._reported = True
        received = self.protocol.close_rcvd
        if received is None:
            self._handler.on_closed(ABNORMAL, _refusal(self.protocol.handshake_exc))
        else:
            self._handler.on_closed(received.code, received.reason)

    def _close_soon(self) -> None:
        """Close once the peer has had time to read the last bytes and to close first."""
        if self._transport is None:
            return
        if self._closer is None:
            loop = asyncio.get_running_loop()
            self._closer = loop.call_later(self._close_timeout_s, self.abort)
        if self.protocol.close_rcvd is not None:
            self._transport.close()  # both close frames are exchanged
