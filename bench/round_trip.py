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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.project import SPAWN, BenchProject, cpu_ms, process, project, respond, serve, timed_ms
from bench.report import Row, Size
from mock_mcp import DaemonClient, connect
from mock_mcp.runtime.ipc import is_listening

Target = Callable[..., None]
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
            ours = through_daemon(place, runs, each, 1)
            theirs = through_relay(runs, each, SMALL, SMALL_ANSWER)
            name = f"round trip, 1 request, runs: {runs}"
            yield Row(name, ours.times, "bare relay", theirs.times, "ms", 3)
            yield Row(f"{name}, time a batch", ours.overall, "relay", theirs.overall, "ms", 3)
            yield Row(f"{name}, daemon's processor", ours.cpu, "time a batch", ours.overall)
        ours = through_daemon(place, 1, rounds, 1, target=ask_itself)
        theirs = through_relay(1, rounds, SMALL, SMALL_ANSWER, target=exchange_with_itself)
        name = "round trip, 1 request, responder in the test's process"
        yield Row(name, ours.times, "bare relay", theirs.times)
        yield Row(f"{name}, daemon's processor", ours.cpu, "time a batch", ours.overall)
        each = size.of(150, 10)
        ours = through_daemon(place, 1, each, 50)
        theirs = through_relay(1, each, LARGE, LARGE_ANSWER)
        yield Row("round trip, 50 requests x 2 KB", ours.times, "bare relay", theirs.times, "ms", 3)
        yield Row("50 x 2 KB, daemon's processor", ours.cpu, "time a batch", ours.overall)


@dataclass
class Found:
    """Milliseconds of each round trip, of one overall, and of the daemon's processor for one."""

    times: list[float]
    overall: list[float]
    cpu: list[float] = field(default_factory=list)


def through_daemon(
    place: BenchProject, runs: int, rounds: int, requests: int, target: Target | None = None
) -> Found:
    """Let each run, in a process of its own, ask batch after batch."""
    info = place.daemon()
    responder = contextlib.nullcontext() if target else process(respond, info, runs)
    with responder:
        cpu = cpu_ms(info.pid)
        found = at_once(target or ask, [(place, rounds, requests)] * runs, rounds)
        cpu = cpu_ms(info.pid) - cpu
    found.cpu.append(cpu / ((rounds + WARM) * runs))
    return found


def ask(start: Any, results: Any, place: BenchProject, rounds: int, requests: int) -> None:
    """Be one run."""
    metadata = METADATA if requests > 1 else None

    async def work() -> None:
        async with connect(**place.options) as client:

            async def batch() -> None:
                await asyncio.gather(
                    *(client.request_mock(f"/u/{n}", metadata=metadata) for n in range(requests))
                )

            await repeat(batch, start, results, rounds)

    asyncio.run(work())


def ask_itself(start: Any, results: Any, place: BenchProject, rounds: int, requests: int) -> None:
    """Be one run, and who answers it, in one event loop."""

    async def work() -> None:
        async with (
            DaemonClient.of(place.daemon()) as daemon,
            connect(**place.options) as client,
            asyncio.TaskGroup() as tasks,
        ):
            answering = tasks.create_task(serve(daemon))
            await repeat(lambda: client.request_mock("/u/0"), start, results, rounds)
            answering.cancel()

    asyncio.run(work())


def at_once(target: Target, arguments: list[tuple[Any, ...]], rounds: int) -> Found:
    """Run a function in several processes, which begin to measure together."""
    start, results = SPAWN.Barrier(len(arguments)), SPAWN.SimpleQueue()
    with contextlib.ExitStack() as stack:
        for each in arguments:
            stack.enter_context(process(target, start, results, *each))
        measured = [results.get() for _ in arguments]
    times = [value for _, _, values in measured for value in values]
    took = max(end for _, end, _ in measured) - min(began for began, _, _ in measured)
    return Found(times, [took * 1e3 / (rounds * len(arguments))])


async def repeat(
    work: Callable[[], Awaitable[object]], start: Any, results: Any, rounds: int
) -> None:
    """Warm up, wait for the others, and report when it was measured and each duration."""
    for _ in range(WARM):
        await work()
    start.wait()
    began = time.perf_counter()
    times = await timed_ms(rounds, work)
    results.put((began, time.perf_counter(), times))


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
            side = await reader.read(1)
            if not side:
                return  # it was only looked whether somebody listens
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


async def answers(path: str, request_bytes: int, answer_bytes: int) -> None:
    """Answer every request through the relay with as many bytes as a result has."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"R")
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await reader.readexactly(request_bytes)
            writer.write(b"x" * answer_bytes)


def answer(path: str, connections: int, request_bytes: int, answer_bytes: int) -> None:
    """Be the other end of the relay."""

    async def work() -> None:
        each = (path, request_bytes, answer_bytes)
        await asyncio.gather(*(answers(*each) for _ in range(connections)))

    asyncio.run(work())


def through_relay(
    connections: int,
    rounds: int,
    request_bytes: int,
    answer_bytes: int,
    target: Target | None = None,
) -> Found:
    """Do the same through a process that only passes bytes on."""
    with tempfile.TemporaryDirectory(prefix="mm") as directory, contextlib.ExitStack() as stack:
        path = str(Path(directory, "relay"))
        stack.enter_context(process(relay, path))
        while not is_listening(path):
            time.sleep(0.01)
        if target is None:
            stack.enter_context(process(answer, path, connections, request_bytes, answer_bytes))
        each = (path, rounds, request_bytes, answer_bytes)
        return at_once(target or exchange, [each] * connections, rounds)


def exchange(  # noqa: PLR0917 - what a process is given
    start: Any, results: Any, path: str, rounds: int, request_bytes: int, answer_bytes: int
) -> None:
    """Be one end of the relay."""
    asyncio.run(exchanges(start, results, path, rounds, request_bytes, answer_bytes))


def exchange_with_itself(  # noqa: PLR0917 - what a process is given
    start: Any, results: Any, path: str, rounds: int, request_bytes: int, answer_bytes: int
) -> None:
    """Be both ends of the relay, in one event loop."""

    async def work() -> None:
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(answers(path, request_bytes, answer_bytes))
            await exchanges(start, results, path, rounds, request_bytes, answer_bytes)
            answering.cancel()

    asyncio.run(work())


async def exchanges(  # noqa: PLR0917 - what a process is given
    start: Any, results: Any, path: str, rounds: int, request_bytes: int, answer_bytes: int
) -> None:
    """Send requests through the relay, one after another, each when the last one is answered."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"T")

    async def once() -> None:
        writer.write(b"x" * request_bytes)
        await reader.readexactly(answer_bytes)

    await repeat(once, start, results, rounds)
