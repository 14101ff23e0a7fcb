"""A test process: a script that uses the client, spoken to over its standard streams."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from support.daemons import environment
from support.ws import HANG_S


class Script:
    """A Python process that imports the client; any warning ends it."""

    def __init__(self, project: Path, cache: Path, code: str) -> None:
        head = f"""
            import asyncio, os, signal, sys, threading, time
            import mock_mcp
            WHERE = dict(project_root={str(project)!r}, enabled=True, timeout_s=None)
            def say(*words):
                print(*words, flush=True)
        """
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(head) + textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(cache),
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, self.end()
        return line

    def end(self) -> tuple[int, str, str]:
        """Return exit code, output and errors of a process that ends by itself."""
        out, err = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, out, err

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=HANG_S)
