from __future__ import annotations

import asyncio
import itertools
from typing import Any

import anyio
import pytest

from mock_mcp.errors import (
    ClaimMismatch,
    ContractViolation,
    InvalidParams,
    LimitExceeded,
    MocksMismatch,
    NotClaimed,
    UnknownBatch,
)
from mock_mcp.serving.claims import ANSWERED_KEPT
from mock_mcp.serving.times import Times
from mock_mcp.types import Mock

pytestmark = pytest.mark.asyncio


def mocks(**data):
    return [Mock(request_id, value) for request_id, value in data.items()]


async def test_a_claim_is_provided(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.submit("run", world.request("r1"))
    found = await adapter.claim_next()
    assert found.claim.requests == [world.request("r1")]
    assert found.test.test_file == "test_users.py"
    provided = await adapter.provide(found.claim.batch_id, found.claim.claim_token, mocks(r1=1))
    assert provided.ok
    assert daemon.provided == [{"r1": 1}]


async def test_nothing_to_claim_is_none(world):
    world.daemon("p")
    assert await world.adapter().claim_next() is None


async def test_a_wrong_lease_is_refused_in_words(world):
    world.daemon("p").submit("run", world.request("r1"))
    with pytest.raises(InvalidParams, match="leaseMs"):
        await world.adapter().claim_next(lease_ms=10_000_000)


async def test_the_oldest_batch_of_all_projects_is_claimed_first(world):
    first, second, own = world.daemon("p1"), world.daemon("p2"), world.daemon("own")
    for age, daemon in ((3.0, own), (1.0, second), (2.0, first)):
        daemon.now = age
        daemon.submit(f"run-{age}", world.request("r"))
    adapter = world.adapter(own=own)
    claimed = [(await adapter.claim_next()).claim.run_id for _ in range(3)]
    assert claimed == ["run-1.0", "run-2.0", "run-3.0"]


async def test_of_equally_old_batches_the_own_projects_comes_first(world):
    other, own = world.daemon("p1"), world.daemon("own")
    other.submit("other", world.request("r"))
    own.submit("own", world.request("r"))
    assert (await world.adapter(own=own).claim_next()).claim.run_id == "own"


async def test_a_run_can_be_named(world):
    daemon = world.daemon("p")
    daemon.submit("run-1", world.request("r"))
    daemon.submit("run-2", world.request("r"))
    adapter = world.adapter()
    assert (await adapter.claim_next(run_id="run-2")).claim.run_id == "run-2"
    assert await adapter.claim_next(run_id="run-2") is None


async def test_waiting_ends_when_a_batch_comes(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    waiting = asyncio.create_task(adapter.claim_next(wait_s=30))
    while "waitForBatch" not in daemon.calls:
        await asyncio.sleep(0)
    daemon.submit("run", world.request("r"))
    assert (await waiting).claim.run_id == "run"


async def test_waiting_ends_when_a_daemon_comes_with_a_batch(world):
    waiting = asyncio.create_task(world.adapter().claim_next(wait_s=30))
    await asyncio.sleep(0)
    world.daemon("late").submit("run", world.request("r"))
    assert (await waiting).claim.run_id == "run"


async def test_waiting_claims_nothing_when_it_is_abandoned(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    waiting = asyncio.create_task(adapter.claim_next(wait_s=30))
    while daemon.calls.count("waitForBatch") < 2:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    daemon.submit("run", world.request("r"))
    await asyncio.sleep(0)
    assert daemon.broker.pending == 1
    assert "claimNextBatch" not in daemon.calls


async def test_a_claim_made_by_a_call_that_was_cancelled_is_released(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    batch = daemon.submit("run", world.request("r"))
    with anyio.CancelScope() as scope:
        daemon.on_claim = scope.cancel
        await adapter.claim_next()
    assert scope.cancelled_caught
    await adapter.close()
    assert batch.status.value == "pending"
    assert "cancelled" in batch.history[0].reason


async def test_several_claims_of_a_call_that_was_cancelled_are_all_released(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    batches = [daemon.submit("run", world.request("r")) for _ in range(4)]
    claimed = itertools.count(1)
    with anyio.CancelScope() as scope:
        daemon.on_claim = lambda: scope.cancel() if next(claimed) == 3 else None
        await adapter.claim_several(4)
    assert scope.cancelled_caught
    async with asyncio.timeout(10):
        while adapter._tasks:  # closing would give back what was forgotten here
            await asyncio.sleep(0)
    assert [batch.status.value for batch in batches] == ["pending"] * 4
    assert [batch.attempts for batch in batches] == [1, 1, 1, 0]
    assert all("cancelled" in batch.history[0].reason for batch in batches[:3])


async def test_several_are_claimed_in_turn_and_no_more_than_there_are(world):
    first, second, adapter = world.daemon("p1"), world.daemon("p2"), world.adapter()
    for daemon in (first, second, first):
        daemon.submit("run", world.request("r"))
    assert len(await adapter.claim_several(2)) == 2
    (last,) = await adapter.claim_several(2)
    assert last.claim.batch_id
    assert await adapter.claim_several(2) == []


async def test_one_batch_is_claimed_by_its_id(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.submit("run", world.request("r"))
    daemon.submit("run", world.request("r"))
    found = await adapter.claim_batch("batch:run:2")
    assert found.claim.batch_id == "batch:run:2"
    assert await adapter.claim_batch("batch:run:2") is None
    with pytest.raises(UnknownBatch):
        await adapter.claim_batch("batch:run:3")


async def test_a_slow_and_a_dead_daemon_do_not_keep_the_others_from_being_served(world):
    slow, dead, good = world.daemon("p1"), world.daemon("p2"), world.daemon("p3")
    slow.stuck = dead.down = True
    adapter = world.adapter()
    waiting = asyncio.create_task(adapter.claim_next(wait_s=30))
    await asyncio.sleep(0)
    good.submit("run", world.request("r"))
    assert (await waiting).claim.run_id == "run"
    assert await adapter.claim_next() is None
    slow.stuck = False


async def test_two_adapters_never_hold_one_batch(world):
    daemon = world.daemon("p")
    batches = 20
    for n in range(batches):
        daemon.submit("run", world.request(f"r{n}"))
    one, two = world.adapter("one"), world.adapter("two")
    found = await asyncio.gather(
        *(adapter.claim_next(wait_s=1) for _ in range(batches // 2) for adapter in (one, two))
    )
    assert len({next_.claim.batch_id for next_ in found}) == batches


async def test_an_answer_after_the_lease_is_not_thrown_away(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.submit("run", world.request("r1"))
    claim = (await adapter.claim_next(lease_ms=1000)).claim
    daemon.now = 60
    await adapter.provide(claim.batch_id, claim.claim_token, mocks(r1="late"))
    assert daemon.provided == [{"r1": "late"}]


async def test_an_answer_after_a_restart_waits_for_its_test(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    batch_id = daemon.submit("run", world.request("r1"), world.request("r2")).id
    claim = (await adapter.claim_next()).claim
    daemon.restart()
    providing = asyncio.create_task(adapter.provide(batch_id, claim.claim_token, mocks(r1=1, r2=2)))
    while "getBatch" not in daemon.calls:  # it looked, and the test was not there yet
        await asyncio.sleep(0.001)
    daemon.submit("run", world.request("r2"), batch_id=batch_id)  # r1 timed out meanwhile
    await providing
    assert daemon.provided == [{"r2": 2}]


async def test_a_daemon_that_is_down_for_a_moment_is_waited_for(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    batch_id = daemon.submit("run", world.request("r1")).id
    claim = (await adapter.claim_next()).claim
    daemon.down = True
    daemon.calls.clear()
    providing = asyncio.create_task(adapter.provide(batch_id, claim.claim_token, mocks(r1=1)))
    while "claimNextBatch" not in daemon.calls:
        await asyncio.sleep(0.001)
    daemon.down = False
    assert (await providing).ok


async def test_a_test_that_does_not_come_back_is_said(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    batch_id = daemon.submit("run", world.request("r1")).id
    claim = (await adapter.claim_next()).claim
    daemon.restart()
    with pytest.raises(UnknownBatch, match=r"did not submit it again within 0\.3 s"):
        await adapter.provide(batch_id, claim.claim_token, mocks(r1=1))


async def test_other_requests_under_the_same_id_are_not_answered(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    batch_id = daemon.submit("run", world.request("r1")).id
    claim = (await adapter.claim_next()).claim
    daemon.restart()
    batch = daemon.submit("run", world.request("r1", body={"other": True}), batch_id=batch_id)
    with pytest.raises(MocksMismatch, match="released"):
        await adapter.provide(batch_id, claim.claim_token, mocks(r1=1))
    assert batch.status.value == "pending"
    assert "changed" in batch.history[-1].reason


async def test_a_batch_another_responder_took_is_refused_in_plain_words(world):
    daemon, adapter, other = world.daemon("p"), world.adapter(), world.adapter("other")
    daemon.submit("run", world.request("r1"))
    claim = (await adapter.claim_next(lease_ms=1000)).claim
    daemon.now = 2
    theirs = (await other.claim_next()).claim
    with pytest.raises(ClaimMismatch, match="another responder holds it"):
        await adapter.provide(claim.batch_id, claim.claim_token, mocks(r1="mine"))
    await other.provide(theirs.batch_id, theirs.claim_token, mocks(r1="theirs"))
    with pytest.raises(NotClaimed, match="answered by another responder"):
        await adapter.provide(claim.batch_id, claim.claim_token, mocks(r1="mine"))
    assert daemon.provided == [{"r1": "theirs"}]


async def test_a_batch_its_test_gave_up_is_refused_at_once(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    batch_id = daemon.submit("run", world.request("r1")).id
    claim = (await adapter.claim_next(lease_ms=1000)).claim
    daemon.now = 2
    daemon.broker.expire(2)
    daemon.broker.cancel("run", batch_id)
    daemon.calls.clear()
    with pytest.raises(UnknownBatch, match="stopped waiting"):
        await adapter.provide(batch_id, claim.claim_token, mocks(r1=1))
    assert daemon.calls.count("claimNextBatch") == 1


async def test_a_repeated_answer_gets_the_same_result(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.submit("run", world.request("r1"))
    claim = (await adapter.claim_next()).claim
    first = await adapter.provide(claim.batch_id, claim.claim_token, mocks(r1=1))
    assert await adapter.provide(claim.batch_id, claim.claim_token, mocks(r1=1)) == first
    assert len(daemon.provided) == 1


async def test_the_requests_of_old_answered_claims_are_let_go(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    claims = []
    for number in range(ANSWERED_KEPT + 2):
        daemon.submit(f"run-{number}", world.request("r"))
        claims.append((await adapter.claim_next()).claim)
        await adapter.provide(claims[-1].batch_id, claims[-1].claim_token, mocks(r=1))
    kept = [adapter.batch(claim.batch_id) is not None for claim in claims]
    assert kept == [False, False] + [True] * ANSWERED_KEPT
    again = await adapter.provide(claims[0].batch_id, claims[0].claim_token, mocks(r=1))
    assert again.ok
    assert len(daemon.provided) == len(claims)


async def test_accepted_mocks_are_kept_and_corrections_merged(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.wrong = {"bad"}
    daemon.submit("run", *(world.request(f"r{n}") for n in (1, 2, 3)))
    claim = (await adapter.claim_next()).claim
    key = claim.batch_id, claim.claim_token
    with pytest.raises(ContractViolation) as caught:
        await adapter.provide(*key, mocks(r1="good", r2="bad", r3="bad"))
    assert caught.value.accepted == ("r1",)
    with pytest.raises(ContractViolation) as caught:
        await adapter.provide(*key, mocks(r2="better", r3="bad"))
    assert caught.value.accepted == ("r1", "r2")
    await adapter.provide(*key, mocks(r1="changed my mind", r3="better"))
    assert daemon.provided == [{"r1": "changed my mind", "r2": "better", "r3": "better"}]


async def test_accepted_mocks_survive_a_lost_lease(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.wrong = {"bad"}
    daemon.submit("run", world.request("r1"), world.request("r2"))
    claim = (await adapter.claim_next(lease_ms=1000)).claim
    with pytest.raises(ContractViolation):
        await adapter.provide(claim.batch_id, claim.claim_token, mocks(r1="good", r2="bad"))
    daemon.now = 60
    await adapter.provide(claim.batch_id, claim.claim_token, mocks(r2="better"))
    assert daemon.provided == [{"r1": "good", "r2": "better"}]


async def test_an_answer_may_be_given_in_parts(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.wrong = {"bad"}
    daemon.submit("run", *(world.request(f"r{n}") for n in (1, 2, 3)))
    claim = (await adapter.claim_next(lease_ms=1000)).claim
    key = claim.batch_id, claim.claim_token
    with pytest.raises(MocksMismatch, match=r"1 of the 3 .* kept; give .* missing: r2, r3[.]"):
        await adapter.provide(*key, mocks(r1="good"))
    daemon.now = 60  # the lease ended meanwhile
    with pytest.raises(MocksMismatch, match=r"2 of the 3 .* missing: r3; of no request .*: r4[.]"):
        await adapter.provide(*key, mocks(r2="bad", r4="whose?"))
    with pytest.raises(ContractViolation) as caught:
        await adapter.provide(*key, mocks(r3="good"))
    assert caught.value.accepted == ("r1", "r3")
    await adapter.provide(*key, mocks(r2="better"))
    assert daemon.provided == [{"r1": "good", "r2": "better", "r3": "good"}]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("large", "named"),
    [
        ({"r2": "x" * 2000}, r"r2 \(20\d\d bytes\);"),
        (
            {"r1": "x" * 600, "r2": "x" * 800, "r3": "x" * 500},
            r"r2 \(8\d\d bytes\), r1 \(6\d\d bytes\);",
        ),
        ({"r2": nested(200)}, r"r2 \(too deep\);"),
        ({"r2": nested(196)}, r"r2 \(too deep\);"),
    ],
    ids=["one", "several", "deep", "just too deep"],
)
async def test_mocks_beyond_a_limit_are_named_and_the_others_kept(world, large, named):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.largest = 1500
    daemon.submit("run", *(world.request(f"r{n}") for n in (1, 2, 3)))
    claim = (await adapter.claim_next()).claim
    key = claim.batch_id, claim.claim_token
    answer = {"r1": "a", "r2": "b", "r3": "c"} | large
    with pytest.raises(LimitExceeded, match=f"smaller: {named} the others are kept") as caught:
        await adapter.provide(*key, mocks(**answer))
    again = {rid: "small" for rid in answer if f"{rid} (" in caught.value.message}
    await adapter.provide(*key, mocks(**again))
    assert daemon.provided == [answer | again]


async def test_two_mocks_for_one_request_are_refused(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.submit("run", world.request("r1"))
    claim = (await adapter.claim_next()).claim
    with pytest.raises(MocksMismatch, match="twice"):
        await adapter.provide(claim.batch_id, claim.claim_token, [Mock("r1", 1), Mock("r1", 2)])
    assert daemon.provided == []


async def test_a_wrong_token_is_refused(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.submit("run", world.request("r1"))
    claim = (await adapter.claim_next()).claim
    with pytest.raises(ClaimMismatch, match="not the claim token"):
        await adapter.provide(claim.batch_id, "guess", mocks(r1=1))


async def test_the_first_token_works_after_the_batch_was_claimed_again(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.submit("run", world.request("r1"))
    first = (await adapter.claim_next(lease_ms=1000)).claim
    daemon.now = 60
    second = (await adapter.claim_next()).claim
    assert second.batch_id == first.batch_id
    assert (await adapter.provide(first.batch_id, first.claim_token, mocks(r1=1))).ok


async def test_a_released_batch_is_not_answered(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.submit("run", world.request("r1"))
    claim = (await adapter.claim_next()).claim
    await adapter.release(claim.batch_id, claim.claim_token, "no idea")
    assert daemon.broker.batch(claim.batch_id).history[0].reason == "no idea"
    with pytest.raises(NotClaimed, match="released"):
        await adapter.provide(claim.batch_id, claim.claim_token, mocks(r1=1))


async def test_releasing_after_the_lease_is_no_error(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.submit("run", world.request("r1"))
    claim = (await adapter.claim_next(lease_ms=1000)).claim
    daemon.now = 60
    await adapter.release(claim.batch_id, claim.claim_token)
    assert daemon.broker.pending == 1


async def test_renewing_after_the_lease_claims_the_batch_again(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.submit("run", world.request("r1"))
    claim = (await adapter.claim_next(lease_ms=1000)).claim
    daemon.now = 60
    assert await adapter.renew(claim.batch_id, claim.claim_token, 5000) == 65_000
    assert daemon.broker.claimed == 1


async def test_a_claim_of_nobody_is_refused_by_the_daemon_that_has_the_batch(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    world.daemon("other")
    batch_id = daemon.submit("run", world.request("r1")).id
    with pytest.raises(NotClaimed):
        await adapter.provide(batch_id, "guess", mocks(r1=1))
    with pytest.raises(UnknownBatch):
        await adapter.provide("batch:run:9", "guess", mocks(r1=1))


async def test_closing_releases_every_held_batch(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    for n in range(3):
        daemon.submit("run", world.request(f"r{n}"))
        await adapter.claim_next()
    await adapter.close()
    assert daemon.broker.pending == 3


async def test_a_claim_is_renewed_while_the_assistant_writes_but_not_for_ever(world):
    times = Times(lease_s=0.06, keep_s=0.2)
    daemon, adapter = world.daemon("p"), world.adapter(times=times)
    daemon.submit("run", world.request("r1"))
    claim = (await adapter.claim_next()).claim
    keeper = adapter._held[claim.batch_id].keeper
    await keeper
    assert daemon.calls.count("renewClaim") >= 1
    daemon.now = 31
    assert (await world.adapter("other").claim_next()).claim.batch_id == claim.batch_id


async def test_a_lease_the_assistant_chose_is_left_alone(world):
    daemon, adapter = world.daemon("p"), world.adapter()
    daemon.submit("run", world.request("r1"))
    claim = (await adapter.claim_next(lease_ms=1000)).claim
    assert adapter._held[claim.batch_id].keeper is None


async def test_a_batch_of_another_project_with_the_same_id_is_another_batch(world):
    one, two, adapter = world.daemon("p1"), world.daemon("p2"), world.adapter()
    one.submit("run", world.request("r1"))
    first = (await adapter.claim_next()).claim
    two.submit("run", world.request("r1"))
    second = (await adapter.claim_next()).claim
    assert first.batch_id == second.batch_id
    with pytest.raises(ClaimMismatch):
        await adapter.provide(first.batch_id, first.claim_token, mocks(r1=1))
    assert (await adapter.provide(second.batch_id, second.claim_token, mocks(r1=2))).ok
    assert (one.provided, two.provided) == ([], [{"r1": 2}])
