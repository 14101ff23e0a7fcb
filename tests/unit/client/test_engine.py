"""What is asked of an engine around its end is told so; a daemon is not needed for it."""

from __future__ import annotations

import math
import threading

import msgspec
import pytest

from mock_mcp.client.engine import Engine, Settings
from mock_mcp.client.session import Ticket
from mock_mcp.errors import ClientClosed


def ticket(request_id: str) -> Ticket:
    return Ticket(request_id, f"GET /{request_id}", msgspec.Raw(b"{}"), None)


class Ended(Engine):
    """An engine that ends at once, and is asked for something when its loop has stopped."""

    late: Ticket

    async def _main(self) -> None:
        """End; the lock is asked for next when the inbox is closed."""
        self._lock = _Submitting(self)


class _Submitting:
    """A lock under which, the first time, a request comes in before the one who asked for it."""

    def __init__(self, engine: Ended) -> None:
        self._engine = engine
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        engine, lock = self._engine, self._lock
        engine._lock = lock
        engine.submit([engine.late], 0.0)
        lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.fixture
def ended():
    engine = Ended(Settings(run_id="r"))
    engine.late = ticket("late")
    engine.start()
    engine._stopped.result(10)
    return engine


def test_what_comes_when_the_loop_has_stopped_is_told(ended):
    assert isinstance(ended.late.outcome, ClientClosed)


def test_what_comes_after_the_end_is_told(ended):
    after = ticket("after")
    ended.submit([after], 0.0)
    assert isinstance(after.outcome, ClientClosed)


def test_who_watches_after_the_end_is_told(ended):
    told: list[object] = []
    ended.watch(ended.late, told.append)
    assert [type(each) for each in told] == [ClientClosed]


def test_stopping_twice_is_harmless(ended):
    assert ended.stop().result(10) is None
    assert ended.stop().result(10) is None


def test_what_is_cancelled_before_it_comes_is_not_asked_for():
    engine = Engine(Settings(run_id="r", timeout_s=None))
    early = ticket("early")
    early.timeout_s = 60.0
    engine._cancel(early)
    engine._add(0.0, early, 0.0)
    assert engine._batching.take() == []
    assert engine._alarm.moment == math.inf
    engine._loop.close()
