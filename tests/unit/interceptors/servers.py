"""The two ends of a parity test: an exchange, and a real server on loopback, with one answer."""

from __future__ import annotations

import http.server
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from mock_mcp.exchange import (
    Decision,
    HostRules,
    HttpRequest,
    HttpResponse,
    NetworkBlocked,
    Origin,
    TransportFailure,
)

Answer = Callable[[HttpRequest], HttpResponse]


def json_answer(request: HttpRequest) -> HttpResponse:
    """Answer with what was asked."""
    return HttpResponse.from_mock(request, {"method": request.method, "body": request.body_value()})


class FakeExchange:
    """An exchange that answers with a function and remembers what it was asked."""

    def __init__(self, answer: Answer = json_answer, rules: HostRules | None = None) -> None:
        self.answer = answer
        self.rules = rules or HostRules()
        self.requests: list[HttpRequest] = []
        self.refusals: list[NetworkBlocked] = []

    def decide(self, origin: Origin) -> Decision:
        return self.rules.decide(origin)

    def handle(self, request: HttpRequest, send: Any = None) -> HttpResponse:
        self.requests.append(request)
        return self.answer(request)

    async def handle_async(self, request: HttpRequest, send: Any = None) -> HttpResponse:
        return self.handle(request)

    def blocked(self, error: NetworkBlocked) -> None:
        self.refusals.append(error)


class RealServer:
    """A server on loopback that gives the bytes of the same answer."""

    def __init__(self, answer: Answer = json_answer) -> None:
        self.requests: list[HttpRequest] = []
        self.release = threading.Event()
        """Set to end the delays of answers."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                host = self.headers["Host"]
                url = self.path if self.path.startswith("http") else f"http://{host}{self.path}"
                request = HttpRequest(
                    self.command, url, tuple(self.headers.items()), self._read_body()
                )
                outer.requests.append(request)
                try:
                    response = answer(request)
                except TransportFailure:
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.close_connection = True
                    return
                if response.delay_s:
                    outer.release.wait(response.delay_s)
                self.wfile.write(_render(response))
                self.close_connection = response.header("connection") == "close"

            do_POST = do_PUT = do_DELETE = do_HEAD = do_PURGE = do_GET  # noqa: N815

            def _read_body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, *args: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that hang up are part of the tests."""

            def shutdown_request(self, request: Any) -> None:
                self.close_request(request)

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _render(response: HttpResponse) -> bytes:
    head = f"HTTP/1.1 {response.status} {response.reason}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in response.headers)
    return head.encode("latin-1") + b"\r\n" + response.body


def free_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)
