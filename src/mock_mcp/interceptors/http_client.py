"""http.client, and with it urllib.request: connections whose socket is in memory.

A request that is mocked gets an in-memory socket before http.client would connect; its own parser
reads the response. The URL of a request, which a proxied connection does not know before, is seen
at ``putrequest``; there a connection kept alive from before the mocking began (or ended) is dropped
too. Subclasses that connect in their own way (urllib3, Unix sockets) are left alone.
"""

from __future__ import annotations

import http.client
import socket
import threading
import weakref
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from mock_mcp.exchange import HttpRequest, HttpResponse, Origin
from mock_mcp.interceptors import stack
from mock_mcp.interceptors.forward import CHUNK_BYTES, forwarding, received, whole
from mock_mcp.interceptors.memory import MemorySocket
from mock_mcp.interceptors.patches import Patches

__all__ = ["forward", "patch", "patch_connections", "timeout_s"]


def patch(http_client: ModuleType, patches: Patches) -> None:
    """Hook the connections of ``http.client``."""

    def open_socket(connection: Any, origin: Origin) -> MemorySocket:
        return MemorySocket(origin, timeout_s(connection), partial(forward, connection))

    plain = http_client.HTTPConnection
    secure = getattr(http_client, "HTTPSConnection", None)  # absent in a Python without ssl
    patch_connections(plain, secure, open_socket, patches)


def patch_connections(
    plain: Any,
    secure: Any | None,
    open_socket: Callable[[Any, Origin], MemorySocket],
    patches: Patches,
) -> None:
    """Hook a pair of connection classes that are http.client's or derived from them.

    Args:
        plain: The class of HTTP connections.
        secure: The class of HTTPS connections.
        open_socket: Returns the socket that a connection to an origin gets.
        patches: Where the changes are kept.
    """

    def origin_of(connection: Any, url: str = "") -> Origin:
        if url.startswith(("http://", "https://")):
            return Origin.of(url)  # through a proxy
        scheme = "https" if secure and isinstance(connection, secure) else "http"
        # Private, but there is no other way to know where a tunnel leads.
        if tunnel := connection._tunnel_host:  # noqa: SLF001
            return Origin.make(scheme, tunnel, connection._tunnel_port)  # noqa: SLF001
        return Origin.make(scheme, connection.host, connection.port)

    # Connections outlive the mocking: at its end they lose their socket, and connect again.
    in_memory: weakref.WeakSet[Any] = weakref.WeakSet()
    lock = threading.Lock()

    def open_in_memory(connection: Any, origin: Origin) -> None:
        connection.sock = open_socket(connection, origin)
        with lock:
            in_memory.add(connection)

    def disconnect_all() -> None:
        if not in_memory:
            return
        with lock:
            for connection in in_memory:
                if isinstance(connection.sock, MemorySocket):
                    connection.sock.close()
                    connection.sock = None

    def connecting(original: Any) -> Any:
        def connect(self: Any) -> None:
            origin = origin_of(self)
            if stack.exchange_for(origin, f"Connecting to {origin.url('')}") is None:
                original(self)
            else:
                open_in_memory(self, origin)

        return connect

    def putting(original: Any) -> Any:
        def putrequest(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> None:
            if type(self).connect in ours:
                origin = origin_of(self, url)
                target = url if url.startswith("http") else origin.url(url)
                mocked = stack.exchange_for(origin, f"{method} {target}") is not None
                if self.sock is not None and mocked is not isinstance(self.sock, MemorySocket):
                    self.close()
                if mocked and self.sock is None and self.auto_open:
                    open_in_memory(self, origin)
            original(self, method, url, *args, **kwargs)

        return putrequest

    connections = [plain] if secure is None else [plain, secure]
    for connection in connections:
        patches.replace(connection, "connect", connecting)
        if connection is plain or not issubclass(connection, plain):
            patches.replace(connection, "putrequest", putting)
    patches.at_undo(disconnect_all)
    ours = {connection.connect for connection in connections}


def forward(
    connection: Any, written: bytes, request: HttpRequest, connect_timeout: Any = ...
) -> HttpResponse:
    """Really send a request that a connection wrote to its memory socket.

    The connection connects as it would have, through proxies and tunnels; the socket in memory is
    its own again when this returns.

    Args:
        connection: The connection.
        written: The request as it was written.
        request: The same, read.
        connect_timeout: The ``timeout`` the connection has while it connects, if not its own.
    """
    memory, timeout = connection.sock, connection.timeout
    connection.sock = None
    try:
        with forwarding():
            connection.timeout = timeout if connect_timeout is ... else connect_timeout
            connection.connect()
            memory.is_forwarded = True
            connection.sock.settimeout(memory.gettimeout())
            connection.sock.sendall(written)
            with http.client.HTTPResponse(connection.sock, method=request.method) as real:
                real.begin()
                body = whole(iter(lambda: real.read(CHUNK_BYTES), b""), request)
                if real.length:
                    raise http.client.IncompleteRead(body, real.length)
                return received(request, real.status, real.getheaders(), body)
    finally:
        if connection.sock is not None:
            connection.sock.close()
        connection.sock, connection.timeout = memory, timeout


def timeout_s(connection: Any) -> float | None:
    """Return the timeout that a socket of the connection would have."""
    given = connection.timeout
    if given is None or isinstance(given, int | float):
        return given
    return socket.getdefaulttimeout()
