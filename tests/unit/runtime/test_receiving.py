"""Bytes come whole and in order, whoever else in the process reads at the same time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import socket

import pytest

from mock_mcp.runtime.receiving import ReceivingProtocol

BYTES = 3 * 1024 * 1024


class Keeper(ReceivingProtocol):
    def __init__(self) -> None:
        self.received = bytearray()
        self.pieces: list[bytes] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.pieces.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set_result(None)


async def exchange(content: bytes) -> Keeper:
    """Send bytes through a pair of sockets; return who received them."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    _, keeper = await loop.create_connection(Keeper, sock=ours)
    _, writer = await asyncio.open_connection(sock=theirs)
    writer.write(content)
    writer.close()
    await writer.wait_closed()
    await keeper.done
    return keeper


def test_what_came_stays_what_it_was_when_more_comes():
    content = os.urandom(BYTES)
    keeper = asyncio.run(exchange(content))
    assert bytes(keeper.received) == content
    assert b"".join(keeper.pieces) == content
    assert len(keeper.pieces) > 1


def test_connections_of_one_loop_do_not_mix():
    contents = [bytes([number]) * BYTES for number in range(4)]

    async def all_at_once() -> list[Keeper]:
        return await asyncio.gather(*map(exchange, contents))

    keepers = asyncio.run(all_at_once())
    assert [bytes(keeper.received) for keeper in keepers] == contents


def test_loops_of_several_threads_do_not_mix():
    contents = [bytes([number]) * BYTES for number in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        keepers = threads.map(lambda content: asyncio.run(exchange(content)), contents)
    assert [bytes(keeper.received) for keeper in keepers] == contents


@pytest.mark.parametrize("content", [b"", b"x"], ids=["nothing", "one byte"])
def test_little(content):
    assert bytes(asyncio.run(exchange(content)).received) == content
