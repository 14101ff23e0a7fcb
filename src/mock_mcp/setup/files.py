"""Read a configuration file with care; write several, all or none.

Whatever cannot be changed exactly is refused before anything is written. A file is replaced as a
whole by renaming, keeps its permissions, and is looked at once more first: what somebody wrote
meanwhile is never lost.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mock_mcp.runtime.project import display_path
from mock_mcp.setup.errors import SetupError

__all__ = [
    "MAX_BYTES",
    "Change",
    "apply",
    "encode_like",
    "missing_directories",
    "read",
    "read_text",
]

MAX_BYTES = 16 * 1024 * 1024
"""A configuration larger than this is refused: those of busy clients reach a few megabytes."""

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Change:
    """What a file held and what it is to hold; None is no file.

    ``emptied`` are directories to remove afterwards if nothing is in them.
    """

    path: Path
    before: bytes | None
    after: bytes | None
    emptied: tuple[Path, ...] = ()


def read(path: Path, base: Path) -> bytes | None:
    """Return a file that may be changed; None if there is none.

    Args:
        path: The file.
        base: A directory above it, which is taken as it is.

    Raises:
        SetupError: It, or a directory between, is a link or something else; it is read-only, too
            large, or cannot be read.
    """
    try:
        for directory in reversed([each for each in path.parents if base in each.parents]):
            if os.path.lexists(directory) and not stat.S_ISDIR(directory.lstat().st_mode):
                raise _refused(path, f"{display_path(directory)} is no directory of its own")
        try:
            found = path.lstat()
        except FileNotFoundError:
            _check_writable(path, next(each for each in path.parents if each.exists()))
            return None
        if stat.S_ISLNK(found.st_mode):
            raise _refused(path, "is a symbolic link; change the file it leads to")
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "is not a regular file")
        if found.st_size > MAX_BYTES:
            raise _refused(path, f"is larger than {MAX_BYTES} bytes")
        _check_writable(path, path, path.parent)
        return path.read_bytes()
    except OSError as error:
        raise _refused(path, f"cannot be read ({error.strerror or error})") from None


def read_text(path: Path, content: bytes) -> str:
    """Return the text of a file, without its byte order mark; line ends as they are.

    Raises:
        SetupError: It is not UTF-8.
    """
    try:
        return content.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError:
        raise _refused(path, "is not UTF-8 text") from None


def encode_like(content: bytes | None, text: str) -> bytes:
    """Return text as bytes, with the byte order mark of the file it came from."""
    mark = _BOM if content is not None and content.startswith(_BOM) else b""
    return mark + text.encode("utf-8")


def missing_directories(path: Path) -> list[Path]:
    """Return the directories that writing a file will make, outermost first."""
    return [each for each in reversed(path.parents) if not each.exists()]


def apply(changes: Sequence[Change]) -> None:
    """Make all changes, or none.

    Raises:
        SetupError: One cannot be made; those before it are undone.
    """
    done: list[Change] = []
    try:
        for change in changes:
            _make(change)
            done.append(change)
    except OSError as error:
        _undo(done)
        reason = f"cannot be written ({error.strerror or error}); nothing was changed"
        raise SetupError(display_path(change.path), reason) from None
    except SetupError:
        _undo(done)
        raise


def _undo(done: list[Change]) -> None:
    for change in reversed(done):
        with contextlib.suppress(OSError, SetupError):
            _make(Change(change.path, change.after, change.before))


def _make(change: Change) -> None:
    path = change.path
    if _now(path) != change.before:
        raise SetupError(display_path(path), "changed meanwhile; nothing was written. Try again.")
    if change.after is None:
        path.unlink()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(change.after)
            temporary.chmod(_mode(path))
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    for directory in change.emptied:
        with contextlib.suppress(OSError):
            directory.rmdir()


def _now(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _mode(path: Path) -> int:
    """Return the permissions of the file, or those a new one gets."""
    with contextlib.suppress(OSError):
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _check_writable(path: Path, *places: Path) -> None:
    for place in places:
        # Root may write anything; that a file says it is not to be written holds for root too.
        readonly = not place.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
        if readonly or not os.access(place, os.W_OK):
            what = "is" if place == path else f"{display_path(place)} is"
            raise _refused(path, f"{what} read-only")


def _refused(path: Path, reason: str) -> SetupError:
    return SetupError(display_path(path), f"{reason}; nothing was changed.")
