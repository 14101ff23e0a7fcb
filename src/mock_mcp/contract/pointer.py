"""JSON pointers (RFC 6901)."""

from __future__ import annotations

from typing import Any

__all__ = ["extend", "follow", "split", "unescape"]


def split(pointer: str) -> list[str]:
    """Return the unescaped tokens of ``pointer``; "" has none.

    Raises:
        ValueError: The pointer is neither empty nor begins with "/".
    """
    if not pointer:
        return []
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is not a JSON pointer: it must be empty or begin with '/'")
    return [unescape(token) for token in pointer[1:].split("/")]


def unescape(token: str) -> str:
    """Return what a token of a pointer's text means."""
    return token.replace("~1", "/").replace("~0", "~") if "~" in token else token


def extend(pointer: str, *tokens: str | int) -> str:
    """Return ``pointer`` with ``tokens`` escaped and appended."""
    for token in tokens:
        text = str(token)
        if "~" in text or "/" in text:
            text = text.replace("~", "~0").replace("/", "~1")
        pointer = f"{pointer}/{text}"
    return pointer


def follow(tree: Any, pointer: str) -> Any:
    """Return what ``pointer`` names inside ``tree``.

    Raises:
        LookupError: Nothing is there.
        ValueError: The pointer is malformed.
    """
    for token in split(pointer):
        if isinstance(tree, dict):
            tree = tree[token]
        elif isinstance(tree, list) and token.isdecimal():
            tree = tree[int(token)]
        else:
            raise LookupError(token)
    return tree
