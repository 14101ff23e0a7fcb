"""``mock-mcp watch``: what the daemons do, live.

Every daemon is asked what happened after the last event known, and answers when something does:
nothing is polled but leases, which are renewed silently. A burst of events is one new look.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator

from mock_mcp.cli.board import Watched, event_line, render
from mock_mcp.cli.terminal import Screen, is_terminal, printable, wants_colour
from mock_mcp.errors import MethodNotFound, MockMcpError
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project
from mock_mcp.serving.router import Daemon, Router
from mock_mcp.types import DaemonEvent
from mock_mcp.words import counted

__all__ = ["configure", "run"]

_LEASES_S = 5.0
"""How old the leases shown may be: renewing one is no event."""
_BURST_S = 0.1
_TICK_S = 1.0
"""How often daemons are looked for, and ages are shown anew."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--project-root", metavar="DIR", help="only this project (default: all that have a daemon)"
    )


def run(options: argparse.Namespace) -> int:
    """Watch until interrupted."""
    project = Project.resolve(options.project_root) if options.project_root else None
    watcher = _Watcher(Router(CacheDirectory(), project, only_own=project is not None))
    show = _draw if is_terminal(sys.stdout) else _print
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(show(watcher))
    return 0


class _Watcher:
    """Follow every daemon; ``changed`` is set when there is something new to show.

    Args:
        router: Finds the daemons.
    """

    def __init__(self, router: Router) -> None:
        self.changed = asyncio.Event()
        self.events: asyncio.Queue[tuple[Watched, DaemonEvent | None]] = asyncio.Queue(10_000)
        self._router = router
        self._followed: dict[Daemon, tuple[Watched, asyncio.Task[None]]] = {}

    @property
    def daemons(self) -> list[Watched]:
        """The daemons that are there, by their project."""
        return sorted((watched for watched, _ in self._followed.values()), key=lambda w: w.root)

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow daemons as they come and go while the block runs."""
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            tasks = [looking, *(task for _, task in self._followed.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._router.close()

    async def _look(self) -> None:
        while True:
            found = await self._router.daemons()
            for gone in self._followed.keys() - set(found):
                self._followed.pop(gone)[1].cancel()
                self.changed.set()
            for daemon in found:
                if daemon not in self._followed:
                    watched = Watched(daemon.info.project_root, daemon.info.pid)
                    task = asyncio.create_task(self._follow(daemon, watched))
                    self._followed[daemon] = watched, task
            await asyncio.sleep(_TICK_S)

    async def _follow(self, daemon: Daemon, watched: Watched) -> None:
        last, is_first, client = 0, True, daemon.client
        while True:
            try:
                wait_ms = 0 if is_first else _LEASES_S * 1000
                events, last = await client.list_events(last, wait_ms=wait_ms)
                watched.note(events)
                watched.runs = await client.list_runs()
                watched.batches = await client.list_batches(brief=True)
                watched.error = None
            except MethodNotFound:
                watched.error = f"version {daemon.info.version} cannot be watched; restart it"
                self.changed.set()
                return
            except (MockMcpError, OSError) as exc:
                watched.error = str(exc)
                self.changed.set()
                await asyncio.sleep(_TICK_S)
                continue
            if is_first:
                self._tell(watched, None)
            else:
                for event in events:
                    self._tell(watched, event)
            is_first = False
            self.changed.set()
            await asyncio.sleep(_BURST_S)

    def _tell(self, watched: Watched, event: DaemonEvent | None) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # nobody reads them: the screen shows states
            self.events.put_nowait((watched, event))


async def _print(watcher: _Watcher) -> None:
    """Print a line for each daemon that is found, and for each event."""
    async with watcher.following():
        print("Watching; interrupt to end.", flush=True)
        while True:
            watched, event = await watcher.events.get()
            if event is None:
                runs = counted(len(watched.runs), "run")
                waiting = [batch.status for batch in watched.batches]
                counts = f"{waiting.count('pending')} pending, {waiting.count('claimed')} claimed"
                line = f"{watched.root}  pid {watched.pid}: {runs}, {counts}"
                print(printable(line), flush=True)
            else:
                print(event_line(watched, event), flush=True)


async def _draw(watcher: _Watcher) -> None:
    """Show everything on the whole terminal until interrupted."""
    colour = wants_colour()
    with Screen(sys.stdout) as screen:
        async with watcher.following():
            _mind_signals(screen, watcher.changed)
            while True:
                columns, rows = screen.size()
                screen.draw(
                    render(watcher.daemons, columns, rows, time.time() * 1000, colour=colour)
                )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        await watcher.changed.wait()
                watcher.changed.clear()


def _mind_signals(screen: Screen, changed: asyncio.Event) -> None:
    """Draw anew when the size changes; give the terminal back when stopped or ended."""
    if sys.platform == "win32":
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def suspend() -> None:
        screen.leave()
        os.kill(os.getpid(), signal.SIGSTOP)  # goes on here when it is continued
        screen.enter()
        changed.set()

    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    loop.add_signal_handler(signal.SIGTSTP, suspend)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
