"""One batch from a test to a responder in another process and back.

The reference is a bare relay: the same number of bytes through a process in the middle that does
nothing else, between the same three processes, over Unix sockets and asyncio streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from bench.project import BenchProject, cpu_ms, process, project, respond
from bench.report import Row, Size
from mock_mcp import connect

METADATA = {"notes": "x" * 2000}
WARM = 20
SMALL, SMALL_ANSWER = 160, 90
"""Bytes of a batch of one request, and of its result."""
LARGE, LARGE_ANSWER = 104_000, 2500
"""Bytes of a batch of 50 requests with 2 KB of metadata each, and of its result."""


def rows(size: Size) -> Iterator[Row]:
    """Latency, rate and the daemon's processor time."""
    with project() as place:
        rounds = size.of(1000, 30)
        for runs in (1, 8):
            each = max(10, rounds // runs)
            ours, per_batch, cpu = asyncio.run(through_daemon(place, runs, each, 1))
            theirs, per_message = asyncio.run(through_relay(runs, each, SMALL, SMALL_ANSWER))
            name = f"round trip, 1 request, runs: {runs}"
            yield Row(name, ours, "bare relay", theirs, "ms", 3)
            yield Row(f"{name}, time a batch", [per_batch], "relay", [per_message], "ms", 3)
            yield Row(f"{name}, daemon's processor", [cpu], "time a batch", [per_batch])
        each = size.of(150, 10)
        ours, per_batch, cpu = asyncio.run(through_daemon(place, 1, each, 50))
        theirs, per_message = asyncio.run(through_relay(1, each, LARGE, LARGE_ANSWER))
        yield Row("round trip, 50 requests x 2 KB", ours, "bare relay", theirs, "ms", 3)
        yield Row("50 x 2 KB, daemon's processor", [cpu], "time a batch", [per_batch])


async def through_daemon(
    place: BenchProject, runs: int, rounds: int, requests: int
) -> tuple[list[float], float, float]:
    """Return the milliseconds of each round trip, of a batch overall, and of the daemon's CPU."""
    info = place.daemon()
    metadata = METADATA if requests > 1 else None
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(process(respond, info))
        clients = [await stack.enter_async_context(connect(**place.options)) for _ in range(runs)]

        def batch(index: int) -> Callable[[], Awaitable[object]]:
            return lambda: asyncio.gather(
                *(
                    clients[index].request_mock(f"/u/{n}", metadata=metadata)
                    for n in range(requests)
                )
            )

        batches = [batch(index) for index in range(runs)]
        await in_turns(batches, WARM)
        cpu = cpu_ms(info.pid)
        times, took = await in_turns(batches, rounds)
        cpu = (cpu_ms(info.pid) - cpu) / (rounds * runs)
    return times, took / (rounds * runs), cpu


async def in_turns(
    works: list[Callable[[], Awaitable[object]]], rounds: int
) -> tuple[list[float], float]:
    """Repeat every work, all at once; return each duration and the whole one, in milliseconds."""
    times: list[float] = []

    async def repeat(work: Callable[[], Awaitable[object]]) -> None:
        for _ in range(rounds):
            began = time.perf_counter()
            await work()
            times.append((time.perf_counter() - began) * 1e3)

    began = time.perf_counter()
    await asyncio.gather(*(repeat(work) for work in works))
    return times, (time.perf_counter() - began) * 1e3


# -- The bare relay ------------------------------------------------------------------------------


def relay(path: str) -> None:
    """Join the first connection of a test with the first of the responder, and so on."""

    async def work() -> None:
        waiting: dict[bytes, list[asyncio.Future[asyncio.StreamWriter]]] = {b"T": [], b"R": []}
        numbers = {b"T": 0, b"R": 0}

        def writer_of(side: bytes, number: int) -> asyncio.Future[asyncio.StreamWriter]:
            while len(waiting[side]) <= number:
                waiting[side].append(asyncio.get_running_loop().create_future())
            return waiting[side][number]

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            side = await reader.readexactly(1)
            number = numbers[side]
            numbers[side] += 1
            writer_of(side, number).set_result(writer)
            other = await writer_of(b"R" if side == b"T" else b"T", number)
            while data := await reader.read(65536):
                other.write(data)

        server = await asyncio.start_unix_server(serve, path)
        async with server:
            await server.serve_forever()

    asyncio.run(work())


def answer(path: str, connections: int, request_bytes: int, answer_bytes: int) -> None:
    """Answer every request through the relay with as many bytes as a result has."""

    async def serve() -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"R")
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readexactly(request_bytes)
                writer.write(b"x" * answer_bytes)

    async def work() -> None:
        await asyncio.gather(*(serve() for _ in range(connections)))

    asyncio.run(work())


async def through_relay(
    connections: int, rounds: int, request_bytes: int, answer_bytes: int
) -> tuple[list[float], float]:
    """Return the milliseconds of each round trip, and of one overall."""
    with tempfile.TemporaryDirectory(prefix="mm") as directory, contextlib.ExitStack() as stack:
        path = str(Path(directory, "relay"))
        stack.enter_context(process(relay, path))
        while not Path(path).exists():
            await asyncio.sleep(0.01)
        stack.enter_context(process(answer, path, connections, request_bytes, answer_bytes))

        async def open_one() -> Callable[[], Awaitable[object]]:
            reader, writer = await asyncio.open_unix_connection(path)
            stack.callback(writer.close)
            writer.write(b"T")

            async def exchange() -> None:
                writer.write(b"x" * request_bytes)
                await reader.readexactly(answer_bytes)

            return exchange

        works = [await open_one() for _ in range(connections)]
        await in_turns(works, WARM)
        times, took = await in_turns(works, rounds)
    return times, took / (rounds * connections)
