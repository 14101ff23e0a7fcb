"""The local connection between processes: a Unix domain socket, or a named pipe on Windows."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mock_mcp.clock import monotonic
from mock_mcp.errors import DaemonUnreachable, InsecurePath
from mock_mcp.runtime.cache import EXHAUSTED
from mock_mcp.wire.channel import PROTOCOL

__all__ = [
    "IpcServer",
    "Listener",
    "check_peer",
    "connect_ipc",
    "identify",
    "is_listening",
]

P = TypeVar("P", bound=asyncio.BaseProtocol)

_NOT_RUNNING = (errno.ENOENT, errno.ECONNREFUSED)
_PROBE_TIMEOUT_S = 1.0
BACKLOG = 512
_HEALTH_REQUEST = b"GET /health HTTP/1.1\r\nHost: mock-mcp\r\nConnection: close\r\n\r\n"
_HEALTH_BYTES = 64 * 1024
_RETRY_S = 0.01
_TOO_BUSY = b"HTTP/1.1 503"


class _Health(msgspec.Struct):
    """What tells implementations and revisions apart in the answer of ``GET /health``."""

    protocol: Any = None


def peer_uid(sock: socket.socket) -> int | None:
    """Return the user id at the other end of a Unix socket; None where no system call tells."""
    if hasattr(socket, "SO_PEERCRED"):
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", credentials)
        if pid == 0:  # asyncio takes EAGAIN for a connection under way
            raise DaemonUnreachable("The daemon's queue of new connections is full; try again.")
        return int(uid)
    if sys.platform == "darwin":  # LOCAL_PEERCRED on SOL_LOCAL: struct xucred {version, uid, …}
        return int(struct.unpack_from("=II", sock.getsockopt(0, 1, 76))[1])
    return None


def check_peer(sock: socket.socket) -> None:
    """Check that the process at the other end runs as this user.

    Raises:
        InsecurePath: It runs as another user.
        DaemonUnreachable: There is no other end yet.
    """
    if sys.platform == "win32":
        return
    uid = peer_uid(sock)
    if uid is not None and uid != os.geteuid():
        raise InsecurePath(
            f"The process at the other end of the socket runs as uid {uid}, not {os.geteuid()}; "
            "only processes of the same user may talk to a daemon."
        )


def is_listening(path: str) -> bool:
    """Tell whether a process listens at a socket path; a slow one does.

    Raises:
        InsecurePath: The listener is another user's.
        OSError: The path cannot be reached for a reason other than that nobody listens.
    """
    if sys.platform == "win32":
        try:
            with open(path, "r+b", buffering=0):  # noqa: PTH123 - a pipe, not a file
                return True
        except FileNotFoundError:
            return False
        except OSError:
            return True  # all instances of the pipe are busy
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_PROBE_TIMEOUT_S)
        try:
            sock.connect(path)
        except TimeoutError:
            return True  # its backlog is full: slow is not dead
        except OSError as exc:
            if exc.errno in _NOT_RUNNING:
                return False
            if exc.errno == errno.EAGAIN:
                return True
            raise
        check_peer(sock)
        return True


class Listener(enum.Enum):
    """Who listens at a socket path."""

    NOBODY = "nobody"
    OURS = "ours"
    FOREIGN = "foreign"
    OTHER_REVISION = "other revision"
    SILENT = "silent"


def identify(path: str) -> Listener:
    """Ask ``GET /health`` who listens at a socket path.

    Returns:
        ``FOREIGN`` for whoever answers without a ``protocol`` (another implementation),
        ``OTHER_REVISION`` for one of another revision, ``SILENT`` for whoever does not answer in
        time or has too many connections: slow is not dead, and not foreign either.

    Raises:
        InsecurePath: The listener is another user's, or the path cannot be reached.
        OSError: This process cannot ask (`EXHAUSTED`).
    """
    deadline = monotonic() + _PROBE_TIMEOUT_S
    while (found := _ask_who(path)) is None and monotonic() < deadline:
        time.sleep(_RETRY_S)  # it is ending: soon nobody listens
    return found or Listener.SILENT


def _ask_who(path: str) -> Listener | None:
    """Ask once; None when whoever listens hung up without an answer."""
    try:
        if not is_listening(path):
            return Listener.NOBODY
    except OSError as exc:
        if exc.errno in EXHAUSTED:
            raise
        raise InsecurePath(f"The socket {path!r} cannot be reached: {exc}.") from None
    if sys.platform == "win32":  # a pipe has no read timeout; the handshake tells
        return Listener.OURS
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_PROBE_TIMEOUT_S)
            sock.connect(path)
            sock.sendall(_HEALTH_REQUEST)
            while len(answer) < _HEALTH_BYTES and (chunk := sock.recv(4096)):
                answer += chunk
    except TimeoutError:
        if not answer:
            return Listener.SILENT  # else it answered and keeps the connection, as ours does not
    except OSError as exc:  # it stopped meanwhile, or its queue is full
        if exc.errno in EXHAUSTED:
            raise
        return Listener.SILENT if exc.errno == errno.EAGAIN else Listener.NOBODY
    return _judge(answer) if answer else None


def _judge(answer: bytes) -> Listener:
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.startswith(_TOO_BUSY):
        return Listener.SILENT
    try:
        protocol = msgspec.json.decode(body, type=_Health).protocol
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Listener.FOREIGN
    if protocol is None:
        return Listener.FOREIGN
    return Listener.OURS if protocol == PROTOCOL else Listener.OTHER_REVISION


async def connect_ipc(factory: Callable[[], P], path: str) -> P:
    """Connect to a daemon and return the protocol made by ``factory``.

    Raises:
        DaemonUnreachable: Nobody listens there, or this process has no descriptor left.
        InsecurePath: The listener is another user's.
    """
    loop = asyncio.get_running_loop()
    try:
        if sys.platform == "win32":
            _, protocol = await loop.create_pipe_connection(factory, path)  # type: ignore[attr-defined]
            await asyncio.sleep(0)  # asyncio does not wait here for connection_made
            return protocol  # type: ignore[no-any-return]
        transport, protocol = await loop.create_unix_connection(factory, path)
    except OSError as exc:
        if exc.errno in EXHAUSTED:
            raise DaemonUnreachable(
                f"This process cannot connect to {path!r}: {exc.strerror}."
            ) from None
        raise DaemonUnreachable(
            f"No daemon listens at {path!r} ({exc.strerror or exc}). Start one with "
            "`mock-mcp daemon`, or run a test with MOCK_MCP=1."
        ) from None
    try:
        check_peer(transport.get_extra_info("socket"))
    except (InsecurePath, DaemonUnreachable):
        transport.abort()
        raise
    return protocol


class IpcServer:
    """Listen at a socket path, and notice when the path is no longer ours.

    The socket is bound under a temporary name and renamed into place once it listens, so that
    nobody ever sees a socket that refuses connections; its mode is 0600 whatever the umask.

    Args:
        factory: Makes the protocol of each connection.
        path: Where to listen.
    """

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol], path: str) -> None:
        self._factory = factory
        self.path = path
        self._server: asyncio.Server | None = None
        self._pipes: list[object] = []
        self._identity: tuple[int, int] | None = None

    async def start(self) -> None:
        """Begin to listen; replaces whatever is at the path."""
        loop = asyncio.get_running_loop()
        if sys.platform == "win32":
            self._pipes = await loop.start_serving_pipe(self._factory, self.path)  # type: ignore[attr-defined]
            return
        final = Path(self.path)
        # The caller holds the project's lock, so one name is enough, and a leftover is ours.
        temporary = final.with_name(f".{final.stem}")
        temporary.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(str(temporary))
            temporary.chmod(0o600)  # before it listens, so at no time can others connect
            sock.setblocking(False)
            self._server = await loop.create_unix_server(self._factory, sock=sock, backlog=BACKLOG)
            found = temporary.lstat()
            self._identity = (found.st_dev, found.st_ino)
            temporary.rename(final)
        except BaseException:
            sock.close()
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def is_in_place(self) -> bool:
        """Tell whether the path still leads to this server."""
        if sys.platform == "win32":
            return True
        try:
            found = Path(self.path).lstat()
        except OSError:
            return False
        return stat.S_ISSOCK(found.st_mode) and self._identity == (found.st_dev, found.st_ino)

    async def stop_accepting(self) -> None:
        """Accept nobody any more, and let what was accepted in this turn become connections.

        asyncio loses a connection whose server closes before that, and its peer waits for ever.
        """
        if self._server is not None:
            for sock in self._server.sockets:
                asyncio.get_running_loop().remove_reader(sock.fileno())
            await asyncio.sleep(0)

    def close(self) -> None:
        """Stop listening and remove the socket if it is still this server's."""
        server, self._server = self._server, None
        if server is not None:
            try:
                if self.is_in_place():
                    Path(self.path).unlink(missing_ok=True)
            finally:
                server.close()
        for pipe in self._pipes:
            pipe.close()  # type: ignore[attr-defined]
        self._pipes = []
