"""Peers of another protocol revision: they work, or are told `VersionMismatch`; none hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mock_mcp.control.client import DaemonClient
from mock_mcp.daemon import MockMcpDaemon
from mock_mcp.errors import VersionMismatch
from mock_mcp.runtime.ipc import Listener, identify
from mock_mcp.types import DaemonInfo
from support.daemons import ServedDaemon
from support.http import RpcError
from support.place import Place
from support.ws import request

FUTURE = {
    "protocol": 99,
    "capabilities": ["ack", "resume", "errors", "teleport"],
    "session": 1,
    "shape": {"of": ["things", "to", "come"]},
}


@pytest.mark.parametrize("hello", [{}, FUTURE], ids=["previous", "future"])
def test_a_client_of_another_revision_works(daemon: ServedDaemon, hello: dict[str, Any]) -> None:
    """The answer to its hello says which revision this is; it decides."""
    with daemon.ws() as client:
        ack = client.hello("run", **hello)
        assert (ack["type"], ack["protocol"]) == ("HELLO_ACK", 1)
        if hello:
            client.send({"type": "TELEPORT", "where": "elsewhere"})
            assert client.recv()["type"] == "ERROR"
        client.submit([request(more="than is known")])
        claim = daemon.control.claim()
        assert claim["requests"][0]["more"] == "than is known"
        daemon.control.provide(claim, [{"requestId": "a", "data": 1}])
        assert client.recv()["mocks"][0]["data"] == 1


def test_an_adapter_of_another_revision_works_or_is_told(daemon: ServedDaemon) -> None:
    daemon.attach("run").submit([request()])
    future = daemon.control.call("claimNextBatch", adapterId="a", leaseMs=1000, priority="high")
    assert future["batchId"]
    with pytest.raises(RpcError) as refused:
        daemon.control.call("teleportBatch", batchId=future["batchId"])
    assert refused.value.code == -32601


@contextmanager
def another_daemon(place: Place, protocol: int | None) -> Iterator[DaemonInfo]:
    """Serve the project's socket as a daemon of another revision, of which only this is known."""
    about = {"ok": True, "pid": os.getpid(), "version": "9", "projectId": place.project.id}
    body = json.dumps(about if protocol is None else about | {"protocol": protocol}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                peer.settimeout(5)
                asked.append(peer.recv(65536))  # nothing from who only looks
                peer.sendall(answer)

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(place.socket))
    place.socket.chmod(0o600)
    listener.listen()
    path = str(place.socket)
    info = DaemonInfo(place.project.id, str(place.root), path, "secret", 1, "2026-01-01", "9")
    place.cache.write(info)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield info
        assert place.socket.exists()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        place.socket.unlink()
        place.cache.registry(place.project.id).unlink()
    assert any(asked)
    assert not [each for each in asked if b"secret" in each]  # it is asked who it is, no more


@pytest.mark.asyncio
@pytest.mark.parametrize("protocol", [None, 0, 2], ids=["npm", "previous", "future"])
async def test_a_daemon_of_another_revision_is_named_to_everybody(
    place: Place, protocol: int | None
) -> None:
    with another_daemon(place, protocol) as info:
        with pytest.raises(VersionMismatch, match="stop"):
            await place.connect()
        with pytest.raises(VersionMismatch, match="stop"):
            await asyncio.to_thread(place.start)
        with pytest.raises(VersionMismatch, match="stop"):
            await asyncio.to_thread(asyncio.run, start_another(place))
        async with DaemonClient.of(info) as client:
            with pytest.raises(VersionMismatch, match=r"[Ss]top"):
                await client.get_status()
        async with place.adapter("a") as claims:
            with pytest.raises(VersionMismatch, match="stop"):
                await claims.claim_next(wait_s=5)


async def start_another(place: Place) -> None:
    async with MockMcpDaemon(place.root, cache_dir=place.cache_dir):
        pass


def test_a_daemon_that_is_killed_as_it_is_asked_is_not_of_another_implementation(
    place: Place,
) -> None:
    """It hangs up without a word, three times, and is gone."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(place.socket))
    listener.listen()

    def hang_up() -> None:
        asked = 0
        while asked < 3:
            peer, _ = listener.accept()
            with peer:
                asked += bool(peer.recv(65536))
        listener.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    assert identify(str(place.socket)) is Listener.NOBODY
    thread.join()
