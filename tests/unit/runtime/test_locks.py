"""Advisory locks: exclusive, waited for, and freed by the death of their holder."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mock_mcp.runtime.locks import FileLock


def test_one_holder(tmp_path: Path) -> None:
    one, two = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert one.try_acquire()
    assert not two.try_acquire()
    assert not two.acquire(0.02)
    one.release()
    assert two.try_acquire()
    two.release()
    two.release()


def test_the_file_is_private_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path) as lock:
        assert lock.try_acquire()
    assert path.exists()
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_waited_for(tmp_path: Path) -> None:
    holder = FileLock(tmp_path / "lock")
    assert holder.try_acquire()
    waiting = FileLock(tmp_path / "lock")
    thread = threading.Thread(target=waiting.acquire, args=(20,))
    thread.start()
    holder.release()
    thread.join()
    assert not holder.try_acquire()
    waiting.release()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_death_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import sys, pathlib; from mock_mcp.runtime.locks import FileLock\n"
        "lock = FileLock(pathlib.Path(sys.argv[1])); assert lock.try_acquire()\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    lock = FileLock(path)
    assert not lock.try_acquire()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert lock.try_acquire()
    lock.release()
