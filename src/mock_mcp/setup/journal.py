"""What ``mock-mcp init`` did to each file, so that ``--remove`` can undo it exactly.

A change is one stretch of bytes: where it begins, what stood there and what stands there now. It
is kept in the cache directory, with a hash of the changed file, and no more of the file than was
changed. It is of use only while it is true: a file that somebody edited since has another hash.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from mock_mcp.runtime.cache import CacheDirectory, make_private
from mock_mcp.runtime.project import display_path

__all__ = ["Journal", "Record"]


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """What was done to one file.

    Attributes:
        path: The file.
        created: Whether there was none before.
        directories: The directories that were made for it, outermost first.
        start: Where the change begins.
        removed: What stood there.
        inserted: What stands there now.
        sha256: Hash of the changed file.
    """

    path: str
    created: bool
    directories: tuple[str, ...]
    start: int
    removed: bytes
    inserted: bytes
    sha256: str

    def holds(self, content: bytes | None) -> bool:
        """Tell whether a file is exactly as it was left."""
        return content is not None and _hash(content) == self.sha256

    def original(self, content: bytes) -> bytes | None:
        """Return what a file held that is as it was left; None if it was not there."""
        if self.created:
            return None
        return content[: self.start] + self.removed + content[self.start + len(self.inserted) :]

    def without(self, content: bytes) -> bytes | None:
        """Return an edited file without the change; None if it is not there once and whole."""
        if not self.inserted or content.count(self.inserted) != 1:
            return None
        return content.replace(self.inserted, self.removed)


class Journal:
    """The records in a cache directory."""

    def __init__(self, cache: CacheDirectory) -> None:
        self._directory = cache.path / "init"

    def get(self, path: Path) -> Record | None:
        """Return what was done to a file; None if nothing is known."""
        try:
            record = msgspec.json.decode(self._file(path).read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError, ValueError):
            return None
        return record if record.path == display_path(path) else None

    def put(
        self, path: Path, before: bytes | None, after: bytes, directories: tuple[str, ...]
    ) -> None:
        """Note a change; ``before`` None when the file was not there."""
        old = before or b""
        start = _common(old, after)
        end = _common(old[start:][::-1], after[start:][::-1])
        record = Record(
            display_path(path),
            before is None,
            directories,
            start,
            old[start : len(old) - end],
            after[start : len(after) - end],
            _hash(after),
        )
        make_private(self._directory)
        file = self._file(path)
        temporary = file.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(record))
        temporary.replace(file)

    def drop(self, path: Path) -> None:
        """Forget a file."""
        self._file(path).unlink(missing_ok=True)

    def _file(self, path: Path) -> Path:
        return self._directory / f"{_hash(os.fsencode(path))[:32]}.json"


def _common(one: bytes, other: bytes) -> int:
    """Return how many bytes two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    shorter = min(len(one), len(other))
    return next((at for at, (a, b) in enumerate(pairs) if a != b), shorter)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
