"""What a run did with mocks, for its summary; an xdist worker sends it to the controller."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mock_mcp.errors import MockMcpError
from mock_mcp.recordings.paths import DIRECTORY
from mock_mcp.recordings.survey import prune, survey
from mock_mcp.scope import Scope

__all__ = ["Report", "as_typed"]

_WORDS = {
    "recording": "replayed",
    "ai": "from the assistant",
    "corrected": "corrected after the contract check",
    "example": "from the contract",
    "live": "from the real API",
    "hand": "by hand",
    "unused": "unused",
}
_LISTED = 10
"""How many files of one kind are listed."""


class Report:
    """Counts, files and findings of a run.

    Args:
        root: Below it recordings are looked for.
        here: The folder where pytest was started; paths are shown as they are written there.
        prunes: Whether what nobody needs is removed.

    Attributes:
        known: The recordings of the tests and fixtures there are.
        knows_all: Whether ``known`` holds every test of the modules it names.
        whole: The directories of which every test was collected.
        ran_all: Whether all of them ran, so that every fixture in use is known.
        notes: Lines for the reader.
    """

    def __init__(
        self, root: Path, here: Path, *, prunes: bool, knows_all: bool, whole: Sequence[Path]
    ) -> None:
        self.prunes = prunes
        self.knows_all = knows_all
        self.whole = whole
        self.ran_all = True
        self.known: set[Path] = set()
        self.notes: list[str] = []
        self._root = root
        self._here = here
        self._counts: Counter[str] = Counter()
        self._files: dict[str, list[str]] = {"written": [], "removed": []}
        self._unused: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self._drift: Counter[str] = Counter()
        self._really_asked: Counter[str] = Counter()

    # -- While tests run -----------------------------------------------------------------------

    def count(self, scope: Scope, *, passed: bool, failed: bool) -> None:
        """Count the calls of a scope that ends, and what of its recording was not used.

        A test that neither passed nor failed was skipped, or failed as expected.
        """
        self._counts.update(call.source for call in scope.calls if call.source is not None)
        if scope.live is not None:
            self._drift.update({drift.summary for drift in scope.live.drifts})
            self._note(scope.live.notes)
        file = scope.file
        if file is None:
            return
        shown = self._shown(file.path)
        self._lost.pop(shown, None)  # by an earlier run of a test that is run again
        if not passed:
            if file.staged and not failed:
                self._lost[shown] = file.staged
            return
        if not self.prunes and scope.settings.mode not in ("all", "rewrite"):
            unused = len(file.unused())
            if unused:
                self._unused[shown] = unused

    def corrected(self, batches: int) -> None:
        """Count the batches whose first answer broke the contract."""
        self._counts["corrected"] += batches

    def really_asked(self, path: Path) -> None:
        """Note a worker's own answers of the real API for a fixture that others set up too."""
        self._really_asked[self._shown(path)] = 1

    def changed(self, path: Path, outcome: str) -> None:
        """Note a recording that was ``written`` or ``removed``."""
        self._files[outcome].append(self._shown(path))

    # -- xdist ---------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Return what a worker reports, in types that execnet sends."""
        return {
            "counts": dict(self._counts),
            "files": self._files,
            "unused": self._unused,
            "lost": self._lost,
            "notes": self.notes,
            "drift": dict(self._drift),
            "really_asked": dict(self._really_asked),
            "known": [str(path) for path in self.known],
            "knows_all": self.knows_all,
            "ran_all": self.ran_all,
        }

    def add(self, worker: dict[str, Any]) -> None:
        """Take over what a worker reports."""
        self._counts.update(worker["counts"])
        for outcome, paths in worker["files"].items():
            known = self._files[outcome]
            known += [path for path in paths if path not in known]
        self._unused.update(worker["unused"])
        self._lost.update(worker["lost"])
        self._note(worker["notes"])
        self._drift.update(worker["drift"])
        self._really_asked.update(worker["really_asked"])
        self.known.update(Path(path) for path in worker["known"])
        self.knows_all = self.knows_all and worker["knows_all"]
        self.ran_all = self.ran_all and worker["ran_all"]

    # -- At the end ----------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        """Yield the summary's lines; prune what nobody needs first."""
        orphans = list(self._orphans())
        counts = self._counts
        counts["unused"] = sum(self._unused.values())
        parts = [f"{counts[key]} {word}" for key, word in _WORDS.items() if counts[key]]
        parts += [f"{len(paths)} {name}" for name, paths in self._files.items() if paths]
        if parts:
            yield ", ".join(parts)
        for outcome, paths in self._files.items():
            yield from _some([f"{outcome} {path}" for path in sorted(paths)])
        unused = [
            f"{path}: {count} recorded call{' was' if count == 1 else 's were'} not made "
            "(--mock-prune removes)"
            for path, count in sorted(self._unused.items())
        ]
        yield from _some(unused)
        lost = [
            f"{path}: not written, {count} answer{'' if count == 1 else 's'} dropped: its test was "
            "skipped or failed as expected, and only a test that passes is recorded"
            for path, count in sorted(self._lost.items())
        ]
        yield from _some(lost)
        for drift, tests in sorted(self._drift.items()):
            where = f"{tests} test{'s' if tests > 1 else ''}"
            yield from f"API drift, in {where}: {drift}".split("\n")
        for path, workers in sorted(self._really_asked.items()):
            if workers > 1:
                yield (
                    f"{path}: {workers} workers asked the real API for it, each for its own tests, "
                    "and one of them is recorded. If a test needs what its own got, as an id, "
                    "record it without -n."
                )
        yield from self.notes
        yield from _some(orphans)

    def _note(self, notes: list[str]) -> None:
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]

    def _orphans(self) -> Iterator[str]:
        """Find, and with ``prunes`` remove, the recordings that nobody needs."""
        if not self.known:
            return
        known = {*self.known, *self._beyond_doubt()} if self.knows_all else None
        found = survey(self._root, known)
        yield from (error.message for error in found.unreadable)
        if not self.prunes:
            for orphan in found.orphans:
                yield f"{self._shown(orphan.path)}: {orphan.reason} (--mock-prune removes)"
            return
        try:
            for path in prune(found):
                self.changed(path, "removed")
        except MockMcpError as exc:
            yield exc.message

    def _beyond_doubt(self) -> Iterator[Path]:
        """Yield recordings that may be in use although no test that ran has named them.

        They are those of fixtures, where not all tests that can use them ran, and of
        `mock_mcp.intercept`.
        """
        for directory in {path.parent for path in self.known}:
            module = directory.parent.parent / f"{directory.name}.py"
            is_of_module = directory.name != DIRECTORY  # else of a package, or the session
            saw_all = is_of_module or any(directory.is_relative_to(each) for each in self.whole)
            if not (self.ran_all and saw_all):
                yield from directory.glob("_*.json")
            if module.is_file() and b"intercept(" in module.read_bytes():
                yield from directory.glob("*.json")

    def _shown(self, path: Path) -> str:
        return as_typed(path, self._here) if path.is_relative_to(self._root) else str(path)


def as_typed(path: Path, here: Path) -> str:
    """Return a path as it is written in a folder; in full where that is on another drive."""
    return os.path.relpath(path, here) if path.anchor == here.anchor else str(path)


def _some(lines: list[str]) -> Iterator[str]:
    yield from lines[:_LISTED]
    if len(lines) > _LISTED:
        yield f"… and {len(lines) - _LISTED} more"
