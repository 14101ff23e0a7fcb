"""Every recording below a directory, and what nobody needs any more.

Only what is certainly ours is ever called an orphan: ``__mocks__`` is also a directory of other
test tools, so a file counts as a recording only if it says so itself. A recording is an orphan when
its test module is gone or, in a module whose tests are known, when none of them uses it. Files that
cannot be read are reported and never removed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import decode_recording, is_sidecar, sidecars_of
from mock_mcp.recordings.paths import DIRECTORY, module_of

__all__ = ["Orphan", "Survey", "directories", "prune", "survey"]

SKIPPED = frozenset(("node_modules", "__pycache__", "site-packages", "venv"))
"""Directories that hold no tests of the project; hidden ones are skipped too."""

_TEMPORARY = re.compile(r"\..+\.json\.\d+-[0-9a-f]{8}\.tmp|\..+\.bin\.\d+-[0-9a-f]{8}\.tmp")
_MARKS = (b'"version"', b'"test"', b'"interactions"')


class Orphan(NamedTuple):
    """A file nobody needs: a recording, a sidecar, or what a killed process left half-written."""

    path: Path
    reason: str


class Survey(NamedTuple):
    """What is there: recordings in use, orphans, and the errors of files that cannot be read."""

    recordings: tuple[Path, ...]
    orphans: tuple[Orphan, ...]
    unreadable: tuple[RecordingError, ...]


def survey(root: Path, known: Collection[Path] | None = None) -> Survey:
    """Look at every recording below a directory; nothing is changed.

    Args:
        root: Where to look.
        known: The recordings that the collected tests and their scopes would use (`paths.locate`,
            `paths.locate_scope`), before any are deselected. It speaks only for the modules it
            names; None speaks for none.
    """
    used = {path.absolute() for path in known or ()}
    named = {path.parent for path in used}
    recordings: list[Path] = []
    orphans: list[Orphan] = []
    unreadable: list[RecordingError] = []
    for directory in directories(root.absolute()):
        needed: set[str] | None = None
        complete = True
        names = sorted(entry.name for entry in directory.iterdir() if entry.is_file())
        for name in names:
            path = directory / name
            if not name.endswith(".json") or is_sidecar(name):
                continue
            try:
                text = path.read_bytes()
                if not _is_ours(path, text):
                    continue
                interactions = decode_recording(text, path).interactions
            except RecordingError as exc:
                unreadable.append(exc)
                complete = False
                continue
            except OSError as exc:
                unreadable.append(RecordingError(path, f"It cannot be read ({exc.strerror})."))
                complete = False
                continue
            reason = _reason(path, used, named)
            needed = needed or set()
            if reason is None:
                recordings.append(path)
                needed |= {file for item in interactions for file in sidecars_of(item)}
            else:
                orphans.append(Orphan(path, reason))
        orphans += _strays(directory, names, needed if complete else None)
    return Survey(tuple(recordings), tuple(orphans), tuple(unreadable))


def prune(found: Survey) -> tuple[Path, ...]:
    """Remove the orphans of a survey, and the directories that are empty then.

    Returns:
        The files that were removed.

    Raises:
        RecordingError: A file cannot be removed; those before it are.
    """
    removed = []
    for path, _ in found.orphans:
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            raise RecordingError(path, f"It cannot be removed ({exc.strerror or exc}).") from exc
        removed.append(path)
        with contextlib.suppress(OSError):  # not empty
            path.parent.rmdir()
            if path.parent.name != DIRECTORY:
                path.parent.parent.rmdir()
    return tuple(removed)


def directories(root: Path, at_most: int | None = None) -> Iterator[Path]:
    """Yield the directories that may hold recordings: each ``__mocks__`` and those in it.

    Args:
        root: Where to look.
        at_most: How many directories are looked through.
    """
    for text, names, _ in islice(os.walk(root), at_most):
        directory = Path(text)
        if DIRECTORY in (directory.name, directory.parent.name):
            yield directory
        if directory.parent.name == DIRECTORY:
            names.clear()
        names[:] = sorted(n for n in names if not n.startswith(".") and n not in SKIPPED)


def _is_ours(path: Path, text: bytes) -> bool:
    """Return whether a file means to be a recording: it has its fields, or lies where ours lie."""
    return all(mark in text for mark in _MARKS) or (
        path.parent.name != DIRECTORY and module_of(path.parent) is not None
    )


def _reason(path: Path, used: Collection[Path], named: Collection[Path]) -> str | None:
    """Return why a recording is an orphan, None when it is not."""
    directory = path.parent
    if directory.name != DIRECTORY and module_of(directory) is None:
        place = f"there is no {directory.name}.py in {directory.parent.parent}"
        return f"{place}; if it was moved, move its recordings"
    if directory in named and path not in used:
        return "no test or fixture scope has this name; if one was renamed, move the file"
    return None


def _strays(directory: Path, names: Collection[str], needed: set[str] | None) -> Iterator[Orphan]:
    """Yield files that no recording beside them refers to.

    ``needed`` is None where there is no recording, or one cannot be read: nothing is known then.
    """
    for name in names:
        if _TEMPORARY.fullmatch(name):
            yield Orphan(directory / name, "a process was killed while writing it")
        elif needed is not None and is_sidecar(name) and name not in needed:
            yield Orphan(directory / name, "no recording refers to it")
