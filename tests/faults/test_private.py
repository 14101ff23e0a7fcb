"""Nobody else gets in: other users, other sockets, other files; and the token stays where it is.

Directories that are not private, and the files of a daemon, are in tests/integration
(test_daemon_process).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_mcp.control.client import DaemonClient
from mock_mcp.errors import InsecurePath, MockMcpError, Unauthorized
from mock_mcp.types import DaemonInfo, Mock
from support.daemons import DaemonProcess
from support.place import Place, kill
from support.ws import HANG_S

SOMEBODY = 12345
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

STRANGER = """
import json, os, socket, sys
path, token, kind, uid = sys.argv[1:]
os.setgroups([])
os.setgid(int(uid))
os.setuid(int(uid))
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(10)
sock.connect(path)
body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "listRuns"})
asked = {
    "control": f"POST /control HTTP/1.1\\r\\nx-mock-mcp-token: {token}\\r\\n"
               f"Content-Length: {len(body)}\\r\\n\\r\\n{body}",
    "health": "GET /health HTTP/1.1\\r\\n\\r\\n",
}[kind]
try:
    sock.sendall(asked.encode())
    print(len(sock.recv(1000)))
except ConnectionError:
    print(0)
"""
LISTENER = """
import os, socket, sys
path, uid = sys.argv[1:]
os.setgroups([])
os.setgid(int(uid))
os.setuid(int(uid))
sock = socket.socket(socket.AF_UNIX)
sock.bind(path)
os.chmod(path, 0o666)
sock.listen()
print("listening", flush=True)
peer, _ = sock.accept()
peer.settimeout(10)
print(len(peer.recv(1000)), flush=True)
"""


def as_somebody(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-c", script, *arguments, str(SOMEBODY)],
        stdout=subprocess.PIPE,
        text=True,
    )


@AS_ROOT
@pytest.mark.parametrize("kind", ["control", "health"])
def test_another_user_is_refused_even_with_the_token(
    daemon_process: DaemonProcess, short_dir: Path, kind: str
) -> None:
    """Even if the modes of every directory and of the socket let them through."""
    for directory in (short_dir, daemon_process.cache, daemon_process.socket.parent):
        directory.chmod(0o711)
    daemon_process.socket.chmod(0o666)
    try:
        stranger = as_somebody(STRANGER, daemon_process.path, daemon_process.token, kind)
        out, _ = stranger.communicate(timeout=HANG_S)
    finally:
        short_dir.chmod(0o700)
    assert out == "0\n"  # the connection ended without a byte
    assert daemon_process.control.health()["ok"]


@AS_ROOT
def test_a_socket_of_another_user_is_told_nothing(place: Place) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o777)
        theirs = Path(directory) / "theirs"
        listener = as_somebody(LISTENER, str(theirs))
        try:
            assert listener.stdout is not None
            assert listener.stdout.readline() == "listening\n"
            theirs.rename(place.socket)
            with pytest.raises(InsecurePath, match=f"uid {SOMEBODY}"):
                place.start()
            assert listener.stdout.readline() == "0\n"
        finally:
            listener.kill()
            listener.communicate()


EDITS: dict[str, Callable[[Path], object]] = {
    "another socket": lambda path: path.write_text(
        json.dumps(json.loads(path.read_text()) | {"ipcPath": "/tmp/another.sock"})
    ),
    "a symlink": lambda path: path.rename(path.with_name("x")) and path.symlink_to("x"),
    "writable by others": lambda path: path.chmod(0o666),
    "another's": lambda path: os.chown(path, SOMEBODY, SOMEBODY),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_registry_is_refused_with_the_reason(place: Place, edit: str) -> None:
    if edit == "another's" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    pid = place.start().pid
    kill(pid, signal.SIGSTOP)  # it would write its registry again within a second
    try:
        path = place.cache.registry(place.project.id)
        EDITS[edit](path)
        with pytest.raises(InsecurePath) as caught:
            place.start()
        assert path.name in caught.value.message
    finally:
        kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(place: Place, umask: int) -> None:
    place.cache.path.rmdir()
    place.cache_dir.rmdir()
    before = os.umask(umask)
    try:
        place.start()
        with place.connect_sync():
            pass
    finally:
        os.umask(before)
    found = {
        path.relative_to(place.cache_dir): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in place.cache_dir.rglob("*")
    }
    assert len(found) > 5
    wrong = {
        name: mode
        for name, mode in found.items()
        if mode != oct(0o700 if (place.cache_dir / name).is_dir() else 0o600)
    }
    assert not wrong


@pytest.mark.asyncio
async def test_the_token_is_in_no_log_error_or_process(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    info = await asyncio.to_thread(place.start)
    async with place.connect() as client, place.adapter("a") as claims:
        asked = asyncio.create_task(client.request_mock("/a"))
        found = await claims.claim_next(wait_s=HANG_S)
        assert found is not None
        processes = [info.pid, os.getpid()]
        for pid in processes:
            for name in ("cmdline", "environ"):
                assert info.token.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
        wrong = DaemonInfo(info.project_id, "", info.ipc_path, "0" * 64, 0, "", "")
        errors: list[MockMcpError] = []
        async with DaemonClient.of(wrong) as stranger:
            with pytest.raises(Unauthorized) as refused:
                await stranger.list_runs()
            errors.append(refused.value)
        kill(info.pid)
        claim = found.claim
        await claims.provide(claim.batch_id, claim.claim_token, [Mock("r1", 1)])
        assert (await asked).data == 1
    after = place.cache.read(place.project.id)
    assert after is not None
    tokens = [info.token, after.token]
    said = caplog.text + "".join(map(str, errors)) + repr(info) + repr(found.daemon.info)
    assert "calling" in said  # the log did say something
    assert not [token for token in tokens if token in said]
    for path in place.cache_dir.rglob("*"):
        if path.is_file() and path != place.cache.registry(place.project.id):
            content = path.read_bytes()
            assert not [token for token in tokens if token.encode() in content], path
