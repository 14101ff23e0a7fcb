"""Find the project's daemon, or start it: exactly one, whatever races.

Strategy: a daemon is found by connecting to its socket, never by a pid. Only when nobody listens
(ENOENT, ECONNREFUSED) does a process take the project's start lock, look again, spawn the daemon
and wait for its word on a pipe. The daemon itself holds a second lock for life, so even starters
that bypass the first one cannot make two. A daemon that is slow to accept is alive: it is waited
for.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mock_mcp.clock import monotonic
from mock_mcp.errors import (
    AlreadyRunning,
    ConfigurationError,
    DaemonStartFailed,
    DaemonUnreachable,
    InsecurePath,
    MockMcpError,
    VersionMismatch,
)
from mock_mcp.runtime.cache import EXHAUSTED, CacheDirectory
from mock_mcp.runtime.ipc import Listener, identify, is_listening
from mock_mcp.runtime.locks import FileLock
from mock_mcp.runtime.project import Project, display_path
from mock_mcp.types import DaemonInfo

__all__ = [
    "START_TIMEOUT_S",
    "Readiness",
    "ensure_daemon_running",
    "ensure_daemon_running_async",
    "find_daemon",
    "find_daemons",
    "refuse_foreign",
]

START_TIMEOUT_S = 15.0
"""How long a start may take: a hundred times the usual, for machines under load."""
_RETRY_S = 0.01
_LOG_TAIL_BYTES = 2000


class Readiness(msgspec.Struct, frozen=True):
    """What a starting daemon that gives up writes on its readiness pipe: the reason.

    A daemon that is ready writes an empty line instead.
    """

    code: str
    message: str


def find_daemon(project: Project, cache: CacheDirectory) -> DaemonInfo | None:
    """Return the running daemon of a project, or None.

    Raises:
        VersionMismatch: What runs is another implementation or revision.
        InsecurePath: Its registry or socket is not private.
    """
    path = cache.ipc_path(project.id)
    listener = identify(path)
    if listener is Listener.NOBODY:
        return None
    refuse_foreign(listener, display_path(project.root), path)
    return cache.read(project.id)


def refuse_foreign(listener: Listener, project_root: str, path: str) -> None:
    """Refuse to go on when another implementation or revision serves a project.

    Raises:
        VersionMismatch: The message says whose it is and how to stop it.
    """
    if listener is Listener.OTHER_REVISION:
        raise VersionMismatch(
            f"A mock-mcp of another protocol revision serves {project_root} at {path}. Stop it "
            "with the version that started it (`mock-mcp stop`), or install matching versions."
        )
    if listener is Listener.FOREIGN:
        raise VersionMismatch(
            f"Another implementation of mock-mcp serves {project_root} at {path}; it would let "
            "unchecked data through. Stop it with the tool that started it (for the npm package: "
            "`npx mock-mcp stop`), then try again."
        )


def find_daemons(
    cache: CacheDirectory, logger: logging.Logger | None = None
) -> Iterator[DaemonInfo]:
    """Yield the daemons that run, of every project; an unsafe registry is logged and skipped."""
    logger = logger or logging.getLogger(__name__)
    for project_id in cache.project_ids():
        try:
            if is_listening(cache.ipc_path(project_id)) and (info := cache.read(project_id)):
                yield info
        except (InsecurePath, OSError) as exc:
            logger.warning("skipping daemon %s: %s", project_id, exc)


def ensure_daemon_running(
    project_root: str | os.PathLike[str] | None = None,
    *,
    file_path: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    timeout_s: float = START_TIMEOUT_S,
    logger: logging.Logger | None = None,
) -> DaemonInfo:
    """Return the project's daemon, starting it if none runs.

    Args:
        project_root: The project's root; when None it is found from ``file_path``, else from the
            working directory.
        file_path: A file of the project, usually the test.
        cache_dir: The directory that holds ``mock-mcp/``; the started daemon uses it too.
        timeout_s: Seconds to wait for a daemon that starts or is slow.
        logger: Where progress is logged.

    Raises:
        DaemonStartFailed: The process ended before it was ready, or its files cannot be written;
            the message quotes the reason.
        DaemonUnreachable: Nothing was ready within the timeout, or this process has run out of
            descriptors or memory.
        VersionMismatch: A daemon of another implementation or revision serves the project.
        InsecurePath: The cache directory or the socket is not private.
        ConfigurationError: The project root or cache directory cannot be used.
    """
    logger = logger or logging.getLogger(__name__)
    return _ensure(project_root, file_path, cache_dir, timeout_s, logger, lambda: True)


def _ensure(  # noqa: PLR0917 - the arguments of its two callers, and theirs alone
    project_root: str | os.PathLike[str] | None,
    file_path: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
    timeout_s: float,
    logger: logging.Logger,
    is_wanted: Callable[[], bool],
) -> DaemonInfo:
    project = Project.resolve(project_root, file_path)

    def find_or_start() -> DaemonInfo:
        cache = CacheDirectory(cache_dir)
        found = find_daemon(project, cache)
        return found or _start(project, cache, timeout_s, logger, is_wanted)

    try:
        try:
            return find_or_start()
        except FileNotFoundError:  # somebody deleted the directory meanwhile: it is made again
            return find_or_start()
    except OSError as exc:
        if exc.errno in EXHAUSTED:
            raise DaemonUnreachable(
                f"This process has run out of a resource while looking for its daemon: {exc}."
            ) from exc
        raise DaemonStartFailed(
            f"No daemon for {display_path(project.root)} could be started: {exc}. Repair it, or "
            "set MOCK_MCP_CACHE_DIR to a directory you can write to."
        ) from exc


def _start(
    project: Project,
    cache: CacheDirectory,
    timeout_s: float,
    logger: logging.Logger,
    is_wanted: Callable[[], bool],
) -> DaemonInfo:
    """Start the project's daemon, or wait for whoever does, as long as it is wanted."""
    deadline = monotonic() + timeout_s
    failure = ""
    with FileLock(cache.start_lock(project.id)) as lock:
        if not lock.acquire(timeout_s):
            raise _too_slow(project, timeout_s)
        while True:
            if info := find_daemon(project, cache):
                return info
            remaining_s = deadline - monotonic()
            if remaining_s <= 0:
                raise _too_slow(project, timeout_s, failure)
            if is_listening(cache.ipc_path(project.id)):
                time.sleep(_RETRY_S)  # alive without a registry: it will write it again
                continue
            if not is_wanted():
                raise _too_slow(project, timeout_s, failure)
            logger.debug("starting a daemon for %s", project.root)
            try:
                _spawn(project, cache, remaining_s)
            except _KilledAtStart as exc:  # not by itself, so another may well live
                failure = f" {exc}"
                time.sleep(_RETRY_S)


async def ensure_daemon_running_async(
    project_root: str | os.PathLike[str] | None = None,
    *,
    file_path: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    timeout_s: float = START_TIMEOUT_S,
    logger: logging.Logger | None = None,
) -> DaemonInfo:
    """Return the project's daemon as `ensure_daemon_running` does, without blocking the loop."""
    # A daemon thread, not the loop's executor: an interpreter that exits must not wait for it.
    answer: concurrent.futures.Future[DaemonInfo] = concurrent.futures.Future()

    def work() -> None:
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # nobody waits any more
            try:
                info = _ensure(
                    project_root,
                    file_path,
                    cache_dir,
                    timeout_s,
                    logger or logging.getLogger(__name__),
                    lambda: not answer.cancelled(),
                )
            except BaseException as exc:  # noqa: BLE001 - it is raised in the caller's task
                answer.set_exception(exc)
            else:
                answer.set_result(info)

    threading.Thread(target=work, name="mock-mcp-launch", daemon=True).start()
    return await asyncio.wrap_future(answer)


class _KilledAtStart(Exception):
    """A signal ended the daemon before it was ready."""


def _too_slow(project: Project, timeout_s: float, failure: str = "") -> DaemonUnreachable:
    return DaemonUnreachable(
        f"No daemon for {display_path(project.root)} was ready within {timeout_s:g} s; "
        f"`mock-mcp status` says what runs.{failure}"
    )


def _spawn(project: Project, cache: CacheDirectory, timeout_s: float) -> None:
    """Start a daemon process and wait until it is ready, or another one is."""
    if not sys.executable:
        raise ConfigurationError(
            "This interpreter does not know its own path (sys.executable is empty); start the "
            "daemon yourself with `mock-mcp daemon`."
        )
    command = [sys.executable, "-P", "-m", "mock_mcp", "daemon"]
    command += ["--project-root", str(project.root)]
    log_path = cache.logs(project.id) / "daemon.log"
    log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        if hasattr(os, "fchmod"):  # whatever the umask
            os.fchmod(log_fd, 0o600)
        env = {**os.environ, "MOCK_MCP_CACHE_DIR": str(cache.base)}
        if paths := env.get("PYTHONPATH"):  # the daemon has another working directory
            env["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                env=env,
                cwd=cache.path,  # it must not keep the test's directory from being deleted
                creationflags=flags,
            )
            _reap(process)
            _await_listener(process, project, cache, log_path, timeout_s)
            return
        read_fd, write_fd = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: S603
                [*command, "--ready-fd", str(write_fd)],
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                env=env,
                cwd="/",
                start_new_session=True,
                pass_fds=(write_fd,),
            )
        finally:
            os.close(write_fd)
        _reap(process)
        try:
            _await_ready(process, read_fd, log_path, project, timeout_s)
        finally:
            os.close(read_fd)
    finally:
        os.close(log_fd)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Collect the daemon's exit status whenever it comes, so that no zombie stays."""
    threading.Thread(target=process.wait, name="mock-mcp-reaper", daemon=True).start()


def _await_ready(
    process: subprocess.Popen[bytes],
    read_fd: int,
    log_path: Path,
    project: Project,
    timeout_s: float,
) -> None:
    deadline = monotonic() + timeout_s
    text = b""
    poll = select.poll()
    poll.register(read_fd, select.POLLIN | select.POLLHUP)
    while not text.endswith(b"\n"):
        if not poll.poll(max(0.0, deadline - monotonic()) * 1000):
            raise _too_slow(project, timeout_s)
        chunk = os.read(read_fd, 4096)
        if not chunk:
            if (code := process.wait()) < 0:
                raise _KilledAtStart(f"The last one was killed by signal {-code} as it started.")
            raise DaemonStartFailed(
                f"The daemon for {display_path(project.root)} ended before it was ready"
                f"{_log_tail(log_path)}"
            )
        text += chunk
    if text == b"\n":
        return
    answer = msgspec.json.decode(text, type=Readiness)
    if answer.code == AlreadyRunning.code:
        time.sleep(_RETRY_S)
        return
    raise _start_error(answer)


def _start_error(answer: Readiness) -> MockMcpError:
    for cls in (VersionMismatch, InsecurePath, ConfigurationError):
        if answer.code == cls.code:
            return cls(answer.message)
    return DaemonStartFailed(answer.message)


def _await_listener(
    process: subprocess.Popen[bytes],
    project: Project,
    cache: CacheDirectory,
    log_path: Path,
    timeout_s: float,
) -> None:
    """Wait as `_await_ready` does where a process inherits no descriptors (Windows)."""
    deadline = monotonic() + timeout_s
    while not is_listening(cache.ipc_path(project.id)):
        if process.poll() is not None and process.returncode != 0:
            raise DaemonStartFailed(
                f"The daemon for {display_path(project.root)} ended before it was ready"
                f"{_log_tail(log_path)}"
            )
        if monotonic() >= deadline:
            raise _too_slow(project, timeout_s)
        time.sleep(_RETRY_S)


def _log_tail(log_path: Path) -> str:
    tail = ""
    with contextlib.suppress(OSError):
        tail = log_path.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
    return f"; its log {display_path(log_path)} ends:\n{tail}" if tail else "; its log is empty."
