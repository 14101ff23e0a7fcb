"""The hub: the broker with a clock, timers, and the people who wait for it.

Every shell of the daemon (a test's connection, a control call, a timer) changes the broker through
here and then calls `settle`, which turns the broker's effects into messages, wakes those who wait,
writes the batch log and sets the timer for the next deadline.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar
from typing import Protocol as Interface

from mock_mcp.core.broker import ACK, Broker
from mock_mcp.core.effects import (
    Acknowledged,
    Cancelled,
    Delivered,
    Effect,
    Expired,
    Failed,
    Released,
    Replaced,
    RunEnded,
    Submitted,
)
from mock_mcp.daemon.batch_log import BatchLog
from mock_mcp.daemon.events import RecentEvents
from mock_mcp.daemon.pending import Pending
from mock_mcp.daemon.used import UsedByRun
from mock_mcp.errors import MockMcpError
from mock_mcp.limits import Limits
from mock_mcp.runtime.alarm import Alarm
from mock_mcp.types import Mock

__all__ = ["Clock", "Hub", "Peer"]

T = TypeVar("T")

_WALL_JUMP_S = 0.5
"""A difference between the clocks that is not just the time between reading them."""


class Clock:
    """Monotonic seconds for decisions, Unix milliseconds for people.

    The difference between the two is kept, so that a moment always reads the same, and taken anew
    when the wall clock was set.

    Args:
        monotonic: Returns seconds; never goes back.
        wall: Returns Unix seconds; may jump.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.now = monotonic
        self._wall = wall
        self._offset_s = wall() - monotonic()

    def unix_ms(self, moment: float) -> int:
        """Convert a moment of the monotonic clock to Unix milliseconds, as the wall stands now."""
        offset_s = self._wall() - self.now()
        if abs(offset_s - self._offset_s) > _WALL_JUMP_S:
            self._offset_s = offset_s
        return round((self._offset_s + moment) * 1000)

    def iso(self, moment: float) -> str:
        """Convert a moment of the monotonic clock to ISO 8601 in UTC."""
        when = datetime.datetime.fromtimestamp(self.unix_ms(moment) / 1000, datetime.UTC)
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Peer(Interface):
    """A connected test, as the hub sees it."""

    connection_id: int

    def deliver(self, batch_id: str, mocks: tuple[Mock, ...], rejections: int) -> bool:
        """Send a result; return whether the connection took it."""

    def fail(self, batch_id: str, error: MockMcpError) -> None:
        """Tell the test that a batch ended without an answer."""

    def replaced(self) -> None:
        """Close: a newer session of the run is live."""


class Hub:
    """Connect the broker to the outside.

    Args:
        limits: The daemon's limits.
        clock: Where time comes from.
        batch_log: Where batches are written, or None.
        logger: Where the daemon logs.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        clock: Clock | None = None,
        batch_log: BatchLog | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.limits = limits
        self.used = UsedByRun(limits)
        self.events = RecentEvents(limits.recent_events)
        self.clock = clock or Clock()
        self.broker = Broker(limits)
        self.logger = logger or logging.getLogger(__name__)
        self.idle_since: float | None = self.clock.now()
        self.batch_log = batch_log
        self._watching: set[Pending[None]] = set()
        self._peers: dict[str, Peer] = {}
        self._connections = 0
        self._waiting: dict[Pending[Any], tuple[str | None, Callable[[], Any], Any]] = {}
        self._woken: set[str] = set()
        self._acks: dict[str, list[Pending[bool]]] = {}
        self._closed = False
        self._alarm = Alarm(self._expire, self.clock.now)

    def next_connection_id(self) -> int:
        """Return an id for a new connection."""
        self._connections += 1
        return self._connections

    def attach(self, run_id: str, peer: Peer) -> None:
        """Note the live connection of a run, before `settle`."""
        self._peers[run_id] = peer
        self.idle_since = None

    def detach(self, run_id: str, peer: Peer) -> None:
        """Forget a connection that closed, unless a newer one took its place."""
        if self._peers.get(run_id) is peer:
            del self._peers[run_id]

    def close(self) -> None:
        """Stop the timer and free those who wait for something to happen.

        Who waits for an acknowledgement gets no answer, as from a daemon that was killed: what the
        test does not have yet is gone with this one.
        """
        self._closed = True
        self._alarm.cancel()
        for pending, (_, _, otherwise) in list(self._waiting.items()):
            pending.resolve(otherwise)
        for watching in list(self._watching):
            watching.resolve(None)

    # -- Waiting -----------------------------------------------------------------------------

    def when_claimable(
        self, run_id: str | None, wait_s: float, attempt: Callable[[], T | None], otherwise: T
    ) -> Pending[T]:
        """Attempt something whenever a batch (of the run) becomes claimable, until it succeeds.

        Those who wait are served in the order they came.

        Args:
            run_id: Only batches of this run.
            wait_s: How long to go on; then the outcome is ``otherwise``.
            attempt: Returns the outcome, or None if somebody else was faster.
            otherwise: The outcome when the time is up or the daemon stops.
        """

        def forget() -> None:
            del self._waiting[pending]

        pending: Pending[T] = Pending(forget)
        self._waiting[pending] = run_id, attempt, otherwise
        return self._at_most(wait_s, pending, otherwise)

    def when_event(self, wait_s: float) -> Pending[None]:
        """Wait until something happens, or the time is up."""
        pending: Pending[None] = Pending(lambda: self._watching.discard(pending))
        self._watching.add(pending)
        return self._at_most(wait_s, pending, None)

    def settle_delivery(self, batch_id: str) -> Pending[bool]:
        """Settle after a batch was provided; the outcome says whether its test has the result.

        It is False after the limit ``ack_timeout_s``.
        """
        waiters = self._acks.setdefault(batch_id, [])
        pending: Pending[bool] = Pending(lambda: self._stop_waiting(batch_id, pending))
        waiters.append(pending)
        self.settle()
        if not self.broker.is_live(batch_id):  # answered before, or just now without an ack
            self._resolve_acks(batch_id, delivered=self.broker.was_delivered(batch_id))
        if not pending.done:
            pending.resolve_in(self.limits.ack_timeout_s, otherwise=False)
        return pending

    def _at_most(self, wait_s: float, pending: Pending[T], otherwise: T) -> Pending[T]:
        if self._closed:
            pending.resolve(otherwise)
        else:
            pending.resolve_in(wait_s, otherwise)
        return pending

    # -- Effects -----------------------------------------------------------------------------

    def settle(self) -> None:
        """Carry out the broker's effects and set the timer for its next deadline."""
        while effects := self.broker.take_effects():  # those who are woken make new ones
            for effect in effects:
                if self.batch_log is not None:
                    self.batch_log.write(self.clock, self.broker, effect)
                self.events.note(self.clock.now(), effect)
                self._apply(effect)
            self._serve_waiting()
            for watching in list(self._watching):
                watching.resolve(None)
        if not self.broker.runs and self.idle_since is None:
            self.idle_since = self.clock.now()
        deadline = self.broker.next_deadline()
        if deadline is not None and deadline < self._alarm.moment:  # seldom
            self._alarm.by(deadline)

    def expire(self) -> None:
        """Do now what is due, however late the timer is: nothing is due before it."""
        if self._alarm.moment <= self.clock.now():
            self._expire()

    def _expire(self) -> None:
        self.broker.expire(self.clock.now())
        self.settle()

    def _apply(self, effect: Effect) -> None:
        peer = self._peers.get(effect.run_id)
        match effect:
            case Submitted() | Released() | Expired():
                self._woken.add(effect.run_id)
            case Delivered():
                sent = peer is not None and peer.deliver(
                    effect.batch_id, effect.mocks, effect.rejections
                )
                run = self.broker.runs.get(effect.run_id)
                if run is None or ACK not in run.capabilities:
                    self._resolve_acks(effect.batch_id, delivered=sent)
            case Acknowledged():
                self._resolve_acks(effect.batch_id, delivered=True)
            case Failed():
                if peer is not None:
                    peer.fail(effect.batch_id, effect.error)
            case Cancelled(whole=True):
                self._resolve_acks(effect.batch_id, delivered=False)
            case Replaced():
                if peer is not None and peer.connection_id == effect.connection_id:
                    del self._peers[effect.run_id]
                    peer.replaced()
            case RunEnded():
                self.used.forget(effect.run_id)
                self._peers.pop(effect.run_id, None)
            case _:
                pass

    def _serve_waiting(self) -> None:
        """Let those who wait for the woken runs try; what they do is settled by the caller."""
        woken, self._woken = self._woken, set()
        if not woken:
            return
        for pending, (wanted, attempt, _) in list(self._waiting.items()):
            if wanted is None or wanted in woken:
                outcome = attempt()
                if outcome is not None:
                    pending.resolve(outcome)

    def _resolve_acks(self, batch_id: str, *, delivered: bool) -> None:
        for pending in self._acks.pop(batch_id, ()):
            pending.resolve(delivered)

    def _stop_waiting(self, batch_id: str, pending: Pending[bool]) -> None:
        waiters = self._acks.get(batch_id)
        if waiters is not None:
            waiters.remove(pending)
            if not waiters:
                del self._acks[batch_id]
