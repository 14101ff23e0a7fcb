"""Disk, clock, sleep, threads, exits, descriptors: a clear error at the worst, never a hang."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.control.client import DaemonClient
from mock_mcp.daemon.hub import Clock
from mock_mcp.errors import MockMcpError
from mock_mcp.types import Mock
from support.daemons import DaemonProcess, ServedDaemon, kill_daemons
from support.nursery import Nursery
from support.place import Place, ended
from support.responder import Responder, respond_to
from support.script import Script
from support.stress import pick
from support.ws import HANG_S, eventually, request

SLEEP_S = pick(1.0, 60.0)
THREADS = 200

# -- A disk ------------------------------------------------------------------------------------


class Disk:
    """A file system of its own that can be filled and made read-only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        with contextlib.suppress(OSError), (self.path / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)

    def empty(self) -> None:
        (self.path / "ballast").unlink()

    def read_only(self) -> None:
        """Lay a read-only mount over it: files that are open for writing stay so."""
        subprocess.run(["mount", "--bind", self.path, self.path], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", self.path], check=True)


@pytest.fixture
def disk(short_dir: Path) -> Iterator[Disk]:
    path = Path(tempfile.mkdtemp(prefix="d", dir=short_dir))
    options = ["-o", "size=256k,mode=0700"]
    command = ["mount", "-t", "tmpfs", *options, "tmpfs", path]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield Disk(path)
    while path.is_mount():
        if subprocess.run(["mount", "-o", "remount,bind,rw", path]).returncode == 0:
            kill_daemons(path)
        subprocess.run(["umount", "-l", path], check=True)


def harm(disk: Disk, how: str) -> str:
    """Fill a disk or make it read-only; return what the system says of it."""
    if how == "full":
        disk.fill()
        return os.strerror(errno.ENOSPC)
    disk.read_only()
    return os.strerror(errno.EROFS)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_daemon_that_cannot_write_says_so(disk: Disk, project: Path, how: str) -> None:
    place = Place(project, disk.path)
    reason = harm(disk, how)
    with pytest.raises(MockMcpError, match=reason) as caught:
        place.start(timeout_s=HANG_S)
    assert "Traceback" not in caught.value.message
    with pytest.raises(MockMcpError, match=reason):
        place.connect_sync()
    process = DaemonProcess(project, disk.path)
    code, error = process.end()
    assert code == 1
    assert reason in error
    assert "Traceback" not in error


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["full", "read-only"])
async def test_a_daemon_that_serves_goes_on_without_its_disk(
    disk: Disk, project: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("MOCK_MCP_LOG", "1")
    place = Place(project, disk.path)
    info = await asyncio.to_thread(place.start)
    async with place.connect() as client, respond_to(info) as responder:

        async def ask(endpoint: str) -> None:
            asked = asyncio.create_task(client.request_mock(endpoint, body="x" * 20_000))
            assert await responder.provide(await responder.claim())
            assert (await asked).data == endpoint

        await ask("/before")
        harm(disk, how)
        for number in range(10):
            await ask(f"/without/{number}")
        async with place.connect() as another:  # a newcomer finds it too
            assert another.enabled
        if how == "full":
            disk.empty()
            await ask("/after")
            log = next(disk.path.rglob("batches.jsonl")).read_text()
            assert "/after" in log.splitlines()[-4]  # submit, claim, provide, acknowledge
    assert place.pid() == info.pid


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_daemon_stops_without_its_disk(disk: Disk, project: Path, how: str) -> None:
    process = DaemonProcess(project, disk.path).wait_ready()
    harm(disk, how)
    process.process.send_signal(signal.SIGTERM)
    try:
        assert process.wait_end() == 0
    finally:
        process.close()


# -- Time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_clock_that_jumps_changes_nothing(
    start_daemon: Callable[..., ServedDaemon], jump_s: int
) -> None:
    jumped = 0.0
    clock = Clock(wall=lambda: time.time() + jumped)
    daemon = start_daemon({"clock": clock}, grace_s=60, batch_ttl_s=600, idle_s=600)
    test = daemon.attach("run", capabilities=["resume", "errors"])
    test.submit([request("a")])
    test.submit([request("b")])
    claim = daemon.control.claim(leaseMs=60_000)
    jumped = jump_s
    status = daemon.control.call("getStatus")
    assert (status["runs"], status["pending"], status["claimed"]) == (1, 1, 1)
    until = daemon.control.call("getBatch", batchId=claim["batchId"])["claim"]["leaseUntil"]
    assert abs(until - claim["leaseUntil"] - jump_s * 1000) < 10_000  # as people's clocks say now
    holder = {"adapterId": "adapter-1", "batchId": claim["batchId"]}
    daemon.control.call("renewClaim", **holder, claimToken=claim["claimToken"])
    daemon.control.provide(claim, [{"requestId": "a", "data": 1}])
    assert test.recv()["mocks"] == [{"requestId": "a", "data": 1}]
    with daemon.ws() as again:  # a test process that comes back has the newer session
        ack = again.hello("run", capabilities=["ack", "resume", "errors"], session=1)
        assert ack["type"] == "HELLO_ACK"


TEST = """
import mock_mcp

def child(project, cache):
    with mock_mcp.connect_sync(project_root=project, cache_dir=cache, enabled=True,
                               timeout_s=None) as client:
        say(asking=True)
        say(answer=client.request_mock("/a").data)
"""
ADAPTER = """
import asyncio
from pathlib import Path
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.serving.claims import Claims
from mock_mcp.serving.router import Router
from mock_mcp.types import Mock

def child(cache, go):
    async def answer():
        claims = Claims(Router(CacheDirectory(cache), None), "a")
        claim = (await claims.claim_next(wait_s=20)).claim
        say(claimed=True)
        while not Path(go).exists():
            await asyncio.sleep(0.01)
        provided = await claims.provide(claim.batch_id, claim.claim_token, [Mock("r1", 42)])
        say(provided=provided.delivered)
    asyncio.run(answer())
"""


def test_everything_sleeps_and_wakes(
    place: Place, rng: random.Random, tmp_path: Path, measured: Callable[..., None]
) -> None:
    """As a laptop does; who wakes first is a matter of luck."""
    daemon = place.start().pid
    cache, go = str(place.cache_dir), tmp_path / "go"
    with Nursery(place.cache_dir, TEST) as tests, Nursery(place.cache_dir, ADAPTER) as adapters:
        adapter = adapters.fork(cache=cache, go=str(go))
        test = tests.fork(project=str(place.root), cache=cache)
        test.hear("asking")
        adapter.hear("claimed")
        pids = [daemon, test.pid, adapter.pid]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(SLEEP_S)
        rng.shuffle(pids)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
            time.sleep(rng.uniform(0, 0.1))
        go.touch()
        assert adapter.hear("provided")["provided"]
        assert test.hear("answer")["answer"] == 42
    assert place.pid() == daemon
    measured(slept_s=SLEEP_S)


# -- Processes and threads ---------------------------------------------------------------------


def test_two_hundred_threads(place: Place) -> None:
    info = place.start()

    async def serve() -> None:
        async with DaemonClient.of(info) as control:
            await Responder(control).serve()

    with ThreadPoolExecutor(THREADS + 1) as pool, place.connect_sync() as client:
        loop = asyncio.new_event_loop()
        serving = loop.create_task(serve())
        pool.submit(run_until_cancelled, loop, serving)
        asked = {n: pool.submit(client.request_mock, f"/{n}") for n in range(THREADS)}
        assert {n: each.result(HANG_S).data for n, each in asked.items()} == {
            n: f"/{n}" for n in range(THREADS)
        }
        loop.call_soon_threadsafe(serving.cancel)


def run_until_cancelled(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


EXITS = {
    "a thread waits": """
        client = mock_mcp.connect_sync(**WHERE)
        def ask():
            try:
                client.request_mock("/a")
            except mock_mcp.MockMcpError:
                pass
        threading.Thread(target=ask, daemon=True).start()
        say("asking")
        sys.stdin.readline()
    """,
    "a task waits": """
        async def main():
            client = await mock_mcp.connect(**WHERE)
            task = asyncio.create_task(client.request_mock("/a"))
            say("asking")
            await asyncio.to_thread(sys.stdin.readline)
        asyncio.run(main())
    """,
    "an error ends it": """
        async def main():
            client = await mock_mcp.connect(**WHERE)
            task = asyncio.create_task(client.request_mock("/a"))
            say("asking")
            await asyncio.to_thread(sys.stdin.readline)
            os._exit(3)
        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("how", EXITS)
def test_an_interpreter_exits_with_requests_pending(
    place: Place, start_daemon: Callable[..., ServedDaemon], how: str
) -> None:
    daemon = start_daemon(grace_s=0.2)
    script = Script(place.root, place.cache_dir, EXITS[how])
    try:
        assert script.line() == "asking"
        eventually(lambda: daemon.control.call("getStatus")["pending"])
        assert script.process.stdin is not None
        script.process.stdin.write("\n")
        code, _, error = script.end()
        assert (code, error) == (3 if "_exit" in EXITS[how] else 0, "")
        eventually(lambda: not daemon.control.call("listRuns")["runs"])
    finally:
        script.close()


STARTER = """
from mock_mcp.runtime.launch import ensure_daemon_running

def child(project, cache):
    say(started=ensure_daemon_running(project, cache_dir=cache).pid)
    signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_the_parent_that_spawned_the_daemon_is_killed(place: Place, number: signal.Signals) -> None:
    nursery = Nursery(place.cache_dir, STARTER)
    try:
        starter = nursery.fork(project=str(place.root), cache=str(place.cache_dir))
        pid = starter.hear("started")["started"]
        os.killpg(os.getpgid(starter.pid), number)  # as a terminal that is closed does
        eventually(lambda: ended(starter.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            nursery.close()
    assert place.pid() == pid
    with place.connect_sync():
        assert place.daemons() == [pid]


# -- Descriptors -------------------------------------------------------------------------------


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """`ulimit -n 64`, for the processes started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
def test_a_few_descriptors_are_enough_for_everybody(place: Place, script: Any) -> None:
    process = script("""
        from concurrent.futures import ThreadPoolExecutor
        with mock_mcp.connect_sync(**WHERE) as client, ThreadPoolExecutor(50) as pool:
            asked = [pool.submit(client.request_mock, f"/{n}") for n in range(50)]
            say("asking")
            say(sorted(each.result().data for each in asked) == sorted(f"/{n}" for n in range(50)))
    """)
    assert process.line() == "asking"

    async def serve() -> None:
        async with place.adapter("a", own=False) as claims:
            answered = 0
            while answered < 50:
                found = await claims.claim_next(wait_s=HANG_S)
                assert found is not None
                claim = found.claim
                mocks = [Mock(each["requestId"], each["endpoint"]) for each in claim.requests]
                await claims.provide(claim.batch_id, claim.claim_token, mocks)
                answered += len(mocks)

    asyncio.run(serve())
    assert process.line() == "True"
    assert process.end() == (0, "", "")


@pytest.mark.usefixtures("few_descriptors")
def test_no_descriptor_left_is_said(place: Place, script: Any) -> None:
    place.start()
    process = script("""
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            for _ in range(8):
                os.close(held.pop())  # enough for an event loop, not for a connection and more
        try:
            clients = [mock_mcp.connect_sync(**WHERE, connect_timeout_s=1) for _ in range(10)]
        except (mock_mcp.MockMcpError, OSError) as exc:
            say(type(exc).__name__, "Too many open files" in str(exc))
        while held:
            os.close(held.pop())
        mock_mcp.connect_sync(**WHERE).close()
        say("connected")
    """)
    assert process.line().endswith(" True")
    assert process.line() == "connected"
    assert process.end()[0] == 0
