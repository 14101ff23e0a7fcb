"""What a terminal shows: text that cannot steer it, how wide it is, and a whole screen."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from typing import Any, Self, TextIO

__all__ = ["Screen", "clip", "is_terminal", "printable", "printable_lines", "wants_colour", "width"]


def printable(text: str) -> str:
    """Return a text that cannot steer a terminal: control characters are spelled out."""
    if text.isprintable():
        return text
    return "".join(ascii(char)[1:-1] if _steers(char) else char for char in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines that cannot steer a terminal."""
    return "\n".join(map(printable, text.split("\n")))


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


class Screen:
    """The whole terminal for one view; leaving it brings back what was there.

    Args:
        stream: A terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._settings: list[Any] | None = None

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def enter(self) -> None:
        """Take the terminal: another screen, no cursor, no echo."""
        try:
            import termios
        except ImportError:  # Windows has none; its console understands the sequences
            pass
        else:
            self._settings = termios.tcgetattr(self._stream)
            quiet = [*self._settings]
            quiet[3] &= ~termios.ECHO
            termios.tcsetattr(self._stream, termios.TCSANOW, quiet)
        self._write("\033[?1049h\033[?25l")

    def leave(self) -> None:
        """Give the terminal back as it was."""
        self._write("\033[?25h\033[?1049l")
        if self._settings is not None:
            import termios

            termios.tcsetattr(self._stream, termios.TCSANOW, self._settings)

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines from the top; what was there before is gone."""
        self._write("\033[H" + "\r\n".join(f"{line}\033[K" for line in lines) + "\033[J")

    def size(self) -> tuple[int, int]:
        """Return columns and rows as they are now."""
        return os.get_terminal_size(self._stream.fileno())

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal that can be drawn on."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def wants_colour() -> bool:
    """Tell whether colours are welcome (https://no-color.org)."""
    return not os.environ.get("NO_COLOR")
