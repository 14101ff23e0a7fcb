"""Refuse connections and name look-ups that leave the process and that nobody allowed.

Only internet sockets are guarded, where Python code opens them: Unix sockets, and event loops that
make system calls by themselves (uvloop, the Proactor of Windows), pass. A name that was allowed
allows the addresses it was resolved to.
"""

from __future__ import annotations

import socket
from types import ModuleType
from typing import Any

from mock_mcp.exchange import Origin
from mock_mcp.interceptors import stack
from mock_mcp.interceptors.patches import Patches, Replace

__all__ = ["patch"]

_INTERNET = (socket.AF_INET, socket.AF_INET6)
_LOOKUPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex")
_ADDRESS_AT = {"connect": 0, "connect_ex": 0, "sendto": -1, "sendmsg": 3}
"""The methods that name their peer, and where among their arguments."""

_names: dict[str, frozenset[str]] = {}
"""By address, the allowed names that were resolved to it."""


def patch(module: ModuleType, patches: Patches) -> None:
    """Guard the sockets that the module ``socket`` makes."""
    for method, position in _ADDRESS_AT.items():
        if hasattr(module.socket, method):
            patches.replace(module.socket, method, _guarded_method(method, position))
    for function in _LOOKUPS:
        patches.replace(module, function, _guarded_lookup)
    patches.at_undo(_names.clear)


def _guarded_method(method: str, position: int) -> Replace:
    def make(original: Any) -> Any:
        def guarded(sock: socket.socket, *args: Any) -> Any:
            if sock.family in _INTERNET and -len(args) <= position < len(args):
                _check_address(method, args[position])
            return original(sock, *args)

        return guarded

    return make


def _check_address(method: str, address: Any) -> None:
    if not isinstance(address, tuple) or len(address) < 2:
        return  # the original says what is wrong with it
    host, port = _text(address[0]), address[1]
    if host is None or not isinstance(port, int):
        return
    origins = [Origin.make("", name, port) for name in (*_names.get(host, ()), host)]
    stack.check_connection(origins, f"socket.{method} to {origins[-1]}")


def _guarded_lookup(original: Any) -> Any:
    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = _text(host)
        if not name or not stack.current() or _is_address(name) or name == socket.gethostname():
            return original(host, *args, **kwargs)
        if stack.is_forwarding():
            return original(host, *args, **kwargs)
        port = kwargs.get("port", args[0] if args else 0)
        origin = Origin.make("", name, port if isinstance(port, int) else _number(port))
        stack.check_connection([origin], f"Looking up {name!r}")
        found = original(host, *args, **kwargs)
        for address in _addresses(found):
            _names[address] = _names.get(address, frozenset()) | {origin.host}
        return found

    return guarded


def _addresses(found: Any) -> list[str]:
    """Return the addresses in the result of any of the look-up functions."""
    if isinstance(found, str):
        return [found]
    if isinstance(found, tuple):
        return list(found[2])
    return [entry[4][0] for entry in found if isinstance(entry[4][0], str)]


def _is_address(name: str) -> bool:
    if ":" in name:
        return True
    try:
        socket.inet_aton(name)
    except OSError:
        return False
    return True


def _text(host: Any) -> str | None:
    if isinstance(host, bytes | bytearray):
        return bytes(host).decode("latin-1")
    return host if isinstance(host, str) else None


def _number(port: Any) -> int:
    text = _text(port) or ""
    return int(text) if text.isdecimal() else 0
