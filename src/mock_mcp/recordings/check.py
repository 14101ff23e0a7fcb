"""Every recording of a project, judged by the contract as it is now; no test runs.

The calls of each are judged with the documents and the mode that the test's marker names.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mock_mcp.contract.project import ProjectContracts
from mock_mcp.errors import ConfigurationError, MockMcpError
from mock_mcp.recordings.drift import Fit, judge
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import RecordedInteraction
from mock_mcp.recordings.marks import TestSource
from mock_mcp.recordings.miss import repair_command, repair_of_block, source_of
from mock_mcp.recordings.paths import DIRECTORY, locate, module_of, names_at, names_of
from mock_mcp.recordings.store import read_recording
from mock_mcp.recordings.survey import Survey, survey
from mock_mcp.settings_table import root_with_table

__all__ = ["Broken", "Drifted", "Report", "check_recordings", "shown"]


@dataclass(frozen=True, slots=True)
class Drifted:
    """One interaction that no longer fits; ``number`` counts from 1."""

    number: int
    interaction: RecordedInteraction
    fit: Fit


@dataclass(frozen=True, slots=True)
class Broken:
    """A recording with interactions that no longer fit, and who uses it."""

    path: Path
    user: str
    repair: str
    drifted: list[Drifted]


@dataclass(slots=True)
class Report:
    """What was found in recordings.

    Attributes:
        recordings, interactions: How many were read.
        unchecked: How often nothing was checked, by reason.
        broken: Recordings that no longer fit.
        unreadable: Files that cannot be read.
        orphans: Files nobody needs, and why.
        problems: Why contracts cannot be used; a dict for its order.
    """

    recordings: int = 0
    interactions: int = 0
    unchecked: Counter[str] = field(default_factory=Counter)
    broken: list[Broken] = field(default_factory=list)
    unreadable: list[RecordingError] = field(default_factory=list)
    orphans: list[tuple[Path, str]] = field(default_factory=list)
    problems: dict[str, None] = field(default_factory=dict)

    @property
    def drifted(self) -> int:
        """How many interactions no longer fit."""
        return sum(len(broken.drifted) for broken in self.broken)

    @property
    def has_findings(self) -> bool:
        """Whether there is anything to repair."""
        return bool(self.broken or self.unreadable or self.orphans or self.problems)


class _Checker:
    def __init__(self, root: Path, report: Report, cache_dir: Path | None) -> None:
        self._root = root
        self._cache_dir = cache_dir
        self._contracts: dict[Path, ProjectContracts] = {}
        self._roots: dict[Path, Path] = {}
        self._report = report
        self._sources: dict[Path, TestSource] = {}
        self._seen: set[Path] = set()

    def take(self, found: Survey) -> None:
        """Check the recordings of a survey, and take over its other findings."""
        report = self._report
        for path in found.recordings:
            if path not in self._seen:
                self._seen.add(path)
                try:
                    self._check(path)
                except RecordingError as error:
                    report.unreadable.append(error)
        for unreadable in found.unreadable:
            if (path := Path(unreadable.file)) not in self._seen:
                self._seen.add(path)
                report.unreadable.append(unreadable)
        for orphan in found.orphans:
            if orphan.path not in self._seen:
                self._seen.add(orphan.path)
                report.orphans.append((orphan.path, orphan.reason))

    def _check(self, path: Path) -> None:
        report = self._report
        recording = read_recording(path)
        file, names = _test_of(path, recording.test)
        source = self._source(file)
        if _is_gone(names, source):
            lost = f"{file.name} has no {'::'.join(names)}"
            report.orphans.append((path, f"{lost}; if it was renamed, move the file"))
            return
        report.recordings += 1
        project = self._project_of(path.parent)
        contracts, mode = project.current()
        marker = source.marker(names)
        documents = list(_documents(marker.get("openapi"), project.root))
        settings: dict[str, Any] = {"documents": documents}
        settings["mode"] = marker.get("contract") or mode
        drifted: list[Drifted] = []
        for number, interaction in enumerate(recording.interactions, 1):
            report.interactions += 1
            try:
                fit = judge(interaction, contracts, **settings)
            except RecordingError:
                raise
            except MockMcpError as error:
                report.problems[error.message] = None
                fit = Fit("unchecked", "a contract document cannot be used")
            if fit.outcome == "unchecked":
                report.unchecked[fit.reason or "no contract covers it"] += 1
            elif fit.outcome == "drifted":
                drifted.append(Drifted(number, interaction, fit))
        if drifted:
            user, repair = _user(file, names, source, drifted)
            report.broken.append(Broken(path, user, repair, drifted))

    def _source(self, file: Path) -> TestSource:
        if file not in self._sources:
            try:
                text = file.read_bytes()
            except OSError:
                text = b""
            self._sources[file] = TestSource(text)
        return self._sources[file]

    def _project_of(self, directory: Path) -> ProjectContracts:
        """Return the contracts that the plugin judges by in a directory."""
        root = self._roots.get(directory)
        if root is None:
            root = self._roots[directory] = root_with_table(directory, self._root)
        if root not in self._contracts:
            self._contracts[root] = ProjectContracts(root, cache_dir=self._cache_dir)
        return self._contracts[root]


def check_recordings(
    root: Path, paths: Iterable[Path] = (), *, cache_dir: Path | None = None
) -> Report:
    """Judge recordings by the contract as it is now.

    Args:
        root: The project root; a recording of a project below it is judged by that one's settings.
        paths: Directories, test files or recordings; the whole project when there are none.
        cache_dir: A private directory for parsed contract documents.

    Raises:
        ConfigurationError: A path, or the project's settings, cannot be used.
    """
    report = Report()
    checker = _Checker(root, report, cache_dir)
    for found in _surveys(list(paths) or [root]):
        checker.take(found)
    return report


def _surveys(paths: Iterable[Path]) -> Iterator[Survey]:
    """Yield what is found at each path.

    Raises:
        ConfigurationError: A path is not there, or is no directory, test file or recording.
    """
    for given in paths:
        path = given.absolute()
        if path.is_dir():
            yield survey(path)
        elif not path.is_file():
            raise ConfigurationError(f"{given} is not there.")
        elif path.suffix == ".json" and DIRECTORY in path.parts:
            found = survey(path.parent)
            yield Survey(
                tuple(each for each in found.recordings if each == path),
                tuple(each for each in found.orphans if each.path == path),
                tuple(each for each in found.unreadable if Path(each.file) == path),
            )
        elif path.suffix == ".py":
            yield survey(locate(path, ["test"]).path.parent)
        else:
            raise ConfigurationError(
                f"{given} is neither a directory, nor a test file, nor a recording."
            )


def _documents(openapi: Any, root: Path) -> Iterator[dict[str, str]]:
    """Yield the documents that a marker names, with absolute paths."""
    for entry in openapi if isinstance(openapi, list | tuple) else [openapi]:
        fields = {"path": entry} if isinstance(entry, str) else entry
        if isinstance(fields, dict) and isinstance(fields.get("path"), str):
            yield {**fields, "path": str(root / fields["path"])}


def _test_of(path: Path, test: str) -> tuple[Path, list[str]]:
    """Return the test file of a recording (the directory, of a session's) and the names in it.

    Where it lies decides, as in replay: the id inside is of the test it was written for, which may
    have another name now.
    """
    recorded, names = names_of(test)
    directory = path.parent
    if directory.name == DIRECTORY:
        return directory.parent, []
    file = module_of(directory) or directory.parent.parent / recorded
    lies = names_at(path)
    if lies is None or lies == names or (names and locate(file, names).path == path):
        return file, names
    return file, lies


def _is_gone(names: Sequence[str], source: TestSource) -> bool:
    """Return whether a recording's test, or the class of its fixture, is certainly not there.

    Names that are no test's are left alone: they may be those of `mock_mcp.intercept`.
    """
    is_test = bool(names) and names[-1].lower().startswith("test")
    return is_test and not source.uses_intercept() and source.lacks(names)


def _user(
    file: Path, names: Sequence[str], source: TestSource, drifted: Sequence[Drifted]
) -> tuple[str, str]:
    """Return who uses a recording, and the command that repairs it."""
    user = "::".join([shown(file), *names])
    answers = [found.interaction for found in drifted]
    if names and not source.has(names) and source.uses_intercept():
        return user, repair_of_block(source_of(answers, "ai"), names[-1])
    command = repair_command(source_of(answers, "ai"), user)
    if any(found.fit.request for found in drifted):  # the recorded call will not be made again
        command = command.replace("new_episodes", "new_episodes --mock-prune")
    return user, command


def shown(path: Path) -> str:
    """Return a path as it can be used from here."""
    here = Path.cwd()
    return os.fspath(path.relative_to(here) if path.is_relative_to(here) else path)
