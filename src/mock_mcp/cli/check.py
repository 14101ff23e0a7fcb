"""``mock-mcp check``: which recordings no longer fit the contract, and which nobody needs.

No test runs. Every recording below the project is read and its calls are judged by the contract as
it is now, with the documents and the mode that the test's marker names.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mock_mcp.cli import add_project_root
from mock_mcp.contract.project import ProjectContracts
from mock_mcp.errors import ConfigurationError, MockMcpError
from mock_mcp.recordings.drift import Fit, judge
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import RecordedInteraction
from mock_mcp.recordings.marks import TestSource
from mock_mcp.recordings.miss import repair_command, repair_of_block, source_of
from mock_mcp.recordings.paths import DIRECTORY, locate, names_of
from mock_mcp.recordings.store import read_recording
from mock_mcp.recordings.survey import Survey, survey
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project
from mock_mcp.types import Violation

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        type=Path,
        help="a directory, a test file or a recording (default: the whole project)",
    )
    add_project_root(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Check the recordings; 1 when one does not fit, cannot be read, or is nobody's."""
    project = Project.resolve(options.project_root)
    report = _Report()
    checker = _Checker(project, report)
    for found in _surveys(options.paths or [project.root]):
        checker.take(found)
    print(_json(report, project) if options.json else "\n".join(_text(report)))
    return 1 if report.has_findings else 0


# -- What is found ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Drifted:
    """One interaction that no longer fits; ``number`` counts from 1."""

    number: int
    interaction: RecordedInteraction
    fit: Fit


@dataclass(frozen=True, slots=True)
class _Broken:
    """A recording with interactions that no longer fit, and who uses it."""

    path: Path
    user: str
    repair: str
    drifted: list[_Drifted]


@dataclass(slots=True)
class _Report:
    recordings: int = 0
    interactions: int = 0
    unchecked: Counter[str] = field(default_factory=Counter)
    broken: list[_Broken] = field(default_factory=list)
    unreadable: list[RecordingError] = field(default_factory=list)
    orphans: list[tuple[Path, str]] = field(default_factory=list)
    problems: dict[str, None] = field(default_factory=dict)

    @property
    def drifted(self) -> int:
        return sum(len(broken.drifted) for broken in self.broken)

    @property
    def has_findings(self) -> bool:
        return bool(self.broken or self.unreadable or self.orphans or self.problems)


class _Checker:
    def __init__(self, project: Project, report: _Report) -> None:
        self._root = project.root
        self._contracts = ProjectContracts(project.root, cache_dir=CacheDirectory().contracts())
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
            report.orphans.append((path, f"{file.name} has no {'::'.join(names)}"))
            return
        report.recordings += 1
        contracts, mode = self._contracts.current()
        marker = source.marker(names)
        settings: dict[str, Any] = {"documents": list(self._documents(marker.get("openapi")))}
        settings["mode"] = marker.get("contract") or mode
        drifted: list[_Drifted] = []
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
                drifted.append(_Drifted(number, interaction, fit))
        if drifted:
            user, repair = _user(file, names, source, drifted)
            report.broken.append(_Broken(path, user, repair, drifted))

    def _source(self, file: Path) -> TestSource:
        if file not in self._sources:
            try:
                text = file.read_bytes()
            except OSError:
                text = b""
            self._sources[file] = TestSource(text)
        return self._sources[file]

    def _documents(self, openapi: Any) -> Iterator[dict[str, str]]:
        """Yield the documents that a marker names, with absolute paths."""
        for entry in openapi if isinstance(openapi, list | tuple) else [openapi]:
            fields = {"path": entry} if isinstance(entry, str) else entry
            if isinstance(fields, dict) and isinstance(fields.get("path"), str):
                yield {**fields, "path": str(self._root / fields["path"])}


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


def _test_of(path: Path, test: str) -> tuple[Path, list[str]]:
    """Return the test file of a recording (the directory, of a session's) and the names in it."""
    file, names = names_of(test)
    directory = path.parent
    if directory.name == DIRECTORY:
        return directory.parent, []
    return directory.parent.parent / file, names


def _is_gone(names: Sequence[str], source: TestSource) -> bool:
    """Return whether a recording's test, or the class of its fixture, is certainly not there.

    Names that are no test's are left alone: they may be those of `mock_mcp.intercept`.
    """
    is_test = bool(names) and names[-1].lower().startswith("test")
    return is_test and not source.uses_intercept() and source.lacks(names)


def _user(
    file: Path, names: Sequence[str], source: TestSource, drifted: Sequence[_Drifted]
) -> tuple[str, str]:
    """Return who uses a recording, and the command that repairs it."""
    user = "::".join([_shown(file), *names])
    answers = [found.interaction for found in drifted]
    if names and not source.has(names) and source.uses_intercept():
        return user, repair_of_block(source_of(answers, "ai"), names[-1])
    command = repair_command(source_of(answers, "ai"), user)
    if any(found.fit.request for found in drifted):  # the recorded call will not be made again
        command = command.replace("new_episodes", "new_episodes --mock-prune")
    return user, command


# -- How it is told ---------------------------------------------------------------------------


def _text(report: _Report) -> Iterator[str]:
    for broken in report.broken:
        yield _shown(broken.path)
        yield f"  used by {broken.user}"
        for found in broken.drifted:
            request, fit = found.interaction.request, found.fit
            operation = f"  ({fit.operation})" if fit.operation else ""
            yield f"  call {found.number}: {request.method} {request.url}{operation}"
            yield from _violations("the call itself", fit.request)
            yield from _violations("the recorded answer", fit.response)
        first = any(found.fit.request for found in broken.drifted)
        then = "correct the code that makes the call, then: " if first else ""
        yield f"  repair: {then}{broken.repair}"
        yield ""
    yield from _section("Cannot be read", [error.message for error in report.unreadable])
    orphans = [f"{_shown(path)}: {reason}" for path, reason in report.orphans]
    yield from _section("Used by nobody (pytest --mock-prune removes them)", orphans)
    yield from _section("Contracts that cannot be used", list(report.problems))
    reasons = [f"{count} {_calls(count)}: {why}" for why, count in report.unchecked.most_common()]
    yield from _section("Not checked", reasons)
    yield _summary(report)


def _violations(what: str, violations: Sequence[Violation]) -> Iterator[str]:
    for found in violations:
        yield f"    {what}, {found.pointer}: {found.hint}"


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"{title}:"
        yield from (f"  {line}" for line in lines)
        yield ""


def _summary(report: _Report) -> str:
    recordings, calls = report.recordings, report.interactions
    unchecked = report.unchecked.total()
    parts = [f"{calls - report.drifted - unchecked} fit the contract"]
    if report.drifted:
        parts.append(f"{report.drifted} no longer {'fits' if report.drifted == 1 else 'fit'}")
    if unchecked:
        parts.append(f"{unchecked} not checked")
    of = f"{recordings} recording{'' if recordings == 1 else 's'}, {calls} {_calls(calls)}"
    return f"{of}: {', '.join(parts)}"


def _calls(count: int) -> str:
    return "call" if count == 1 else "calls"


def _shown(path: Path) -> str:
    """Return a path as it can be used from here."""
    here = Path.cwd()
    return os.fspath(path.relative_to(here) if path.is_relative_to(here) else path)


def _json(report: _Report, project: Project) -> str:
    drift = [
        {
            "file": str(broken.path),
            "test": broken.user,
            "repair": broken.repair,
            "calls": [_call(found) for found in broken.drifted],
        }
        for broken in report.broken
    ]
    fields = {
        "projectRoot": str(project.root),
        "ok": not report.has_findings,
        "recordings": report.recordings,
        "calls": report.interactions,
        "drifted": report.drifted,
        "unchecked": dict(report.unchecked),
        "drift": drift,
        "unreadable": [error.data for error in report.unreadable],
        "orphans": [{"file": str(path), "reason": reason} for path, reason in report.orphans],
        "problems": list(report.problems),
    }
    return msgspec.json.format(msgspec.json.encode(fields)).decode()


def _call(found: _Drifted) -> dict[str, Any]:
    request, fit = found.interaction.request, found.fit
    return {
        "number": found.number,
        "method": request.method,
        "url": request.url,
        "operation": fit.operation,
        "request": [_fields(violation) for violation in fit.request],
        "response": [_fields(violation) for violation in fit.response],
    }


def _fields(violation: Violation) -> dict[str, str]:
    fields: dict[str, str] = msgspec.to_builtins(violation)
    return {name: value for name, value in fields.items() if name != "requestId"}
