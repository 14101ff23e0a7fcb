"""What the parts share: a project with a daemon in a temporary directory, and processes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mock_mcp import DaemonClient, Mock, ensure_daemon_running
from mock_mcp.runtime.ipc import is_listening
from mock_mcp.types import DaemonInfo

SPAWN = multiprocessing.get_context("spawn")
SPECS = Path(__file__).parents[1].parent / "shared" / "specs"
"""The published documents, where this repository's neighbours are."""


@dataclass(frozen=True)
class BenchProject:
    """A project root and a cache directory of its own."""

    root: Path
    cache: Path

    def daemon(self) -> DaemonInfo:
        """Return the project's daemon, started if it does not run."""
        return ensure_daemon_running(self.root, cache_dir=self.cache)

    @property
    def options(self) -> dict[str, object]:
        """How to connect to it."""
        return {"project_root": self.root, "cache_dir": self.cache, "enabled": True}


@contextlib.contextmanager
def project() -> Iterator[BenchProject]:
    """Make a project; its daemon is killed in the end."""
    with tempfile.TemporaryDirectory(prefix="mm") as name:
        made = BenchProject(Path(name, "p"), Path(name, "c"))
        made.root.mkdir()
        (made.root / "pyproject.toml").write_text("[project]\n")
        try:
            yield made
        finally:
            kill(made.daemon())


def kill(info: DaemonInfo) -> None:
    """Kill a daemon and wait until the system has closed its socket."""
    os.kill(info.pid, signal.SIGKILL)
    while is_listening(info.ipc_path):
        time.sleep(0.001)


def is_installed(module: str) -> bool:
    """Tell whether a module can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def left_out(module: str, what: str) -> None:
    """Say that a rival is not installed."""
    print(f"  {module} is not installed: left out is {what}", file=sys.stderr)


def wall_ms(*command: str, cwd: Path | None = None, **variables: str) -> float:
    """Return the wall time of a process of this interpreter."""
    began = time.perf_counter()
    run(*command, cwd=cwd, **variables)
    return (time.perf_counter() - began) * 1e3


def processor_ms(*command: str, cwd: Path | None = None, **variables: str) -> float:
    """Return the processor time of a process of this interpreter."""

    def used_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = used_s()
    run(*command, cwd=cwd, **variables)
    return (used_s() - before) * 1e3


def run(*command: str, cwd: Path | None = None, **variables: str) -> None:
    """Run this interpreter, without what an outer pytest may have set."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= variables
    subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=cwd, env=env)


async def timed_ms(calls: int, function: Callable[[], Awaitable[object]]) -> list[float]:
    """Return the milliseconds of each of some calls, one after another."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        await function()
        times.append((time.perf_counter() - began) * 1e3)
    return times


async def serve(client: DaemonClient) -> None:
    """Claim and provide until cancelled."""
    while True:
        claim = await client.claim_next_batch("bench", wait_ms=30_000)
        if claim is not None:
            mocks = [Mock(request["requestId"], {"ok": True}) for request in claim.requests]
            await client.provide_batch("bench", claim.batch_id, claim.claim_token, mocks)


def respond(info: DaemonInfo, workers: int = 1) -> None:
    """Claim and provide in a process of its own, so many batches at once, until it is ended."""

    async def work() -> None:
        async with DaemonClient.of(info) as client:
            await asyncio.gather(*(serve(client) for _ in range(workers)))

    asyncio.run(work())


@contextlib.contextmanager
def process(target: Callable[..., None], *args: object) -> Iterator[None]:
    """Run a function in another process meanwhile."""
    started = SPAWN.Process(target=target, args=args, daemon=True)
    started.start()
    try:
        yield
    finally:
        started.kill()
        started.join()


def cpu_ms(pid: int) -> float:
    """Return the processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1e3


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise LookupError(pid)
