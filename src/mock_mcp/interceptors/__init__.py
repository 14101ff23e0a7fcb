"""Put an exchange between the HTTP libraries of this process and the network.

Strategy: a hook for each library replaces the public method under which all its connections lie;
it is applied when the library is imported, or now if it is, and undone with the last installation.
Which exchange answers is looked up for every call (`stack`), so nested installations and threads
need no hook of their own. Below the libraries a guard on sockets refuses what no hook saw.
"""

from __future__ import annotations

import contextlib
import importlib
import socket  # noqa: F401 - the guard hooks it, so it is there from the first installation on
import sys
import threading
from types import ModuleType, TracebackType
from typing import Self

from mock_mcp.exchange import Decision, Exchange, MocksNothing, bypass
from mock_mcp.interceptors import stack
from mock_mcp.interceptors.patches import ImportWatch, Patches
from mock_mcp.interceptors.stack import Installation

__all__ = ["Installed", "bypass", "install", "keep_hooks"]

HOOKS = {
    "socket": "mock_mcp.interceptors.guard",
    "aiohttp": "mock_mcp.interceptors.aiohttp",
    "http.client": "mock_mcp.interceptors.http_client",
    "httplib2": "mock_mcp.interceptors.httplib2",
    "httpx": "mock_mcp.interceptors.httpx",
    "httpx2": "mock_mcp.interceptors.httpx",
    "niquests": "mock_mcp.interceptors.niquests",
    "requests": "mock_mcp.interceptors.requests",
    "urllib3": "mock_mcp.interceptors.urllib3",
}
"""The module that is watched, and the one whose ``patch(module, patches)`` hooks it."""

_lock = threading.RLock()
_prepared: dict[str, tuple[ModuleType, Patches]] = {}
"""What each hook replaced when it was last applied: most tests need the same again."""
_applied: list[Patches] = []
_hooked: set[str] = set()


class Installed:
    """An installed exchange: a context manager that takes it out again."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def close(self) -> None:
        """Take the exchange out; the last one undoes every hook. Closing twice does nothing."""
        with _lock:
            stack.remove(self._installation)
            if not stack.current():
                _watch.remove()
                for patches in reversed(_applied):
                    patches.undo()
                _applied.clear()
                _hooked.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def install(exchange: Exchange, *, block_network: bool = True, why: str | None = None) -> Installed:
    """Let an exchange answer the HTTP calls of this process, in every thread, from now on.

    Installations nest: the innermost is asked first, and what it refuses is offered to the next.

    Args:
        exchange: Decides and answers.
        block_network: Whether what the exchange refuses fails with `NetworkBlocked`, connections
            below HTTP and name look-ups included; False lets it through.
        why: What the error says in place of the usual, which speaks of the hosts.

    Returns:
        A context manager whose end (or ``close``) undoes everything exactly.
    """
    installation = Installation(exchange, block_network, why)
    installed = Installed(installation)
    try:
        with _lock:
            first = not stack.current()
            stack.push(installation)
            if first:
                _watch.install()
                _hook_known()
        # Outside the lock: this waits for another thread that is importing the library, which
        # takes the lock when it has.
        for name in HOOKS:
            if name not in _hooked and name in sys.modules:
                with contextlib.suppress(ImportError):
                    _hook(name, importlib.import_module(name), again=False)
    except BaseException:
        installed.close()
        raise
    return installed


def keep_hooks() -> Installed:
    """Keep the hooks in place until it is closed, though nothing be mocked meanwhile.

    It answers nothing and blocks nothing: mocked tests that follow one another are spared the work
    of undoing every hook and putting it back.
    """
    return install(MocksNothing(lambda _: Decision.REFUSE), block_network=False)


def _hook_known() -> None:
    """Hook the libraries as they were hooked last, where nothing there is new."""
    for name, (module, patches) in _prepared.items():
        if sys.modules.get(name) is module and patches.redo():
            _applied.append(patches)
            _hooked.add(name)


def _hook(name: str, module: ModuleType, *, again: bool = True) -> None:
    """Hook a library unless it is; ``again`` when its module was just executed, so it is new."""
    with _lock:
        if stack.current() and (again or name not in _hooked):
            patches = Patches()
            importlib.import_module(HOOKS[name]).patch(module, patches)
            _prepared[name] = module, patches
            _applied.append(patches)
            _hooked.add(name)


_watch = ImportWatch(frozenset(HOOKS), _hook)
