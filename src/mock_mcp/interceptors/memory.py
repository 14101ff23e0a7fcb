"""A connection in memory: an HTTP/1.1 client writes its request, an exchange answers.

`RequestReader` cuts what a client writes into requests (RFC 9112); `render` writes a response as
bytes; `MemorySocket` is the socket that http.client and its kin use between them.
"""

from __future__ import annotations

import errno
import http.client
import io
import re
import socket
from collections.abc import Callable
from typing import Any

from mock_mcp.exchange import FailureKind, HttpRequest, HttpResponse, Origin, TransportFailure
from mock_mcp.interceptors import stack
from mock_mcp.interceptors.answer import wait

__all__ = ["MemorySocket", "RequestReader", "render"]

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(r"\r?\n")
_CLOSED = "The mocked connection was closed"
# Failures that a client meets while it connects; the others come when it reads the response.
_CONNECTING = (FailureKind.REFUSED, FailureKind.UNRESOLVED, FailureKind.CONNECT_TIMEOUT)


class RequestReader:
    """Read requests from the bytes a client writes.

    Args:
        origin: Where requests go that do not name their origin.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._buffer = bytearray()
        self._head: tuple[str, str, tuple[tuple[str, str], ...]] | None = None
        self._body = bytearray()
        self._length: int | None = 0  # None: chunked
        self._written = bytearray()
        self.written = b""
        """The bytes of the last request that was complete, as the client wrote them."""
        self.expects_continue = False
        """Whether the client waits for ``100 Continue`` before it writes the body (RFC 9110)."""

    def feed(self, data: bytes) -> HttpRequest | None:
        """Take what was written; return the request when it is complete."""
        self._buffer += data
        self._written += data
        if self._head is None and not self._read_head():
            return None
        if not (self._read_chunks() if self._length is None else self._read_counted(self._length)):
            return None
        assert self._head is not None
        method, url, headers = self._head
        request = HttpRequest(method, url, headers, bytes(self._body))
        self._head = None
        self._body.clear()
        self.written = bytes(self._written)
        self._written.clear()
        self.expects_continue = False
        return request

    def _read_head(self) -> bool:
        end = _HEAD_END.search(self._buffer)
        if end is None:
            return False
        first, *lines = _LINE_END.split(self._buffer[: end.start()].decode("latin-1"))
        del self._buffer[: end.end()]
        method, target, _ = first.split(" ", 2)
        fields = (line.partition(":") for line in lines)
        headers = tuple((name, value.strip(" \t")) for name, _, value in fields)
        known = {name.lower(): value for name, value in headers}
        url = target if re.match(r"https?://", target) else self._origin.url(target)
        self._head = method, url, headers
        self.expects_continue = known.get("expect", "").lower() == "100-continue"
        chunked = known.get("transfer-encoding", "").lower().endswith("chunked")
        self._length = None if chunked else int(known.get("content-length") or 0)
        return True

    def _read_counted(self, length: int) -> bool:
        if len(self._buffer) < length:
            return False
        self._body += self._buffer[:length]
        del self._buffer[:length]
        return True

    def _read_chunks(self) -> bool:
        while (line_end := self._buffer.find(b"\r\n")) >= 0:
            size = int(self._buffer[:line_end].partition(b";")[0], 16)
            start = line_end + 2
            if size == 0:
                end = self._buffer.find(b"\r\n\r\n", line_end)  # after the trailers, if any
                if end < 0:
                    return False
                del self._buffer[: end + 4]
                return True
            if len(self._buffer) < start + size + 2:
                return False
            self._body += self._buffer[start : start + size]
            del self._buffer[: start + size + 2]
        return False


def render(response: HttpResponse) -> bytes:
    """Return a response as HTTP/1.1 bytes."""
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + response.body


class MemorySocket:
    """The part of a socket that http.client and urllib use, in memory.

    The exchange is asked when the request is complete, in the call that writes its last byte; so
    a failure to connect is raised there, and a failure to read where the response is read, as
    with a real connection.

    Args:
        origin: The server it pretends to be connected to.
        timeout_s: The read timeout; None means none.
        forward: Really sends a request, whose bytes are the first argument.
    """

    def __init__(
        self,
        origin: Origin,
        timeout_s: float | None,
        forward: Callable[[bytes, HttpRequest], HttpResponse],
    ) -> None:
        self._origin = origin
        self._timeout_s = timeout_s
        self._forward = forward
        self._reader = RequestReader(origin)
        self._pending: HttpResponse | Exception | None = None
        self._closed = False
        self.is_forwarded = False
        """Whether a request has reached the real server: what fails then fails the reading."""

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Take bytes of the request; ask the exchange when it is complete."""
        if self._closed:
            raise OSError(errno.EBADF, _CLOSED)
        request = self._reader.feed(bytes(data))
        if request is not None:
            self.written(request)

    def written(self, request: HttpRequest) -> None:
        """Ask the exchange now that the request is complete; fail as a real connection would."""
        try:
            self.ask(request)
        except TransportFailure as failure:
            raise _os_error(failure) from failure

    def ask(self, request: HttpRequest) -> None:
        """Ask the exchange, and keep what it says for who reads the response.

        Raises:
            TransportFailure: The exchange says that connecting fails.
        """
        exchange = stack.exchange_for(Origin.of(request.url), f"{request.method} {request.url}")
        if exchange is None:  # no longer mocked: a client that can will connect again
            raise ConnectionResetError(errno.ECONNRESET, _CLOSED)
        written, self.is_forwarded = self._reader.written, False
        try:
            self._pending = exchange.handle(request, lambda: self._forward(written, request))
        except TransportFailure as failure:
            if failure.kind in _CONNECTING:
                raise
            self._pending = failure
        except (OSError, http.client.HTTPException) as failure:
            if not self.is_forwarded:
                raise
            self._pending = failure

    def makefile(self, mode: str = "rb", *args: Any, **kwargs: Any) -> io.BufferedReader:
        """Return the file from which the response to the last request is read."""
        pending, self._pending = self._pending, None
        return io.BufferedReader(_Reply(pending, self._timeout_s))

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` before it writes the body."""
        return self._reader.expects_continue

    def settimeout(self, timeout: float | None) -> None:
        """Set the read timeout in seconds."""
        self._timeout_s = timeout

    def gettimeout(self) -> float | None:
        """Return the read timeout in seconds."""
        return self._timeout_s

    def setblocking(self, flag: bool) -> None:
        """Do what a socket does with its timeout."""
        self._timeout_s = None if flag else 0.0

    def setsockopt(self, *args: Any) -> None:
        """Do nothing: there is no connection to tune."""

    def getpeername(self) -> tuple[str, int]:
        """Return host and port of the server."""
        return self._origin.host, self._origin.port

    def getsockname(self) -> tuple[str, int]:
        """Return an address of this machine."""
        return "127.0.0.1", 0

    def getpeercert(self, binary_form: bool = False) -> Any:
        """Return no certificate."""
        return None if binary_form else {}

    def fileno(self) -> int:
        """Return -1: nothing to select on."""
        return -1

    def shutdown(self, how: int) -> None:
        """Close it."""
        self._closed = True

    def close(self) -> None:
        """Close it; a response that is being read stays readable."""
        self._closed = True


class _Reply(io.RawIOBase):
    """The bytes of a response; its delay, or its failure, comes with the first of them."""

    def __init__(self, pending: HttpResponse | Exception | None, timeout_s: float | None) -> None:
        self._pending = pending
        self._timeout_s = timeout_s
        self._data: io.BytesIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._data is None:
            self._data = io.BytesIO(self._arrive())
        return self._data.readinto(buffer)

    def _arrive(self) -> bytes:
        pending, self._pending = self._pending, None
        try:
            if isinstance(pending, Exception):
                raise pending
            if pending is None:
                return b""  # nothing was asked: the peer closes
            if pending.delay_s > 0:
                wait(pending.delay_s, self._timeout_s)
        except TransportFailure as failure:
            raise _os_error(failure) from failure
        return render(pending)


def _os_error(failure: TransportFailure) -> OSError:
    """Return the error that a real socket would raise."""
    if failure.kind is FailureKind.REFUSED:
        return ConnectionRefusedError(errno.ECONNREFUSED, failure.message)
    if failure.kind is FailureKind.RESET:
        return ConnectionResetError(errno.ECONNRESET, failure.message)
    if failure.kind is FailureKind.UNRESOLVED:
        return socket.gaierror(socket.EAI_NONAME, failure.message)
    return TimeoutError(failure.message)
