"""aiohttp: ``TCPConnector.connect``, which gives a connection whose transport is in memory.

aiohttp writes the request to that transport and reads the response with its own parser; redirects,
cookies, decoding, streaming and middlewares are above this layer, proxies below it. The exchange is
asked in the task that made the request, while that task reads the response: there cancellation,
context and errors are the caller's. Connectors that are no TCP (Unix sockets, named pipes) and
WebSockets are left alone.

A response that an assistant writes may take minutes, so the session's total timeout must not run
meanwhile. It has no public switch: the one place below it is ``helpers.TimerContext.timeout``.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from types import ModuleType
from typing import Any

from mock_mcp.exchange import (
    Exchange,
    FailureKind,
    HttpRequest,
    HttpResponse,
    Origin,
    TransportFailure,
)
from mock_mcp.interceptors import stack
from mock_mcp.interceptors.answer import answer_async
from mock_mcp.interceptors.forward import forwarding, received, whole_async
from mock_mcp.interceptors.memory import RequestReader, render
from mock_mcp.interceptors.patches import Patches

__all__ = ["patch"]


def patch(aiohttp: ModuleType, patches: Patches) -> None:
    """Hook the connectors of ``aiohttp``."""
    clocks = _Clocks()
    handler = _handler(aiohttp, clocks)

    def make(original: Any) -> Any:
        async def connect(self: Any, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109
            origin = Origin.make(req.url.scheme, req.url.raw_host or "", req.url.port)
            exchange = None
            if origin.scheme in ("http", "https") and "Sec-WebSocket-Key" not in req.headers:
                what = f"{req.method} {origin.url(req.url.raw_path_qs)}"
                exchange = stack.exchange_for(origin, what)
            if exchange is None:
                return await original(self, req, traces, timeout)
            if self.closed:
                raise aiohttp.ClientConnectionError("Connector is closed.")
            for trace in traces:
                await trace.send_connection_create_start()

            async def really() -> Any:
                return await original(self, req, [], timeout)

            protocol = handler(exchange, origin, req, timeout, really)
            for trace in traces:
                await trace.send_connection_create_end()
            protocol.connection = aiohttp.connector.Connection(
                self, req.connection_key, protocol, asyncio.get_running_loop()
            )
            return protocol.connection

        return connect

    patches.replace(aiohttp.TCPConnector, "connect", make)
    if hasattr(aiohttp.helpers, "TimerContext"):
        patches.replace(aiohttp.helpers.TimerContext, "timeout", clocks.holding)


class _Clocks:
    """The total timeouts that are held while an exchange is asked."""

    def __init__(self) -> None:
        self._held: dict[int, bool] = {}  # by the timer's id: whether it was due meanwhile

    def holding(self, original: Any) -> Any:
        """Return the timers' ``timeout`` that does nothing while they are held."""

        def timeout(timer: Any) -> None:
            if id(timer) in self._held:
                self._held[id(timer)] = True
            else:
                original(timer)

        return timeout

    def hold(self, timer: Any) -> None:
        """Stop a clock."""
        self._held[id(timer)] = False

    def release(self, timer: Any, total_s: float | None, connection: Any) -> None:
        """Let a clock go on; one that was due starts again, and ends with the connection."""
        if self._held.pop(id(timer)) and total_s is not None:
            restarted = asyncio.get_running_loop().call_later(total_s, timer.timeout)
            connection.add_callback(restarted.cancel)


def _handler(aiohttp: ModuleType, clocks: _Clocks) -> Any:
    """Return aiohttp's protocol of a connection, reading what an exchange answers."""

    class Handler(aiohttp.client_proto.ResponseHandler):  # type: ignore[name-defined,misc]
        def __init__(
            self, exchange: Exchange, origin: Origin, req: Any, timeout: Any, connect: Any
        ) -> None:
            loop = asyncio.get_running_loop()
            super().__init__(loop)
            self.connection: Any = None
            self._mock_exchange = exchange
            self._mock_request = req
            self._mock_connect = connect
            self._mock_parameters: dict[str, Any] = {}
            self._mock_total_s: float | None = timeout.total or None
            self._mock_read_s: float | None = None
            self._mock_timer: Any = None
            self._mock_reader = RequestReader(origin)
            self._mock_asked: HttpRequest | None = None
            self._mock_written: asyncio.Future[None] = loop.create_future()
            self.force_close()  # a pool must not keep it
            self.connection_made(_Transport(self, origin))

        def set_response_params(self, *, read_timeout: float | None = None, **kwargs: Any) -> None:
            self._mock_timer = kwargs.get("timer")
            self._mock_read_s = read_timeout or None
            self._mock_parameters = kwargs
            super().set_response_params(read_timeout=None, **kwargs)  # it is kept by `answer`

        def set_exception(self, *args: Any) -> None:
            super().set_exception(*args)
            if not self._mock_written.done():
                self._mock_written.set_result(None)

        def written(self, data: bytes) -> None:
            self._mock_asked = self._mock_reader.feed(data) or self._mock_asked
            if self._mock_written.done():
                return
            if self._mock_asked is not None or self._mock_reader.expects_continue:
                self._mock_written.set_result(None)

        async def read(self) -> Any:
            if self.exception() is None and not self._buffer:
                await self._mock_read()
            return await super().read()

        async def _mock_read(self) -> None:
            # One turn for the task that writes the body, where there is one: so calls with and
            # without a body reach the exchange together (and aiohttp 3.9 cancels what never began).
            await asyncio.sleep(0)
            await self._mock_written
            if self.exception() is not None:  # the request could not be written
                return
            asked = self._mock_asked
            if asked is None:
                self._mock_written = asyncio.get_running_loop().create_future()
                self._mock_reader.expects_continue = False  # it is told, and may write in pieces
                self.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            connection, self.connection = self.connection, None

            async def send() -> HttpResponse:
                clocks.release(self._mock_timer, self._mock_total_s, connection)
                try:
                    return await self._mock_forward(asked)
                finally:
                    clocks.hold(self._mock_timer)

            clocks.hold(self._mock_timer)
            try:
                response = await answer_async(
                    self._mock_exchange, asked, self._mock_limit_s(), send
                )
            except TransportFailure as failure:
                raise self._mock_error(failure) from failure
            finally:
                clocks.release(self._mock_timer, self._mock_total_s, connection)
            self._mock_receive(response)

        async def _mock_forward(self, asked: HttpRequest) -> HttpResponse:
            with forwarding():
                try:
                    real = await self._mock_connect()
                except TimeoutError as late:
                    raise self._mock_error(TransportFailure("connect_timeout")) from late
                try:
                    response = await self._mock_exchanged(asked, real)
                except BaseException:
                    real.close()
                    raise
                real.release()
                return response

        async def _mock_exchanged(self, asked: HttpRequest, real: Any) -> HttpResponse:
            protocol = real.protocol
            parameters = {**self._mock_parameters, "timer": None, "auto_decompress": False}
            protocol.set_response_params(**parameters, read_timeout=self._mock_read_s)
            real.transport.write(self._mock_sent(asked))
            if hasattr(protocol, "start_timeout"):
                protocol.start_timeout()
            message, payload = await protocol.read()
            while 100 <= message.code < 200:
                message, payload = await protocol.read()
            headers = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in message.raw_headers
            ]
            body = await whole_async(payload.iter_any(), asked)
            return received(asked, message.code, headers, body)

        def _mock_sent(self, asked: HttpRequest) -> bytes:
            """Return the request with what connecting to a proxy has added to its headers."""
            head, end, body = self._mock_reader.written.partition(b"\r\n\r\n")
            proved = self._mock_request.headers.get("Proxy-Authorization")
            if proved is not None and asked.header("proxy-authorization") is None:
                head += f"\r\nProxy-Authorization: {proved}".encode("latin-1")
            return head + end + body

        def _mock_limit_s(self) -> float | None:
            limits = [
                limit for limit in (self._mock_read_s, self._mock_total_s) if limit is not None
            ]
            return min(limits, default=None)

        def _mock_receive(self, response: HttpResponse) -> None:
            self.data_received(render(response))
            if response.body and response.header("content-length") is None:
                self.connection_lost(None)  # the end of the body is the end of the connection

        def _mock_error(self, failure: TransportFailure) -> Exception:
            error: Exception
            key = self._mock_request.connection_key
            if failure.kind is FailureKind.REFUSED:
                refused = ConnectionRefusedError(errno.ECONNREFUSED, failure.message)
                error = aiohttp.ClientConnectorError(key, refused)
            elif failure.kind is FailureKind.UNRESOLVED:
                unresolved = socket.gaierror(socket.EAI_NONAME, failure.message)
                error = _of(aiohttp, "ClientConnectorDNSError", "ClientConnectorError")(
                    key, unresolved
                )
            elif failure.kind is FailureKind.RESET:
                error = aiohttp.ClientOSError(errno.ECONNRESET, failure.message)
            elif failure.kind is FailureKind.CONNECT_TIMEOUT:
                error = _of(aiohttp, "ConnectionTimeoutError", "ServerTimeoutError")(
                    f"Connection timeout to host {self._mock_request.url}"
                )
            elif self._mock_read_s is not None and self._mock_limit_s() == self._mock_read_s:
                error = _of(aiohttp, "SocketTimeoutError", "ServerTimeoutError")(
                    "Timeout on reading data from socket"
                )
            else:
                error = TimeoutError()
            return error

    return Handler


def _of(aiohttp: ModuleType, name: str, older: str) -> Any:
    """Return an error of aiohttp by its name of today, or by the older one."""
    return getattr(aiohttp, name, None) or getattr(aiohttp, older)


class _Transport(asyncio.Transport):
    """The end of a connection that a request is written to."""

    def __init__(self, handler: Any, origin: Origin) -> None:
        super().__init__({"peername": (origin.host, origin.port), "sockname": ("127.0.0.1", 0)})
        self._handler = handler
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self._handler.written(bytes(data))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = True

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Do nothing: the whole response is given at once."""

    def resume_reading(self) -> None:
        """Do nothing: the whole response is given at once."""

    def get_write_buffer_size(self) -> int:
        return 0

    def get_protocol(self) -> Any:
        return self._handler
