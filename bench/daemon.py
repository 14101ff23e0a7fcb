"""Starting a daemon, and connecting to it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

from bench.project import BenchProject, kill, project, rss_mib, wall_ms
from bench.report import Row, Size, alternate
from mock_mcp import DaemonClient, connect


def rows(size: Size) -> Iterator[Row]:
    """Spawn, cold and warm connect, base memory."""
    starts = size.of(15, 2)
    with project() as place:
        kill(place.daemon())
        spawns, bare, cold = alternate(
            starts,
            lambda: spawn_ms(place),
            lambda: wall_ms("-c", "import asyncio"),
            lambda: cold_ms(place),
        )
        yield Row("daemon, spawn to /health", spawns, "import asyncio", bare, "ms", 2.5)
        yield Row("connect(), daemon not running", cold, "daemon spawn", spawns, "ms", 1.3)
        info = place.daemon()
        warm, sockets = alternate(
            starts * 3,
            lambda: asyncio.run(connect_ms(place)),
            lambda: socket_ms(info.ipc_path),
        )
        yield Row(
            "connect(), daemon running", warm, "bare connect", sockets, "ms", 10, "difference"
        )
        yield Row("daemon's memory, idle", [rss_mib(info.pid)], "wanted", [35], "MiB", 1)


def spawn_ms(place: BenchProject) -> float:
    began = time.perf_counter()
    info = place.daemon()

    async def ask() -> None:
        async with DaemonClient.of(info) as client:
            await client.health()

    asyncio.run(ask())
    took = (time.perf_counter() - began) * 1e3
    kill(info)
    return took


def cold_ms(place: BenchProject) -> float:
    took = asyncio.run(connect_ms(place))
    kill(place.daemon())
    return took


async def connect_ms(place: BenchProject) -> float:
    began = time.perf_counter()
    client = await connect(**place.options)
    took = (time.perf_counter() - began) * 1e3
    await client.close()
    return took


def socket_ms(path: str) -> float:
    began = time.perf_counter()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(path)
        return (time.perf_counter() - began) * 1e3
