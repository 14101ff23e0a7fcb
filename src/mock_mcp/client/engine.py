"""The client's I/O thread: one event loop of its own that no test can block.

Tests run in threads and event loops of any kind, and an intercepted blocking call may hold the
caller's loop. So the connection lives on a daemon thread: requests come in thread-safely, answers
go out as futures, and one implementation serves the async and the sync API.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import itertools
import logging
import math
import os
import secrets
import signal
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from mock_mcp.client.session import Session, Ticket, Watcher
from mock_mcp.clock import monotonic, new_event_loop
from mock_mcp.core.batching import Batching
from mock_mcp.errors import (
    ClientClosed,
    DaemonUnreachable,
    InvalidParams,
    LimitExceeded,
    MockMcpError,
    RequestTimeout,
    RunReplaced,
    Unauthorized,
)
from mock_mcp.limits import Limits
from mock_mcp.runtime.alarm import Alarm
from mock_mcp.runtime.ipc import connect_ipc
from mock_mcp.runtime.launch import ensure_daemon_running_async
from mock_mcp.runtime.project import display_path
from mock_mcp.runtime.websocket import WebSocketLink
from mock_mcp.types import Mock, TestMeta
from mock_mcp.wire.channel import CloseReason, Heartbeat, encode_message

__all__ = ["Engine", "Settings", "is_duration", "resolve"]

_URI = parse_uri("ws://mock-mcp/test")
_RETRY_S = (0.02, 1.0)
"""Pause before the first and the last retries of a reconnect; it doubles between them."""
_CLOSE_S = 1.0
"""How long closing waits for the daemon to take the last frames."""
_EXPIRE_S = 0.005
"""How often the client looks, at most, for requests that have waited too long: through all."""
_LONGEST_S = 1e9
_CLEAN = (1000, 1001)
_TOO_BIG = 1009
_REFUSED = 1008


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a client behaves; see `mock_mcp.connect` for the fields."""

    run_id: str
    project_root: str | os.PathLike[str] | None = None
    file_path: str | os.PathLike[str] | None = None
    test_name: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    timeout_s: float | None = 60.0
    connect_timeout_s: float = 15.0
    heartbeat_s: float | None = 15.0
    debounce_s: float | None = None
    max_batch_size: int = 50
    limits: Limits = Limits()
    logger: logging.Logger = logging.getLogger("mock_mcp.client")


class Engine:
    """Keep one run connected and carry its requests.

    Every public method may be called from any thread.

    Args:
        settings: How the client behaves.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pid = os.getpid()
        self._logger = settings.logger
        self._thread = threading.Thread(target=self._run, name="mock-mcp-client", daemon=True)
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._stopped: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._lock = threading.Lock()  # guards the inbox and its end
        self._inbox: list[tuple[list[Ticket], float]] | None = []
        self._request_numbers = itertools.count(1)
        # Everything below belongs to the thread.
        self._failure: MockMcpError | None = None
        self._last_error: Exception | None = None
        self._batching: Batching[Ticket] = Batching(settings.max_batch_size)
        self._flush_timer: asyncio.TimerHandle | None = None
        self._settled: list[Ticket] = []  # their coroutines are woken at the end of this turn
        self._is_receiving = False
        self._delayed: set[Ticket] = set()  # answered, and held back for their delay
        self._link: WebSocketLink | None = None
        self._latest: WebSocketLink | None = None  # attached or not
        self._wanted = asyncio.Event()
        self._closing = asyncio.Event()
        self._session = Session(
            settings.run_id,
            pid=self.pid,
            cwd=_absolute(""),
            test_meta=_test_meta(settings),
            limits=settings.limits,
            on_answer=self._answer,
            on_failure=self._fail,
            on_error=lambda text: self._logger.warning("the daemon reported: %s", text),
            # Rises with every attempt, and over the clients that use this run id in turn, whatever
            # happens to the wall clock: processes of one machine share the monotonic one.
            first_session=int(monotonic() * 1000),
            # A daemon may still keep what another client of this run asked for.
            batch_prefix=f"{secrets.token_hex(3)}-",
        )
        self._loop = new_event_loop()
        self._alarm = Alarm(self._expire, self._loop.time)

    # -- What other threads call -----------------------------------------------------------------

    def start(self) -> concurrent.futures.Future[None]:
        """Connect, starting the daemon if none runs; the future says when, or why not.

        Raises:
            RuntimeError: The process may have no more threads; the engine has ended.
        """
        try:
            self._thread.start()
        except RuntimeError:
            self._inbox = None
            self._loop.close()
            self._stopped.set_result(None)
            raise
        _engines.add(self)
        return self._started

    def next_request_id(self) -> str:
        """Return a request id that is unique in this run."""
        return f"r{next(self._request_numbers)}"

    @property
    def corrected(self) -> int:
        """How many batches were answered after the contract gate had refused an answer."""
        return self._session.corrected

    def submit(self, tickets: list[Ticket], debounce_s: float) -> None:
        """Queue requests; they leave together with others within ``debounce_s``."""
        with self._lock:
            if self._inbox is not None:
                if not self._inbox:  # before it is filled: an interrupt may come between the two
                    self._loop.call_soon_threadsafe(self._take_inbox)
                self._inbox.append((tickets, debounce_s))
                return
        for ticket in tickets:  # the engine's thread has ended, or will not look at them
            ticket.settle(_closed())
            if ticket.loop is not None:
                _wake_in(ticket.loop, [ticket])

    def watch(self, ticket: Ticket, watcher: Watcher) -> None:
        """Have somebody told the outcome of a ticket for which somebody else waits."""
        if not self._call(ticket.watch, watcher):
            ticket.watch(watcher)

    def cancel(self, ticket: Ticket) -> None:
        """Stop waiting for a request, here and at the daemon."""
        self._call(self._cancel, ticket)

    def stop(self) -> concurrent.futures.Future[None]:
        """Fail what waits and disconnect; the future says when the thread is done."""
        if os.getpid() != self.pid:  # the thread and its connection are the parent's
            done: concurrent.futures.Future[None] = concurrent.futures.Future()
            done.set_result(None)
            return done
        _engines.discard(self)
        self._call(self._closing.set)
        return self._stopped

    def leave_to_parent(self) -> None:
        """Let go, in a fork, of the connection: a run ends with its process, not with its forks."""
        self._lock = threading.Lock()  # a thread that is not here may have held it
        if self._latest is not None:
            self._latest.leave_to_parent()

    def _call(self, function: Callable[..., None], *args: Any) -> bool:
        """Have the thread do something; tell whether it will, or has ended, with all settled."""
        with self._lock:
            if self._inbox is None:
                return False
            self._loop.call_soon_threadsafe(function, *args)
            return True

    # -- The thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):  # Ctrl-C is the main thread's
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as exc:
            self._logger.exception("the client's thread failed")
            self._give_up(DaemonUnreachable(f"The client failed: {exc!r}"))
        finally:
            with self._lock:
                inbox, self._inbox = self._inbox or [], None
            for tickets, _ in inbox:
                for ticket in tickets:
                    self._fail(ticket, _closed())
            self._give_up(_closed())  # what is held back too: no timer will end its delay
            self._loop.run_until_complete(asyncio.sleep(0))  # what was called last
            self._loop.close()
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                self._stopped.set_result(None)

    async def _main(self) -> None:
        closing = self._loop.create_task(self._closing.wait())
        heartbeat = self._loop.create_task(self._beat())
        connected = self._loop.create_task(self._keep_connected())
        try:
            await asyncio.wait({closing, connected}, return_when=asyncio.FIRST_COMPLETED)
            if connected.done() and isinstance(error := connected.exception(), MockMcpError):
                self._give_up(error)
                await closing  # what is asked from now on fails with the same error
            elif connected.done() and error is not None:
                raise error
        finally:
            tasks = {closing, heartbeat, connected}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self._give_up(_closed())
        await self._disconnect()

    async def _keep_connected(self) -> None:
        """Connect, and again whenever the connection is lost.

        Raises:
            MockMcpError: The client cannot go on.
        """
        timeout_s = self.settings.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect_until_ready()
        except TimeoutError:
            why = f" The last attempt: {self._last_error}" if self._last_error else ""
            raise DaemonUnreachable(
                f"No daemon was ready within {timeout_s:g} s (connect_timeout_s); "
                f"`mock-mcp status` says what runs.{why}"
            ) from None
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # nobody waits for it
            self._started.set_result(None)
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._failure is not None:
                raise self._failure
            if self._link is None:
                await self._connect_until_ready()

    async def _connect_until_ready(self) -> None:
        """Connect, with retries for as long as there is reason to hope."""
        pause_s, last_s = _RETRY_S
        while True:
            try:
                await self._connect()
            except (DaemonUnreachable, Unauthorized, OSError) as exc:
                # Down, just stopping, or replaced by another one whose token is in the registry;
                # or this process has no descriptor left for now.
                self._last_error = exc
                self._logger.debug("connecting again in %g s: %s", pause_s, exc)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, last_s)
            else:
                return

    async def _connect(self) -> None:
        settings = self.settings
        info = await ensure_daemon_running_async(
            settings.project_root,
            file_path=settings.file_path,
            cache_dir=settings.cache_dir,
            timeout_s=settings.connect_timeout_s,
            logger=self._logger,
        )
        connection = _Connection(self, info.token)
        protocol = ClientProtocol(_URI, max_size=settings.limits.frame_bytes)
        protocol.send_request(protocol.connect())
        link = WebSocketLink(
            protocol,
            connection,
            write_buffer_bytes=None,  # what waits is the test's own, and the daemon will read it
            close_timeout_s=_CLOSE_S,
        )
        connection.link = self._latest = link
        await connect_ipc(lambda: link, info.ipc_path)
        try:
            await connection.attached
        except BaseException:
            link.abort()
            raise

    # -- What the connection reports, on the thread ------------------------------------------------

    def hello(self, token: str) -> bytes:
        """Return the first frame of a connection."""
        return self._session.hello(token)

    def receive(self, text: bytes) -> list[bytes]:
        """Take one frame; return the frames to send before `received` is called.

        Raises:
            MockMcpError: As `Session.receive`.
        """
        self._is_receiving = True
        return self._session.receive(text)

    def received(self) -> None:
        """Wake those who got an answer.

        Last of all: who is woken and this thread would take the interpreter's lock from each other.
        """
        self._is_receiving = False
        self._wake()

    @property
    def is_attached(self) -> bool:
        """Tell whether the daemon has answered this connection's hello."""
        return self._session.ready

    def ready(self, link: WebSocketLink) -> None:
        """Use a connection from now on."""
        self._link = link

    def lost(self, link: WebSocketLink, code: int, error: MockMcpError | None) -> None:
        """Note that an attached connection ended, for good if there is an error."""
        if link is not self._link:
            return
        self._link = None
        self._session.lost()
        if error is not None:
            self._give_up(error)
        # A daemon that was stopped on purpose is started again only if something waits for it.
        if error is not None or self._session.waits or code not in _CLEAN:
            self._wanted.set()

    async def _beat(self) -> None:
        if self.settings.heartbeat_s is None:
            return
        message = encode_message(Heartbeat(self.settings.run_id))
        while True:
            await asyncio.sleep(self.settings.heartbeat_s)
            self._send([message])

    def _give_up(self, error: MockMcpError) -> None:
        """Fail everything that waits, and from now on everything that is asked."""
        self._failure = error
        for group in self._batching.take():
            for ticket in group:
                self._fail(ticket, error)
        self._session.fail_all(error)
        if isinstance(error, ClientClosed):  # any other end leaves an answer that is there
            for ticket in list(self._delayed):
                self._fail(ticket, error)
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            self._started.set_exception(error)

    async def _disconnect(self) -> None:
        link = self._link
        await asyncio.sleep(0)  # a connection that was aborted meanwhile is closed by now
        if link is not None and link.is_open:
            lost = asyncio.Event()
            link.when_lost(lost.set)
            link.close(1000)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await lost.wait()
            link.abort()

    # -- Requests, on the thread -----------------------------------------------------------------

    def _take_inbox(self) -> None:
        with self._lock:
            if self._inbox is None:  # the end came first, and has settled what was in it
                return
            inbox, self._inbox = self._inbox, []
        now = self._loop.time()
        for tickets, debounce_s in inbox:
            for ticket in tickets:
                self._add(now, ticket, debounce_s)
            due_at = self._batching.due_at
            if due_at is not None and due_at <= now:
                self._flush()
            elif due_at is not None and self._flush_timer is None:
                self._flush_timer = self._loop.call_at(due_at, self._flush)

    def _add(self, now: float, ticket: Ticket, debounce_s: float) -> None:
        if ticket.outcome is not None:  # cancelled before it came here
            return
        if self._failure is not None:
            self._fail(ticket, self._failure)
            return
        if ticket.timeout_s is not None:
            ticket.deadline = now + ticket.timeout_s
            self._alarm.by(ticket.deadline)
        self._batching.add(now, ticket, debounce_s)

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        for group in self._batching.take():
            self._send(self._session.submit(group))
        if self._link is None:
            self._wanted.set()

    def _send(self, frames: list[bytes]) -> None:
        for frame in frames:
            if self._link is not None:
                self._link.send_text(frame)

    def _expire(self) -> None:
        """Fail what has waited too long."""
        now = self._loop.time()
        earliest = math.inf
        for ticket in [*self._batching, *self._session.waiting]:
            if ticket.deadline <= now:
                self._withdraw(ticket)
                self._fail(ticket, _timeout(ticket))
            else:
                earliest = min(earliest, ticket.deadline)
        self._alarm.by(max(earliest, now + _EXPIRE_S))

    def _cancel(self, ticket: Ticket) -> None:
        self._withdraw(ticket)
        self._settle(ticket, concurrent.futures.CancelledError())

    def _withdraw(self, ticket: Ticket) -> None:
        if not self._batching.discard(ticket):
            self._send(self._session.cancel(ticket))

    def _answer(self, ticket: Ticket, mock: Mock) -> None:
        if mock.delay_ms and not ticket.keep_delay:
            self._delayed.add(ticket)
            self._loop.call_later(mock.delay_ms / 1000, self._settle, ticket, mock)
        else:
            self._settle(ticket, mock)

    def _fail(self, ticket: Ticket, error: MockMcpError) -> None:
        # Each gets an exception of its own: raising one adds a traceback to it.
        self._settle(ticket, type(error)(error.message))

    def _settle(self, ticket: Ticket, outcome: Mock | BaseException) -> None:
        if ticket.outcome is not None:
            return
        self._delayed.discard(ticket)
        ticket.settle(outcome)
        if ticket.loop is not None:
            if not self._settled and not self._is_receiving:
                self._loop.call_soon(self._wake)
            self._settled.append(ticket)

    def _wake(self) -> None:
        """Wake the coroutines that wait, those of one loop together: waking is what costs."""
        settled, self._settled = self._settled, []
        by_loop: dict[asyncio.AbstractEventLoop, list[Ticket]] = {}
        for ticket in settled:
            assert ticket.loop is not None
            by_loop.setdefault(ticket.loop, []).append(ticket)
        for loop, tickets in by_loop.items():
            _wake_in(loop, tickets)


class _Connection:
    """Carry the session over one WebSocket, and judge how it ended."""

    def __init__(self, engine: Engine, token: str) -> None:
        self.link: WebSocketLink | None = None
        self.attached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._engine = engine
        self._token = token
        self._failure: MockMcpError | None = None

    def on_open(self) -> None:
        assert self.link is not None
        self.link.send_text(self._engine.hello(self._token))

    def on_text(self, text: bytes) -> None:
        assert self.link is not None
        try:
            frames = self._engine.receive(text)
            if self._engine.is_attached and not self.attached.done():
                self.attached.set_result(None)
                self._engine.ready(self.link)
            for frame in frames:
                self.link.send_text(frame)
        except MockMcpError as exc:
            self._failure = exc
            self.link.abort()
        finally:
            self._engine.received()

    def on_binary(self) -> None:
        """Ignore it: the daemon sends none."""

    def on_ping(self) -> None:
        """Nothing to note: the pong is the answer."""

    def on_closed(self, code: int, reason: str) -> None:
        assert self.link is not None
        error = self._failure
        if error is None and code == CloseReason.REPLACED[0]:
            error = RunReplaced(
                "Another client took over this run (same run id); this one stays closed."
            )
        elif error is None and code == _TOO_BIG:
            error = LimitExceeded("The daemon refused a frame as too large (limit frame_bytes).")
        if self.attached.done():
            self._engine.lost(self.link, code, error)
        else:
            self.attached.set_exception(error or _refusal(code, reason))
            self.attached.exception()  # retrieved, in case nobody waits any more


def is_duration(value: object) -> bool:
    """Tell whether somebody can wait that many seconds: clocks cannot add any number."""
    return isinstance(value, int | float) and 0 < value <= _LONGEST_S


def _test_meta(settings: Settings) -> TestMeta | None:
    path = settings.file_path
    meta = TestMeta(None if path is None else _absolute(path), settings.test_name)
    return None if meta == TestMeta() else meta


def _absolute(path: str | os.PathLike[str]) -> str:
    """Return a path from the root, as far as there is a working directory it may be relative to."""
    try:
        return display_path(Path(path).absolute())
    except OSError:  # it was deleted
        return display_path(path)


def _refusal(code: int, reason: str) -> MockMcpError:
    if (code, reason) == CloseReason.INVALID_TOKEN:
        return Unauthorized("The daemon does not know this token; its registry is older than it.")
    if code == _REFUSED and (code, reason) != CloseReason.HELLO_TIMEOUT:
        return InvalidParams(f"The daemon refused this client: {reason}.")
    return DaemonUnreachable(
        f"The daemon closed the connection before it was ready ({code} {reason or 'no reason'})."
    )


def _closed() -> ClientClosed:
    return ClientClosed(
        "The client is closed; a request must be answered before close(), "
        "wait_for_pending_requests() waits for it."
    )


def _wake_in(loop: asyncio.AbstractEventLoop, tickets: list[Ticket]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(_resolve_waiters, tickets)


def _resolve_waiters(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        if ticket.waiter is not None and ticket.outcome is not None:
            resolve(ticket.waiter, ticket.outcome)


def resolve(waiter: asyncio.Future[Mock], outcome: Mock | BaseException) -> None:
    """Give a future, in its loop, an outcome; one that is done keeps its own."""
    if waiter.done():
        return
    if isinstance(outcome, Mock):
        waiter.set_result(outcome)
    elif isinstance(outcome, concurrent.futures.CancelledError):
        waiter.cancel()
    else:
        waiter.set_exception(outcome)


def _timeout(ticket: Ticket) -> RequestTimeout:
    return RequestTimeout(
        f"Nobody answered {ticket.name} within {ticket.timeout_s:g} s (timeout_s). Is an "
        "assistant connected and asked to serve mocks? `mock-mcp doctor` checks what it "
        "needs, `mock-mcp answer` answers by hand."
    )


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _stop_engines() -> None:
    """Say goodbye when the interpreter exits, so that the daemon forgets the runs at once."""
    for stopped in [engine.stop() for engine in list(_engines)]:
        with contextlib.suppress(concurrent.futures.TimeoutError):
            stopped.result(_CLOSE_S)


def _leave_to_parent() -> None:
    for engine in list(_engines):
        engine.leave_to_parent()
    _engines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
