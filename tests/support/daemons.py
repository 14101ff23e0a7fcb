"""Daemons for tests: in a thread of this process, or as a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from mock_mcp.daemon import MockMcpDaemon
from mock_mcp.limits import Limits
from mock_mcp.runtime.locks import FileLock
from mock_mcp.runtime.project import compute_project_id
from support.http import ControlClient
from support.ws import HANG_S, WsClient, eventually

T = TypeVar("T")


class ServedDaemon:
    """A `MockMcpDaemon` on an event loop of its own, for blocking clients."""

    def __init__(self, project: Path, cache: Path, limits: Limits, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        try:
            self.daemon = self.run(self._make(project, cache, limits, options))
        except BaseException:
            self._end_loop()
            raise
        self.info = self.daemon.info
        self.token = self.daemon.token
        self.path = self.info.ipc_path
        self.control = ControlClient(self.path, self.token)
        self._clients: list[WsClient] = []

    async def _make(
        self, project: Path, cache: Path, limits: Limits, options: dict[str, Any]
    ) -> MockMcpDaemon:
        daemon = MockMcpDaemon(project, cache_dir=cache, limits=limits, **options)
        await daemon.start()
        return daemon

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the daemon's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(HANG_S)

    def ws(self, **options: Any) -> WsClient:
        """Return a WebSocket connection that ends with the daemon."""
        client = WsClient(self.path, self.token, **options)
        self._clients.append(client)
        return client

    def attach(self, run_id: str = "run-1", **hello: Any) -> WsClient:
        """Return a connection that has said HELLO, without capabilities unless given."""
        client = self.ws()
        ack = client.hello(run_id, **hello)
        assert ack["type"] == "HELLO_ACK", ack
        return client

    def close(self) -> None:
        for client in self._clients:
            client.abort()
        try:
            self.run(self.daemon.stop())
        finally:
            self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HANG_S)
        self._loop.close()


class DaemonProcess:
    """``python -m mock_mcp daemon --project-root DIR`` in the foreground."""

    def __init__(
        self,
        project: Path,
        cache: Path,
        *,
        arguments: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        umask: int = -1,
    ) -> None:
        self.project = project
        self.cache = cache
        self.id = compute_project_id(project)
        command = [sys.executable, "-P", "-m", "mock_mcp", "daemon"]
        command += ["--project-root", str(project), *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(cache, env),
            umask=umask,
        )

    @property
    def registry(self) -> Path:
        return self.cache / "mock-mcp" / f"{self.id}.json"

    @property
    def socket(self) -> Path:
        return self.cache / "mock-mcp" / f"{self.id}.sock"

    @property
    def path(self) -> str:
        return str(self.socket)

    def entry(self) -> dict[str, Any]:
        """Return the registry file's content."""
        import json

        entry = json.loads(self.registry.read_bytes())
        assert isinstance(entry, dict)
        return entry

    @property
    def token(self) -> str:
        return str(self.entry()["token"])

    @property
    def control(self) -> ControlClient:
        return ControlClient(self.path, self.token)

    def wait_ready(self) -> DaemonProcess:
        """Return when the process says that it serves."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], HANG_S)
        assert ready, "the daemon said nothing"
        line = self.process.stdout.readline()
        assert line.startswith(b"Serving "), (
            line,
            self.process.stderr and self.process.stderr.read(),
        )
        return self

    def wait_end(self) -> int:
        """Return the exit code."""
        return self.process.wait(HANG_S)

    def end(self) -> tuple[int, str]:
        """Return exit code and error output of a process that ends by itself."""
        _, error = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, error.decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=HANG_S)


def environment(cache: Path, more: dict[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment for a child that uses a cache directory."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MOCK_MCP")}
    return env | {"MOCK_MCP_CACHE_DIR": str(cache)} | (more or {})


def listener_pid(path: Path) -> int | None:
    """Return the process that listens at a socket; None when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(HANG_S)
        try:
            sock.connect(str(path))
        except OSError:
            return None
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", credentials)[0])


def kill_daemons(cache: Path) -> None:
    """Kill the daemons of a temporary cache directory, and wait until they are gone."""
    pids = {listener_pid(path) for path in cache.glob("mock-mcp/*.sock")}
    pids |= {pid for pid, _ in processes_of(cache)}
    for pid in pids - {None, os.getpid()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # type: ignore[arg-type]
    for path in cache.glob("mock-mcp/????????????????.flock"):
        with FileLock(path) as lock:
            eventually(lock.try_acquire)


def processes_of(directory: Path) -> Iterator[tuple[int, str]]:
    """Yield (pid, command line) of other processes that name a directory in their environment."""
    needle = os.fsencode(directory)
    for found in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(found.name) != os.getpid() and needle in (found / "environ").read_bytes():
                command = (
                    (found / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                if command:
                    yield int(found.name), command
