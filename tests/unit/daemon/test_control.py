"""What a call leaves behind, and what a claim says; the rest is tested over a real socket."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

import msgspec
import pytest

from mock_mcp.daemon.control import Control
from mock_mcp.daemon.gate import GateResult
from mock_mcp.daemon.hub import Hub
from mock_mcp.daemon.pending import Pending
from mock_mcp.limits import Limits
from mock_mcp.types import Mock, MockRequest, UsedValues, Violation
from mock_mcp.wire import control as wire

pytestmark = pytest.mark.asyncio


class NoGate:
    """No contract applies to anything."""

    def applies(self, requests: object) -> bool:
        return False


class SlowGate:
    """A check that ends when the test says."""

    def __init__(self) -> None:
        self.checked: concurrent.futures.Future[GateResult] = concurrent.futures.Future()

    def applies(self, requests: object) -> bool:
        return True

    def submit(self, *_: object) -> concurrent.futures.Future[GateResult]:
        return self.checked


@pytest.fixture
def hub() -> Hub:
    return Hub(Limits())


@pytest.fixture
def control(hub: Hub) -> Control:
    return Control(hub, None, NoGate())  # type: ignore[arg-type]


def submit(hub: Hub) -> str:
    if "run" not in hub.broker.runs:
        hub.broker.open_run(hub.clock.now(), "run", 1)
    request = MockRequest("a", "/users", "POST", msgspec.Raw(b'{"requestId":"a"}'))
    batch_id = hub.broker.submit(hub.clock.now(), "run", [request]).id
    hub.settle()
    return batch_id


def claim(control: Control) -> dict[str, Any]:
    claimed = control.call(wire.ClaimNextBatch("me"))
    assert isinstance(claimed, dict)
    return claimed


async def test_who_stopped_waiting_for_events_is_forgotten(hub: Hub, control: Control) -> None:
    watching = control.call(wire.ListEvents(0, 60_000))
    assert isinstance(watching, Pending)
    assert hub._watching
    watching.cancel()
    assert not hub._watching
    hub.close()


async def test_a_daemon_that_stops_answers_who_waits_for_events(hub: Hub, control: Control) -> None:
    watching = control.call(wire.ListEvents(0, 60_000))
    hub.close()
    assert watching.done
    assert watching.result() == {"events": [], "last": 0}


async def test_a_claim_says_what_its_run_has_used_until_that_ends(
    hub: Hub, control: Control
) -> None:
    batch_id = submit(hub)
    first = claim(control)
    assert "used" not in first
    mocks = [Mock("a", {"id": 7}, 201)]
    control.call(wire.ProvideBatch("me", batch_id, first["claimToken"], mocks))
    submit(hub)
    assert claim(control)["used"] == [UsedValues("POST", "/users", {}, 201, {"id": 7})]
    hub.broker.close_run(hub.clock.now(), "run", 1, clean=True)
    hub.settle()
    assert hub.used.of("run") == []
    hub.close()


async def test_a_check_that_fails_lets_the_lease_run_again(hub: Hub) -> None:
    gate = SlowGate()
    control = Control(hub, None, gate)  # type: ignore[arg-type]
    batch_id = submit(hub)
    token = claim(control)["claimToken"]
    answer = control.call(wire.ProvideBatch("me", batch_id, token, [Mock("a", 1)]))
    gate.checked.set_exception(OSError("no memory"))
    assert isinstance(answer, Pending)
    with pytest.raises(OSError, match="no memory"):
        await answer.wait()
    after_lease = hub.clock.now() + 31
    assert hub.broker.claim(after_lease, "another", 30, "t") is hub.broker.batch(batch_id)


@pytest.mark.parametrize("cancelled", [["a"], None])
async def test_what_is_wrong_with_a_mock_cancelled_meanwhile_keeps_nothing_back(
    hub: Hub, cancelled: list[str] | None
) -> None:
    gate = SlowGate()
    control = Control(hub, None, gate)  # type: ignore[arg-type]
    hub.broker.open_run(hub.clock.now(), "run", 1)
    requests = [MockRequest(rid, "/users", "POST", msgspec.Raw(b"{}")) for rid in "ab"]
    batch_id = hub.broker.submit(hub.clock.now(), "run", requests).id
    token = claim(control)["claimToken"]
    mocks = [Mock(rid, 1) for rid in "ab"]
    answer = control.call(wire.ProvideBatch("me", batch_id, token, mocks))
    hub.broker.cancel("run", batch_id, cancelled)
    wrong = Violation("a", "/body", "type", "string", "1", "Give text.")
    gate.checked.set_result(GateResult(violations=(wrong,), accepted=("b",)))
    assert isinstance(answer, Pending)
    async with asyncio.timeout(5):
        provided = await answer.wait()
    assert provided.message.startswith("Ignored") is (cancelled is None)
    assert hub.broker.was_delivered(batch_id) is (cancelled is not None)
