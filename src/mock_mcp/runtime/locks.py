"""Advisory file locks: the operating system releases them when their holder dies, however it dies.

The lock files are never unlinked: unlinking a locked file lets two processes lock two files of the
same name.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

from mock_mcp.clock import monotonic

__all__ = ["FileLock"]

if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class FileLock:
    """An exclusive lock on a file, held until `release` or the end of the process.

    A fork does not share it: a child that outlives its parent must not keep what nobody holds.

    Args:
        path: The lock file; created with mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        _locks.add(self)

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether it is held now."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        fd = os.open(self.path, flags, 0o600)
        if _try_lock(fd):
            self._fd = fd
            if hasattr(os, "fchmod"):  # whatever the umask
                os.fchmod(fd, 0o600)
            return True
        os.close(fd)
        return False

    def acquire(self, timeout_s: float) -> bool:
        """Wait for the lock; return whether it is held now."""
        deadline = monotonic() + timeout_s
        pause_s = 0.001
        while not self.try_acquire():
            if monotonic() >= deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.02)
        return True

    def is_in_place(self) -> bool:
        """Tell whether the path still leads to the file that is locked."""
        if self._fd is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._fd), self.path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Free the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for lock in list(_locks):
        lock.release()  # closing the child's copy leaves the parent's lock alone


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
