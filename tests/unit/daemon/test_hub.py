"""The hub: who waits is told at the right moment, exactly once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mock_mcp.core.broker import Status
from mock_mcp.daemon.hub import Clock, Hub
from mock_mcp.daemon.pending import Pending
from mock_mcp.errors import MockMcpError
from mock_mcp.limits import Limits
from mock_mcp.types import Mock, MockRequest

pytestmark = pytest.mark.asyncio


class Peer:
    def __init__(self, connection_id: int = 1, *, takes: bool = True) -> None:
        self.connection_id = connection_id
        self.takes = takes
        self.told: list[Any] = []

    def deliver(self, batch_id: str, mocks: tuple[Mock, ...], rejections: int) -> bool:
        self.told.append(("result", batch_id, mocks))
        return self.takes

    def fail(self, batch_id: str, error: MockMcpError) -> None:
        self.told.append(("error", batch_id, error.code))

    def replaced(self) -> None:
        self.told.append("replaced")


def with_run(hub: Hub, *capabilities: str, connection_id: int = 1, **peer: Any) -> Peer:
    attached = Peer(connection_id, **peer)
    hub.broker.open_run(hub.clock.now(), "run", connection_id, capabilities=capabilities)
    hub.settle()
    hub.attach("run", attached)
    return attached


def submit(hub: Hub, run_id: str = "run") -> str:
    request = MockRequest("a", "/", "GET", msgspec.Raw(b'{"requestId":"a"}'))
    batch = hub.broker.submit(hub.clock.now(), run_id, [request])
    hub.settle()
    return batch.id


def claim(hub: Hub, token: str = "token") -> None:
    assert hub.broker.claim(hub.clock.now(), "adapter", 30, token)
    hub.settle()


def provide(hub: Hub, batch_id: str) -> Pending[bool]:
    hub.broker.provide(hub.clock.now(), "adapter", batch_id, "token", [Mock("a", 1)])
    return hub.settle_delivery(batch_id)


@pytest.fixture
def hub() -> Hub:
    return Hub(Limits(ack_timeout_s=0.02))


def waiting(hub: Hub, run_id: str | None = None) -> Pending[str]:
    """Wait for something to claim, as `waitForBatch` does."""
    return hub.when_claimable(
        run_id, 60, lambda: "found" if hub.broker.claimable(run_id)[0] else None, "nothing"
    )


def claiming(hub: Hub, token: str) -> Pending[str]:
    """Wait for a claim, as `claimNextBatch` with ``waitMs`` does."""

    def attempt() -> str | None:
        batch = hub.broker.claim(hub.clock.now(), token, 30, token)
        return batch and batch.id

    return hub.when_claimable(None, 60, attempt, "nothing")


async def test_waiting_ends_with_a_submission(hub: Hub) -> None:
    with_run(hub)
    wait = waiting(hub)
    assert not wait.done
    submit(hub)
    assert wait.result() == "found"
    hub.close()


async def test_those_who_wait_to_claim_are_served_in_order(hub: Hub) -> None:
    with_run(hub)
    first, second, third = claiming(hub, "a"), claiming(hub, "b"), waiting(hub)
    ids = [submit(hub)]
    assert first.result() == ids[0]
    assert not second.done, "nothing is left for it"
    assert not third.done, "nothing is claimable and the time is not up"
    ids.append(submit(hub))
    assert second.result() == ids[1]
    assert hub.broker.claimed == 2
    hub.close()


async def test_who_stopped_waiting_is_given_no_claim(hub: Hub) -> None:
    with_run(hub)
    gone = claiming(hub, "a")
    gone.cancel()
    submit(hub)
    assert hub.broker.claimed == 0
    hub.close()


async def test_waiting_for_a_run_ignores_others(hub: Hub) -> None:
    with_run(hub)
    wait = waiting(hub, "another")
    submit(hub)
    assert not wait.done
    hub.close()
    assert wait.result() == "nothing"
    assert waiting(hub, "another").result() == "nothing", "a closed hub keeps nobody"


async def test_waiting_ends_when_the_time_is_up(hub: Hub) -> None:
    wait = hub.when_claimable(None, 0.01, lambda: None, "nothing")
    assert await wait.wait() == "nothing"
    hub.close()


async def test_an_expired_lease_wakes_by_the_timer(hub: Hub) -> None:
    with_run(hub)
    submit(hub)
    assert hub.broker.claim(hub.clock.now(), "adapter", 0.01, "token")
    hub.settle()
    assert await waiting(hub).wait() == "found"
    hub.close()


async def test_without_ack_a_written_result_is_delivered(hub: Hub) -> None:
    peer = with_run(hub)
    batch_id = submit(hub)
    claim(hub)
    assert await provide(hub, batch_id).wait()
    assert peer.told == [("result", batch_id, (Mock("a", 1),))]
    hub.close()


async def test_without_ack_what_was_not_written_is_not_delivered(hub: Hub) -> None:
    with_run(hub, takes=False)
    batch_id = submit(hub)
    claim(hub)
    assert not await provide(hub, batch_id).wait()
    hub.close()


async def test_with_ack_it_waits_for_the_acknowledgement(hub: Hub) -> None:
    with_run(hub, "ack")
    batch_id = submit(hub)
    claim(hub)
    waiter = provide(hub, batch_id)
    again = provide(hub, batch_id)
    assert not waiter.done
    hub.broker.acknowledge("run", batch_id)
    hub.settle()
    assert await waiter.wait()
    assert await again.wait()
    hub.close()


async def test_the_acknowledgement_may_stay_away(hub: Hub) -> None:
    with_run(hub, "ack")
    batch_id = submit(hub)
    claim(hub)
    assert not await provide(hub, batch_id).wait()
    assert hub.broker.batch(batch_id).status is Status.FULFILLED
    hub.close()


async def test_the_older_connection_is_told_and_forgotten(hub: Hub) -> None:
    older = with_run(hub, connection_id=1)
    newer = with_run(hub, connection_id=2)
    assert older.told == ["replaced"]
    hub.detach("run", older)  # type: ignore[arg-type]
    assert list(hub._peers.values()) == [newer]
    hub.close()


async def test_idle_counts_from_the_end_of_the_last_run() -> None:
    now = [100.0]
    hub = Hub(Limits(), clock=Clock(lambda: now[0]))
    assert hub.idle_since == 100
    with_run(hub)
    assert hub.idle_since is None
    now[0] = 500
    hub.broker.close_run(now[0], "run", 1, clean=True)
    hub.settle()
    assert hub.idle_since == 500
    hub.close()


async def test_the_clock_shows_the_wall_and_decides_by_the_monotonic() -> None:
    wall = [1_000_000.0]
    clock = Clock(lambda: 50.0, lambda: wall[0])
    assert clock.unix_ms(50) == 1_000_000_000
    assert clock.unix_ms(51.5) == 1_000_001_500
    assert clock.iso(50) == "1970-01-12T13:46:40.000Z"
    wall[0] += 3600  # the wall clock was set: only what is shown changes
    assert clock.now() == 50.0
