"""A daemon, tests and adapters on one event loop whose time and network are made up.

Everything above the sockets is the real code: `Engine`, `Session` and collectors;
`HttpConnection`, `TestPeer`, `Hub`, `Control` and broker; `Claims`, `Router` and `DaemonClient`.
Below it, time passes only when nobody has anything to do, and bytes take as long as the network's
mood says: in order within a connection, in no order between connections, cut off anywhere, and each
end learns of the cut when it learns of it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import logging
import random
import selectors
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mock_mcp.client.collector import BatchMockCollector
from mock_mcp.client.engine import Engine, Settings
from mock_mcp.control.client import DaemonClient
from mock_mcp.daemon.control import Control
from mock_mcp.daemon.gate import GateResult
from mock_mcp.daemon.http import HttpConnection
from mock_mcp.daemon.hub import Clock, Hub
from mock_mcp.daemon.peer import TestPeer
from mock_mcp.errors import DaemonUnreachable
from mock_mcp.limits import Limits
from mock_mcp.runtime.alarm import Alarm
from mock_mcp.runtime.websocket import WebSocketLink
from mock_mcp.serving.claims import Claims
from mock_mcp.serving.router import Router
from mock_mcp.serving.times import Times
from mock_mcp.types import DaemonInfo, Mock, MockRequest, Violation
from mock_mcp.wire.channel import CloseReason

__all__ = ["SimClient", "SimDaemon", "World", "run"]

TURN_S = 1e-6
"""How long a turn of the loop takes: some code waits for the clock to move on."""
STALLED_TURNS = 200_000
PROJECT = "0123456789abcdef"


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that jumps to the next timer when nothing is left to do."""

    def __init__(self) -> None:
        super().__init__(_NoSelector(self))
        self.now = 1000.0
        self.world: World

    def time(self) -> float:
        return self.now


class _NoSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits, and nothing will ever happen"
        if timeout:
            self._loop.world.check_nobody_waits_in_vain()
        self._turns = 0 if timeout else self._turns + 1
        assert self._turns < STALLED_TURNS, "the loop is busy for ever"
        self._loop.now += timeout + TURN_S
        return []


def _world() -> World:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.world


# -- The network --------------------------------------------------------------------------------


class End(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, world: World, protocol: Any) -> None:
        super().__init__()
        self.world = world
        self.protocol = protocol
        self.peer: End
        self.delay_s = 0.0
        self.is_lost = False
        self._closing = False
        self._said_eof = False
        self._arrives_at = world.loop.time()  # what was sent last
        self._on_the_way: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._paused: deque[bytes] | None = None

    # What asyncio's protocols call.

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        if self._paused is None:
            self._paused = deque()

    def resume_reading(self) -> None:
        waiting, self._paused = self._paused, None
        for data in waiting or ():
            self.world.loop.call_soon(self.arrive, data)

    def write(self, data: Any) -> None:
        if self._closing or self._said_eof:
            return
        data = bytes(data)
        chance = self.world.random
        while data:
            size = len(data) if chance.random() < 0.7 else chance.randint(1, len(data))
            self._send(self.peer.arrive, data[:size])
            data = data[size:]

    def write_eof(self) -> None:
        if not self._said_eof and not self._closing:
            self._said_eof = True
            self._send(self.peer.end_of_stream)

    def close(self) -> None:
        if not self._closing:
            self.write_eof()
            self._closing = True
            self.world.loop.call_soon(self.lose)

    def abort(self) -> None:
        if not self.is_lost:
            if not self._said_eof:
                self._said_eof = True
                self._send(self.peer.lose)
            self._closing = True
            self.world.loop.call_soon(self.lose)

    # What the network does.

    def _send(self, what: Callable[..., None], *args: Any) -> None:
        now, mean_s = self.world.loop.time(), self.delay_s
        delay_s = self.world.random.expovariate(1 / mean_s) if mean_s else 0.0
        self._arrives_at = max(self._arrives_at, now + delay_s)
        self._on_the_way.append((what, args))  # timers of one moment keep no order
        self.world.loop.call_at(self._arrives_at, self._deliver)

    def _deliver(self) -> None:
        what, args = self._on_the_way.popleft()
        what(*args)

    def arrive(self, data: bytes) -> None:
        if self._paused is not None:
            self._paused.append(data)
        elif not self.is_lost and not self._closing:
            self.protocol.data_received(data)

    def end_of_stream(self) -> None:
        if not self.is_lost and not self._closing and not self.protocol.eof_received():
            self.close()

    def lose(self) -> None:
        """Tell this end that its connection is gone."""
        if self.is_lost:
            return
        self.is_lost = self._closing = True
        self.world.ends.pop(self, None)
        self.protocol.connection_lost(None)

    def cut(self, after_s: float) -> None:
        """Carry nothing more from here; the end itself learns of it later."""
        self._closing = True
        self.world.loop.call_later(after_s, self.lose)


# -- The daemon ---------------------------------------------------------------------------------


class SimGate:
    """Judges requests whose endpoint says ``checked``, slowly; wrong is what says ``wrong``."""

    def __init__(self, world: World) -> None:
        self._world = world

    def applies(self, requests: Sequence[MockRequest]) -> bool:
        return any(_is_checked(request) for request in requests)

    def submit(
        self, requests: Sequence[MockRequest], mocks: Sequence[Mock]
    ) -> concurrent.futures.Future[GateResult]:
        future: concurrent.futures.Future[GateResult] = concurrent.futures.Future()
        checked = {request.request_id for request in requests if _is_checked(request)}
        wrong = [m.request_id for m in mocks if m.request_id in checked and m.data.get("wrong")]
        result = GateResult(
            violations=tuple(Violation(rid, "/body", "type", "", "", "fix it") for rid in wrong),
            accepted=tuple(r.request_id for r in requests if r.request_id not in wrong),
        )
        self._world.later(
            self._world.random.choice([0.0, 0.01, 3.0]),
            lambda: future.set_result(result),
        )
        return future


def _is_checked(request: MockRequest) -> bool:
    return b"checked" in bytes(request.json)


class SimDaemon:
    """One daemon process."""

    version, project_id, project_root = "0", PROJECT, "/project"

    def __init__(self, world: World, number: int) -> None:
        self.token = f"secret {number}"
        self.daemon_id = f"daemon {number}"
        self.started_at = world.loop.time()
        self.hub = Hub(
            world.limits, clock=Clock(world.loop.time, world.wall_clock), logger=world.logger
        )
        self.control = Control(self.hub, self, SimGate(world))  # type: ignore[arg-type]
        self.ends: dict[Any, None] = {}
        self._world = world
        self.info = DaemonInfo(
            PROJECT, self.project_root, "/project.sock", self.token, number, "", self.version
        )

    def request_stop(self) -> None:
        raise AssertionError("nobody asks for it")

    def accept(self) -> HttpConnection:
        return HttpConnection(
            self.control,
            self.token,
            lambda: TestPeer(self.hub, self, logger=self._world.logger),
            self._world.limits,
            on_made=self._made,
            on_lost=lambda end: self.ends.pop(end, None),
            logger=self._world.logger,
        )

    def _made(self, end: Any) -> None:
        self.ends[end] = None

    def left(self) -> list[str]:
        """Return what a daemon without tests and adapters should not have."""
        broker, hub = self.hub.broker, self.hub
        places = {
            "runs": broker.runs,
            "batches": broker._batches,
            "queue": broker._queue._groups,
            "leases": broker._leases,
            "ttls": broker._ttls,
            "graces": broker._graces,
            "peers": hub._peers,
            "waiting": hub._waiting,
            "acks": hub._acks,
            "connections": self.ends,
        }
        left = [f"{name}: {place}" for name, place in places.items() if place]
        return left + [f"claimed {broker.claimed}"] * bool(broker.claimed)


# -- Those who use it ---------------------------------------------------------------------------


class SimEngine(Engine):
    """An engine whose thread is this one; it counts how often it resolves each request."""

    def __init__(self, settings: Settings, resolved: dict[str, list[Any]]) -> None:
        super().__init__(settings)
        self._loop.close()
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._expire, self._loop.time)
        self._thread = threading.current_thread()
        self._resolved = resolved
        self._session._on_answer = self._note_answer

    def _note_answer(self, ticket: Any, mock: Mock) -> None:
        self._resolved.setdefault(ticket.name, []).append(mock.data)
        self._answer(ticket, mock)

    def start(self) -> concurrent.futures.Future[None]:
        self._loop.create_task(self._live())
        return self._started

    async def _live(self) -> None:
        try:
            await self._main()
        finally:
            with self._lock:
                inbox, self._inbox = self._inbox or [], None
            assert not inbox, "requests that came with the end were forgotten"
            self._stopped.set_result(None)


class SimClient:
    """One test process."""

    def __init__(self, world: World, run_id: str) -> None:
        self.run_id = run_id
        self.resolved: dict[str, list[Any]] = {}
        self._settings = Settings(
            run_id=run_id, timeout_s=None, connect_timeout_s=900.0, logger=world.logger
        )
        self.engine = SimEngine(self._settings, self.resolved)
        self.collector = BatchMockCollector(self._settings, self.engine, None)
        self.started = asyncio.wrap_future(self.engine.start())

    def die(self) -> None:
        """Say no goodbye: the daemon learns that the connection is gone, and no more."""
        end = self.engine._link._transport if self.engine._link else None
        if end is not None:
            end._closing = True
            end.peer.cut(0.0)

    def left(self) -> list[str]:
        """Return what a closed client should not have."""
        engine = self.engine
        places = {
            "session": engine._session._batches,
            "delayed": engine._delayed,
            "settled": engine._settled,
            "collector": self.collector._pending,
            "turns": self.collector._turns,
            "batching": engine._batching.take(),
        }
        return [f"{name}: {place}" for name, place in places.items() if place]


class _SimCache:
    """The registry directory of the one project."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.base = Path("/cache")

    @property
    def path(self) -> Any:
        number = self._world.starts
        return SimpleNamespace(stat=lambda: SimpleNamespace(st_mtime_ns=number))

    def project_ids(self) -> list[str]:
        return [PROJECT] if self._world.registry else []

    def read(self, project_id: str) -> DaemonInfo | None:
        return self._world.registry


class SimRouter(Router):
    """A router that needs no socket to know whether the daemon is up."""

    async def _listens(self, daemon: Any) -> bool:
        return _world().daemon is not None


class World:
    """The loop, the network and the one daemon that is up, or none."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.random = random.Random(seed)
        self.limits = Limits()
        self.logger = logging.Logger(f"sim {seed}")  # noqa: LOG001 - one for each world
        self.logger.addHandler(_Errors(self))
        self.errors: list[str] = []
        self.ends: dict[End, None] = {}  # in order of connection
        self.delay_s = 0.0
        self.wall_offset_s = 0.0
        self.starts = 0
        self.registry: DaemonInfo | None = None
        self.daemon: SimDaemon | None = None
        self._adapters = itertools.count(1)
        loop.set_exception_handler(lambda _, context: self.errors.append(str(context)))

    def later(self, delay_s: float, what: Callable[[], Any]) -> None:
        self.loop.call_later(delay_s, what)

    def wall_clock(self) -> float:
        return self.loop.time() + self.wall_offset_s

    def turn_wall_clock(self) -> None:
        self.wall_offset_s += self.random.choice([-3600.0, 3600.0])

    def check_nobody_waits_in_vain(self) -> None:
        """Whoever waits for a batch of any run is served in the moment in which there is one."""
        if self.daemon is not None and self.daemon.hub.broker.pending:
            waiting = [run_id for run_id, *_ in self.daemon.hub._waiting.values()]
            assert None not in waiting, "somebody waits for what is there"

    def suspend(self) -> None:
        """Let a minute pass in which nobody does anything; every timer is late afterwards."""
        self.loop.now += 60.0

    # -- The daemon -------------------------------------------------------------------------

    def start_daemon(self) -> SimDaemon:
        if self.daemon is None:
            self.starts += 1
            self.daemon = SimDaemon(self, self.starts)
            self.registry = self.daemon.info
        return self.daemon

    def kill_daemon(self) -> None:
        """End the process: what it wrote may or may not arrive, what it knew is gone."""
        daemon, self.daemon = self.daemon, None
        if daemon is None:
            return
        for end in list(daemon.ends):
            end.abort()
            end.lose()
        daemon.hub.close()

    def stop_daemon(self) -> None:
        """Stop it as `mock-mcp stop` does."""
        daemon, self.daemon, self.registry = self.daemon, None, None
        if daemon is None:
            return
        for end in list(daemon.ends):
            if isinstance(end.get_protocol(), WebSocketLink):
                end.get_protocol().close(*CloseReason.SHUTTING_DOWN)
        daemon.hub.close()
        for end in list(daemon.ends):
            if not isinstance(end.get_protocol(), WebSocketLink):
                end.close()

    async def ensure(self, *_: Any, **__: Any) -> DaemonInfo:
        await asyncio.sleep(self.random.choice([0.0, 0.05]))
        return self.start_daemon().info

    # -- Connections ------------------------------------------------------------------------

    async def connect(self, factory: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        if self.daemon is None:
            raise DaemonUnreachable("No daemon listens.")
        near, far = End(self, factory()), End(self, self.daemon.accept())
        near.peer, far.peer = far, near
        for end in (near, far):
            end.delay_s = self.random.choice([0.0, 0.1, 1.0, 3.0]) * self.delay_s
            self.ends[end] = None
        far.protocol.connection_made(far)
        near.protocol.connection_made(near)
        return near.protocol

    def cut_connection(self) -> None:
        """Cut one connection; each end learns of it at its own time."""
        if self.ends:
            end = self.random.choice([*self.ends])
            for each in (end, end.peer):
                each.cut(self.random.choice([0.0, 0.0, 0.5, 12.0]))

    # -- Those who use the daemon -----------------------------------------------------------

    def adapter(self) -> tuple[Claims, Router]:
        router = SimRouter(
            _SimCache(self),  # type: ignore[arg-type]
            None,
            times=Times(),
            logger=self.logger,
            connect=lambda info: DaemonClient.of(info, logger=self.logger),
        )
        return Claims(router, f"adapter {next(self._adapters)}", logger=self.logger), router


class _Errors(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.errors.append(self.format(record))


def run(seed: int, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> World:
    """Live one scenario from its beginning to its end; nothing may be left to do."""
    loop = VirtualLoop()
    loop.world = world = World(loop, seed)

    async def live() -> None:
        await scenario(world)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, f"tasks are left: {others}"

    try:
        loop.run_until_complete(live())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    return world


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the sockets and clocks of clients and adapters those of the running world."""

    async def connect(factory: Callable[[], Any], path: str) -> Any:
        return await _world().connect(factory)

    async def ensure(*args: Any, **options: Any) -> DaemonInfo:
        return await _world().ensure()

    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    clock = SimpleNamespace(monotonic=monotonic)
    monkeypatch.setattr("mock_mcp.client.engine.connect_ipc", connect)
    monkeypatch.setattr("mock_mcp.client.engine.ensure_daemon_running_async", ensure)
    monkeypatch.setattr("mock_mcp.control.client.connect_ipc", connect)
    monkeypatch.setattr("mock_mcp.client.engine.monotonic", monotonic)
    for module in ("serving.claims", "serving.router"):
        monkeypatch.setattr(f"mock_mcp.{module}.time", clock)
