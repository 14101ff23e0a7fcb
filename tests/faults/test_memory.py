"""The daemon's memory is bounded, whatever its peers send, leave unread or hold open."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.control.client import DaemonClient
from mock_mcp.errors import DaemonUnreachable, LimitExceeded
from mock_mcp.types import DaemonInfo
from support.daemons import DaemonProcess
from support.http import RawHttp, connect, post, rpc
from support.place import Place, descriptors
from support.responder import Responder
from support.stress import pick
from support.ws import TEXT, WsClient, eventually, request

MIB = 1024 * 1024
GROWTH_MIB = 50
PARKED = pick(2_000, 10_000)
BODIES = pick(1, 4)
DESCRIPTORS = pick(256, 4_000)
RESUME = {"capabilities": ["ack", "resume", "errors"]}


def memory_mib(process: DaemonProcess) -> float:
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def attach(process: DaemonProcess, run_id: str, **options: Any) -> WsClient:
    client = WsClient(process.path, process.token, **options)
    assert client.hello(run_id, **RESUME)["type"] == "HELLO_ACK"
    return client


def warm_up(process: DaemonProcess) -> float:
    """Answer a batch; return the memory of a daemon that has done everything once, in MiB."""
    with attach(process, "warm-up") as client:
        client.submit([request()])
        provided(process, process.control.claim(), "x" * 1000)
        client.recv()
        client.close()
    return memory_mib(process)


def provided(process: DaemonProcess, claim: Any, data: Any) -> Any:
    mocks = [{"requestId": each["requestId"], "data": data} for each in claim["requests"]]
    return process.control.provide(claim, mocks)


def provided_unread(process: DaemonProcess, claim: Any, data: Any) -> None:
    """Provide without waiting for the test to acknowledge it."""
    mocks = [{"requestId": each["requestId"], "data": data} for each in claim["requests"]]
    held = {"batchId": claim["batchId"], "claimToken": claim["claimToken"]}
    params = {"adapterId": "adapter-1", **held, "mocks": mocks}
    with RawHttp(process.path) as provider:
        provider.send(post(process.token, rpc("provideBatch", params)))
        batch = {"batchId": claim["batchId"]}
        eventually(lambda: process.control.call("getBatch", **batch)["status"] == "fulfilled")


def test_many_parked_batches(daemon_process: DaemonProcess, measured: Callable[..., None]) -> None:
    before = warm_up(daemon_process)
    payload = 0
    with attach(daemon_process, "run") as client:
        for number in range(PARKED):
            asked = request(f"r{number}", body="x" * 1000, metadata={"n": number})
            payload += len(json.dumps(asked))
            client.submit([asked])
        client.settle()
        assert daemon_process.control.call("getStatus")["pending"] == PARKED
        growth = memory_mib(daemon_process) - before
        assert growth - payload / MIB <= GROWTH_MIB
        client.close()
    eventually(lambda: daemon_process.control.call("getStatus")["pending"] == 0)
    after = memory_mib(daemon_process) - before
    measured(batches=PARKED, payload_mib=payload / MIB, growth_mib=growth, then_mib=after)


def test_large_bodies(daemon_process: DaemonProcess, measured: Callable[..., None]) -> None:
    before = warm_up(daemon_process)
    body = "x" * (16 * MIB - 1024)
    held = 0
    highest = 0.0

    def check() -> None:
        nonlocal highest
        highest = max(highest, memory_mib(daemon_process) - before - held / MIB)
        assert highest <= GROWTH_MIB

    with attach(daemon_process, "run") as client:
        for number in range(BODIES):
            client.submit([request(f"r{number}", body=body)])
            held += len(body)
        client.settle()
        check()
        for _ in range(BODIES):
            claim = daemon_process.control.claim()
            provided_unread(daemon_process, claim, body)
            assert len(client.recv()["mocks"][0]["data"]) == len(body)
            held += len(body)  # until it is acknowledged
            check()
        client.close()
    with attach(daemon_process, "too large") as client:
        client.send_frame(TEXT, b" " * (16 * MIB + 1))
        assert client.expect_close()[0] == 1009
    eventually(lambda: not daemon_process.control.call("listBatches")["batches"])
    after = memory_mib(daemon_process) - before
    assert after <= GROWTH_MIB
    measured(payload_mib=held / MIB, beyond_mib=highest, then_mib=after)


def test_a_slow_reader(daemon_process: DaemonProcess, measured: Callable[..., None]) -> None:
    """It never reads its results: it is cut off before they are too many."""
    before = warm_up(daemon_process)
    body = "x" * (15 * MIB)
    highest = 0.0
    results = 0
    with attach(daemon_process, "run") as client:
        for number in range(20):
            try:
                client.submit([request(f"r{number}")])
            except OSError:
                break
            if not daemon_process.control.call("waitForBatch", waitMs=200)["pending"]:
                continue  # it was cut off before this one
            provided_unread(daemon_process, daemon_process.control.claim(), body)
            results += 1
            beyond = memory_mib(daemon_process) - before - results * len(body) / MIB
            highest = max(highest, beyond)
            assert highest <= GROWTH_MIB
        else:
            raise AssertionError("it was not cut off")
    measured(results=results, payload_mib=results * len(body) / MIB, beyond_mib=highest)


def told_within(socks: list[socket.socket], wait_s: float) -> bytes:
    """Return what comes first from any of these connections; nothing, if nothing comes."""
    by_number = {sock.fileno(): sock for sock in socks}
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLIN)
    readable = poll.poll(wait_s * 1000)
    return by_number[readable[0][0]].recv(4096) if readable else b""


@contextlib.contextmanager
def descriptor_limit(number: int) -> Iterator[None]:
    """Let processes that are started inside open so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.asyncio
async def test_silent_connections_up_to_the_descriptor_limit(
    place: Place, start_process: Callable[..., DaemonProcess], measured: Callable[..., None]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * DESCRIPTORS:
        pytest.skip(f"this system allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * DESCRIPTORS), hard))
    with descriptor_limit(DESCRIPTORS):
        process = start_process()
    process.wait_ready()
    before = warm_up(process)
    silent: list[socket.socket] = []
    refusal = b""
    try:
        while not refusal:
            try:
                sock = connect(process.path)
            except BlockingIOError:  # faster than they are accepted
                time.sleep(0.01)
                continue
            silent.append(sock)
            assert len(silent) <= DESCRIPTORS
            if len(silent) > DESCRIPTORS - 100:  # from here on, one may be refused
                refusal = told_within(silent[-100:], 0.01)
        growth = memory_mib(process) - before
        assert growth <= GROWTH_MIB
        assert refusal.startswith(b"HTTP/1.1 503")
        info = DaemonInfo(process.id, "", process.path, process.token, 0, "", "")
        async with DaemonClient.of(info) as client:
            with pytest.raises(LimitExceeded, match="limit connections"):
                await client.get_status()
        with pytest.raises(DaemonUnreachable, match="limit connections"):
            await place.connect(connect_timeout_s=0.5)
        assert place.daemons() == [process.process.pid]
        opened = descriptors(process.process.pid)
        assert opened <= DESCRIPTORS
    finally:
        for sock in silent:
            sock.close()
    async with DaemonClient.of(info) as client:
        asked = asyncio.create_task(place_asks(place))
        assert await Responder(client).provide(await Responder(client).claim())
        assert (await asked).data == "/after"
    measured(connections=len(silent) - 1, descriptors=opened, growth_mib=growth)


async def place_asks(place: Place) -> Any:
    async with place.connect() as client:
        return await client.request_mock("/after")
