"""Tests, a daemon and adapters through one bad minute, in thousands of ways.

In the bad minute messages are late, connections break and each end learns of it when it does, the
daemon is killed or stopped, a newer client takes a run over, everybody is suspended, the wall clock
is turned, tests give up some requests, adapters dawdle, release, answer wrongly, are cancelled and
die. Then all is calm and somebody answers.

Every request must have come to exactly one end: its own answer, checked if it had to be; or an
error that its history explains. What an adapter was told was delivered is what the test got. And
when everybody has left, nothing is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from mock_mcp import errors
from mock_mcp.control.client import DaemonClient
from mock_mcp.serving.claims import Claims, Next
from mock_mcp.types import Claim, Mock
from support.sim import SimClient, World, run, simulated
from support.stress import pick

__all__ = ["simulated"]  # a fixture
BLOCKS = 8
STORIES = pick(60, 5000)

BAD_S = 60.0
"""How long the bad minute lasts; everything is over long before a batch's time to live."""
WHOLE_S = 1200.0
LOST = (
    errors.ClaimMismatch,
    errors.NotClaimed,
    errors.UnknownBatch,
    errors.LeaseEnded,
    errors.DaemonUnreachable,
    errors.Unauthorized,
)
"""How an answer may fail without fault of the one who gave it."""


@dataclass
class Asked:
    """One request of a test, and what became of it."""

    endpoint: str
    client: SimClient
    timeout_s: float | None
    cancel_after_s: float | None
    answer: dict[str, Any] | None = None
    error: BaseException | None = None
    took_s: float = 0.0


@dataclass
class Story:
    """What happened in one world, for the verdict."""

    world: World
    asked: list[Asked] = field(default_factory=list)
    clients: list[SimClient] = field(default_factory=list)
    closed: set[SimClient] = field(default_factory=set)
    replaced: set[SimClient] = field(default_factory=set)
    answers: dict[int, dict[str, str]] = field(default_factory=dict)  # number: request to endpoint
    delivered: set[int] = field(default_factory=set)
    vain_claims: int = 0
    calm: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def chance(self, share: float) -> bool:
        return self.world.random.random() < share

    def some_s(self, mean_s: float) -> float:
        return self.world.random.expovariate(1 / mean_s)

    # -- The tests --------------------------------------------------------------------------

    def connect(self, run_id: str) -> SimClient:
        client = SimClient(self.world, run_id)
        self.clients.append(client)
        return client

    async def test(self, client: SimClient) -> None:
        """One test process: it asks for some things, and may leave before it has them all."""
        try:
            await client.started
        except errors.RunReplaced:
            assert client in self.replaced
            return
        number = self.clients.index(client)
        async with asyncio.TaskGroup() as group:
            for n in range(self.world.random.randint(1, 6)):
                kind = "checked" if self.chance(0.5) else "free"
                asked = Asked(
                    f"/{number}/{n}/{kind}",
                    client,
                    timeout_s=self.some_s(40.0) + 0.1 if self.chance(0.15) else None,
                    cancel_after_s=self.some_s(15.0) if self.chance(0.2) else None,
                )
                self.asked.append(asked)
                group.create_task(self.ask(asked, self.some_s(8.0) if self.chance(0.5) else 0.0))
            if self.chance(0.1):
                group.create_task(self.leave(client))

    async def ask(self, asked: Asked, after_s: float) -> None:
        await asyncio.sleep(after_s)
        began = self.world.loop.time()
        call = asyncio.ensure_future(
            asked.client.collector.request_mock(asked.endpoint, timeout_s=asked.timeout_s)
        )
        if asked.cancel_after_s is not None:
            await asyncio.wait({call}, timeout=asked.cancel_after_s)
            call.cancel()
        await asyncio.wait({call})
        asked.took_s = self.world.loop.time() - began
        if call.cancelled():
            asked.error = asyncio.CancelledError()
        elif call.exception():
            asked.error = call.exception()
        else:
            asked.answer = call.result().data

    async def leave(self, client: SimClient) -> None:
        await asyncio.sleep(self.some_s(20.0))
        self.closed.add(client)
        await client.collector.close()

    async def take_over(self, client: SimClient) -> None:
        """Start a second process with the same run id; the first one must give way."""
        await asyncio.sleep(1.0 + self.some_s(15.0))
        self.replaced.add(client)
        await self.test(self.connect(client.run_id))

    # -- The adapters -----------------------------------------------------------------------

    async def serve(self) -> None:
        claims, router = self.world.adapter()
        try:
            while not self.done.is_set():
                lease_ms = None if self.calm.is_set() or self.chance(0.6) else self.some_s(5000) + 1
                try:
                    found = await claims.claim_next(wait_s=5.0, lease_ms=lease_ms)
                except (errors.DaemonUnreachable, errors.Unauthorized):
                    await asyncio.sleep(0.1)
                    continue
                if found is not None:
                    await self.work(claims, found)
            await claims.close()
        finally:
            for held in claims._held.values():  # a process that was killed has no tasks
                held.stop()
            for task in claims._tasks:
                task.cancel()
            await router.close()

    async def serve_simply(self) -> None:
        """Serve as a responder of few lines does: wait in the claim, answer, forget."""
        while not self.done.is_set():
            async with DaemonClient.of(await self.world.ensure()) as client:
                while not self.done.is_set():
                    try:
                        claim = await client.claim_next_batch("simple", wait_ms=5000)
                        if claim is None:
                            continue
                        self.vain_claims += 1
                        number = self.answering(claim)
                        await asyncio.sleep(self.some_s(1.0))
                        who = claim.batch_id, claim.claim_token
                        provided = await client.provide_batch("simple", *who, self.mocks(number))
                        if provided.delivered:
                            self.delivered.add(number)
                    except errors.Unauthorized:
                        break
                    except LOST:
                        await asyncio.sleep(0.1)
                        break

    async def serve_until_killed(self) -> None:
        """Serve; be killed and started again, or cancelled in the middle of a call."""
        while not self.done.is_set():
            life = asyncio.ensure_future(self.serve())
            await asyncio.wait({life}, timeout=self.some_s(25.0))
            if self.calm.is_set():
                await life
            elif not life.done():
                self.vain_claims += 1
                life.cancel()
                await asyncio.wait({life})

    async def work(self, claims: Claims, found: Next) -> None:
        claim = found.claim
        number = self.answering(claim)
        who = claim.batch_id, claim.claim_token
        if self.calm.is_set():
            await self.provide(claims, number, who)
            return
        await asyncio.sleep(self.world.random.choice([0.0, 0.0, self.some_s(1.0), self.some_s(40)]))
        match self.world.random.choice(["answer"] * 6 + ["wrong", "release", "abandon", "renew"]):
            case "wrong":
                await self.provide_wrong(claims, number, who)
            case "release":
                self.vain_claims += 1
                await self.attempt(claims.release(*who, "too hard"))
                return
            case "abandon":
                self.vain_claims += 1
                return
            case "renew":
                await self.attempt(claims.renew(*who))
        if self.chance(0.1):
            call = asyncio.ensure_future(self.provide(claims, number, who))
            try:
                await asyncio.wait({call}, timeout=self.some_s(0.5))
            finally:
                call.cancel()
            await asyncio.wait({call})
        if self.chance(0.9):
            await self.provide(claims, number, who)
        if self.chance(0.1):
            await self.provide(claims, number, who)  # the same answer again

    def answering(self, claim: Claim) -> int:
        """Number the answer that is going to be given to a claim."""
        number = len(self.answers)
        self.answers[number] = {r["requestId"]: r["endpoint"] for r in claim.requests}
        return number

    def mocks(self, number: int) -> list[Mock]:
        return [
            Mock(rid, {"for": endpoint, "number": number})
            for rid, endpoint in self.answers[number].items()
        ]

    async def provide(self, claims: Claims, number: int, who: tuple[str, str]) -> None:
        provided = await self.attempt(claims.provide(*who, self.mocks(number)))
        if provided is not None and provided.delivered:
            self.delivered.add(number)

    async def provide_wrong(self, claims: Claims, number: int, who: tuple[str, str]) -> None:
        """Answer against the contract; only what is wrong will be given again."""
        mocks = [
            Mock(rid, {"for": endpoint, "number": number, "wrong": "checked" in endpoint})
            for rid, endpoint in self.answers[number].items()
        ]
        try:
            await self.attempt(claims.provide(*who, mocks))
        except errors.ContractViolation as refused:
            wrong = {violation.request_id for violation in refused.violations}
            assert all("checked" in self.answers[number][rid] for rid in wrong)
            again = [
                Mock(rid, {"for": self.answers[number][rid], "number": number}) for rid in wrong
            ]
            provided = await self.attempt(claims.provide(*who, again))
            if provided is not None and provided.delivered:
                self.delivered.add(number)

    async def attempt(self, call: Any) -> Any:
        try:
            return await call
        except LOST:
            self.vain_claims += 1
        except errors.MocksMismatch:
            assert self.replaced, "right mocks were said not to match"
        return None

    # -- What goes wrong --------------------------------------------------------------------

    async def disturb(self) -> None:
        world = self.world
        troubles: list[Callable[[], None]] = [world.cut_connection] * 4
        troubles += [world.kill_daemon, world.stop_daemon, self.start, self.change_delays]
        troubles += [world.suspend, world.turn_wall_clock]
        until = world.loop.time() + BAD_S
        pause_s = world.random.choice([2.0, 8.0, 30.0])
        while world.loop.time() < until:
            await asyncio.sleep(self.some_s(pause_s))
            world.random.choice(troubles)()

    def start(self) -> None:
        self.world.start_daemon()

    def change_delays(self) -> None:
        self.world.delay_s = self.world.random.choice([0.0, 0.01, 0.3])

    # -- From beginning to end --------------------------------------------------------------

    async def tell(self) -> None:
        world = self.world
        world.start_daemon()
        self.change_delays()
        async with asyncio.timeout(WHOLE_S), asyncio.TaskGroup() as adapters:
            for _ in range(world.random.randint(1, 3)):
                adapters.create_task(self.serve_until_killed())
            if self.chance(0.3):
                adapters.create_task(self.serve_simply())
            async with asyncio.TaskGroup() as tests:
                trouble = asyncio.ensure_future(self.disturb())
                for n in range(world.random.randint(1, 3)):
                    client = self.connect(f"run-{n}")
                    tests.create_task(self.test(client))
                    if self.chance(0.2):
                        tests.create_task(self.take_over(client))
                await trouble
                world.delay_s = 0.0
                world.start_daemon()
                self.calm.set()
            self.done.set()
        await asyncio.sleep(3 * world.limits.grace_s)  # the last cut may be noticed late
        assert world.daemon
        kept = [batch.id for batch in world.daemon.hub.broker.batches()]
        assert not kept, f"kept though every request has come to its end: {kept}"
        for client in self.clients:
            if self.chance(0.3):
                client.die()
            await client.collector.close()
        await asyncio.sleep(3 * world.limits.grace_s)  # the last cut may be noticed late

    # -- The verdict ------------------------------------------------------------------------

    def judge(self) -> list[str]:
        found = list(self.world.errors)
        for asked in self.asked:
            found += [f"{asked.endpoint}: {what}" for what in self.judge_request(asked)]
        for client in self.clients:
            found += client.left()
            found += [f"{name} was answered {n}" for name, n in client.resolved.items() if n[1:]]
        assert self.world.daemon
        found += self.world.daemon.left()
        return found + [f"connections: {self.world.ends}"] * bool(self.world.ends)

    def judge_request(self, asked: Asked) -> list[str]:
        answer, error = asked.answer, asked.error
        if answer is not None:
            number = answer["number"]
            right = answer["for"] == asked.endpoint in self.answers[number].values()
            if not right:
                return [f"got the answer of another: {answer}"]
            stranger = [
                n for n in self.delivered - {number} if asked.endpoint in self.answers[n].values()
            ]
            return [f"got {number}, {stranger} were told to be delivered"] * bool(stranger) + [
                "got data that breaks its contract"
            ] * bool(answer.get("wrong"))
        match error:
            case asyncio.CancelledError():
                fair = asked.cancel_after_s is not None
            case errors.RequestTimeout():
                fair = asked.timeout_s is not None and asked.took_s >= asked.timeout_s - 1e-6
            case errors.RunReplaced():
                fair = asked.client in self.replaced
            case errors.ClientClosed():
                fair = asked.client in self.closed
            case errors.BatchGivenUp():
                fair = self.vain_claims >= self.world.limits.claims_per_batch
            case _:
                fair = False
        return [] if fair else [f"ended with {error!r}"]


def tell(seed: int) -> tuple[World, list[str]]:
    verdict: list[str] = []

    async def scenario(world: World) -> None:
        story = Story(world)
        await story.tell()
        verdict.extend(story.judge())

    return run(seed, scenario), verdict


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_request_comes_to_its_own_end(block: int, measured: Callable[..., None]) -> None:
    seeds = range(block, STORIES, BLOCKS)
    for seed in seeds:
        try:
            _, verdict = tell(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        assert verdict == [], f"seed {seed}"
    measured(interleavings=len(seeds))


def mocks_for(found: Next) -> list[Mock]:
    return [Mock(r["requestId"], r["endpoint"]) for r in found.claim.requests]


@pytest.mark.usefixtures("simulated")
def test_two_clients_of_one_run_do_not_share_batches() -> None:
    """The newer one asks before it is connected, and so names its batches in its hello."""

    async def scenario(world: World) -> None:
        world.start_daemon()
        claims, router = world.adapter()
        first = SimClient(world, "run")
        replaced = asyncio.ensure_future(first.collector.request_mock("/first"))
        await asyncio.sleep(1.0)
        second = SimClient(world, "run")
        answered = asyncio.ensure_future(second.collector.request_mock("/second"))
        await asyncio.sleep(1.0)
        found = await claims.claim_next(wait_s=5.0)
        assert found is not None
        await claims.provide(found.claim.batch_id, found.claim.claim_token, mocks_for(found))
        assert (await answered).data == "/second"
        with pytest.raises(errors.RunReplaced):
            await replaced
        await first.collector.close()
        await second.collector.close()
        await router.close()

    run(1, scenario)


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("trouble", ["the lease ends", "the daemon is killed", "both"])
def test_a_finished_answer_is_not_thrown_away(trouble: str) -> None:
    async def scenario(world: World) -> None:
        world.start_daemon()
        claims, router = world.adapter()
        client = SimClient(world, "run")
        asked = asyncio.ensure_future(client.collector.request_mock("/user"))
        found = await claims.claim_next(wait_s=5.0, lease_ms=500)
        assert found is not None
        if trouble != "the daemon is killed":
            await asyncio.sleep(2.0)
        if trouble != "the lease ends":
            world.kill_daemon()
        who = found.claim.batch_id, found.claim.claim_token
        assert (await claims.provide(*who, mocks_for(found))).delivered
        assert (await asked).data == "/user"
        await client.collector.close()
        await router.close()

    run(1, scenario)
