"""`TestPeer` over a fake link: what a connection says, without any socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mock_mcp.daemon.hub import Hub
from mock_mcp.daemon.peer import TestPeer
from mock_mcp.limits import Limits
from mock_mcp.types import Mock

pytestmark = pytest.mark.asyncio


class Link:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None

    def send_text(self, text: bytes) -> bool:
        if self.closed:
            return False
        self.sent.append(json.loads(text))
        return True

    def close(self, code: int, reason: str = "") -> None:
        self.closed = self.closed or (code, reason)


class Daemon:
    token = "right"
    daemon_id = "daemon"
    version = "1"


def connected(hub: Hub) -> tuple[TestPeer, Link]:
    peer, link = TestPeer(hub, Daemon()), Link()
    peer.connect(link)
    peer.on_open()
    return peer, link


def say(peer: TestPeer, **message: Any) -> None:
    peer.on_text(json.dumps(message).encode())


def hello(peer: TestPeer, **more: Any) -> None:
    fields = {"type": "HELLO_TEST", "token": "right", "runId": "run", "pid": 1, "cwd": "/"}
    say(peer, **(fields | more))


@pytest.fixture
def hub() -> Hub:
    return Hub(Limits())


async def test_hello(hub: Hub) -> None:
    peer, link = connected(hub)
    hello(peer)
    (ack,) = link.sent
    assert ack["type"] == "HELLO_ACK"
    assert peer.run_id == "run"
    assert link.closed is None
    peer.on_closed(1006, "")
    assert not hub.broker.runs
    hub.close()


async def test_a_wrong_token_opens_nothing(hub: Hub) -> None:
    peer, link = connected(hub)
    hello(peer, token="wrong")
    assert link.closed == (1008, "Invalid token")
    hello(peer)
    assert not hub.broker.runs
    assert link.sent == []


@pytest.mark.parametrize("capabilities", [["ack"], []])
async def test_only_a_client_that_knows_extensions_is_told_who_answered(
    hub: Hub, capabilities: list[str]
) -> None:
    peer, link = connected(hub)
    hello(peer, capabilities=capabilities)
    peer.deliver("batch:run:1", (Mock("a", 1, source="example"),), 1)
    extended = {"source": "example"} if capabilities else {}
    mocks = [{"requestId": "a", "data": 1, **extended}]
    more = {"rejections": 1} if capabilities else {}
    sent = {"type": "BATCH_MOCK_RESULT", "batchId": "batch:run:1", "mocks": mocks, **more}
    assert link.sent[-1] == sent
    hub.close()


async def test_no_extension_message_without_its_capability(hub: Hub) -> None:
    peer, link = connected(hub)
    hello(peer)
    say(peer, type="BATCH_MOCK_REQUEST", runId="run", requests=[])
    assert [message["type"] for message in link.sent] == ["HELLO_ACK"]
    assert link.closed is not None
    assert link.closed[0] == 1008
    hub.close()


async def test_after_the_close_nothing_is_taken(hub: Hub) -> None:
    peer, _ = connected(hub)
    hello(peer)
    peer.replaced()
    request = {"requestId": "a", "endpoint": "/", "method": "GET"}
    say(peer, type="BATCH_MOCK_REQUEST", runId="run", requests=[request])
    assert hub.broker.total_batches == 0
    hub.close()


async def test_the_hello_timer_ends_with_the_connection(hub: Hub) -> None:
    peer, link = connected(hub)
    peer.on_closed(1006, "")
    assert link.closed is None
    assert not hub._peers
