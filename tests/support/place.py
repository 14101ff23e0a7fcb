"""A place where things go wrong: a project, its daemons, and clients and adapters of it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mock_mcp
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.launch import (
    ensure_daemon_running,
    ensure_daemon_running_async,
    find_daemon,
)
from mock_mcp.runtime.locks import FileLock
from mock_mcp.runtime.project import Project
from mock_mcp.serving.claims import Claims
from mock_mcp.serving.router import Router
from mock_mcp.serving.times import Times
from mock_mcp.types import DaemonInfo
from support.daemons import listener_pid, processes_of
from support.responder import until
from support.ws import eventually


class Place:
    """A project and its cache directory."""

    def __init__(self, root: Path, cache_dir: Path) -> None:
        self.root = root
        self.cache_dir = cache_dir
        self.project = Project.resolve(root)
        self.cache = CacheDirectory(cache_dir)
        self.socket = Path(self.cache.ipc_path(self.project.id))

    def start(self, **options: Any) -> DaemonInfo:
        """Return the daemon, started if none runs."""
        return ensure_daemon_running(self.root, cache_dir=self.cache_dir, **options)

    async def start_async(self) -> DaemonInfo:
        """Do that without blocking the loop."""
        return await ensure_daemon_running_async(self.root, cache_dir=self.cache_dir)

    async def successor(self, before: DaemonInfo) -> DaemonInfo:
        """Return the daemon that somebody else starts after this one."""

        async def other() -> DaemonInfo | None:
            found = find_daemon(self.project, self.cache)
            return found if found and found.pid != before.pid else None

        successor: DaemonInfo = await until(other)
        return successor

    def pid(self) -> int | None:
        """Return the process that listens."""
        return listener_pid(self.socket)

    def daemons(self) -> list[int]:
        """Return the daemon processes, those that start included."""
        found = processes_of(self.cache_dir)
        return [pid for pid, command in found if " -m mock_mcp daemon " in command]

    def kill_daemon(self, pid: int) -> None:
        """Kill the daemon; return when it holds nothing any more."""
        kill(pid)
        with FileLock(self.cache.lock(self.project.id)) as lock:
            eventually(lock.try_acquire)

    def connect(self, **options: Any) -> Any:
        return mock_mcp.connect(**self._options(options))

    def connect_sync(self, **options: Any) -> mock_mcp.SyncBatchMockCollector:
        return mock_mcp.connect_sync(**self._options(options))

    @asynccontextmanager
    async def adapter(self, name: str, *, own: bool = True) -> AsyncIterator[Claims]:
        """What an MCP adapter is made of, without its MCP; with ``own`` it starts the daemon."""
        router = Router(self.cache, self.project if own else None, times=Times(refresh_s=0.1))
        claims = Claims(router, name)
        try:
            yield claims
        finally:
            await claims.close()
            await router.close()

    def _options(self, options: dict[str, Any]) -> Any:
        where = {"project_root": self.root, "cache_dir": self.cache_dir, "enabled": True}
        return where | {"timeout_s": None} | options


def descriptors(pid: int | str = "self") -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def ended(pid: int) -> bool:
    """Tell whether a process is gone, or only waits to be collected."""
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return True


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    assert pid != os.getpid()
    os.kill(pid, number)
