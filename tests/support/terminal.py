"""A command on a terminal of its own, as a person runs it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from support.ws import HANG_S

_SEQUENCE = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07)")
_ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Makes the terminal the process's own, so that its Ctrl-C is the process's signal."""


class TerminalCommand:
    """``mock-mcp …`` with a pseudo-terminal as its input, output and error stream.

    Args:
        arguments: Of the command.
        cwd: Its working directory.
        env: Its environment.
        size: Columns and rows.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: dict[str, str],
        size: tuple[int, int] = (100, 30),
    ) -> None:
        import pty
        import termios

        self._master, self._slave = pty.openpty()
        self.output = ""
        self.resize(*size, tell=False)
        self.settings = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _ON_TERMINAL, "-P", "-m", "mock_mcp", *arguments],
            cwd=cwd,
            env=env,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def text(self) -> str:
        """What was printed, without sequences that steer the terminal."""
        return _SEQUENCE.sub("", self.output).replace("\r", "")

    @property
    def frame(self) -> str:
        """The last whole screen that was drawn."""
        frames = self.output.split("\x1b[H")
        drawn = [frame.partition("\x1b[J")[0] for frame in frames[1:] if "\x1b[J" in frame]
        return _SEQUENCE.sub("", drawn[-1]).replace("\r", "") if drawn else ""

    def wait_for(self, what: Callable[[], Any]) -> Any:
        """Read what is printed until something is true of it."""
        deadline = time.monotonic() + HANG_S
        while not (found := what()):
            assert time.monotonic() < deadline, f"it did not happen; printed was:\n{self.text}"
            self._read(0.05)
        return found

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, rows: int, *, tell: bool = True) -> None:
        import fcntl
        import termios

        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, size)
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        self.wait_for(lambda: self.process.poll() is not None)
        while self._read(0):
            pass
        return self.process.returncode

    def is_as_before(self) -> bool:
        """Tell whether the terminal's settings are what they were."""
        import termios

        return termios.tcgetattr(self._slave) == self.settings

    def _read(self, wait_s: float) -> bool:
        if not select.select([self._master], [], [], wait_s)[0]:
            return False
        with contextlib.suppress(OSError):
            self.output += os.read(self._master, 65536).decode("utf-8", "replace")
            return True
        return False
