"""The daemon as a process: its files, its end, its neighbours (issue parts 2 and 3)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.daemon import MockMcpDaemon
from mock_mcp.errors import (
    AlreadyRunning,
    ConfigurationError,
    InsecurePath,
    MockMcpError,
    VersionMismatch,
)
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.launch import ensure_daemon_running
from mock_mcp.runtime.locks import FileLock
from mock_mcp.runtime.project import compute_project_id
from support.daemons import DaemonProcess, environment, listener_pid, processes_of
from support.http import RawHttp, connect, post, rpc
from support.script import Script
from support.ws import HANG_S, WsClient, encode_frame, eventually, request

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets and modes")

StartProcess = Callable[..., DaemonProcess]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class TestFiles:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o177])
    def test_registry_socket_and_directory(
        self, start_process: StartProcess, cache_dir: Path, project: Path, umask: int
    ) -> None:
        cache_dir.rmdir()
        process = start_process(umask=umask).wait_ready()
        entry = process.entry()
        assert set(entry) == {
            "projectId",
            "projectRoot",
            "ipcPath",
            "token",
            "pid",
            "startedAt",
            "version",
        }
        assert entry["projectId"] == process.id == compute_project_id(project)
        assert entry["projectRoot"] == str(project)
        assert entry["ipcPath"] == process.path
        assert entry["pid"] == process.process.pid
        assert len(entry["token"]) >= 32
        assert re.match(r"\d{4}-\d\d-\d\dT", entry["startedAt"])
        assert mode(process.registry) == 0o600
        assert mode(process.socket) == 0o600
        assert stat.S_ISSOCK(process.socket.lstat().st_mode)
        assert mode(process.registry.parent) == 0o700
        for path in cache_dir.rglob("*"):
            assert not mode(path) & 0o077, path

    def test_a_readable_directory_is_tightened(
        self, start_process: StartProcess, cache_dir: Path
    ) -> None:
        directory = cache_dir / "mock-mcp"
        directory.mkdir()
        directory.chmod(0o755)
        start_process().wait_ready()
        assert mode(directory) == 0o700

    def test_every_daemon_has_its_own_token(self, start_process: StartProcess) -> None:
        first = start_process().wait_ready()
        token = first.token
        first.process.terminate()
        first.wait_end()
        second = start_process().wait_ready()
        assert second.token != token
        assert second.control.http(rpc("getStatus"), token=token).status == 401

    def test_the_token_is_in_no_other_place(
        self, start_process: StartProcess, cache_dir: Path
    ) -> None:
        process = start_process(env={"MOCK_MCP_LOG": "1"}).wait_ready()
        token = process.token
        with WsClient(process.path, token) as client:
            client.hello("run-1")
            client.submit([request()])
            process.control.provide(process.control.claim(), [{"requestId": "a", "data": 1}])
            assert token not in json.dumps(client.recv())
        with WsClient(process.path, "wrong") as client:
            client.send({"type": "HELLO_TEST", "token": "w", "runId": "r", "pid": 1, "cwd": "/"})
            assert token not in client.expect_close()[1]
        assert token not in json.dumps(process.control.http(b"", token=None).body)
        assert token not in json.dumps(process.control.http(b"nonsense").body)
        proc = Path(f"/proc/{process.process.pid}")
        if proc.exists():
            assert token.encode() not in (proc / "cmdline").read_bytes()
            assert token.encode() not in (proc / "environ").read_bytes()
        process.process.terminate()
        out, err = process.process.communicate(timeout=20)
        assert token.encode() not in out + err
        for path in cache_dir.rglob("*"):
            if path.is_file():
                assert token.encode() not in path.read_bytes(), path

    def test_a_long_cache_path(self, short_dir: Path, project: Path) -> None:
        """Too long for a socket: a short private directory, and the registry says where."""
        cache = short_dir / ("x" * 120)
        process = DaemonProcess(project, cache)
        try:
            process.wait_ready()
            entry = process.entry()
            assert len(entry["ipcPath"].encode()) <= 103
            assert mode(Path(entry["ipcPath"])) == 0o600
            assert mode(Path(entry["ipcPath"]).parent) == 0o700
            assert listener_pid(Path(entry["ipcPath"])) == process.process.pid
            info = ensure_daemon_running(project, cache_dir=cache)
            assert (info.pid, info.ipc_path) == (process.process.pid, entry["ipcPath"])
            process.process.terminate()
            assert process.wait_end() == 0
            assert not Path(entry["ipcPath"]).exists()
            assert not process.registry.exists()
        finally:
            process.close()


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_signals(self, daemon_process: DaemonProcess, number: signal.Signals) -> None:
        daemon_process.process.send_signal(number)
        assert daemon_process.wait_end() == 0
        assert not daemon_process.socket.exists()
        assert not daemon_process.registry.exists()

    def test_stuck_clients_do_not_hold_it(self, daemon_process: DaemonProcess) -> None:
        path, token, control = daemon_process.path, daemon_process.token, daemon_process.control
        reader = WsClient(path, token)  # never reads a large result
        reader.hello("never-reads", capabilities=["ack", "resume"])
        reader.submit([request()])
        claim = control.claim()
        provider = RawHttp(path)  # waits for an acknowledgement that does not come
        params = {
            "adapterId": "adapter-1",
            "batchId": claim["batchId"],
            "claimToken": claim["claimToken"],
            "mocks": [{"requestId": "a", "data": "x" * 10_000_000}],
        }
        provider.send(post(token, rpc("provideBatch", params)))
        stuck: list[Any] = [reader.sock, provider]
        for n in range(20):
            client = WsClient(path, token)  # says nothing, never closes
            if n % 2:
                client.hello(f"run-{n}")
            stuck.append(client.sock)
            half = connect(path)  # half a request
            half.sendall(b"POST /control HTTP/1.1\r\nContent-Length: 10\r\n")
            stuck.append(half)
            waiting = RawHttp(path)
            waiting.send(post(token, rpc("waitForBatch", {"waitMs": 60_000})))
            stuck.append(waiting)
        half_frame = WsClient(path, token)
        half_frame.hello("half")
        half_frame.sock.sendall(encode_frame(1, b"x" * 1000)[:500])
        stuck.append(half_frame.sock)
        control.health()
        daemon_process.process.terminate()
        assert daemon_process.wait_end() == 0
        assert not daemon_process.socket.exists()
        assert not daemon_process.registry.exists()
        for peer in stuck:
            peer.close()

    def test_two_signals_are_one(self, daemon_process: DaemonProcess) -> None:
        with WsClient(daemon_process.path, daemon_process.token) as client:
            client.hello("stuck")
            daemon_process.process.terminate()
            daemon_process.process.terminate()
            daemon_process.process.send_signal(signal.SIGINT)
            assert daemon_process.wait_end() == 0
        assert not daemon_process.socket.exists()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_while_it_starts(
        self, script: Callable[[str], Script], number: signal.Signals
    ) -> None:
        starting = script("""
            from mock_mcp.cli import main
            from mock_mcp.runtime.locks import FileLock

            def is_held(lock):
                say("waiting for one that seems to be stopping")
                return False

            FileLock.try_acquire = is_held
            sys.exit(main(["daemon", "--project-root", WHERE["project_root"]]))
        """)
        assert starting.line().startswith("waiting")
        starting.process.send_signal(number)
        assert starting.end()[::2] == (0, "")

    def test_it_stops_when_idle(self, start_process: StartProcess) -> None:
        process = start_process(arguments=("--idle-minutes", "0.001"))
        assert process.wait_end() == 0
        assert not process.socket.exists()
        assert not process.registry.exists()

    def test_runs_keep_it_and_calls_do_not(self, start_process: StartProcess) -> None:
        process = start_process(arguments=("--idle-minutes", "0.02")).wait_ready()
        control = process.control
        client = WsClient(process.path, process.token)
        client.hello("run-1")
        # A second and a half is longer than the 1.2 s of idleness it allows.
        assert control.call("waitForBatch", waitMs=1500) == {"pending": 0}
        client.settle()
        client.close()
        with contextlib.suppress(OSError, AssertionError):
            while True:  # calls do not count
                control.call("getStatus")
        assert process.wait_end() == 0

    def test_a_new_one_starts_while_the_old_one_stops(self, start_process: StartProcess) -> None:
        first = start_process().wait_ready()
        with WsClient(first.path, first.token) as client:
            client.hello("stuck")  # never answers the close: the stop takes its longest
            first.process.terminate()
            second = start_process().wait_ready()
            assert second.control.health()["pid"] == second.process.pid
        assert first.wait_end() == 0
        assert second.control.health()["pid"] == second.process.pid
        assert second.entry()["pid"] == second.process.pid


class TestSecondDaemon:
    def test_it_is_refused(
        self, daemon_process: DaemonProcess, start_process: StartProcess
    ) -> None:
        before = daemon_process.registry.read_bytes()
        code, error = start_process().end()
        assert code == 1
        assert "running already" in error
        assert "Traceback" not in error
        assert daemon_process.registry.read_bytes() == before
        assert daemon_process.control.health()["pid"] == daemon_process.process.pid

    @pytest.mark.asyncio
    async def test_an_embedded_one_is_refused(
        self, daemon_process: DaemonProcess, project: Path, cache_dir: Path
    ) -> None:
        with pytest.raises(AlreadyRunning):
            async with MockMcpDaemon(project, cache_dir=cache_dir):
                pass
        assert daemon_process.control.health()["pid"] == daemon_process.process.pid

    @pytest.mark.asyncio
    async def test_another_projects_daemon_is_its_own(
        self, daemon_process: DaemonProcess, short_dir: Path, cache_dir: Path
    ) -> None:
        other = short_dir / "other-project"
        other.mkdir(exist_ok=True)
        async with MockMcpDaemon(other, cache_dir=cache_dir) as daemon:
            assert daemon.info.ipc_path != daemon_process.path
            assert daemon_process.control.health()["projectId"] != daemon.project_id


class ForeignDaemon:
    """A daemon of another implementation: answers ``/health`` without ``protocol``."""

    def __init__(self, path: Path, project_id: str) -> None:
        self.path = path
        body = json.dumps({"ok": True, "pid": 1, "version": "0.5.0", "projectId": project_id})
        self._answer = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        temporary = path.with_name("foreign")
        self._sock.bind(str(temporary))
        temporary.chmod(0o600)
        self._sock.listen(50)
        temporary.rename(path)
        self.inode = path.lstat().st_ino
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError):
                sock.settimeout(5)
                while b"\r\n\r\n" in sock.recv(65536):
                    sock.sendall(self._answer)

    def untouched(self) -> bool:
        return self.path.exists() and self.path.lstat().st_ino == self.inode

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join()


@pytest.fixture
def foreign(project: Path, cache_dir: Path) -> Iterator[ForeignDaemon]:
    directory = cache_dir / "mock-mcp"
    directory.mkdir(mode=0o700)
    project_id = compute_project_id(project)
    daemon = ForeignDaemon(directory / f"{project_id}.sock", project_id)
    yield daemon
    daemon.close()
    daemon.path.unlink(missing_ok=True)


def foreign_registry(foreign: ForeignDaemon, project: Path) -> Path:
    """Write the registry as the other implementation does: in the same place and shape."""
    path = foreign.path.with_suffix(".json")
    path.write_text(
        json.dumps(
            {
                "projectId": compute_project_id(project),
                "projectRoot": str(project),
                "ipcPath": str(foreign.path),
                "token": "0" * 64,
                "pid": os.getpid(),
                "startedAt": "2026-01-01T00:00:00.000Z",
                "version": "0.5.0",
            }
        )
    )
    path.chmod(0o600)
    return path


class TestForeignDaemon:
    def test_it_is_reported_and_untouched(
        self, foreign: ForeignDaemon, project: Path, start_process: StartProcess
    ) -> None:
        registry = foreign_registry(foreign, project)
        before = registry.read_bytes()
        code, error = start_process().end()
        assert code == 1
        assert "stop" in error.lower()
        assert "Traceback" not in error
        assert foreign.untouched()
        assert registry.read_bytes() == before

    @pytest.mark.asyncio
    async def test_embedding_raises(
        self, foreign: ForeignDaemon, project: Path, cache_dir: Path
    ) -> None:
        with pytest.raises(VersionMismatch, match=r"(?i)stop"):
            async with MockMcpDaemon(project, cache_dir=cache_dir):
                pass
        assert foreign.untouched()

    @pytest.mark.parametrize("with_registry", [True, False])
    def test_ensure_never_uses_it_silently(
        self, foreign: ForeignDaemon, project: Path, cache_dir: Path, with_registry: bool
    ) -> None:
        if with_registry:
            foreign_registry(foreign, project)
        with pytest.raises(VersionMismatch, match=r"(?i)stop"):
            ensure_daemon_running(project, cache_dir=cache_dir, timeout_s=3)
        assert foreign.untouched()

    def test_one_that_takes_the_path_later_is_not_replaced(
        self, daemon_process: DaemonProcess
    ) -> None:
        """The npm client deletes a socket it thinks dead, and its daemon binds the path."""
        daemon_process.socket.unlink()
        foreign = ForeignDaemon(daemon_process.socket, daemon_process.id)
        try:
            # The daemon looks after its files every second; give it a turn to do wrong.
            for _ in range(15):
                threading.Event().wait(0.1)
                assert foreign.untouched(), "a living daemon was replaced"
        finally:
            foreign.close()
            foreign.path.unlink(missing_ok=True)


class TestStaleFiles:
    def entry(self, process: DaemonProcess, **changes: Any) -> bytes:
        good = {
            "projectId": process.id,
            "projectRoot": str(process.project),
            "ipcPath": process.path,
            "token": "0" * 64,
            "pid": os.getpid(),  # a pid that lives and is something else
            "startedAt": "2026-01-01T00:00:00.000Z",
            "version": "0.5.0",
        }
        return json.dumps(good | changes).encode()

    def test_a_killed_daemon_leaves_nothing_in_the_way(
        self, daemon_process: DaemonProcess, project: Path, cache_dir: Path
    ) -> None:
        daemon_process.process.kill()
        daemon_process.wait_end()
        assert daemon_process.socket.exists()
        assert daemon_process.registry.exists()
        info = ensure_daemon_running(project, cache_dir=cache_dir)
        assert info.pid != daemon_process.process.pid
        assert listener_pid(daemon_process.socket) == info.pid

    @pytest.mark.parametrize(
        "garbage",
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b"\xff\xfe",
            b"\0" * 100_000,
            b"[" * 100_000,
            b'{"projectId": 7}',
            "reused pid",
            "another project",
            "another socket",
        ],
    )
    def test_garbage_never_blocks_a_start(
        self, start_process: StartProcess, project: Path, cache_dir: Path, garbage: bytes | str
    ) -> None:
        process = DaemonProcess.__new__(DaemonProcess)
        process.project, process.cache, process.id = project, cache_dir, compute_project_id(project)
        process.registry.parent.mkdir(mode=0o700)
        changes: dict[str, dict[str, Any]] = {
            "reused pid": {},
            "another project": {"projectId": "0" * 16},
            "another socket": {"ipcPath": "/nonexistent.sock"},
        }
        content = self.entry(process, **changes[garbage]) if isinstance(garbage, str) else garbage
        process.registry.write_bytes(content)
        process.registry.chmod(0o600)
        info = ensure_daemon_running(project, cache_dir=cache_dir)
        assert listener_pid(process.socket) == info.pid
        assert json.loads(process.registry.read_bytes())["token"] == info.token

    def test_what_is_at_the_sockets_place_never_blocks_a_start(
        self, project: Path, cache_dir: Path
    ) -> None:
        path = cache_dir / "mock-mcp" / f"{compute_project_id(project)}.sock"
        path.parent.mkdir(mode=0o700)
        path.write_text("not a socket")
        info = ensure_daemon_running(project, cache_dir=cache_dir)
        assert listener_pid(path) == info.pid

    @pytest.mark.parametrize("name", ["socket", "registry"])
    def test_what_was_removed_is_put_back(self, daemon_process: DaemonProcess, name: str) -> None:
        token = daemon_process.token
        path: Path = getattr(daemon_process, name)
        client = WsClient(daemon_process.path, token)
        client.hello("run-1")
        path.unlink()
        eventually(path.exists)
        eventually(lambda: listener_pid(daemon_process.socket) == daemon_process.process.pid)
        assert daemon_process.token == token
        assert mode(path) == 0o600
        client.settle()
        assert daemon_process.control.call("listRuns")["runs"][0]["runId"] == "run-1"
        client.abort()

    def test_a_registry_that_cannot_be_put_back_yet_is_later(
        self, daemon_process: DaemonProcess
    ) -> None:
        token, path = daemon_process.token, daemon_process.registry
        process = daemon_process.process
        process.send_signal(signal.SIGSTOP)
        path.unlink()
        path.mkdir()
        process.send_signal(signal.SIGCONT)
        said, _, _ = select.select([process.stderr], [], [], HANG_S)
        assert said
        assert process.stderr is not None
        assert b"cannot repair" in process.stderr.readline()
        path.rmdir()
        eventually(path.is_file)
        assert daemon_process.token == token

    def test_the_files_of_the_npm_tool_are_left_alone(
        self, start_process: StartProcess, project: Path, cache_dir: Path
    ) -> None:
        directory = cache_dir / "mock-mcp"
        directory.mkdir(mode=0o700)
        theirs = [
            directory / f"{compute_project_id(project)}.lock",
            directory / "active-daemons.json",
        ]
        for path in theirs:
            path.write_text("theirs")
        process = start_process().wait_ready()
        process.process.terminate()
        process.wait_end()
        assert [path.read_text() for path in theirs] == ["theirs", "theirs"]

    def test_they_are_not_created(self, daemon_process: DaemonProcess) -> None:
        names = {path.name for path in daemon_process.registry.parent.iterdir()}
        assert f"{daemon_process.id}.lock" not in names
        assert "active-daemons.json" not in names

    def test_the_cache_is_deleted_while_a_start_is_waited_for(
        self, project: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits = threading.Event()

        class WatchedLock(FileLock):
            def try_acquire(self) -> bool:
                taken = super().try_acquire()
                waits.set()
                return taken

        monkeypatch.setattr("mock_mcp.runtime.launch.FileLock", WatchedLock)
        cache = CacheDirectory(cache_dir)
        with FileLock(cache.start_lock(compute_project_id(project))) as lock:
            assert lock.acquire(0)
            with ThreadPoolExecutor() as pool:
                started = pool.submit(ensure_daemon_running, project, cache_dir=cache_dir)
                assert waits.wait(HANG_S)
                shutil.rmtree(cache.path)
                info = started.result(HANG_S)
        assert listener_pid(Path(info.ipc_path)) == info.pid

    def test_one_daemon_when_the_cache_was_deleted(
        self, daemon_process: DaemonProcess, project: Path, cache_dir: Path, short_dir: Path
    ) -> None:
        """Deleting the cache frees the name, not the daemon; two must not fight over it."""
        shutil.rmtree(cache_dir / "mock-mcp")
        info = ensure_daemon_running(project, cache_dir=cache_dir)
        eventually(lambda: daemons(cache_dir) == 1, timeout_s=8)
        found = ensure_daemon_running(project, cache_dir=cache_dir)
        assert found.pid in (info.pid, daemon_process.process.pid)
        assert listener_pid(daemon_process.socket) == found.pid


def daemons(cache_dir: Path) -> int:
    return len([pid for pid, _ in processes_of(cache_dir) if not is_zombie(pid)])


def is_zombie(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return True


class TestStarter:
    def test_the_daemon_outlives_its_starter_and_shares_no_pipe(
        self, project: Path, cache_dir: Path
    ) -> None:
        script = (
            "from mock_mcp.runtime.launch import ensure_daemon_running\n"
            f"print(ensure_daemon_running({str(project)!r}).pid)\n"
        )
        starter = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(cache_dir),
            start_new_session=True,
        )
        # communicate() returns at end of file on both pipes: the daemon does not hold them.
        out, err = starter.communicate(timeout=20)
        assert (starter.returncode, err) == (0, b"")
        pid = int(out)
        socket_path = cache_dir / "mock-mcp" / f"{compute_project_id(project)}.sock"
        assert listener_pid(socket_path) == pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(starter.pid, signal.SIGINT)  # Ctrl-C in the starter's terminal
        assert listener_pid(socket_path) == pid
        assert ensure_daemon_running(project).pid == pid
        proc = Path(f"/proc/{pid}")
        if proc.exists():
            assert (proc / "cwd").readlink() == Path("/")
            arguments = (proc / "cmdline").read_bytes().split(b"\0")
            assert b"daemon" in arguments
            assert os.getsid(pid) == pid
            for fd in (0, 1, 2):
                assert "pipe:" not in str((proc / "fd" / str(fd)).readlink())

    def test_a_fatal_reason_is_quoted(self, project: Path, cache_dir: Path) -> None:
        directory = cache_dir / "mock-mcp"
        directory.mkdir(mode=0o700)
        (directory / f"{compute_project_id(project)}.sock").mkdir()
        with pytest.raises(MockMcpError) as error:
            ensure_daemon_running(project, cache_dir=cache_dir, timeout_s=10)
        assert error.value.message

    def test_a_root_that_is_none(self, cache_dir: Path, short_dir: Path) -> None:
        with pytest.raises(ConfigurationError, match="nowhere"):
            ensure_daemon_running(short_dir / "nowhere", cache_dir=cache_dir)

    def test_the_same_cache_under_another_name(
        self, daemon_process: DaemonProcess, project: Path, cache_dir: Path, short_dir: Path
    ) -> None:
        """A home directory reached through a symlink is still the same cache."""
        alias = short_dir / f"alias-{cache_dir.name}"
        alias.symlink_to(cache_dir)
        info = ensure_daemon_running(project, cache_dir=alias, timeout_s=5)
        assert info.pid == daemon_process.process.pid


class TestInsecureCache:
    @pytest.fixture
    def directory(self, cache_dir: Path) -> Path:
        directory = cache_dir / "mock-mcp"
        directory.mkdir(mode=0o700)
        return directory

    def refused(self, project: Path, cache_dir: Path) -> None:
        with pytest.raises(InsecurePath) as error:
            ensure_daemon_running(project, cache_dir=cache_dir)
        assert str(cache_dir) in error.value.message
        with pytest.raises(InsecurePath):
            MockMcpDaemon(project, cache_dir=cache_dir)

    @pytest.mark.parametrize("bits", [0o777, 0o770, 0o702, 0o720])
    def test_writable_by_others(
        self, directory: Path, project: Path, cache_dir: Path, bits: int
    ) -> None:
        directory.chmod(bits)
        self.refused(project, cache_dir)
        assert mode(directory) == bits

    def test_a_symlink(self, project: Path, cache_dir: Path, short_dir: Path) -> None:
        (cache_dir / "elsewhere").mkdir(mode=0o700)
        (cache_dir / "mock-mcp").symlink_to(cache_dir / "elsewhere")
        self.refused(project, cache_dir)
        assert not list((cache_dir / "elsewhere").iterdir())

    def test_a_file(self, project: Path, cache_dir: Path) -> None:
        (cache_dir / "mock-mcp").write_text("")
        with pytest.raises((InsecurePath, ConfigurationError)):
            ensure_daemon_running(project, cache_dir=cache_dir)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_foreign_owned(self, directory: Path, project: Path, cache_dir: Path) -> None:
        os.chown(directory, 12345, 12345)
        self.refused(project, cache_dir)

    def test_the_command_says_so(self, directory: Path, start_process: StartProcess) -> None:
        directory.chmod(0o777)
        code, error = start_process().end()
        assert code == 1
        assert "writ" in error
        assert "Traceback" not in error

    def test_an_unsafe_registry_does_not_block_a_start(
        self, directory: Path, project: Path, cache_dir: Path
    ) -> None:
        registry = directory / f"{compute_project_id(project)}.json"
        registry.write_text("{}")
        registry.chmod(0o666)
        info = ensure_daemon_running(project, cache_dir=cache_dir)
        assert mode(registry) == 0o600
        assert listener_pid(registry.with_suffix(".sock")) == info.pid


class TestEnvironment:
    def test_an_empty_variable_is_unset(self, start_process: StartProcess, short_dir: Path) -> None:
        home = short_dir / "home"
        home.mkdir(exist_ok=True)
        process = start_process(
            env={
                "MOCK_MCP_CACHE_DIR": "",
                "XDG_CACHE_HOME": "",
                "HOME": str(home),
                "MOCK_MCP_LOG": "",
            }
        )
        process.cache = home / ".cache"
        process.wait_ready()
        assert process.entry()["ipcPath"].startswith(str(home / ".cache" / "mock-mcp"))
        assert not (home / ".cache" / "mock-mcp" / "logs").exists()

    def test_xdg(self, start_process: StartProcess, short_dir: Path) -> None:
        process = start_process(
            env={"MOCK_MCP_CACHE_DIR": "", "XDG_CACHE_HOME": str(short_dir / "xdg")}
        )
        process.cache = short_dir / "xdg"
        process.wait_ready()
        assert process.entry()["pid"] == process.process.pid


class TestBatchLog:
    def lines(self, process: DaemonProcess) -> list[dict[str, Any]]:
        path = process.cache / "mock-mcp" / "logs" / process.id / "batches.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def test_it_is_off_by_default(self, daemon_process: DaemonProcess) -> None:
        with WsClient(daemon_process.path, daemon_process.token) as client:
            client.hello("run-1")
            client.submit([request()])
            client.settle()
        assert not list(daemon_process.cache.rglob("*.jsonl"))

    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_it_tells_all_that_happened(self, start_process: StartProcess, umask: int) -> None:
        process = start_process(env={"MOCK_MCP_LOG": "1"}, umask=umask).wait_ready()
        control = process.control
        metadata = {"schema": {"type": "object"}, "deep": {"é": [1, None]}}
        with WsClient(process.path, process.token) as client:
            client.hello("run-1", testMeta={"testFile": "a.test.ts"})
            client.submit([request(metadata=metadata, body="水")])
            claim = control.claim("one")
            control.call(
                "releaseBatch",
                adapterId="one",
                batchId=claim["batchId"],
                claimToken=claim["claimToken"],
                reason="no schema",
            )
            control.claim("two", leaseMs=1)
            claim = control.claim("three")
            control.provide(claim, [{"requestId": "a", "data": {"name": "Zoë"}}], "three")
            client.recv()
            client.submit([request("b")])
            client.send({"type": "BATCH_CANCEL", "batchId": "batch:run-1:2"})
            client.settle()
        lines = self.lines(process)
        events = [line["event"] for line in lines if line.get("batchId") == "batch:run-1:1"]
        assert events == ["submit", "claim", "release", "claim", "expire", "claim", "provide"]
        assert all(line["runId"] == "run-1" for line in lines)
        assert all(re.match(r"\d{4}-\d\d-\d\dT", line["time"]) for line in lines)
        assert lines[0]["requests"] == [request(metadata=metadata, body="水")]
        assert (lines[2]["adapterId"], lines[2]["reason"]) == ("one", "no schema")
        provided = next(line for line in lines if line["event"] == "provide")
        assert provided["mocks"] == [{"requestId": "a", "data": {"name": "Zoë"}}]
        assert provided["adapterId"] == "three"
        path = next(process.cache.rglob("batches.jsonl"))
        assert mode(path) == 0o600
        assert mode(path.parent) == mode(path.parent.parent) == 0o700

    def test_zero_is_off(self, start_process: StartProcess) -> None:
        process = start_process(env={"MOCK_MCP_LOG": "0"}).wait_ready()
        with WsClient(process.path, process.token) as client:
            client.hello("run-1")
            client.submit([request()])
            client.settle()
        assert not list(process.cache.rglob("*.jsonl"))

    def test_the_option_turns_it_on(self, start_process: StartProcess) -> None:
        process = start_process(arguments=("--log-batches",)).wait_ready()
        with WsClient(process.path, process.token) as client:
            client.hello("run-1")
            client.submit([request()])
            client.settle()
        assert self.lines(process)[0]["event"] == "submit"


def test_a_lock_of_the_dead_is_free(daemon_process: DaemonProcess) -> None:
    lock = FileLock(daemon_process.registry.with_suffix(".flock"))
    assert not lock.try_acquire()
    daemon_process.process.kill()
    daemon_process.wait_end()
    assert lock.try_acquire()
    lock.release()
