"""The files that there really are, whatever file system a test has put in their place.

pyfakefs gives every module of its process a file system in memory, this package's too: a recording,
a contract or the daemon's registry would not be there. Its documented way out is a pause, which
holds in all threads. So it is held only while this package works with files, never while a call
waits for its answer: what the test does meanwhile stays in its own file system.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["are_faked", "real_files"]

_lock = threading.Lock()
_holders = 0
_paused: Any = None


@contextlib.contextmanager
def real_files() -> Iterator[None]:
    """See the real files in a ``with`` statement, or in the function that this decorates."""
    global _holders, _paused  # noqa: PLW0603 - as there is one file system
    if "pyfakefs" not in sys.modules:
        yield
        return
    with _lock:
        _holders += 1
        if _holders == 1 and (_paused := _patcher()) is not None:
            _paused.pause()
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if not _holders and _paused is not None:
                _paused.resume()
                _paused = None


def are_faked() -> bool:
    """Return whether a test has put a file system in the place of the real one now."""
    return _patcher() is not None


def _patcher() -> Any:
    """Return the patcher of pyfakefs that holds now; None when none does."""
    module = sys.modules.get("pyfakefs.fake_filesystem_unittest")
    patcher = getattr(getattr(module, "Patcher", None), "PATCHER", None)
    return patcher if getattr(patcher, "is_patching", False) else None
