"""``mock-mcp status``: what runs."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

from mock_mcp.cli import NOT_RUNNING, add_project_root
from mock_mcp.cli.terminal import printable_lines
from mock_mcp.control.client import DaemonClient
from mock_mcp.errors import MockMcpError
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.launch import find_daemon, find_daemons
from mock_mcp.runtime.project import Project, display_path
from mock_mcp.types import DaemonInfo, DaemonStatus, RunInfo

__all__ = ["configure", "run"]


class _Report(msgspec.Struct, omit_defaults=True, rename="camel"):
    """What is said of one daemon; ``error`` instead of the rest when it does not answer."""

    project_root: str
    running: bool
    status: DaemonStatus | None = None
    runs: list[RunInfo] = []
    error: str | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_project_root(parser)
    parser.add_argument("--all", action="store_true", help="the daemons of all projects")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the state; 0 if a daemon runs, 1 if one does not answer, 3 if none runs."""
    cache = CacheDirectory()
    if options.all:
        reports = asyncio.run(_ask_all(find_daemons(cache)))
    else:
        project = Project.resolve(options.project_root)
        info = find_daemon(project, cache)
        reports = asyncio.run(_ask_all([info] if info else []))
        reports = reports or [_Report(display_path(project.root), running=False)]
    if options.json:
        data: Any = reports if options.all else reports[0]
        print(msgspec.json.format(msgspec.json.encode(data)).decode())
    elif not reports:
        print("No daemon is running.")
    else:
        print(printable_lines("\n\n".join(_text(report) for report in reports)))
    if any(report.error for report in reports):
        return 1
    return 0 if any(report.running for report in reports) else NOT_RUNNING


async def _ask_all(found: Iterable[DaemonInfo]) -> list[_Report]:
    return list(await asyncio.gather(*(_ask(info) for info in found)))


async def _ask(info: DaemonInfo) -> _Report:
    report = _Report(info.project_root, running=True)
    try:
        async with DaemonClient.of(info) as client:
            report.status = await client.get_status()
            report.runs = await client.list_runs()
    except MockMcpError as exc:
        report.error = exc.message
    return report


def _text(report: _Report) -> str:
    if not report.running:
        return (
            f"No daemon is running for {report.project_root}.\n"
            "It starts with the first test that runs with MOCK_MCP=1."
        )
    lines = [report.project_root]
    if report.error:
        return "\n".join([*lines, f"  the daemon does not answer: {report.error}"])
    status = report.status
    assert status is not None
    lines.append(
        f"  running: pid {status.pid}, version {status.version}, up {status.uptime // 1000} s"
    )
    lines.append(
        f"  batches: {status.pending} pending, {status.claimed} claimed, "
        f"{status.total_batches} since the start"
    )
    for run in report.runs:
        meta = run.test_meta
        test = " ".join(filter(None, (meta.test_file, meta.test_name))) if meta else ""
        lines.append(f"  run {run.run_id}: pid {run.pid}, {run.pending_batches} pending  {test}")
    if not report.runs:
        lines.append("  no test is connected")
    return "\n".join(line.rstrip() for line in lines)
