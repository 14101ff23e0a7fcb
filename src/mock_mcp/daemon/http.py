"""One connection to the daemon's socket: HTTP/1.1 parsed by llhttp, until it becomes a WebSocket.

``POST /control`` and ``GET /health`` are answered here; ``GET /test`` with an Upgrade hands the
transport to a `WebSocketLink`. Requests that come while one is being answered wait their turn.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import deque
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any, cast

import httptools
from websockets.server import ServerProtocol

from mock_mcp.daemon.control import Control, answer_too_large
from mock_mcp.daemon.peer import TestPeer
from mock_mcp.daemon.pending import Pending
from mock_mcp.errors import (
    InternalError,
    InvalidMessage,
    LimitExceeded,
    MethodNotFound,
    MockMcpError,
    Unauthorized,
)
from mock_mcp.limits import Limits
from mock_mcp.runtime.receiving import ReceivingProtocol
from mock_mcp.runtime.websocket import WebSocketLink
from mock_mcp.wire.control import (
    TOKEN_HEADER,
    CallId,
    CallRefused,
    decode_call,
    encode_error,
    encode_result,
    http_status,
)
from mock_mcp.wire.json import encode

__all__ = ["HttpConnection"]

_TOKEN_HEADER = TOKEN_HEADER.encode()
_QUEUED_REQUESTS = 16
"""Pipelined requests read ahead before the peer must wait."""
_UPGRADE = (b"connection", b"upgrade", b"http2-settings")
_DISCARD_BYTES = 128 * 1024 * 1024
"""Bytes of a refused body that are read so that the refusal can be read; then the peer is cut."""


class _Request:
    """One request as it is being received."""

    __slots__ = (
        "body",
        "head_bytes",
        "headers",
        "keep_alive",
        "method",
        "path",
        "refusal",
        "size",
        "url",
        "values",
    )

    def __init__(self) -> None:
        self.url = b""
        self.path = b""
        self.method = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.values: dict[bytes, bytes] = {}  # by lower-case name; of repeated ones the first
        self.body: list[bytes] = []
        self.head_bytes = 0
        self.size = 0
        self.keep_alive = True
        self.refusal: tuple[int, MockMcpError] | None = None


class HttpConnection(ReceivingProtocol):
    """Serve one connection.

    Args:
        control: Answers control calls.
        token: What the token header must say.
        make_peer: Makes the test peer of a WebSocket connection.
        limits: The daemon's limits.
        on_made: Told when the transport begins; returns why it must end.
        on_lost: Told when it ends.
        logger: Where failures are logged.
    """

    def __init__(
        self,
        control: Control,
        token: str,
        make_peer: Callable[[], TestPeer],
        limits: Limits,
        *,
        on_made: Callable[[asyncio.Transport], LimitExceeded | None],
        on_lost: Callable[[asyncio.Transport], None],
        logger: logging.Logger,
    ) -> None:
        self._control = control
        self._token = token.encode()
        self._make_peer = make_peer
        self._limits = limits
        self._on_made = on_made
        self._on_lost = on_lost
        self._logger = logger
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._request = _Request()
        self._queue: deque[_Request] = deque()
        self._pending: Pending[Any] | None = None  # what the answer under way waits for
        self._head_bytes = 0  # since anything but a head or a trailer came
        self._is_deaf = False  # the last answer of this connection is given or queued
        self._handshake_timer: asyncio.TimerHandle | None = None

    # -- What asyncio calls --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast("asyncio.Transport", transport)  # uvloop's is none by its classes
        self._transport = made
        refusal = self._on_made(made)
        if refusal is not None:
            self._give_up(503, refusal)
            return
        self._handshake_timer = asyncio.get_running_loop().call_later(
            self._limits.handshake_timeout_s, made.abort
        )

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._transport = self._transport, None
        self._request = _Request()  # the parser's cycle would keep its body until it is collected
        self._queue.clear()
        self._stop_timer()
        self._stop_waiting()
        if transport is not None:
            self._on_lost(transport)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._upgrade(data[exc.args[0] :])
        except httptools.HttpParserError as exc:
            self._give_up(400, InvalidMessage(f"Not HTTP/1.1: {exc}"))
        if self._head_bytes > self._limits.header_bytes:
            self._give_up(*self._head_too_large())  # it never ends

    def eof_received(self) -> bool:
        # The transport closes in a turn of its own: what waits must not get a claim until then.
        self._stop_waiting()
        return False

    # -- What the parser calls -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._request = _Request()

    def on_url(self, url: bytes) -> None:
        self._request.url += url
        self._request.head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        request.headers.append((name, value))
        request.values.setdefault(name.lower(), value)
        request.head_bytes += len(name) + len(value)

    def on_headers_complete(self) -> None:
        request = self._request
        self._head_bytes = 0
        request.path = request.url.partition(b"?")[0]
        request.method = self._parser.get_method()
        request.keep_alive = self._parser.should_keep_alive()
        self._stop_timer()
        request.refusal = self._refusal(request)
        if request.values.get(b"expect", b"").lower() != b"100-continue":
            return
        if request.refusal is not None:
            self._give_up(*request.refusal)  # the body is held back and need never come
        elif self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        request = self._request
        request.size += len(body)
        if request.size > self._limits.body_bytes and request.refusal is None:
            request.body.clear()
            request.refusal = self._too_large()
        if request.refusal is None:
            request.body.append(body)
        elif request.size > _DISCARD_BYTES and self._transport is not None:
            self._transport.abort()

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        if self._is_deaf:
            return
        if self._parser.should_upgrade():
            return  # feed_data raises HttpParserUpgrade next
        self._queue.append(self._request)
        self._request = _Request()  # a connection that idles must not keep the last body
        if self._pending is None:
            self._next()
        elif len(self._queue) >= _QUEUED_REQUESTS and self._transport is not None:
            self._transport.pause_reading()

    # -- Requests ------------------------------------------------------------------------------

    def _refusal(self, request: _Request) -> tuple[int, MockMcpError] | None:
        """Decide from the head alone whether a request can be served."""
        if request.head_bytes > self._limits.header_bytes:
            return self._head_too_large()
        if request.path == b"/health" and request.method == b"GET":
            return None
        if request.path == b"/test" and self._parser.should_upgrade():
            return None
        if request.path != b"/control" or request.method != b"POST":
            shown = f"{request.method.decode('latin-1')} {request.path.decode('latin-1')}"[:200]
            return 404, MethodNotFound(
                f"Nothing is at {shown}: POST /control, GET /health, or a WebSocket at /test."
            )
        if not hmac.compare_digest(request.values.get(_TOKEN_HEADER, b""), self._token):
            return 401, Unauthorized(
                f"The header {TOKEN_HEADER} must carry the token from this daemon's registry file."
            )
        length = request.values.get(b"content-length")
        if length is not None and length.isdigit() and int(length) > self._limits.body_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> tuple[int, MockMcpError]:
        return 413, LimitExceeded(
            f"The body is larger than {self._limits.body_bytes} bytes (limit body_bytes); "
            "send a smaller one."
        )

    def _head_too_large(self) -> tuple[int, MockMcpError]:
        return 431, LimitExceeded(
            f"The head is larger than {self._limits.header_bytes} bytes (limit header_bytes)."
        )

    def _give_up(self, status: int, error: MockMcpError) -> None:
        """Refuse what came last, after the answers before it, and listen no more."""
        if self._is_deaf:
            return
        self._is_deaf = True
        request = _Request()
        request.refusal = status, error
        request.keep_alive = False
        self._queue.append(request)
        if self._pending is None:
            self._next()

    def _next(self) -> None:
        """Answer queued requests until one has to wait."""
        while self._queue and self._pending is None and self._transport is not None:
            request = self._queue.popleft()
            if request.refusal is not None:
                status, error = request.refusal
                keep_alive = request.keep_alive and status not in (413, 431)
                self._respond(status, encode_error(None, error), keep_alive)
            elif request.path == b"/health":
                self._respond(200, encode(self._control.health()), request.keep_alive)
            else:
                self._call(request)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _call(self, request: _Request) -> None:
        try:
            body = b"".join(request.body)
            request.body.clear()
            call_id, params = decode_call(body, self._limits.depth)
        except CallRefused as exc:
            status, text = http_status(exc.error), encode_error(exc.call_id, exc.error)
            self._respond(status, text, request.keep_alive)
        else:
            self._answer(request, call_id, lambda: self._control.call(params))

    def _answer(self, request: _Request, call_id: CallId, outcome: Callable[[], Any]) -> None:
        """Answer with the outcome of a call, now or when it is there."""
        status = 200
        try:
            result = outcome()
            if isinstance(result, Pending):
                self._pending = result
                result.then(lambda: self._answer_pending(request, call_id, result))
                return
            text = encode_result(call_id, result)
            if len(text) > self._limits.write_buffer_bytes:
                raise answer_too_large(self._limits.write_buffer_bytes)
        except MockMcpError as exc:
            status, text = http_status(exc), encode_error(call_id, exc)
        except Exception:
            self._logger.exception("a control call failed")
            text = encode_error(call_id, _internal())
        self._respond(status, text, request.keep_alive)

    def _answer_pending(self, request: _Request, call_id: CallId, result: Pending[Any]) -> None:
        self._pending = None
        self._answer(request, call_id, result.result)
        if self._queue:  # in a turn of its own: this one may be in the middle of settling
            asyncio.get_running_loop().call_soon(self._next)

    def _respond(self, status: int, body: bytes, keep_alive: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        connection = b"" if keep_alive else b"Connection: close\r\n"
        transport.write(
            b"%sContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s"
            % (_status_line(status), len(body), connection, body)
        )
        if not keep_alive:
            self._is_deaf = True
            self._queue.clear()  # nobody would read what they are answered
            self._close_after_reading(transport)
        elif transport.get_write_buffer_size() > self._limits.write_buffer_bytes:
            transport.abort()

    def _close_after_reading(self, transport: asyncio.Transport) -> None:
        """Let the peer read the answer, though it may still be writing; then close."""
        if transport.can_write_eof():
            transport.write_eof()
            self._cut_off_later(transport)
        else:
            transport.close()

    def _cut_off_later(self, transport: asyncio.Transport) -> None:
        asyncio.get_running_loop().call_later(self._limits.stop_s, self._cut_off, transport)

    def _cut_off(self, transport: asyncio.Transport) -> None:
        if transport.get_write_buffer_size():  # a long answer to a slow reader
            self._cut_off_later(transport)
        else:
            transport.abort()

    # -- WebSocket -----------------------------------------------------------------------------

    def _upgrade(self, rest: bytes) -> None:
        """Hand the transport to a WebSocket, which sees the request as it came."""
        request, transport = self._request, self._transport
        if transport is None or transport.is_closing() or self._is_deaf:
            return
        if request.method == b"CONNECT" and request.refusal is not None:
            self._give_up(*request.refusal)  # an upgrade by its method alone
            return
        lines = [request.method + b" " + request.url + b" HTTP/1.1"]
        if request.path != b"/test":  # h2c for one: declined by going on in HTTP/1.1
            lines += [n + b": " + v for n, v in request.headers if n.lower() not in _UPGRADE]
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(b"\r\n".join([*lines, b"", b""]) + rest)
            return
        if self._pending is not None:
            self._give_up(400, InvalidMessage("A WebSocket cannot follow a call under way."))
            return
        peer = self._make_peer()
        link = WebSocketLink(
            ServerProtocol(max_size=self._limits.frame_bytes),
            peer,
            write_buffer_bytes=self._limits.write_buffer_bytes,
            close_timeout_s=self._limits.stop_s,
        )
        link.when_lost(lambda: self._on_lost(transport))
        peer.connect(link)
        self._transport = None
        transport.set_protocol(link)
        link.connection_made(transport)
        lines += [name + b": " + value for name, value in request.headers]
        link.data_received(b"\r\n".join([*lines, b"", b""]) + rest)

    def _stop_waiting(self) -> None:
        if self._pending is not None:
            self._pending.cancel()

    def _stop_timer(self) -> None:
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None


@cache
def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())


def _internal() -> InternalError:
    return InternalError("The daemon failed at this call; its log says why. Nothing was changed.")
