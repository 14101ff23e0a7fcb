"""urllib3, and what is built on it (botocore, docker, old SDKs): a socket in memory.

As with http.client, whose connections urllib3 derives from: its own code writes the request and
reads the response; pools, retries, redirects and decoding are above. The exchange is asked when the
response is read: then the clock of a total timeout has stopped. urllib3-future, which niquests puts
in urllib3's place, has other connections and is left alone; see `mock_mcp.interceptors.niquests`.
"""

from __future__ import annotations

import http.client
import io
import socket
from functools import partial
from types import ModuleType
from typing import Any

from mock_mcp.exchange import FailureKind, HttpRequest, Origin, TransportFailure
from mock_mcp.interceptors.http_client import forward, patch_connections, timeout_s
from mock_mcp.interceptors.memory import MemorySocket
from mock_mcp.interceptors.patches import Patches

__all__ = ["patch"]


def patch(urllib3: ModuleType, patches: Patches) -> None:
    """Hook the connections of ``urllib3``."""
    plain = urllib3.connection.HTTPConnection
    if not issubclass(plain, http.client.HTTPConnection):
        return

    def open_socket(connection: Any, origin: Origin) -> MemorySocket:
        connection.is_verified = True  # nobody else is there: no warning
        real = partial(forward, connection, connect_timeout=connection.timeout)
        sock = _Socket(origin, timeout_s(connection), real)
        sock.connect_timeout = connection.timeout
        return sock

    def reading(original: Any) -> Any:
        def getresponse(self: Any, *args: Any, **kwargs: Any) -> Any:
            sock = self.sock
            if not isinstance(sock, _Socket):
                return original(self, *args, **kwargs)
            if self.timeout != sock.connect_timeout:  # urllib3 2 sets the one for reading there
                sock.settimeout(timeout_s(self))
            try:
                sock.ask_now()
            except TransportFailure as failure:
                raise _error(urllib3.exceptions, failure, self) from failure
            response = original(self, *args, **kwargs)
            sock.close()  # a pool could not tell whether it is still alive
            self.sock = None
            return response

        return getresponse

    patch_connections(plain, urllib3.connection.HTTPSConnection, open_socket, patches)
    patches.replace(plain, "getresponse", reading)


class _Socket(MemorySocket):
    """A socket that keeps the request until the response is read.

    botocore polls it for ``100 Continue`` before it writes a body, so it can be polled.
    """

    connect_timeout: Any = None
    """The connection's ``timeout`` when it connected."""
    _request: HttpRequest | None = None
    _polled: tuple[socket.socket, socket.socket] | None = None

    def written(self, request: HttpRequest) -> None:
        self._request = request

    def ask_now(self) -> None:
        """Ask the exchange what was written."""
        request, self._request = self._request, None
        if request is not None:
            self.ask(request)

    def makefile(self, mode: str = "rb", *args: Any, **kwargs: Any) -> io.BufferedReader:
        if self.expects_continue:
            return io.BufferedReader(io.BytesIO(b"HTTP/1.1 100 Continue\r\n\r\n"))
        return super().makefile(mode, *args, **kwargs)

    def fileno(self) -> int:
        """Return a descriptor that is readable while the client waits for ``100 Continue``."""
        if self._polled is None:
            self._polled = socket.socketpair()
            if self.expects_continue:
                self._polled[1].send(b"!")
        return self._polled[0].fileno()

    def close(self) -> None:
        super().close()
        polled, self._polled = self._polled, None
        for end in polled or ():
            end.close()


def _error(errors: Any, failure: TransportFailure, connection: Any) -> Exception:
    """Return urllib3's error for a connection that cannot be made."""
    error: Exception
    if failure.kind is FailureKind.CONNECT_TIMEOUT:
        message = f"Connection to {connection.host} timed out."
        error = errors.ConnectTimeoutError(connection, message)
    elif failure.kind is FailureKind.UNRESOLVED and hasattr(errors, "NameResolutionError"):
        reason = socket.gaierror(socket.EAI_NONAME, failure.message)
        error = errors.NameResolutionError(connection.host, connection, reason)
    else:
        message = f"Failed to establish a new connection: {failure.message}"
        error = errors.NewConnectionError(connection, message)
    return error
