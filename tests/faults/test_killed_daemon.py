"""The daemon is killed again and again while clients and adapters work: nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mock_mcp.errors import MockMcpError
from mock_mcp.serving.claims import Claims
from mock_mcp.types import Mock
from support.place import Place, kill
from support.responder import respond_to, until
from support.stress import pick
from support.ws import HANG_S, eventually

KILLS = pick(8, 1000)
ANSWERS = pick(4, 200)
HANG_AFTER_S = 10 * HANG_S
"""A request is answered long before this, however many daemons die under it."""


class Ledger:
    """Who was asked, offered and told what."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.numbers = itertools.count()
        self.answered: dict[str, int] = {}
        self.given: dict[str, set[str]] = {}
        self.latency_s: list[float] = []
        self.offered_again: list[str] = []
        self.refusals: Counter[str] = Counter()
        self.stop = False

    def note_answer(self, endpoint: str, data: Any, began: float) -> None:
        with self.lock:
            assert endpoint not in self.answered
            assert data["for"] == endpoint
            assert data["by"] in self.given[endpoint]
            self.answered[endpoint] = next(self.numbers)
            self.latency_s.append(time.monotonic() - began)

    def note_offer(self, endpoints: list[str], mark: int) -> None:
        """Note a claim that began at a mark; what was answered before must not be offered."""
        with self.lock:
            again = [each for each in endpoints if self.answered.get(each, mark) < mark]
            self.offered_again += again


async def ask(client: Any, name: str, ledger: Ledger) -> None:
    for number in itertools.count():
        if ledger.stop:
            return
        endpoint, began = f"/{name}/{number}", time.monotonic()
        async with asyncio.timeout(HANG_AFTER_S):
            mock = await client.request_mock(endpoint)
        ledger.note_answer(endpoint, mock.data, began)


def ask_sync(client: Any, name: str, ledger: Ledger) -> None:
    for number in itertools.count():
        if ledger.stop:
            return
        endpoint, began = f"/{name}/{number}", time.monotonic()
        mock = client.request_mock(endpoint, timeout_s=HANG_AFTER_S)
        ledger.note_answer(endpoint, mock.data, began)


async def serve(claims: Claims, ledger: Ledger, rng: random.Random) -> None:
    for number in itertools.count():
        mark = next(ledger.numbers)
        try:
            found = await claims.claim_next(wait_s=5)
            if found is None:
                continue
            endpoints = [request["endpoint"] for request in found.claim.requests]
            ledger.note_offer(endpoints, mark)
            nonce = f"{claims.adapter_id}-{number}"
            for endpoint in endpoints:
                ledger.given.setdefault(endpoint, set()).add(nonce)
            mocks = [
                Mock(request["requestId"], {"for": request["endpoint"], "by": nonce})
                for request in found.claim.requests
            ]
            await asyncio.sleep(rng.choice((0, 0, rng.uniform(0, 0.05))))
            await claims.provide(found.claim.batch_id, found.claim.claim_token, mocks)
        except MockMcpError as exc:  # an assistant is told, and goes on
            ledger.refusals[exc.code] += 1


def kill_daemons(place: Place, rng: random.Random) -> Counter[str]:
    """Kill the daemon at random points of its life, as it starts among them."""
    when: Counter[str] = Counter()
    killed: set[int] = set()
    while when.total() < KILLS:
        early = rng.random() < 0.2

        def fresh(early: bool = early) -> int | None:
            found = place.daemons() if early else [place.pid()]
            return next((pid for pid in found if pid is not None and pid not in killed), None)

        pid = eventually(fresh, timeout_s=HANG_AFTER_S)
        time.sleep(rng.uniform(0, 0.2))
        served = place.pid() == pid
        with contextlib.suppress(ProcessLookupError):  # two may start; the loser ends by itself
            kill(pid)
            when["as it served" if served else "as it started"] += 1
        killed.add(pid)
    return when


@pytest.mark.asyncio
@pytest.mark.usefixtures("no_leak")
async def test_killed_at_random_points(
    place: Place, rng: random.Random, measured: Callable[..., None]
) -> None:
    ledger = Ledger()
    with ThreadPoolExecutor(3) as pool:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(place.connect()) for _ in range(3)]
            adapters = [await stack.enter_async_context(place.adapter(f"a{n}")) for n in range(2)]
            sync = stack.enter_context(place.connect_sync())
            serving = [asyncio.create_task(serve(each, ledger, rng)) for each in adapters]
            asking = [
                *(
                    asyncio.create_task(ask(each, f"c{n}", ledger))
                    for n, each in enumerate(clients)
                ),
                *(
                    asyncio.ensure_future(
                        asyncio.wrap_future(pool.submit(ask_sync, sync, n, ledger))
                    )
                    for n in ("s1", "s2")
                ),
            ]
            killing = asyncio.wrap_future(pool.submit(kill_daemons, place, rng))
            try:
                await asyncio.wait({killing, *asking}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ledger.stop = True
            when = await killing
            await asyncio.gather(*asking)  # everything that was asked is answered, or this raises
            for task in serving:
                task.cancel()
            await asyncio.wait(serving)
    assert not ledger.offered_again
    measured(
        kills=when.total(),
        as_it_started=when["as it started"],
        answered=len(ledger.answered),
        lost=0,
        answered_twice=len(ledger.offered_again),
        median_s=statistics.median(ledger.latency_s),
        longest_s=max(ledger.latency_s),
        told_to_adapters=dict(ledger.refusals),
    )


@pytest.mark.asyncio
@pytest.mark.usefixtures("no_leak")
async def test_a_finished_answer_survives(
    place: Place, rng: random.Random, measured: Callable[..., None]
) -> None:
    """The daemon restarts, or the lease ends, between the claim and the answer."""
    restarts = expiries = 0
    async with place.connect() as client, place.adapter("a") as claims:
        for number in range(ANSWERS):
            asked = asyncio.create_task(client.request_mock(f"/{number}"))
            expires = number % 2
            found = await claims.claim_next(lease_ms=1 if expires else None, wait_s=HANG_S)
            assert found is not None
            claim = found.claim
            if expires:
                async with respond_to(found.daemon.info) as responder:
                    await until(lambda r=responder: r.client.list_batches(status="pending"))
                expiries += 1
            else:
                pid = place.pid()
                assert pid is not None
                await asyncio.sleep(rng.uniform(0, 0.02))
                kill(pid)
                restarts += 1
            mocks = [Mock(request["requestId"], number) for request in claim.requests]
            provided = await claims.provide(claim.batch_id, claim.claim_token, mocks)
            assert provided.delivered
            assert (await asked).data == number
    measured(restarts=restarts, expired_leases=expiries, survived=restarts + expiries)
