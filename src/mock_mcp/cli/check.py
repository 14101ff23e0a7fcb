"""``mock-mcp check``: which recordings no longer fit the contract, and which nobody needs.

No test runs. Every recording below the project is read and its calls are judged by the contract as
it is now, with the documents and the mode that the test's marker names.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mock_mcp.cli import add_project_root
from mock_mcp.cli.terminal import printable_lines
from mock_mcp.recordings.check import Drifted, Report, check_recordings, shown
from mock_mcp.runtime.cache import contract_cache
from mock_mcp.runtime.project import Project
from mock_mcp.types import Violation
from mock_mcp.words import counted

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
    cache_dir = contract_cache()
    report = check_recordings(project.root, options.paths, cache_dir=cache_dir)
    text = _json(report, project) if options.json else printable_lines("\n".join(_text(report)))
    print(text)
    return 1 if report.has_findings else 0


# -- How it is told ---------------------------------------------------------------------------


def _text(report: Report) -> Iterator[str]:
    for broken in report.broken:
        yield shown(broken.path)
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
    orphans = [f"{shown(path)}: {reason}" for path, reason in report.orphans]
    yield from _section("Used by nobody (pytest --mock-prune removes them)", orphans)
    yield from _section("Contracts that cannot be used", list(report.problems))
    reasons = [f"{counted(count, 'call')}: {why}" for why, count in report.unchecked.most_common()]
    yield from _section("Not checked", reasons)
    yield _summary(report)


def _violations(what: str, violations: Sequence[Violation]) -> Iterator[str]:
    for found in violations:
        yield f"    {what}, {found.pointer}: {found.advice}"


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"{title}:"
        yield from (f"  {line}" for line in lines)
        yield ""


def _summary(report: Report) -> str:
    recordings, calls = report.recordings, report.interactions
    unchecked = report.unchecked.total()
    well = calls - report.drifted - unchecked
    parts = [f"{well} {_fit(well)} the contract"]
    if report.drifted:
        parts.append(f"{report.drifted} no longer {_fit(report.drifted)}")
    if unchecked:
        parts.append(f"{unchecked} not checked")
    of = f"{counted(recordings, 'recording')}, {counted(calls, 'call')}"
    return f"{of}: {', '.join(parts)}"


def _fit(count: int) -> str:
    return "fits" if count == 1 else "fit"


def _json(report: Report, project: Project) -> str:
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


def _call(found: Drifted) -> dict[str, Any]:
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
