"""Whoever answers the tests: a responder on the control channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from mock_mcp.control.client import DaemonClient
from mock_mcp.types import Claim, DaemonInfo, Mock
from support.ws import HANG_S


class Responder:
    """Whoever answers: it claims batches and provides mocks over the control channel."""

    def __init__(self, client: DaemonClient) -> None:
        self.client = client

    async def claim(self, run_id: str | None = None) -> Claim:
        """Wait until something can be claimed, and claim it."""
        waiting = await self.client.wait_for_batch(15_000, run_id=run_id)
        assert waiting.pending, "nothing became claimable"
        claim = await self.client.claim_next_batch("responder", run_id=run_id)
        assert claim is not None
        return claim

    async def provide(self, claim: Claim, **fields: Any) -> bool:
        """Answer every request with its own endpoint (or ``data``); tell whether it arrived."""
        mocks = [
            Mock(request["requestId"], **{"data": request["endpoint"], **fields})
            for request in claim.requests
        ]
        return await self.provide_mocks(claim, mocks)

    async def provide_mocks(self, claim: Claim, mocks: list[Mock]) -> bool:
        provided = await self.client.provide_batch(
            "responder", claim.batch_id, claim.claim_token, mocks
        )
        return provided.delivered

    async def serve(self) -> None:
        """Answer everything with its endpoint."""
        while True:
            await self.client.wait_for_batch(15_000)
            while claim := await self.client.claim_next_batch("responder"):
                await self.provide(claim)

    async def batches(self) -> list[Any]:
        return await self.client.list_batches()

    async def total(self) -> int:
        return (await self.client.get_status()).total_batches


@asynccontextmanager
async def respond_to(info: DaemonInfo) -> AsyncIterator[Responder]:
    """A responder of one daemon; its connections end with it."""
    async with DaemonClient.of(info) as client:
        yield Responder(client)


async def until(what: Callable[[], Awaitable[Any]]) -> Any:
    """Return the first true result; for outcomes that no message announces."""
    async with asyncio.timeout(HANG_S):
        while not (result := await what()):
            await asyncio.sleep(0.005)
    return result


def endpoints(batch: Any) -> list[str]:
    return [request["endpoint"] for request in batch.requests]
