"""`MockMcpDaemon`: one process per project, on its socket, for as long as anybody needs it.

The daemon holds an advisory lock for life, and only its holder binds the socket, writes the
registry and removes both. A housekeeping tick notices when the socket or the registry was taken
away (the npm client deletes a socket after three missed health checks) and puts them back, and
stops the daemon when no run was connected for long enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from types import TracebackType
from typing import Self

from mock_mcp._version import __version__
from mock_mcp.daemon.batch_log import BatchLog
from mock_mcp.daemon.control import Control
from mock_mcp.daemon.gate import Gate
from mock_mcp.daemon.http import HttpConnection
from mock_mcp.daemon.hub import Clock, Hub
from mock_mcp.daemon.peer import TestPeer
from mock_mcp.errors import (
    AlreadyRunning,
    ConfigurationError,
    LimitExceeded,
    MockMcpError,
)
from mock_mcp.limits import Limits
from mock_mcp.runtime.cache import CacheDirectory, is_on
from mock_mcp.runtime.ipc import IpcServer, Listener, check_peer, identify, is_listening
from mock_mcp.runtime.launch import refuse_foreign
from mock_mcp.runtime.locks import FileLock
from mock_mcp.runtime.project import Project, display_path
from mock_mcp.runtime.shield import shielded
from mock_mcp.runtime.websocket import WebSocketLink
from mock_mcp.types import DaemonInfo
from mock_mcp.wire.channel import CloseReason

__all__ = ["MockMcpDaemon"]

_LOCK_WAIT_S = 5.0
"""How long a starting daemon waits for one that is just stopping."""
_HOUSEKEEPING_S = 1.0
_RESERVED_DESCRIPTORS = 32
"""Descriptors kept for files and pipes when the process may open only a few."""


class MockMcpDaemon:
    """Serve one project until stopped; ``async with`` starts and stops it.

    Args:
        project_root: The project; found from the working directory when None.
        cache_dir: The directory that holds ``mock-mcp/``; see `default_cache_dir`.
        limits: What it accepts and for how long it waits.
        log_batches: Whether to write the batch log; ``MOCK_MCP_LOG=1`` decides when None.
        clock: Where time comes from.
        logger: Where it logs.

    Raises (when started):
        AlreadyRunning: A daemon of this project runs.
        VersionMismatch: A daemon of another implementation serves the project.
        InsecurePath: The cache directory is not private.
        ConfigurationError: The cache directory cannot be written.
    """

    def __init__(
        self,
        project_root: str | os.PathLike[str] | None = None,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        limits: Limits | None = None,
        log_batches: bool | None = None,
        clock: Clock | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.project = Project.resolve(project_root)
        self.cache = CacheDirectory(cache_dir)
        self.version = __version__
        self.project_id = self.project.id
        self.project_root = display_path(self.project.root)
        self.token = secrets.token_hex(32)
        self.daemon_id = secrets.token_hex(8)
        self._logger = logger or logging.getLogger(__name__)
        self._clock = clock or Clock()
        self.started_at = self._clock.now()
        if log_batches is None:
            log_batches = is_on("MOCK_MCP_LOG")
        self._batch_log = (
            BatchLog(self.cache.logs(self.project.id), logger=self._logger) if log_batches else None
        )
        self.hub = Hub(
            self.limits, clock=self._clock, batch_log=self._batch_log, logger=self._logger
        )
        self._gate = Gate(self.project.root, cache_dir=self.cache.contracts())
        self._control = Control(self.hub, self, self._gate)
        self._lock = FileLock(self.cache.lock(self.project.id))
        self._server = IpcServer(self._connection, self.cache.ipc_path(self.project.id))
        self._transports: set[asyncio.Transport] = set()
        self._max_connections = _max_connections(self.limits.connections)
        self._drained = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self._housekeeper: asyncio.Task[None] | None = None
        self.info = DaemonInfo(
            self.project.id,
            self.project_root,
            self._server.path,
            self.token,
            os.getpid(),
            self._clock.iso(self.started_at),
            self.version,
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Take the project's lock, write the registry and listen."""
        try:
            await self._begin()
        except OSError as exc:
            raise ConfigurationError(
                f"The daemon's files in {display_path(self.cache.path)} cannot be written ({exc}); "
                "repair it, or set MOCK_MCP_CACHE_DIR to a directory you can write to."
            ) from exc

    async def _begin(self) -> None:
        await self._take_lock()
        try:
            listener = identify(self._server.path)
            refuse_foreign(listener, self.project_root, self._server.path)
            if listener is not Listener.NOBODY:
                raise self._already_running()
            self.cache.write(self.info)
            await self._server.start()
        except BaseException:
            self._remove_files()
            self._lock.release()
            raise
        self._housekeeper = asyncio.get_running_loop().create_task(self._keep_house())
        self._stopped.clear()
        self._stopping = None
        self._logger.info("serving %s at %s", self.project_root, self._server.path)

    async def serve(self) -> None:
        """Serve until somebody asks the daemon to stop, and it has."""
        try:
            await self._stopped.wait()
        finally:
            await self.stop()

    def request_stop(self) -> None:
        """Begin to stop; safe to call from a signal handler of the loop, and more than once."""
        if self._stopping is None and self._housekeeper is not None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())

    async def stop(self) -> None:
        """Stop within ``limits.stop_s`` whatever the peers do, leaving no socket or registry."""
        self.request_stop()
        if self._stopping is not None:
            await shielded(self._stopping)

    async def _stop(self) -> None:
        assert self._housekeeper is not None
        self._housekeeper.cancel()
        await self._server.stop_accepting()
        self._remove_files()
        await asyncio.sleep(0)  # answers under way are written before their transports close
        for transport in list(self._transports):
            protocol = transport.get_protocol()
            if isinstance(protocol, WebSocketLink):
                protocol.close(*CloseReason.SHUTTING_DOWN)
        self.hub.close()
        self._gate.close()
        await asyncio.sleep(0)
        for transport in list(self._transports):
            if not isinstance(transport.get_protocol(), WebSocketLink):
                transport.close()
        if self._transports:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.limits.stop_s):
                    await self._drained.wait()
        for transport in list(self._transports):
            transport.abort()
        await asyncio.sleep(0)
        if self._batch_log is not None:
            self._batch_log.close()
        self._lock.release()
        self._housekeeper = None
        self._stopped.set()
        self._logger.info("stopped serving %s", self.project_root)

    # -- Inside ----------------------------------------------------------------------------

    async def _take_lock(self) -> None:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while not self._lock.try_acquire():
            # The holder serves, or is on its way out: its socket goes before its lock.
            if is_listening(self._server.path) or time.monotonic() >= deadline:
                raise self._already_running()
            await asyncio.sleep(0.01)

    def _already_running(self) -> AlreadyRunning:
        return AlreadyRunning(
            f"A daemon for {self.project_root} is running already; `mock-mcp status` shows it, "
            "`mock-mcp stop` stops it."
        )

    def _connection(self) -> HttpConnection:
        return HttpConnection(
            self._control,
            self.token,
            lambda: TestPeer(self.hub, self, logger=self._logger),
            self.limits,
            on_made=self._accept,
            on_lost=self._forget,
            logger=self._logger,
        )

    def _forget(self, transport: asyncio.Transport) -> None:
        self._transports.discard(transport)
        if not self._transports:
            self._drained.set()

    def _accept(self, transport: asyncio.Transport) -> LimitExceeded | None:
        """Note a new connection; return why it is refused, or None."""
        if self._stopping is not None:  # accepted a moment ago: nobody would close it any more
            transport.abort()
            return None
        sock = transport.get_extra_info("socket")
        if sock is not None:
            try:
                check_peer(sock)
            except Exception as exc:  # noqa: BLE001 - whatever is wrong with it, it may not stay
                self._logger.warning("refused a connection: %s", exc)
                transport.abort()
                return None
        if len(self._transports) >= self._max_connections:
            return LimitExceeded(
                f"{self._max_connections} connections are open (limit connections, or the "
                "process's limit of open files)."
            )
        self._transports.add(transport)
        self._drained.clear()
        return None

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            if self._is_idle():
                self._logger.info("no runs for %g s; stopping", self.limits.idle_s)
                self.request_stop()
                return
            try:
                await self._repair()
            except (OSError, MockMcpError) as exc:
                self._logger.warning("cannot repair the registry or socket: %s", exc)

    def _is_idle(self) -> bool:
        since, limit_s = self.hub.idle_since, self.limits.idle_s
        return since is not None and limit_s is not None and self._clock.now() - since >= limit_s

    async def _repair(self) -> None:
        """Put the registry and the socket back if somebody removed them.

        If the lock file is gone, or somebody else listens at the socket's path, this daemon is no
        longer the project's: it stops without touching what is there now.
        """
        in_place = self._server.is_in_place()
        if not self._lock.is_in_place() or (not in_place and is_listening(self._server.path)):
            self._logger.warning("another daemon took the place of this one; stopping")
            self.request_stop()
            return
        if self._registry_token() != self.token:
            self.cache.write(self.info)
        if not in_place:
            self._logger.warning("the socket %s was removed; listening again", self._server.path)
            await self._server.stop_accepting()
            self._server.close()
            await self._server.start()

    def _registry_token(self) -> str | None:
        try:
            found = self.cache.read(self.project.id)
        except Exception:  # noqa: BLE001 - unreadable is as good as gone
            return None
        return found.token if found else None

    def _remove_files(self) -> None:
        """Remove the registry, and listen no more, on a file system that is read-only too."""
        for remove in (self._remove_registry, self._server.close):
            try:
                remove()
            except OSError as exc:
                self._logger.warning("cannot remove the registry or socket: %s", exc)

    def _remove_registry(self) -> None:
        if self._registry_token() == self.token:
            self.cache.registry(self.project.id).unlink(missing_ok=True)


def _max_connections(limit: int) -> int:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return limit
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return limit
    return max(1, min(limit, soft - _RESERVED_DESCRIPTORS))
