"""``mock-mcp adapter``: serve an AI assistant over MCP on standard input and output."""

from __future__ import annotations

import argparse

from mock_mcp.adapter.entry import run_adapter
from mock_mcp.cli import add_project_root

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_project_root(parser)
    parser.add_argument(
        "--contract-budget",
        type=int,
        metavar="N",
        help="characters that the assistant reads of one operation's contract, from 200 to 40000 "
        "(default 6000)",
    )


def run(options: argparse.Namespace) -> int:
    """Serve until the client closes standard input."""
    return run_adapter(project_root=options.project_root, contract_budget=options.contract_budget)
