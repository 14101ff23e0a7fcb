"""A batch's way beside the same protocol in Node, where what is compared with is written in Node.

The reference does what the wire protocol asks for and nothing else (`node.mjs`): nothing is
checked, no lease ends, no result is kept until it is acknowledged. A daemon in Node that does more
takes longer than that. Works take turns: ours, the reference, ours, …
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.project import cpu_ms, project, rss_mib
from bench.report import Row, Size
from bench.round_trip import WARM, Found, through_daemon
from mock_mcp.runtime.ipc import is_listening

SCRIPT = Path(__file__).with_suffix(".mjs")
REFERENCE = "the bare protocol in Node"
FETCH = ("--fetch-retries=0", "--fetch-timeout=30000")
"""Where there is no network, it is soon said."""


def rows(size: Size) -> Iterator[Row]:
    """Latency, rate, and the daemon's processor time and memory."""
    with tempfile.TemporaryDirectory(prefix="mm") as name:
        node = BareNode.installed(Path(name))
        if node is None:
            return
        with project() as place, node.daemon() as daemon:
            place.daemon()
            for what, runs, requests, rounds in (
                ("round trip, 1 request", 1, 1, size.of(2000, 30)),
                ("round trip, 1 request, runs: 8", 8, 1, size.of(250, 10)),
                ("round trip, 50 requests x 2 KB", 1, 50, size.of(300, 10)),
            ):
                ours, theirs = Turns(), Turns()
                for _ in range(size.of(5, 1)):  # long ones, in which Node compiles what is hot
                    ours.add(through_daemon(place, runs, rounds, requests))
                    theirs.add(node.through(daemon, runs, rounds, requests))
                yield Row(what, ours.times, REFERENCE, theirs.times)
                yield Row(f"{what}, time a batch", ours.overall, REFERENCE, theirs.overall)
                yield Row(f"{what}, daemon's processor", ours.cpu, REFERENCE, theirs.cpu)
            memory = [rss_mib(place.daemon().pid)]
            yield Row("daemon's memory then", memory, REFERENCE, [rss_mib(daemon.pid)], "MiB")


class Turns:
    """Values of each turn: the median round trip, the time of a batch, the daemon's processor."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.overall: list[float] = []
        self.cpu: list[float] = []

    def add(self, found: Found) -> None:
        """Add a turn."""
        self.times.append(statistics.median(found.times))
        self.overall += found.overall
        self.cpu += found.cpu


class BareNode:
    """The reference, with the npm package ``ws`` in a directory of its own."""

    def __init__(self, node: str, directory: Path) -> None:
        self._node = node
        self._modules = directory / "node_modules"
        self._socket = directory / "bare.sock"

    @classmethod
    def installed(cls, directory: Path) -> BareNode | None:
        """Install the package; None, saying so, where that cannot be done."""
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            why = "node and npm are not installed"
        else:
            done = subprocess.run(
                [npm, "install", "--prefix", directory, "--no-audit", "--no-fund", *FETCH, "ws@8"],
                capture_output=True,
                text=True,
            )
            if done.returncode == 0:
                return cls(node, directory)
            why = f"`npm install ws@8` failed: {done.stderr.strip()[-200:]}"
        print(f"  {why}: left out is {REFERENCE}", file=sys.stderr)
        return None

    @contextlib.contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[str]]:
        """Run the daemon meanwhile."""
        with self._process("daemon") as daemon:
            while not is_listening(str(self._socket)):
                time.sleep(0.01)
            yield daemon

    def through(
        self, daemon: subprocess.Popen[str], runs: int, rounds: int, requests: int
    ) -> Found:
        """Let each run, in a process of its own, ask batch after batch."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._process("respond", runs))
            cpu = cpu_ms(daemon.pid)
            asking = [
                stack.enter_context(self._process("ask", rounds, requests, WARM))
                for _ in range(runs)
            ]
            for each in asking:
                assert each.stdout is not None
                each.stdout.readline()  # when it is warm
            for each in asking:
                assert each.stdin is not None
                each.stdin.write("go")
                each.stdin.flush()
            measured = [json.loads(each.communicate()[0]) for each in asking]
            cpu = cpu_ms(daemon.pid) - cpu
        times = [value for each in measured for value in each["times"]]
        took = max(each["ended"] for each in measured) - min(each["began"] for each in measured)
        batches = rounds * runs
        return Found(times, [took / batches], [cpu / (batches + WARM * runs)])

    @contextlib.contextmanager
    def _process(self, role: str, *numbers: int) -> Iterator[subprocess.Popen[str]]:
        command = [self._node, str(SCRIPT), str(self._modules), str(self._socket), role]
        process = subprocess.Popen(
            [*command, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()
