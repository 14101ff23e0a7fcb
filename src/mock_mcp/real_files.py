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
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

__all__ = ["are_faked", "on_real_files", "real_files"]

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.Lock()
_holders = 0
_paused: Any = None


@contextlib.contextmanager
def real_files() -> Iterator[None]:
    """See the real files in a ``with`` statement."""
    global _holders, _paused  # noqa: PLW0603 - as there is one file system
    with _lock:
        _holders += 1
        if are_faked():
            _paused = _patcher()
            _paused.pause()
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if not _holders and _paused is not None:
                if _patcher() is _paused:  # else the test has taken it away meanwhile
                    _paused.resume()
                _paused = None


def on_real_files(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function see the real files; without fake ones it costs next to nothing."""

    @wraps(function)
    def seeing(*args: P.args, **kwargs: P.kwargs) -> R:
        if "pyfakefs" not in sys.modules:
            return function(*args, **kwargs)
        with real_files():
            return function(*args, **kwargs)

    return seeing


def are_faked() -> bool:
    """Return whether a test has put a file system in the place of the real one now."""
    return getattr(_patcher(), "is_patching", False)


def _patcher() -> Any:
    """Return the patcher of pyfakefs, which may be paused; None when there is none."""
    module = sys.modules.get("pyfakefs.fake_filesystem_unittest")
    return getattr(getattr(module, "Patcher", None), "PATCHER", None)
