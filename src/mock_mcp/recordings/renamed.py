"""The recording that a renamed test has left behind, for the message of a call without one.

It lies beside the place where the test's own would be, or where a test file of the same name had
its recordings in another folder of the project; it answers the call, and belongs to a test that is
gone: its file certainly does not define it any more (`marks`), or it has got parameters or lost
them. Recordings of shared fixtures are not looked for: a fixture may be defined anywhere.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from mock_mcp.real_files import on_real_files
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import RecordedRequest, decode_recording, is_sidecar
from mock_mcp.recordings.marks import TestSource
from mock_mcp.recordings.paths import module_of, names_of
from mock_mcp.recordings.store import RecordingFile
from mock_mcp.recordings.survey import directories
from mock_mcp.runtime.project import resolve_project_root

__all__ = ["left_behind"]

LOOKED_AT = 200
"""How many files: a run in which every test misses shall not read them all for each."""

LOOKED_THROUGH = 5_000
"""How many directories of the project, which may be somebody's home: seconds, once."""


class _Old(NamedTuple):
    """A recording, and the test that it names."""

    path: Path
    test: str

    @property
    def names(self) -> list[str]:
        return names_of(self.test)[1]


@on_real_files
def left_behind(file: RecordingFile, request: RecordedRequest) -> str | None:
    """Return which test that is gone had a recording of a call, and how to hand it on.

    Args:
        file: The recording that is not there.
        request: The request that was made.
    """
    names = names_of(file.test)[1]
    if not names or file.exists():
        return None
    candidates = islice(_recordings_near(file.path), LOOKED_AT)
    sources: dict[Path, TestSource] = {}
    found = [
        old
        for old in candidates
        if old.names and _is_gone(old, names, sources) and _answers(file, old, request)
    ]
    if not found:
        return None
    old = max(found, key=lambda old: _likeness(old.names[-1], names[-1]))
    folder = old.path.parents[2]
    test = old.test if folder == file.path.parents[2] else str(folder / old.test)
    command = _command(old.path, file.path)
    return f"It is recorded for {test}, which is gone. If that was renamed or moved: {command}"


def _recordings_near(path: Path) -> Iterator[_Old]:
    """Yield the recordings of the same test file, then those of the same name of other files."""
    own = path.parent
    others = sorted(each for each in own.parent.glob("*/") if each != own)
    elsewhere = (
        each
        for each in _directories(resolve_project_root(path.parents[2]))
        if each.name == own.name and each.parent != own.parent
    )
    same = (each / path.name for each in chain(others, elsewhere))
    for found in chain(sorted(own.glob("*.json")), same):
        try:
            if found.is_file() and not is_sidecar(found.name):
                yield _Old(found, decode_recording(found.read_bytes(), found).test)
        except (OSError, RecordingError):
            continue


@lru_cache(maxsize=8)
def _directories(root: Path) -> Sequence[Path]:
    """Return where recordings lie in a project: looked for once, not for each test of a run."""
    return [*directories(root, LOOKED_THROUGH)]


def _is_gone(old: _Old, names: Sequence[str], sources: dict[Path, TestSource]) -> bool:
    """Return whether a test is certainly not there, seen from one of some names that is."""
    module = module_of(old.path.parent)
    if module is None:
        return True
    source = sources.get(module)
    if source is None:
        source = sources[module] = TestSource(module.read_bytes())
    if source.uses_intercept():  # by any name
        return False
    if source.lacks(old.names):
        return True
    name, bracket, _ = old.names[-1].partition("[")
    own, own_bracket, _ = names[-1].partition("[")
    return (*old.names[:-1], name) == (*names[:-1], own) and bracket != own_bracket


def _answers(file: RecordingFile, old: _Old, request: RecordedRequest) -> bool:
    recording = RecordingFile(*old, matching=file.matching, redaction=file.redaction)
    try:
        return recording.find(request) is not None
    except RecordingError:
        return False


def _likeness(old: str, new: str) -> tuple[bool, bool]:
    """Return what two names share: the parameters, the name without them."""
    one, other = old.partition("["), new.partition("[")
    return one[2] == other[2], one[0] == other[0]


def _command(old: Path, new: Path) -> str:
    """Return the command that moves a recording; or all of them, when their test file is gone."""
    if not new.parent.is_dir() and module_of(old.parent) is None:
        old, new = old.parent, new.parent
    above = os.path.commonpath((old.parent, new.parent))
    names = [os.path.relpath(path, above) for path in (old, new)]
    move = shlex.join(["git", "-C", above, "mv", *names])
    if new.parent.is_dir():
        return move
    return f"{shlex.join(['mkdir', '-p', str(new.parent)])} && {move}"
