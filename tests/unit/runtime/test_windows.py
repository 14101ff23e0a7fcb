"""The Windows paths, as far as they can be run elsewhere: with the system's modules faked.

Each case runs in a process of its own whose ``sys.platform`` says ``win32`` before anything of the
house is imported.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the real thing is tested there")

FAKE_WINDOWS = """
import asyncio, signal, socket, subprocess, sys, types  # before the platform changes
import logging, tempfile, os, threading, pathlib, concurrent.futures
locked = set()
def locking(fd, mode, size):
    inode = os.fstat(fd).st_ino
    if inode in locked:
        raise OSError(13, "Permission denied")
    locked.add(inode)
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
sys.modules["fcntl"] = None  # an import of it fails, as on Windows
sys.modules["resource"] = None
sys.platform = "win32"
del os.geteuid, os.fchmod
"""


def run_on_windows(code: str, tmp_path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", FAKE_WINDOWS + textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_part_can_be_imported(tmp_path):
    assert run_on_windows(
        """
        import mock_mcp
        import mock_mcp.adapter.entry, mock_mcp.cli.daemon, mock_mcp.cli.status, mock_mcp.cli.stop
        import mock_mcp.scope, mock_mcp.pytest_plugin, mock_mcp.interceptors
        for name in mock_mcp.__all__:
            if name != "run_adapter":
                getattr(mock_mcp, name)
        print("imported")
        """,
        tmp_path,
    ).endswith("imported")


def test_a_lock_excludes_others(tmp_path):
    assert (
        run_on_windows(
            """
            from mock_mcp.runtime.locks import FileLock
            path = pathlib.Path(sys.argv[1], "lock")
            print(FileLock(path).try_acquire(), FileLock(path).try_acquire())
            """,
            tmp_path,
        )
        == "True False"
    )


def test_the_cache_is_the_local_profile_and_the_socket_a_named_pipe(tmp_path):
    assert (
        run_on_windows(
            r"""
            os.environ.pop("MOCK_MCP_CACHE_DIR", None)
            os.environ["LOCALAPPDATA"] = sys.argv[1]
            from mock_mcp.runtime.cache import CacheDirectory
            cache = CacheDirectory()
            assert cache.path == pathlib.Path(os.path.realpath(sys.argv[1]), "mock-mcp")
            print(cache.ipc_path("0123456789abcdef"))
            """,
            tmp_path,
        )
        == r"\\.\pipe\mock-mcp-0123456789abcdef"
    )


def test_a_server_serves_the_pipe_and_a_client_opens_it(tmp_path):
    assert (
        run_on_windows(
            r"""
            from mock_mcp.runtime.ipc import IpcServer, Listener, connect_ipc, identify
            from mock_mcp.errors import DaemonUnreachable
            pipe = r"\\.\pipe\mock-mcp-0123456789abcdef"
            said = []
            class Pipe:
                def close(self): said.append("closed")
            async def main():
                loop = asyncio.get_running_loop()
                async def start_serving_pipe(factory, path):
                    said.append(path == pipe)
                    return [Pipe()]
                async def create_pipe_connection(factory, path):
                    if said[-1] == "closed":
                        raise FileNotFoundError(2, "no such pipe")
                    return object(), factory()
                loop.start_serving_pipe = start_serving_pipe
                loop.create_pipe_connection = create_pipe_connection
                server = IpcServer(asyncio.Protocol, pipe)
                await server.start()
                assert server.is_in_place()
                assert isinstance(await connect_ipc(asyncio.Protocol, pipe), asyncio.Protocol)
                server.close()
                try:
                    await connect_ipc(asyncio.Protocol, pipe)
                except DaemonUnreachable:
                    said.append("gone")
            # Its own loop: Windows' default needs what only Windows has.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(main())
            assert identify(pipe) is Listener.NOBODY
            print(said)
            """,
            tmp_path,
        )
        == "[True, 'closed', 'gone']"
    )


def test_a_daemon_is_spawned_without_a_console_and_awaited_by_its_pipe(tmp_path):
    assert (
        run_on_windows(
            """
            subprocess.CREATE_NEW_PROCESS_GROUP, subprocess.CREATE_NO_WINDOW = 0x200, 0x8000000
            from mock_mcp.runtime import launch
            from mock_mcp.runtime.cache import CacheDirectory
            from mock_mcp.runtime.project import Project
            seen = {}
            class Popen:
                returncode = None
                def __init__(self, command, **options):
                    seen.update(options, command=command)
                def wait(self): pass
                def poll(self): return None
            launch.subprocess.Popen = Popen
            launch.is_listening = lambda path: True
            project = Project.resolve(sys.argv[1])
            launch._spawn(project, CacheDirectory(sys.argv[1]), 5)
            print(seen["creationflags"] == 0x8000200, "--ready-fd" in seen["command"])
            print("token" in str(seen["command"]).lower())
            """,
            tmp_path,
        )
        == "True False\nFalse"
    )
