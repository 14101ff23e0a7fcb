"""Processes by the hundred: one that has imported everything forks a child for each call.

A child is a process of its own, with connections, locks and threads that are its own, and can be
killed for real; only the import is saved.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from support.daemons import environment
from support.ws import HANG_S

_HEAD = """
import itertools, json, os, signal, sys, traceback

def say(**what):
    os.write(1, json.dumps({"number": NUMBER, "pid": os.getpid(), **what}).encode() + b"\\n")
"""
_TAIL = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for number in (signal.SIGHUP, signal.SIGINT):  # whoever runs the tests may ignore them
    signal.signal(number, signal.SIG_DFL)
for line in iter(sys.stdin.readline, ""):
    NUMBER, arguments = json.loads(line)
    if os.fork():
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    say(born=True)
    try:
        child(**arguments)
    except BaseException:
        say(error=traceback.format_exc())
    os._exit(0)
"""


class Child:
    """One forked process, and what it says."""

    def __init__(self, said: queue.Queue[dict[str, Any]]) -> None:
        self._said = said
        self.pid = int(self.hear("born")["pid"])

    def hear(self, key: str) -> dict[str, Any]:
        """Return the next thing it says, which must have this key."""
        said = self._said.get(timeout=HANG_S)
        assert key in said, said.get("error", said)
        return said

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """Fork children that call ``child(**arguments)`` of some code; they end with it.

    Args:
        cache: The cache directory in their environment.
        code: Defines ``child``, which may ``say(key=value)``.
    """

    def __init__(self, cache: Path, code: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HEAD + code + _TAIL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(cache),
            start_new_session=True,
        )
        self._said: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def fork(self, **arguments: Any) -> Child:
        number = len(self._said)
        said = self._said[number] = queue.Queue()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([number, arguments]).encode() + b"\n")
        self._process.stdin.flush()
        return Child(said)

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # its children share its session
        self._process.communicate()
        self._reader.join(HANG_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in iter(self._process.stdout.readline, b""):
            said = json.loads(line)
            self._said[said["number"]].put(said)
