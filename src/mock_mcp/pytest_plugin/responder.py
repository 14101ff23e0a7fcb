"""The responder of a run (``--mock-responder``): a process of its own, started once.

It is ``mock-mcp respond``, so nothing it calls is intercepted, and what it cannot do it says in the
same words. It answers only the runs of this pytest, which are named on its standard input, and ends
with that: even when pytest is killed, nothing of it is left.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mock_mcp.responders.errors import ResponderUnusable

__all__ = ["ResponderProcess"]

READY_S = 60.0
"""How long it may take to say that it is ready: it may start a daemon, and ask a model's server."""
STOP_S = 10.0
"""How long it may take to give back what it holds."""
FAILURES_SHOWN = 5


class ResponderProcess:
    """``mock-mcp respond`` for one run of pytest.

    Args:
        using: The option's value: a source, and more options of the command.
        root: The project.

    Raises:
        ResponderUnusable: It did not start; the message quotes its reason.
    """

    def __init__(self, using: str, root: Path) -> None:
        self._using = using
        self._totals: dict[str, Any] = {}
        self._failures: list[str] = []
        self._heard = threading.Event()
        self._is_ready = False
        self._errors = bytearray()
        try:
            words = shlex.split(using)
        except ValueError as exc:
            raise ResponderUnusable(f"--mock-responder={using!r}: {exc}.") from None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [
                    *(sys.executable, "-P", "-m", "mock_mcp", "respond"),
                    *("--json", "--runs-from-stdin"),
                    *("--project-root", str(root), "--using", *words),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is pytest's: tear-down may still ask for mocks
            )
        except OSError as exc:
            raise ResponderUnusable(
                f"--mock-responder={using}: the responder did not start: the interpreter of this "
                f"pytest, {sys.executable!r}, cannot be started again ({exc.strerror}). Run "
                "pytest with the python of an environment that has mock-mcp; or start "
                f"`mock-mcp respond --using {using}` yourself and run pytest with MOCK_MCP=1."
            ) from None
        self._readers = [
            threading.Thread(target=read, name="mock-mcp-responder", daemon=True)
            for read in (self._read_events, self._read_errors)
        ]
        for reader in self._readers:
            reader.start()
        self._heard.wait(READY_S)
        if not self._is_ready:
            self.stop()
            reason = self._last_words() or f"it was not ready after {READY_S:g} s"
            raise ResponderUnusable(
                f"--mock-responder={using}: the responder did not start: {reason}"
            )

    def serve(self, run_id: str) -> None:
        """Answer the batches of a run, too."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it ended; the summary says so
            self._process.stdin.write(f"{run_id}\n".encode())
            self._process.stdin.flush()

    def stop(self) -> None:
        """End the process; again does nothing."""
        process = self._process
        assert process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            process.stdin.write(b"\n")  # a forked child may keep the pipe open
            process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()

    def lines(self) -> Iterator[str]:
        """Yield what it did, for the run's summary; it has stopped."""
        died = f"it died: {self._last_words() or f'exit code {self._process.returncode}'}"
        yield f"responder {self._using}: {self._totals.get('text', died)}"
        yield from self._failures[:FAILURES_SHOWN]
        if (more := len(self._failures) - FAILURES_SHOWN) > 0:
            yield f"… and {more} more that it did not answer"

    # -- Inside --------------------------------------------------------------------------------

    def _last_words(self) -> str:
        said = self._errors.decode("utf-8", "replace").strip().splitlines() or [""]
        return said[-1].removeprefix("mock-mcp respond: error: ").removeprefix("mock-mcp: ")

    def _read_events(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            match event["event"]:
                case "ready":
                    self._is_ready = True
                    self._heard.set()
                case "not-answered":
                    calls = [f"{call['method']} {call['endpoint']}" for call in event["requests"]]
                    reason = event["reason"]
                    if not reason.startswith(calls[0]):  # else it names its call itself
                        reason = f"{', '.join(calls)}: {reason}"
                    self._failures.append(f"not answered: {reason}")
                case "totals":
                    self._totals = event
        self._heard.set()  # its end, if nothing else

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors += line
