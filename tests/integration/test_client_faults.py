"""The test client while daemons die, stop, hang and are replaced: nothing it waits for is lost."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.http11 import Request, Response

import mock_mcp
from mock_mcp.control.client import DaemonClient
from mock_mcp.errors import (
    ClientClosed,
    DaemonStartFailed,
    DaemonUnreachable,
    RunReplaced,
    VersionMismatch,
)
from mock_mcp.limits import Limits
from mock_mcp.runtime.ipc import connect_ipc
from mock_mcp.runtime.locks import FileLock
from mock_mcp.types import DaemonInfo
from support.place import Place, kill
from support.responder import endpoints, respond_to, until
from support.ws import HANG_S, eventually

pytestmark = pytest.mark.usefixtures("nothing_left")
on_loop = pytest.mark.asyncio
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def place(project: Path, cache_dir: Path) -> Place:
    return Place(project, cache_dir)


@pytest.fixture
def stopped() -> Iterator[Callable[[int], None]]:
    """Stop a process with SIGSTOP; it goes on at the end of the test at the latest."""
    pids: list[int] = []

    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        pids.append(pid)

    yield stop
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


# -- The daemon dies ---------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_a_client_started_is_stopped_by_a_signal(place, connect_sync, number):
    with connect_sync():
        pid = place.pid()
    kill(pid, number)
    with FileLock(place.cache.lock(place.project.id)) as lock:
        eventually(lock.try_acquire)
    assert not place.socket.exists()
    assert not place.cache.registry(place.project.id).exists()


@POSIX
def test_a_directory_that_was_deleted_keeps_nobody_from_connecting(script, cache_dir):
    process = script(
        """
        import tempfile
        gone = tempfile.mkdtemp()
        os.chdir(gone)
        os.rmdir(gone)
        for file in (None, os.path.join(WHERE["project_root"], "test_a.py"), "test_a.py"):
            with mock_mcp.connect_sync(**WHERE, file_path=file) as client:
                say(client.enabled)
        """
    )
    assert process.end() == (0, "True\nTrue\nTrue\n", "")


@POSIX
@on_loop
async def test_ten_batches_survive_a_killed_daemon(place, connect):
    before = await place.start_async()
    async with connect(max_batch_size=1) as client:
        asked = [asyncio.create_task(client.request_mock(f"/{n}")) for n in range(10)]
        async with respond_to(before) as responder:

            async def all_parked() -> bool:
                return len(await responder.batches()) == 10

            await until(all_parked)
            first = await responder.claim()  # one of them is being answered
            names = {batch.batch_id: endpoints(batch) for batch in await responder.batches()}
        kill(before.pid)
        after = await place.successor(before)  # the waiting client started it
        async with respond_to(after) as responder:
            await until(all_parked)
            again = {batch.batch_id: endpoints(batch) for batch in await responder.batches()}
            assert again == names
            assert first.batch_id in again
            for _ in range(10):
                assert await responder.provide(await responder.claim())
        assert [(await each).data for each in asked] == [f"/{n}" for n in range(10)]


@POSIX
@on_loop
async def test_a_request_asked_while_no_daemon_lives_is_answered(place, connect):
    before = await place.start_async()
    async with connect() as client:
        kill(before.pid)
        asked = asyncio.create_task(client.request_mock("/a"))
        after = await place.successor(before)
        async with respond_to(after) as responder:
            await responder.provide(await responder.claim())
        assert (await asked).data == "/a"


@POSIX
@on_loop
async def test_a_request_cancelled_while_no_daemon_lives_is_not_asked_again(place, connect):
    before = await place.start_async()
    async with connect(timeout_s=None) as client:
        kept = asyncio.create_task(client.request_mock("/kept"))
        dropped = asyncio.create_task(client.request_mock("/dropped"))
        async with respond_to(before) as responder:
            assert endpoints(await responder.claim()) == ["/kept", "/dropped"]
        kill(before.pid)
        dropped.cancel()
        after = await place.successor(before)
        async with respond_to(after) as responder:
            claim = await responder.claim()
            assert endpoints(claim) == ["/kept"]
            await responder.provide(claim)
        assert (await kept).data == "/kept"


@POSIX
@on_loop
async def test_a_daemon_killed_again_and_again(place, connect):
    info = await place.start_async()
    async with connect() as client:
        asked = asyncio.create_task(client.request_mock("/a"))
        for _ in range(4):
            async with respond_to(info) as responder:
                await responder.claim()
            kill(info.pid)
            info = await place.successor(info)
        async with respond_to(info) as responder:
            await responder.provide(await responder.claim())
        assert (await asked).data == "/a"


@POSIX
def test_sync_threads_survive_a_killed_daemon(place, connect_sync):
    before = mock_mcp.ensure_daemon_running(place.root, cache_dir=place.cache_dir)

    async def serve(count: int) -> None:
        after = await place.successor(before)
        async with respond_to(after) as responder:
            answered = 0
            while answered < count:
                claim = await responder.claim()
                await responder.provide(claim)
                answered += len(claim.requests)

    async def parked() -> None:
        async with respond_to(before) as responder:
            await responder.claim()

    with connect_sync() as client, ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(client.request_mock, f"/{n}") for n in range(5)]
        asyncio.run(parked())
        kill(before.pid)
        asyncio.run(serve(5))
        assert [each.result(HANG_S).data for each in asked] == [f"/{n}" for n in range(5)]


# -- The daemon is stopped on purpose ----------------------------------------------------------


async def shut_down(info: DaemonInfo) -> None:
    """Stop a daemon as ``mock-mcp stop`` does; return when its process is gone."""
    async with DaemonClient.of(info) as control:
        await control.shutdown()
    await ended(info)


async def ended(info: DaemonInfo) -> None:
    async def is_gone() -> bool:
        try:
            os.kill(info.pid, 0)
        except ProcessLookupError:
            return True
        return False

    await until(is_gone)


async def noticed(client: Any) -> None:
    """Return when a client knows that its connection is lost."""

    async def lost() -> bool:
        return client._engine._link is None

    await until(lost)


@on_loop
async def test_a_stopped_daemon_is_not_started_again_for_nothing(place, connect):
    before = await place.start_async()
    async with connect(heartbeat_s=0.02) as client:
        await shut_down(before)
        await noticed(client)
        await asyncio.sleep(0.3)  # an outcome that must not happen announces nothing
        assert place.pid() is None
        assert list(place.cache.project_ids()) == []
        asked = asyncio.create_task(client.request_mock("/a"))
        after = await place.successor(before)
        async with respond_to(after) as responder:
            await responder.provide(await responder.claim())
        assert (await asked).data == "/a"


@on_loop
async def test_a_stopped_daemon_is_started_again_for_what_waits(place, connect):
    before = await place.start_async()
    async with connect() as client:
        asked = asyncio.create_task(client.request_mock("/a"))
        async with respond_to(before) as responder:
            claim = await responder.claim()
        await shut_down(before)
        after = await place.successor(before)
        async with respond_to(after) as responder:
            again = await responder.claim()
            assert again.batch_id == claim.batch_id
            await responder.provide(again)
        assert (await asked).data == "/a"


@on_loop
async def test_closing_after_the_daemon_has_stopped(place, connect):
    info = await place.start_async()
    async with connect() as client:
        await shut_down(info)
        await noticed(client)
    assert place.pid() is None


@on_loop
async def test_closing_while_the_daemon_stops(place, connect):
    for _ in range(5):
        info = await place.start_async()
        client = await connect()
        asked = asyncio.create_task(client.request_mock("/a"))
        async with respond_to(info) as responder:
            await responder.claim()
            await asyncio.gather(responder.client.shutdown(), client.close())
        with pytest.raises(ClientClosed):
            await asked
        await ended(info)


# -- The daemon hangs --------------------------------------------------------------------------


@POSIX
@on_loop
async def test_a_daemon_that_hangs_is_waited_for(place, connect, stopped):
    info = await place.start_async()
    async with connect() as client:
        async with respond_to(info) as responder:
            first = asyncio.create_task(client.request_mock("/first"))
            claim = await responder.claim()
            stopped(info.pid)
            second = asyncio.create_task(client.request_mock("/second"))
            third = asyncio.create_task(_connect_and_ask(connect, "/third"))
            done, _ = await asyncio.wait({first, second, third}, timeout=0.5)
            assert not done
            kill(info.pid, signal.SIGCONT)
            await responder.provide(claim)
            for _ in range(2):
                await responder.provide(await responder.claim())
        assert [each.data for each in await asyncio.gather(first, second, third)] == [
            "/first",
            "/second",
            "/third",
        ]
    assert place.pid() == info.pid  # nobody started a second one


async def _connect_and_ask(connect: Any, endpoint: str) -> Any:
    async with connect() as client:
        return await client.request_mock(endpoint)


@POSIX
@on_loop
async def test_closing_while_the_daemon_hangs(place, connect, stopped):
    info = await place.start_async()
    client = await connect()
    asked = asyncio.create_task(client.request_mock("/a"))
    async with respond_to(info) as responder:
        await responder.claim()
    stopped(info.pid)
    await client.close()
    with pytest.raises(ClientClosed):
        await asked


@POSIX
@on_loop
async def test_an_abandoned_close_goes_on_and_can_be_repeated(place, connect, stopped):
    info = await place.start_async()
    client = await connect()
    stopped(info.pid)
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing})
    again = asyncio.create_task(client.close())
    await asyncio.wait({again}, timeout=HANG_S)
    assert not again.cancelled()
    assert again.exception() is None


@POSIX
@on_loop
async def test_closing_during_a_reconnect_leaves_nothing_open(place, connect, stopped):
    info = await place.start_async()
    client = await connect()
    stopped(info.pid)
    engine = client._engine
    engine._loop.call_soon_threadsafe(engine._link.abort)
    asked = asyncio.create_task(client.request_mock("/a"))
    await noticed(client)
    await asyncio.to_thread(eventually, launching)
    await asyncio.to_thread(eventually, lambda: not launching())
    await asyncio.sleep(0.1)  # the attempt waits for the stopped daemon's handshake
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await client.close()
        with pytest.raises(ClientClosed):
            await asked
        del engine, client
        gc.collect()
    assert [str(each.message) for each in caught] == []


@on_loop
async def test_a_daemon_that_never_answers_is_named_after_the_timeout(place, connect):
    async def silence(peer: ServerConnection) -> None:
        await peer.wait_closed()

    async with fake_daemon(place, silence, protocol=1):
        with pytest.raises(DaemonUnreachable, match=r"connect_timeout_s"):
            await connect(connect_timeout_s=0.3)


@POSIX
@on_loop
async def test_a_full_backlog_is_slow_and_not_another_user(short_dir):
    path = short_dir / "full.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(0)
        kept = []
        try:
            for _ in range(3):
                slow = pytest.raises((TimeoutError, DaemonUnreachable))
                with slow if kept else nullcontext():
                    async with asyncio.timeout(0.2):
                        kept.append(await connect_ipc(_Quiet, str(path)))
        finally:
            for each in kept:
                each.transport.abort()
            path.unlink()
            await asyncio.sleep(0)


class _Quiet(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


# -- Another daemon, another client ------------------------------------------------------------


@asynccontextmanager
async def fake_daemon(
    place: Place, answer: Callable[[ServerConnection], Any], **health: Any
) -> AsyncIterator[DaemonInfo]:
    """Serve a project's socket by a script, with a registry that names it."""
    path = place.cache.ipc_path(place.project.id)
    info = DaemonInfo(
        place.project.id, str(place.root), path, "token", os.getpid(), "2026-01-01", "0.5.0"
    )
    who = {"ok": True, "pid": os.getpid(), "version": "0.5.0", "projectId": place.project.id}

    def on_request(peer: ServerConnection, request: Request) -> Response | None:
        if request.path == "/health":
            # Whoever asks reads until the end; left alone, it would wait for the asker's.
            asyncio.get_running_loop().call_later(0.05, peer.transport.close)
            return peer.respond(HTTPStatus.OK, json.dumps({**who, **health}))
        return None

    async with unix_serve(answer, path, compression=None, process_request=on_request):
        Path(path).chmod(0o600)
        place.cache.write(info)
        try:
            yield info
        finally:
            place.cache.registry(place.project.id).unlink()


@on_loop
@pytest.mark.parametrize("protocol", [{}, {"protocol": 2}], ids=["none", "newer"])
async def test_another_revision_is_a_mismatch_at_once(place, connect, protocol):
    hellos: list[Any] = []

    async def answer(peer: ServerConnection) -> None:
        hellos.append(await peer.recv())
        await peer.send(json.dumps({"type": "HELLO_ACK", "runId": "r", **protocol}))
        await peer.wait_closed()

    async with fake_daemon(place, answer, protocol=1):
        with pytest.raises(VersionMismatch, match="mock-mcp stop"):
            await connect(connect_timeout_s=HANG_S)
        assert len(hellos) == 1


@on_loop
async def test_another_implementation_is_never_told_the_token(place, connect):
    hellos: list[Any] = []

    async def answer(peer: ServerConnection) -> None:
        hellos.append(await peer.recv())

    async with fake_daemon(place, answer):
        with pytest.raises(VersionMismatch, match="mock-mcp stop"):
            await connect(connect_timeout_s=HANG_S)
    assert hellos == []


@on_loop
async def test_a_stale_token_is_read_again(place, connect, daemon):
    stale = DaemonInfo(
        place.project.id, str(place.root), daemon.path, "0" * 64, os.getpid(), "2026", "1"
    )
    place.cache.write(stale)  # the daemon puts its own back within a second
    async with connect() as client:
        assert place.cache.read(place.project.id).token == daemon.token
        assert client.enabled


@on_loop
async def test_the_newer_of_two_clients_with_one_run_id_wins(place, connect, daemon):
    older = await connect(run_id="same")
    asked = asyncio.create_task(older.request_mock("/older"))
    async with respond_to(daemon.info) as responder:
        await responder.claim()
        newer = await connect(run_id="same")
        with pytest.raises(RunReplaced):
            await asked
        with pytest.raises(RunReplaced):
            await older.request_mock("/again")
        asked = asyncio.create_task(newer.request_mock("/newer"))
        await responder.provide(await responder.claim())
        assert (await asked).data == "/newer"
        await older.close()  # an older client's goodbye does not touch the newer
        assert len(await responder.client.list_runs()) == 1
    await newer.close()


@on_loop
async def test_the_newer_client_wins_although_the_older_has_reconnected(place, connect, daemon):
    older = await connect(run_id="same")
    engine = older._engine
    engine._loop.call_soon_threadsafe(engine._link.abort)
    asked = asyncio.create_task(older.request_mock("/older"))
    async with respond_to(daemon.info) as responder:
        await responder.claim()
    try:
        newer = await connect(run_id="same")
        await newer.close()
        with pytest.raises(RunReplaced):
            await asked
    finally:
        await older.close()
        await asyncio.gather(asked, return_exceptions=True)


@on_loop
@pytest.mark.parametrize("run_id", ["x" * 300, "a\ud800"], ids=["long", "surrogate"])
async def test_a_run_id_nobody_takes_is_refused_by_name(connect, daemon, run_id):
    with pytest.raises(mock_mcp.MockMcpError, match=r"run_?[iI]d"):
        await connect(run_id=run_id, connect_timeout_s=0.5)


@on_loop
async def test_more_than_the_write_buffer_waits(connect, served):
    limits = Limits(write_buffer_bytes=1_000_000)
    async with connect(limits=limits, max_batch_size=1, timeout_s=2) as client:
        asked = [client.request_mock(f"/{n}", body="x" * 400_000) for n in range(10)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [getattr(each, "data", each) for each in outcomes] == [f"/{n}" for n in range(10)]


# -- Connecting fails --------------------------------------------------------------------------


def fake_python(directory: Path, script: str) -> str:
    """Return an "interpreter" that does what a shell script says."""
    path = directory / "fake-python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


@POSIX
@on_loop
async def test_a_daemon_that_cannot_start_says_why(connect, tmp_path, monkeypatch):
    script = "echo the disk is made of cheese >&2; exit 3"
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path, script))
    with pytest.raises(DaemonStartFailed, match="the disk is made of cheese"):
        await connect()


@POSIX
def test_a_daemon_that_cannot_start_says_why_in_sync_code(connect_sync, tmp_path, monkeypatch):
    script = "echo the disk is made of cheese >&2; exit 3"
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path, script))
    with pytest.raises(DaemonStartFailed, match="the disk is made of cheese"):
        connect_sync()


def slow_daemon(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Make daemons start for ever; the result waits for one and returns its pid."""
    pid_file = directory / "pid"
    script = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60"
    monkeypatch.setattr(sys, "executable", fake_python(directory, script))
    return lambda: eventually(lambda: pid_file.exists() and int(pid_file.read_text()))


def threads(name: str) -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == name]


def launching() -> list[threading.Thread]:
    return threads("mock-mcp-launch")


@POSIX
@on_loop
async def test_an_abandoned_connect_leaves_nothing(connect, tmp_path, monkeypatch):
    started = slow_daemon(tmp_path, monkeypatch)
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    connecting = asyncio.create_task(_awaited(connect(connect_timeout_s=60)))
    pid = await asyncio.to_thread(started)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await asyncio.to_thread(eventually, lambda: not threads("mock-mcp-client"))
    os.kill(pid, signal.SIGKILL)
    # A daemon that a signal killed is started again, but not for somebody who has gone.
    await asyncio.to_thread(eventually, lambda: not launching())
    assert not failures


@POSIX
@on_loop
async def test_a_connect_that_took_too_long_leaves_nothing(connect, tmp_path, monkeypatch):
    started = slow_daemon(tmp_path, monkeypatch)
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    with pytest.raises(DaemonUnreachable):
        await connect(connect_timeout_s=0.2)
    os.kill(await asyncio.to_thread(started), signal.SIGKILL)
    await asyncio.to_thread(eventually, lambda: not launching())
    assert not failures


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


@on_loop
async def test_connecting_many_times_leaves_no_threads_or_descriptors(connect, daemon):
    async with connect():
        pass
    descriptors = count_of_descriptors()
    for _ in range(20):
        async with connect():
            pass
    await asyncio.to_thread(eventually, lambda: not launching())
    await asyncio.to_thread(eventually, lambda: count_of_descriptors() <= descriptors)


def count_of_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


# -- The process has little left ---------------------------------------------------------------


@on_loop
async def test_a_thread_that_dies_ends_every_wait(connect, daemon, monkeypatch, caplog):
    async def broken() -> None:
        raise RuntimeError("can't start new thread")

    async with connect() as client, respond_to(daemon.info) as responder:

        async def is_held_back() -> bool:
            return bool(client._engine._delayed)

        delayed = asyncio.create_task(client.request_mock("/delayed"))
        await responder.provide(await responder.claim(), delay_ms=600_000)
        await until(is_held_back)
        monkeypatch.setattr(client._engine, "_connect", broken)
        waiting = asyncio.create_task(client.request_mock("/waiting"))
        await responder.claim()
        client._engine._loop.call_soon_threadsafe(client._engine._link.abort)
        done, _ = await asyncio.wait({delayed, waiting}, timeout=HANG_S)
    assert done == {delayed, waiting}
    assert isinstance(delayed.exception(), ClientClosed)
    assert isinstance(waiting.exception(), DaemonUnreachable)
    assert "the client's thread failed" in caplog.text
    caplog.clear()


def test_a_client_whose_thread_cannot_start_says_so(connect_sync, monkeypatch):
    start = threading.Thread.start

    def only_others(thread: threading.Thread) -> None:
        if thread.name == "mock-mcp-client":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", only_others)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        connect_sync()
