"""Processes that race to start the daemon of one project on a cold cache: one daemon each round."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mock_mcp.runtime.project import compute_project_id
from support.daemons import environment, kill_daemons, listener_pid, processes_of
from support.http import ControlClient

ROUNDS = 10 if os.environ.get("MOCK_MCP_STRESS") == "1" else 2
RACERS = 20
RACER = """
import json, sys
from mock_mcp.runtime.launch import ensure_daemon_running
sys.stdin.read(1)  # everybody starts when the pipe is closed
info = ensure_daemon_running(sys.argv[1], timeout_s=60)
print(json.dumps({"pid": info.pid, "token": info.token, "ipcPath": info.ipc_path}))
"""


def race(project: Path, cache: Path) -> list[dict[str, str]]:
    """Let the racers go at once; return what each of them found."""
    read_fd, write_fd = os.pipe()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(project)],
            stdin=read_fd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(cache),
        )
        for _ in range(RACERS)
    ]
    os.close(read_fd)
    os.close(write_fd)
    found = []
    for racer in racers:
        out, err = racer.communicate(timeout=120)
        assert (racer.returncode, err) == (0, b""), err.decode()
        found.append(json.loads(out))
    return found


@pytest.mark.parametrize("number", range(ROUNDS))
def test_one_daemon_on_a_cold_cache(project: Path, short_dir: Path, number: int) -> None:
    cache = Path(tempfile.mkdtemp(prefix="r", dir=short_dir))
    try:
        found = race(project, cache)
        assert len({(entry["pid"], entry["token"]) for entry in found}) == 1, found
        pid = int(found[0]["pid"])
        path = cache / "mock-mcp" / f"{compute_project_id(project)}.sock"
        assert listener_pid(path) == pid
        assert [other for other, _ in processes_of(cache)] == [pid]
        assert ControlClient(str(path), found[0]["token"]).health()["pid"] == pid
    finally:
        kill_daemons(cache)


def test_one_daemon_after_a_kill(project: Path, cache_dir: Path) -> None:
    """The files of a killed daemon are in everybody's way at once."""
    first = {entry["pid"] for entry in race(project, cache_dir)}
    assert len(first) == 1
    os.kill(int(first.pop()), signal.SIGKILL)
    second = {entry["pid"] for entry in race(project, cache_dir)}
    assert len(second) == 1
    path = cache_dir / "mock-mcp" / f"{compute_project_id(project)}.sock"
    assert {listener_pid(path)} == second
