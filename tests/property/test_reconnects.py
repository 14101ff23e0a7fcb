"""A run that reconnects: whatever arrives in whatever order, its newest connection loses nothing.

A client gives connections up and opens others while hellos, submissions, results and closes of all
of them are still on their way. Within a connection they arrive in order; between connections any
order is drawn. At the end everything has arrived, a responder answers what is parked, and every
request must have its own answer.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mock_mcp.client.session import Session, Ticket
from mock_mcp.core.broker import Status
from mock_mcp.daemon.peer import TestPeer
from mock_mcp.errors import MockMcpError, UnknownBatch
from mock_mcp.limits import Limits
from mock_mcp.types import Mock
from support.sim import SimDaemon, World, run
from support.stress import pick

BLOCKS = 4
ORDERS = pick(200, 1000)
STEPS = 40


class Connection:
    """Both ends of one connection, and what is on its way: messages, and last a close."""

    def __init__(self, daemon: SimDaemon) -> None:
        self.peer = TestPeer(daemon.hub, daemon)
        self.up: deque[Callable[[], None]] = deque()
        self.down: deque[bytes] = deque()
        self.is_open = True
        self.closed: tuple[int, str] | None = None
        self.peer.connect(self)

    def send_text(self, text: bytes) -> bool:  # the daemon's end
        if not self.is_open or self.closed:
            return False
        self.down.append(text)
        return True

    def close(self, code: int, reason: str = "") -> None:
        self.closed = self.closed or (code, reason)

    def say(self, frames: list[bytes]) -> None:  # the client's end
        for frame in frames:
            self.up.append(lambda frame=frame: self.peer.on_text(frame))

    def give_up(self) -> None:
        def arrive() -> None:
            self.is_open = False
            self.peer.on_closed(1006, "")

        self.up.append(arrive)


class Run:
    """One run and its connections, the newest last."""

    def __init__(self, daemon: SimDaemon, chance: random.Random) -> None:
        self.daemon = daemon
        self.chance = chance
        self.connections: list[Connection] = []
        self.asked: list[str] = []
        self.tickets: list[Ticket] = []
        self.cancelled: set[str] = set()
        self.answers: dict[str, Any] = {}
        self.failures: list[MockMcpError] = []
        self.session = Session(
            "run",
            pid=1,
            cwd="/",
            test_meta=None,
            limits=Limits(),
            on_answer=self.answered,
            on_failure=lambda ticket, error: self.failures.append(error),
            on_error=lambda text: self.failures.append(MockMcpError(text)),
        )
        self.claims = 0
        self.held: list[tuple[str, str, list[Mock]]] = []
        self.connect()

    def answered(self, ticket: Ticket, mock: Mock) -> None:
        assert ticket.request_id not in {*self.answers, *self.cancelled}, "answered in vain"
        self.answers[ticket.request_id] = mock.data

    def connect(self) -> None:
        if self.connections:
            self.session.lost()
            self.connections[-1].give_up()
        self.connections.append(Connection(self.daemon))
        self.connections[-1].say([self.session.hello(self.daemon.token)])

    def ask(self) -> None:
        """Ask for two things in one batch."""
        tickets = []
        for _ in range(2):
            request_id = f"r{len(self.asked)}"
            self.asked.append(request_id)
            body = {"requestId": request_id, "endpoint": f"/{request_id}", "method": "GET"}
            json_text = msgspec.Raw(json.dumps(body).encode())
            tickets.append(Ticket(request_id, request_id, json_text, None))
        self.tickets += tickets
        self.connections[-1].say(self.session.submit(tickets))

    def cancel(self) -> None:
        """Stop waiting for one thing."""
        if self.tickets:
            ticket = self.chance.choice(self.tickets)
            if ticket.request_id not in self.answers:
                self.cancelled.add(ticket.request_id)
            self.connections[-1].say(self.session.cancel(ticket))

    def arrive(self) -> bool:
        """Let one thing arrive somewhere; tell whether there was any."""
        ways = [(c, way) for c in self.connections for way in ("up", "down") if getattr(c, way)]
        if not ways:
            return False
        connection, way = self.chance.choice(ways)
        if way == "up":
            connection.up.popleft()()
        else:
            text = connection.down.popleft()
            if connection is self.connections[-1]:  # nobody reads the others any more
                connection.say(self.session.receive(text))
        return True

    def claim(self) -> None:
        """Claim what is first in line."""
        hub = self.daemon.hub
        self.claims += 1
        token = f"token {self.claims}"
        batch = hub.broker.claim(hub.clock.now(), "R", 30.0, token)
        hub.settle()
        if batch is not None:
            mocks = [Mock(rid, request.endpoint) for rid, request in batch.requests.items()]
            self.held.append((batch.id, token, mocks))

    def provide(self) -> None:
        """Answer what was claimed; a reconnect takes no claim away that is still wanted."""
        if not self.held:
            return
        hub = self.daemon.hub
        batch_id, token, mocks = self.held.pop(0)
        try:
            hub.broker.provide(hub.clock.now(), "R", batch_id, token, mocks)
        except UnknownBatch:
            done = {*self.answers, *self.cancelled}
            assert {mock.request_id for mock in mocks} <= done, "a claim was lost"
        hub.settle()

    def live(self) -> None:
        for _ in range(STEPS):
            steps = (
                self.arrive, self.ask, self.connect, self.cancel, self.claim, self.provide
            )  # fmt: skip
            self.chance.choices(steps, (16, 4, 2, 2, 2, 1))[0]()
        while self.arrive():
            pass
        self.check_all_arrived()
        while self.held or self.daemon.hub.broker.pending:
            self.claim()
            self.provide()
            while self.arrive():
                pass
        assert self.connections[-1].closed is None, "the newest connection was closed"

    def check_all_arrived(self) -> None:
        """The daemon works for what the run waits for, and for nothing else."""
        batches = self.daemon.hub.broker.batches()
        parked = {rid for b in batches if b.status is not Status.FULFILLED for rid in b.requests}
        assert parked == {*self.asked} - {*self.answers} - self.cancelled

    def verdict(self) -> None:
        assert self.failures == []
        wanted = [request_id for request_id in self.asked if request_id not in self.cancelled]
        assert self.answers == {request_id: f"/{request_id}" for request_id in wanted}


def reconnect(seed: int) -> int:
    connections = 0

    async def scenario(world: World) -> None:
        nonlocal connections
        lived = Run(world.start_daemon(), world.random)
        lived.live()
        lived.verdict()
        connections = len(lived.connections)
        lived.connections[-1].peer.on_closed(1000, "")
        assert lived.daemon.left() == []

    run(seed, scenario)
    return connections


@pytest.mark.parametrize("block", range(BLOCKS))
def test_the_newest_connection_loses_nothing(block: int, measured: Callable[..., None]) -> None:
    seeds = range(block, ORDERS, BLOCKS)
    connections = 0
    for seed in seeds:
        try:
            connections += reconnect(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert connections > 2 * len(seeds), "hardly any run reconnected"
    measured(orders=len(seeds), connections=connections)
