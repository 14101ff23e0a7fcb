"""The ``mock-mcp`` command: one small file per command, imported when it is used.

Exit codes: 0 done or running, 1 error or finding, 2 wrong usage, 3 not running.
"""

from __future__ import annotations

import argparse
import codecs
import importlib
import io
import os
import sys
from collections.abc import Sequence

from mock_mcp._version import __version__

__all__ = ["COMMANDS", "NOT_RUNNING", "add_project_root", "build_parser", "main"]

NOT_RUNNING = 3
"""Exit code: there is no daemon."""

COMMANDS = {
    "init": "configure your MCP clients and the project's contract, or undo it",
    "doctor": "check what usually goes wrong, and say how to repair it",
    "adapter": "serve an AI assistant over MCP (stdio); what MCP clients start",
    "respond": "answer the batches of tests without an MCP client",
    "daemon": "run the project's daemon in the foreground",
    "status": "say what runs: the project's daemon, its runs and batches",
    "stop": "stop the project's daemon and wait until it is gone",
    "watch": "show live what the daemons do",
    "answer": "answer one waiting batch by hand, in your editor",
    "log": "show what was asked, what the model read and what it answered",
    "check": "say which recordings no longer fit the contract, without running tests",
    "show": "show a recording to a person",
    "export": "write recordings as a HAR or as WireMock stubs",
    "import": "make a recording of a HAR, a VCR cassette or WireMock stubs",
    "demo": "show the whole product at work, without an AI account",
    "check-contract": "read OpenAPI documents and say what mock-mcp makes of them",
    "help": "show this help, or that of a command",
    "version": "show the version",
}
"""Every command with its one-line summary; each lives in the module of its name."""

_MODULES = {"import": "import_"}
"""Modules whose command's name is a word of Python."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Without a command it is ``adapter`` when standard input is not a terminal (an MCP client is on
    the other end), else ``help``.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _prepare_output()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except OSError as exc:
        _end_output()
        if not isinstance(exc, BrokenPipeError):  # whoever read the output has seen enough
            print(f"mock-mcp: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _run(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-V"], ["version"]):
        print(f"mock-mcp {__version__}")
        return 0
    if not arguments or arguments[0].startswith("--project-root"):
        arguments.insert(0, "help" if sys.stdin is None or sys.stdin.isatty() else "adapter")
    if arguments[0] == "help" and len(arguments) > 1:
        arguments = [arguments[1], "--help"]
    # Only the module of the command that is asked for is imported.
    parser = build_parser(arguments[:1])
    options, unknown = parser.parse_known_args(arguments)
    if unknown:  # said with the usage of the command, not with that of all
        used: argparse.ArgumentParser = getattr(options, "parser", parser)
        used.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.command == "help":
        build_parser(()).print_help()
        return 0
    from mock_mcp.errors import MockMcpError

    try:
        return int(options.run(options))
    except MockMcpError as exc:
        from mock_mcp.cli.terminal import printable_lines

        print(f"mock-mcp: {printable_lines(exc.message)}", file=sys.stderr)
        return 1


def _prepare_output() -> None:
    """Have an output that takes any text: one that is closed, or of another encoding, too."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    elif isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("mock-mcp", _escape)
        sys.stdout.reconfigure(errors="mock-mcp")


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Return what cannot be encoded as JSON would have it, so that JSON stays JSON."""
    import json

    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _end_output() -> None:
    """Write what can be written; the rest would fail again when the interpreter exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser(configured: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """Build the parser; the options of a command are added only if it is in ``configured``."""
    parser = argparse.ArgumentParser(
        prog="mock-mcp",
        description="AI-written, contract-checked HTTP mocks for tests.",
        epilog="Exit codes: 0 done or running, 1 error or finding, 2 wrong usage, 3 not running.",
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"mock-mcp {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=_sentence(summary), allow_abbrev=False
        )
        if name in configured and name not in ("help", "version"):
            file = _MODULES.get(name, name.replace("-", "_"))
            module = importlib.import_module(f"mock_mcp.cli.{file}")
            module.configure(command)
            command.set_defaults(run=module.run, parser=command)
    return parser


def add_project_root(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the project."""
    parser.add_argument(
        "--project-root",
        metavar="DIR",
        help="the project (default: the nearest folder above with .git, pyproject.toml or "
        "package.json)",
    )


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."
