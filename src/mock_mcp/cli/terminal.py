"""What a terminal shows: text without control characters, and how wide it is."""

from __future__ import annotations

import unicodedata

__all__ = ["clip", "printable", "width"]


def printable(text: str) -> str:
    """Return a text that cannot steer a terminal: control characters are spelled out."""
    if text.isprintable():
        return text
    return "".join(ascii(char)[1:-1] if _steers(char) else char for char in text)


def width(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def clip(text: str, columns: int) -> str:
    """Return as much of a text as fits, with an ellipsis where something is left out."""
    if width(text) <= columns:
        return text
    shown, left = [], columns - 1
    for char in text:
        left -= _width(char)
        if left < 0:
            break
        shown.append(char)
    return "".join(shown) + "…" if columns > 0 else ""


def _steers(char: str) -> bool:
    return char != "\t" and unicodedata.category(char) in ("Cc", "Cf", "Cs")


def _width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
