"""``mock-mcp doctor``: check what usually goes wrong, and say how to repair it."""

from __future__ import annotations

import argparse
import textwrap

import msgspec

from mock_mcp._version import __version__
from mock_mcp.cli import add_project_root
from mock_mcp.cli.terminal import printable_lines
from mock_mcp.runtime.project import Project, display_path
from mock_mcp.setup.clients import System
from mock_mcp.setup.doctor import Check, examine
from mock_mcp.words import counted

__all__ = ["configure", "run"]

_MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "error": "ERROR"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_project_root(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Check everything; 1 when something needs repair."""
    project = Project.resolve(options.project_root)
    checks = []
    for check in examine(project, System.current()):
        checks.append(check)
        if not options.json:
            print(printable_lines(_text(check)), flush=True)
    failed = sum(check.status == "error" for check in checks)
    warned = sum(check.status == "warning" for check in checks)
    if options.json:
        report = {
            "projectRoot": display_path(project.root),
            "version": __version__,
            "ok": not failed,
            "checks": checks,
        }
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    elif failed or warned:
        print(f"\n{counted(failed, 'error')}, {counted(warned, 'warning')}")
    else:
        print("\nEverything is all right.")
    return 1 if failed else 0


def _text(check: Check) -> str:
    head = f"{_MARKS[check.status]:<8} {check.name:<12} "
    lines = textwrap.indent(check.message, " " * len(head)).lstrip()
    repair = f"\n{' ' * len(head)}repair: {check.repair}" if check.repair else ""
    return f"{head}{lines}{repair}"
