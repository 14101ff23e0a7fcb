"""The recording that a renamed test has left behind, for the message of a call without one.

It lies beside the place where the test's own would be, answers the call, and belongs to a test that
is gone: its file certainly does not define it any more (`marks`), or it has got parameters or lost
them. Recordings of shared fixtures are not looked for: a fixture may be defined anywhere.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mock_mcp.real_files import on_real_files
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import RecordedRequest, decode_recording, is_sidecar
from mock_mcp.recordings.marks import TestSource
from mock_mcp.recordings.paths import module_of, names_of
from mock_mcp.recordings.store import RecordingFile

__all__ = ["left_behind"]

LOOKED_AT = 200
"""How many files: a run in which every test misses shall not read them all for each."""


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
    return f"It is recorded for {old.test}, which is gone. If that was renamed: " + _command(
        old.path, file.path
    )


def _recordings_near(path: Path) -> Iterator[_Old]:
    """Yield the recordings of the same test file, then those of the same name of other files."""
    own = path.parent
    others = sorted(each for each in own.parent.glob("*/") if each != own)
    for found in (*sorted(own.glob("*.json")), *(each / path.name for each in others)):
        try:
            if found.is_file() and not is_sidecar(found.name):
                yield _Old(found, decode_recording(found.read_bytes(), found).test)
        except (OSError, RecordingError):
            continue


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
    here, there = old.parent, new.parent
    if here == there:
        return shlex.join(["git", "-C", str(there), "mv", old.name, new.name])
    move = ["git", "-C", str(there.parent), "mv"]
    if not there.is_dir() and module_of(here) is None:
        return shlex.join([*move, here.name, there.name])
    moving = shlex.join([*move, f"{here.name}/{old.name}", f"{there.name}/{new.name}"])
    return moving if there.is_dir() else f"{shlex.join(['mkdir', str(there)])} && {moving}"
