"""``mock-mcp stop``: stop the project's daemon.

The daemon is asked over its own socket; a process is never signalled by a number read from a file,
which may belong to somebody else by now.
"""

from __future__ import annotations

import argparse
import asyncio

from mock_mcp.cli import NOT_RUNNING, add_project_root
from mock_mcp.control.client import DaemonClient
from mock_mcp.errors import DaemonUnreachable
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.launch import find_daemon
from mock_mcp.runtime.locks import FileLock
from mock_mcp.runtime.project import Project, display_path

__all__ = ["configure", "run"]

_STOP_S = 10.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_project_root(parser)


def run(options: argparse.Namespace) -> int:
    """Stop the daemon and wait until it is gone; 0 when it is, 3 if none ran."""
    project = Project.resolve(options.project_root)
    cache = CacheDirectory()
    info = find_daemon(project, cache)
    root = display_path(project.root)
    if info is None:
        print(f"No daemon is running for {root}.")
        return NOT_RUNNING
    asyncio.run(_shut_down(DaemonClient.of(info)))
    # The daemon holds its lock until its very end.
    with FileLock(cache.lock(project.id)) as lock:
        if not lock.acquire(_STOP_S):
            raise DaemonUnreachable(
                f"The daemon for {root} (pid {info.pid}) was asked to stop but is still there "
                f"after {_STOP_S:g} s; look at the process, and end it by hand if it is stuck."
            )
    print(f"Stopped the daemon for {root}.")
    return 0


async def _shut_down(client: DaemonClient) -> None:
    async with client:
        await client.shutdown()
