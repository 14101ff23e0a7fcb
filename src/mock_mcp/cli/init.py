"""``mock-mcp init``: configure MCP clients and the project, and undo it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mock_mcp.cli import add_project_root
from mock_mcp.cli.terminal import printable_lines
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project
from mock_mcp.setup.clients import CLIENTS, System
from mock_mcp.setup.launcher import LAUNCHERS
from mock_mcp.setup.plan import Plan, Planner

__all__ = ["configure", "run"]

_NEXT = """\
Next:
  1. Restart your assistant, or reload its MCP servers, and allow the server mock-mcp.
  2. Mark a test with @pytest.mark.mock_mcp and run it: MOCK_MCP=1 pytest
  3. Tell the assistant: "Run the tests and serve their mocks."
`mock-mcp doctor` says whether everything works."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_project_root(parser)
    parser.add_argument(
        "--client",
        action="append",
        choices=list(CLIENTS),
        default=[],
        metavar="NAME",
        help=f"a client to configure, may be repeated: {', '.join(CLIENTS)} (default: those in "
        "use here)",
    )
    parser.add_argument(
        "--global",
        dest="everywhere",
        action="store_true",
        help="configure the clients for all projects of this user, not for this project",
    )
    parser.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        help="what starts the adapter: uvx, in an environment of its own, or this python "
        "(default: uvx where it is installed and mock-mcp came from a package index)",
    )
    parser.add_argument("--remove", action="store_true", help="undo it")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    """Show what changes, ask, write it; 0 when it is as wanted, 1 when nothing was written."""
    root = None if options.everywhere else Project.resolve(options.project_root).root
    planner = Planner(System.current(), root, CacheDirectory())
    removing = options.remove
    plan = (
        planner.remove(options.client)
        if removing
        else planner.add(options.client, options.launcher)
    )
    for note in plan.notes:
        print(note)
    if not plan.changes:
        print("Nothing to remove." if removing else "Nothing to change: all is set up.")
        return 0
    print(printable_lines("\n".join(plan.diff())))
    if not (options.yes or _is_agreed(len(plan.changes))):
        return 1
    planner.carry_out(plan, removing=removing)
    _tell(plan, root, "restored" if removing else "wrote")
    if not removing:
        print(_NEXT)
    return 0


def _is_agreed(files: int) -> bool:
    """Ask; a program cannot be asked."""
    if sys.stdin is None or not sys.stdin.isatty():
        print(
            "mock-mcp: nothing was changed: there is no terminal to ask at. Add --yes to write "
            "this.",
            file=sys.stderr,
        )
        return False
    noun = "this change" if files == 1 else f"these changes to {files} files"
    try:
        answer = input(f"Make {noun}? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("Nothing was changed.")
    return False


def _tell(plan: Plan, root: Path | None, wrote: str) -> None:
    for change in plan.changes:
        path = change.path
        name = path.relative_to(root) if root is not None else path
        done = wrote
        if change.after is None:
            done = "removed"
        elif change.before is None:
            done = "created"
        print(f"{done} {name}")
