"""Say what waits for the assistant while it waits, without garbling pytest's own output.

Lines are written by pytest's own reporter, between its progress lines, and only to a terminal. In
an xdist worker nothing is written: its output belongs to the controller.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from mock_mcp.errors import MockMcpError
from mock_mcp.scope import Client

__all__ = ["WaitingDisplay"]

_FIRST_S = 1.0
_AGAIN_S = (10.0, 30.0, 60.0)
_SHOWN = 3


class WaitingDisplay:
    """Watch what waits, and write a line now and then.

    Args:
        reporter: pytest's terminal reporter; None in an xdist worker.
        client: Whose run waits.
        waiting: Returns what waits, as text.
    """

    def __init__(self, reporter: Any, client: Client, waiting: Callable[[], list[str]]) -> None:
        self._reporter = reporter
        self._client = client
        self._waiting = waiting
        self._stopped = threading.Event()
        if reporter is not None and reporter.isatty and reporter.verbosity >= 0:
            threading.Thread(target=self._watch, name="mock-mcp-waiting", daemon=True).start()

    def stop(self) -> None:
        """Write no more."""
        self._stopped.set()

    def _watch(self) -> None:
        since: float | None = None
        told = 0
        while not self._stopped.wait(0.2):
            waiting = self._waiting()
            if not waiting:
                since, told = None, 0
                continue
            now = time.monotonic()
            since = since or now
            steps = (_FIRST_S, *_AGAIN_S)
            due_s = steps[told] if told < len(steps) else _AGAIN_S[-1] * (told - len(steps) + 2)
            if now - since >= due_s:
                told += 1
                self._tell(waiting, now - since)

    def _tell(self, waiting: list[str], waited_s: float) -> None:
        more = f" and {len(waiting) - _SHOWN} more" if len(waiting) > _SHOWN else ""
        line = (
            f"mock-mcp: {len(waiting)} call{'s' if len(waiting) != 1 else ''} waiting for "
            f"{waited_s:.0f} s: {', '.join(waiting[:_SHOWN])}{more}"
        )
        if not self._is_claimed():
            line += (
                "\nmock-mcp: no assistant has taken them. Ask yours to serve the mocks of this run "
                "(its MCP configuration needs `mock-mcp adapter`)."
            )
        self._reporter.ensure_newline()
        for part in line.splitlines():
            self._reporter.write_line(part, yellow=True)

    def _is_claimed(self) -> bool:
        """Ask the daemon whether somebody works on this run's batches."""
        import asyncio

        try:
            return asyncio.run(self._ask())
        except (MockMcpError, OSError):
            return False

    async def _ask(self) -> bool:
        from mock_mcp.control.client import DaemonClient
        from mock_mcp.runtime.cache import CacheDirectory
        from mock_mcp.runtime.launch import find_daemon
        from mock_mcp.runtime.project import Project

        run_id = self._client.run_id
        info = find_daemon(Project.resolve(self._client.project_root), CacheDirectory())
        if info is None or run_id is None:
            return False
        async with DaemonClient.of(info, timeout_s=2) as control:
            batches = await control.list_batches(run_id=run_id)
        return any(batch.status == "claimed" for batch in batches)
