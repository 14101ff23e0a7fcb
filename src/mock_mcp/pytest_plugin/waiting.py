"""Say what waits for an assistant while it waits, without garbling pytest's own output.

A thread asks the daemon which batches of these runs wait: the same in a plain run and in the
controller of xdist, whose workers stay silent. While a test runs pytest has redirected its standard
output, so the lines go to a copy of the terminal made before that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from mock_mcp.clock import monotonic, new_event_loop
from mock_mcp.errors import MockMcpError
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.launch import find_daemon
from mock_mcp.runtime.project import Project
from mock_mcp.types import BatchInfo
from mock_mcp.words import some

__all__ = ["WaitingDisplay"]

_POLL_S = 0.5
_STEPS_S = (1.0, 10.0, 30.0, 60.0)
"""When something that waits is spoken of; the last step repeats."""
_SPELL_S = 5.0
"""How long nothing must wait before the steps begin anew: an assistant that works is not noise."""
_SHOWN = 3
_NOBODY = (
    "mock-mcp: no assistant has taken any. Ask yours to serve the mocks of this run; it needs the "
    "MCP server `mock-mcp adapter`. Or answer with `mock-mcp answer`."
)
"""Said once, and again when it is so anew: after one was taken, or nothing waited for a spell."""


class WaitingDisplay:
    """Watch what waits, and write a line now and then.

    Args:
        reporter: pytest's terminal reporter; made while pytest does not capture output.
        project: Whose daemon is asked.
        runs: The beginning of the ids of the runs to watch.
        cache_dir: Where the daemon is looked for: where the client of these runs does.
    """

    def __init__(
        self, reporter: Any, project: Project, runs: str, cache_dir: Path | None = None
    ) -> None:
        self._reporter = reporter
        self._project = project
        self._runs = runs
        self._cache_dir = cache_dir
        self._seen: dict[str, float] = {}
        self._told = 0
        self._said_nobody = False
        self._waited_at = 0.0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._out = _copy_of_output() if reporter.verbosity >= -1 else None

    def start(self) -> None:
        """Begin to watch; again does nothing."""
        if self._thread is None and self._out is not None:
            self._thread = threading.Thread(
                target=self._watch, name="mock-mcp-waiting", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Write no more; return when nothing is being written."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        if self._out is not None:
            self._out.close()
            self._out = None

    def _watch(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads the output any more
            while not self._stopped.wait(_POLL_S):
                try:
                    with asyncio.Runner(loop_factory=new_event_loop) as runner:
                        batches = runner.run(self._ask())
                except (MockMcpError, OSError):
                    continue  # the test that waits says what is wrong with the daemon
                self._look(batches, monotonic())

    async def _ask(self) -> list[BatchInfo]:
        info = find_daemon(self._project, CacheDirectory(self._cache_dir))
        if info is None:
            return []
        from mock_mcp.control.client import DaemonClient

        async with DaemonClient.of(info, timeout_s=2) as control:
            batches = await control.list_batches(brief=True)
        return [
            batch
            for batch in batches
            if batch.run_id.startswith(self._runs) and batch.status != "fulfilled"
        ]

    def _look(self, batches: list[BatchInfo], now: float) -> None:
        """Speak of what waits if its next step is reached."""
        if not any(batch.batch_id in self._seen for batch in batches):
            self._told = min(self._told, 1)  # other calls: they are worth a line of their own
        self._seen = {batch.batch_id: self._seen.get(batch.batch_id, now) for batch in batches}
        if not batches:
            return
        is_taken = any(batch.status == "claimed" for batch in batches)
        if now - self._waited_at > _SPELL_S:
            self._told = 0
            self._said_nobody = False
        if is_taken:
            self._said_nobody = False
        self._waited_at = now
        waited_s = now - min(self._seen.values())
        beyond = self._told - len(_STEPS_S) + 1
        due_s = _STEPS_S[self._told] if beyond <= 0 else _STEPS_S[-1] * (beyond + 1)
        if waited_s >= due_s - _POLL_S:  # it waited before the first look, too
            self._told += 1
            lines = [_waits(batches, max(waited_s, due_s))]
            if not is_taken and not self._said_nobody:
                lines.append(_NOBODY)
                self._said_nobody = True
            self._write(lines)

    def _write(self, lines: list[str]) -> None:
        """Write below what pytest has written, and let it go on in a line of its own."""
        assert self._out is not None
        terminal = self._reporter.config.get_terminal_writer()
        text = "\n".join(terminal.markup(line, yellow=True) for line in lines)
        before = "\n" if terminal.width_of_current_line else ""
        # The reporter begins its next line with the name of the file, or in verbose mode now.
        after = "" if self._reporter.currentfspath and self._reporter.verbosity > 0 else "\n"
        if self._reporter.currentfspath:
            self._reporter.currentfspath = None
        self._out.write(f"{before}{text}{after}")
        self._out.flush()


def _waits(batches: list[BatchInfo], waited_s: float) -> str:
    calls = [f"{r['method']} {r['endpoint']}" for batch in batches for r in batch.requests]
    s, verb = ("", "waits") if len(calls) == 1 else ("s", "wait")
    named = some(calls, _SHOWN)
    return f"mock-mcp: {len(calls)} call{s} {verb} for an answer, {waited_s:.0f} s now: {named}"


def _copy_of_output() -> TextIO | None:
    """Return a copy of standard output as it is now; None where it is no file."""
    try:
        return os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", errors="replace")
    except (OSError, ValueError, AttributeError):
        return None
