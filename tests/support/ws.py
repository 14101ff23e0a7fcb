"""A WebSocket client on a plain socket: RFC 6455 by hand, so that nothing is done for the test.

It speaks the 0.5 protocol: no extension field unless the test passes one.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import time
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
HANG_S = 20.0
"""Nothing a test waits for takes this long; it only turns a hang into a failure."""


class Frame(NamedTuple):
    fin: bool
    opcode: int
    payload: bytes


class Closed(Exception):
    """The daemon closed: with a close frame, or (code 1006) without one."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed: {code} {reason!r}")
        self.code = code
        self.reason = reason


def mask(payload: bytes, key: bytes) -> bytes:
    if not payload:
        return payload
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return number.to_bytes(len(payload), "big")


def encode_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    key = b"\x00\x00\x00\x00" if len(payload) > 1_000_000 else os.urandom(4)
    head = bytes([(0x80 if fin else 0) | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", size)
    return head + key + (payload if key == b"\x00\x00\x00\x00" else mask(payload, key))


class WsClient:
    """One WebSocket connection to ``/test``.

    Args:
        ipc_path: The daemon's socket.
        token: What `hello` says.
        headers: More header lines of the opening handshake.
        read_bytes: Most bytes asked of the socket at once.
    """

    def __init__(
        self,
        ipc_path: str,
        token: str,
        *,
        headers: Iterable[str] = (),
        read_bytes: int = 65536,
    ) -> None:
        self.token = token
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(HANG_S)
        self.sock.connect(ipc_path)
        self._read_bytes = read_bytes
        self._buffer = bytearray()
        self.run_id = ""
        lines = [
            "GET /test HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
            *headers,
        ]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                break
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        self.response = head.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    # -- Sending -----------------------------------------------------------------------------

    def send_frame(self, opcode: int, payload: bytes, *, fin: bool = True) -> None:
        self.sock.sendall(encode_frame(opcode, payload, fin=fin))

    def send_text(self, text: bytes | str, *, fragment: int | None = None) -> None:
        data = text.encode() if isinstance(text, str) else text
        size = fragment or len(data) or 1
        parts = [data[i : i + size] for i in range(0, len(data), size)] or [b""]
        for index, part in enumerate(parts):
            self.send_frame(CONT if index else TEXT, part, fin=index == len(parts) - 1)

    def send(self, message: Any, *, fragment: int | None = None) -> None:
        self.send_text(json.dumps(message, ensure_ascii=False), fragment=fragment)

    def hello(self, run_id: str, **more: Any) -> dict[str, Any]:
        """Say HELLO as a 0.5 client does, plus ``more``; return the HELLO_ACK."""
        self.run_id = run_id
        self.send(
            {"type": "HELLO_TEST", "token": self.token, "runId": run_id, "pid": 4242, "cwd": "/"}
            | more
        )
        return self.recv()

    def submit(self, requests: list[Any], **more: Any) -> None:
        message = {"type": "BATCH_MOCK_REQUEST", "runId": self.run_id, "requests": requests}
        self.send(message | more)

    def ping(self, payload: bytes = b"") -> None:
        """Ping and wait for the pong."""
        self.send_frame(PING, payload)
        frame = self.recv_frame()
        assert frame == Frame(True, PONG, payload), frame

    def settle(self) -> None:
        """Return when the daemon has dealt with all that was sent; nothing else may come."""
        self.ping(os.urandom(8))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Do the closing handshake."""
        self.send_frame(CLOSE, struct.pack(">H", code) + reason.encode())
        try:
            while True:
                self.recv_frame()
        except (Closed, ConnectionError):
            self.abort()

    def abort(self) -> None:
        """Drop the connection as a killed process does."""
        self.sock.close()

    # -- Receiving -----------------------------------------------------------------------------

    def recv_frame(self) -> Frame:
        """Return the next frame; answer nothing.

        Raises:
            Closed: It is a close frame, or the connection ended.
        """
        first, second = self._take(2)
        assert not first & 0x70, "a reserved bit is set: a compressed frame"
        assert not second & 0x80, "a server must not mask"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._take(8))
        frame = Frame(bool(first & 0x80), first & 0x0F, self._take(size))
        if frame.opcode == CLOSE:
            code = struct.unpack(">H", frame.payload[:2])[0] if frame.payload else 1005
            raise Closed(code, frame.payload[2:].decode())
        return frame

    def recv_text(self) -> str:
        """Return the next text message, joining fragments and skipping control frames."""
        parts = b""
        while True:
            frame = self.recv_frame()
            if frame.opcode in (TEXT, CONT):
                parts += frame.payload
                if frame.fin:
                    return parts.decode()

    def recv(self) -> dict[str, Any]:
        """Return the next message."""
        message = json.loads(self.recv_text())
        assert isinstance(message, dict)
        return message

    def expect_close(self) -> tuple[int, str]:
        """Return code and reason of the close frame; any message before it is a failure."""
        try:
            frame = self.recv_frame()
        except Closed as closed:
            return closed.code, closed.reason
        raise AssertionError(f"expected a close, got {frame}")

    def wait_end(self) -> None:
        """Return when the daemon has dropped the connection."""
        while self._more():
            pass

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._more():
                raise Closed(1006, "")
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _more(self) -> bool:
        try:
            data = self.sock.recv(self._read_bytes)
        except ConnectionError:
            return False
        self._buffer += data
        return bool(data)


def request(request_id: str = "a", **more: Any) -> dict[str, Any]:
    """Return a request as a 0.5 client sends it."""
    return {"requestId": request_id, "endpoint": "/user", "method": "GET"} | more


def eventually(what: Any, *, timeout_s: float = HANG_S) -> Any:
    """Return the first true result of ``what``; for outcomes that no message announces."""
    deadline = time.monotonic() + timeout_s
    while not (result := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return result
