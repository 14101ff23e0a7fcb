"""The daemons a responder serves: finding them, and asking them all at once.

Strategy: the cache directory is the list of daemons. It is read again when it changed, and at least
every second; each daemon found keeps one `DaemonClient`, and with it its connections, until its
registry names another token. Nothing is probed beforehand: a call finds out whether a daemon is
up. Daemons are asked concurrently and each for itself; one that was too slow is given little time
until it has answered again, so it never holds up the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, TypeVar

from mock_mcp.control.client import DaemonClient
from mock_mcp.errors import (
    DaemonUnreachable,
    InsecurePath,
    InternalError,
    MockMcpError,
    UnknownBatch,
    VersionMismatch,
)
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.ipc import is_listening
from mock_mcp.runtime.launch import ensure_daemon_running_async
from mock_mcp.runtime.project import Project
from mock_mcp.serving.times import Times
from mock_mcp.types import BatchInfo, DaemonInfo, TestMeta, Waiting

__all__ = ["Answer", "Daemon", "Router"]

T = TypeVar("T")


class Daemon:
    """One daemon, with the client and the connections kept for it.

    Args:
        info: Its registry.
        client: A client made from that registry.

    ``slow`` says that it did not answer the last question in time, ``mismatch`` that it is of
    another implementation or revision.
    """

    def __init__(self, info: DaemonInfo, client: DaemonClient) -> None:
        self.info = info
        self.client = client
        self.slow = False
        self.mismatch: VersionMismatch | None = None
        self._tests: dict[str, TestMeta | None] = {}

    async def test_of(self, run_id: str, patience_s: float) -> TestMeta | None:
        """Return the test a run belongs to; None when the run does not say or cannot be asked."""
        if run_id not in self._tests:
            try:
                async with asyncio.timeout(patience_s):
                    runs = await self.client.list_runs()
            except (MockMcpError, OSError):  # TimeoutError is an OSError
                return None
            self._tests = {run.run_id: run.test_meta for run in runs}
        return self._tests.get(run_id)


class Answer(Generic[T]):
    """What one daemon answered: a value, or the error it raised."""

    def __init__(self, daemon: Daemon, value: T | None, error: MockMcpError | None) -> None:
        self.daemon = daemon
        self.error = error
        self._value = value

    @property
    def value(self) -> T:
        """The value.

        Raises:
            MockMcpError: The daemon's error.
        """
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]


class Router:
    """Find daemons and ask them.

    Args:
        cache: The cache directory.
        project: The own project, asked first; None when there is none.
        only_own: Whether the daemons of other projects are left alone.
        timeout_s: Seconds one call to one daemon may take.
        times: Its other durations.
        logger: Where daemons that cannot be used are reported.
        connect: Makes the client of a daemon; tests replace it.
    """

    def __init__(
        self,
        cache: CacheDirectory,
        project: Project | None,
        *,
        only_own: bool = False,
        timeout_s: float = 10.0,
        times: Times | None = None,
        logger: logging.Logger | None = None,
        connect: Callable[[DaemonInfo], DaemonClient] | None = None,
    ) -> None:
        self.project = project
        self._cache = cache
        self._only = (project.id,) if project is not None and only_own else None
        self.times = times or Times()
        self._logger = logger or logging.getLogger(__name__)
        self._connect = connect or (
            lambda info: DaemonClient.of(info, timeout_s=timeout_s, logger=self._logger)
        )
        self._daemons: dict[str, Daemon] = {}
        self._listed_at = float("-inf")
        self._listed_mtime = -1
        self._warned: set[str] = set()

    async def close(self) -> None:
        """Close every kept connection."""
        daemons, self._daemons = self._daemons, {}
        for daemon in daemons.values():
            await daemon.client.close()

    def is_own(self, daemon: Daemon) -> bool:
        """Tell whether a daemon serves the own project."""
        return self.project is not None and daemon.info.project_id == self.project.id

    async def daemons(self, *, fresh: bool = False) -> list[Daemon]:
        """Return the daemons that have a registry, the own project's first.

        Args:
            fresh: Read the directory even if it looks unchanged.
        """
        now = time.monotonic()
        try:
            mtime = self._cache.path.stat().st_mtime_ns
        except OSError:
            mtime = -1
        if fresh or mtime != self._listed_mtime or now - self._listed_at >= self.times.refresh_s:
            self._listed_mtime, self._listed_at = mtime, now
            await self._list()
        return sorted(self._daemons.values(), key=lambda daemon: not self.is_own(daemon))

    async def daemon(self, project_id: str) -> Daemon:
        """Return the daemon of one project as its registry is now.

        Raises:
            DaemonUnreachable: It has no registry.
        """
        await self.daemons(fresh=True)
        daemon = self._daemons.get(project_id)
        if daemon is None:
            raise DaemonUnreachable("The daemon of the test's project is gone.")
        return daemon

    async def start_own(self) -> None:
        """Start the own project's daemon if there is such a project and no daemon.

        Raises:
            DaemonStartFailed, DaemonUnreachable, VersionMismatch, InsecurePath,
            ConfigurationError: It could not be started, and there is no other daemon; if there is
                one, the reason is only logged.
        """
        if self.project is None:
            return
        own = self._daemons.get(self.project.id)
        try:
            if own is None or not await self._listens(own):
                await ensure_daemon_running_async(
                    self.project.root, cache_dir=self._cache.base, logger=self._logger
                )
            elif own.mismatch is not None:
                raise own.mismatch
            else:
                return
        except MockMcpError as exc:
            if not self._daemons.keys() - {self.project.id}:
                raise
            self._logger.warning("the project's daemon did not start: %s", exc)
        await self.daemons(fresh=True)

    async def ask(
        self, question: Callable[[DaemonClient], Awaitable[T]], *, patience_s: float | None = None
    ) -> list[Answer[T]]:
        """Ask every daemon the same, at once; return the answers, the own project's first.

        A daemon that died and left its registry is left out; one that is slow answers with
        `DaemonUnreachable`.

        Args:
            question: Calls one client.
            patience_s: Seconds a daemon gets that was not slow before; `Times.patience_s` if None.
        """
        limit_s = self.times.patience_s if patience_s is None else patience_s
        daemons = await self.daemons()
        answers = await asyncio.gather(
            *(self._ask_one(daemon, question, limit_s) for daemon in daemons)
        )
        return [answer for answer in answers if answer is not None]

    async def find(self, batch_id: str) -> tuple[Daemon, BatchInfo]:
        """Return a batch and the daemon that has it.

        Raises:
            UnknownBatch: No daemon that answers has it; the message names those that do not answer.
        """
        answers = await self.ask(lambda client: client.get_batch(batch_id))
        for answer in answers:
            if answer.error is None:
                return answer.daemon, answer.value
        # The daemon that had it says why it ended; the others, in fewer words, that it is unknown.
        why = max(
            (a.error.message for a in answers if isinstance(a.error, UnknownBatch)),
            key=len,
            default="",
        )
        silent = [
            f"{answer.daemon.info.project_root}: {answer.error}"
            for answer in answers
            if not isinstance(answer.error, UnknownBatch)
        ]
        message = why or f"Batch not found: no daemon knows {batch_id!r}. Claim the next one."
        if silent:
            message += f" Daemons that could not be asked: {'; '.join(silent)}."
        raise UnknownBatch(message)

    async def claimable(self, run_id: str | None) -> list[Daemon]:
        """Return the daemons with something to claim, the one with the oldest batch first."""
        answers = await self.ask(lambda client: client.wait_for_batch(0, run_id=run_id))
        return _oldest_first(
            (answer.daemon, answer.value) for answer in answers if answer.error is None
        )

    async def wait(self, run_id: str | None, deadline: float) -> list[Daemon]:
        """Wait until a daemon has something to claim; return those that have, as `claimable` does.

        Daemons that appear meanwhile, or come back, are waited for too.

        Args:
            run_id: Only batches of this run.
            deadline: When to give up and return nothing, on the monotonic clock.
        """
        waits: dict[Daemon, asyncio.Task[Waiting]] = {}
        try:
            while (left_s := deadline - time.monotonic()) > 0:
                for daemon in await self.daemons():
                    if daemon not in waits:
                        waits[daemon] = asyncio.create_task(
                            daemon.client.wait_for_batch(left_s * 1000, run_id=run_id)
                        )
                look_again = asyncio.create_task(asyncio.sleep(min(left_s, self.times.refresh_s)))
                try:
                    await _until_found({look_again, *waits.values()}, look_again)
                finally:
                    look_again.cancel()
                ended = [(daemon, wait) for daemon, wait in waits.items() if wait.done()]
                for daemon, _ in ended:
                    del waits[daemon]  # one that failed is asked again with the next listing
                if ready := _oldest_first(
                    (daemon, wait.result()) for daemon, wait in ended if not wait.exception()
                ):
                    return ready
            return []
        finally:
            for wait in waits.values():
                wait.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)

    # -- Inside ----------------------------------------------------------------------------

    async def _list(self) -> None:
        found: dict[str, Daemon] = {}
        for project_id in self._cache.project_ids():
            if self._only is not None and project_id not in self._only:
                continue
            try:
                info = self._cache.read(project_id)
            except (InsecurePath, OSError) as exc:
                if project_id not in self._warned:
                    self._warned.add(project_id)
                    self._logger.warning("skipping daemon %s: %s", project_id, exc)
                continue
            if info is None:
                continue
            known = self._daemons.get(project_id)
            same = known is not None and known.info == info
            found[project_id] = known if known and same else Daemon(info, self._connect(info))
        gone = [daemon for daemon in self._daemons.values() if daemon not in found.values()]
        self._daemons = found
        for daemon in gone:
            await daemon.client.close()

    async def _ask_one(
        self, daemon: Daemon, question: Callable[[DaemonClient], Awaitable[T]], limit_s: float
    ) -> Answer[T] | None:
        if daemon.slow:
            limit_s = self.times.impatience_s
        try:
            async with asyncio.timeout(limit_s):
                value = await question(daemon.client)
        except TimeoutError:
            daemon.slow = True
            return Answer(daemon, None, DaemonUnreachable(f"No answer within {limit_s:g} s."))
        except DaemonUnreachable as exc:
            daemon.slow = await self._listens(daemon)
            return Answer(daemon, None, exc) if daemon.slow else None
        except MockMcpError as exc:
            daemon.mismatch = exc if isinstance(exc, VersionMismatch) else None
            return Answer(daemon, None, exc)
        except OSError as exc:
            return Answer(daemon, None, InternalError(f"The daemon cannot be reached: {exc}"))
        daemon.slow = False
        daemon.mismatch = None
        return Answer(daemon, value, None)

    async def _listens(self, daemon: Daemon) -> bool:
        try:
            return await asyncio.to_thread(is_listening, daemon.info.ipc_path)
        except (InsecurePath, OSError):
            return True  # something is there; its error is worth reporting


def _oldest_first(answers: Iterable[tuple[Daemon, Waiting]]) -> list[Daemon]:
    ready = [(daemon, waiting) for daemon, waiting in answers if waiting.pending]
    ready.sort(key=lambda pair: pair[1].oldest_created_at or 0)
    return [daemon for daemon, _ in ready]


async def _until_found(tasks: set[asyncio.Task[Any]], look_again: asyncio.Task[None]) -> None:
    """Return when a wait found something, or when it is time to list the daemons again."""
    while True:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if look_again in done or any(not t.exception() and t.result().pending for t in done):
            return
