"""niquests: ``HTTPAdapter.send`` and its async twin; else as requests, of which it is a fork.

What is asked to be multiplexed is answered at once, so nothing is left to gather. Its WebSockets
and server-sent events have URLs of their own schemes and are left alone.
"""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

from mock_mcp.exchange import HttpResponse, TransportFailure
from mock_mcp.interceptors.answer import answer_async
from mock_mcp.interceptors.forward import CHUNK_BYTES, forwarding, received, whole_async
from mock_mcp.interceptors.patches import Patches
from mock_mcp.interceptors.requests import Sending, Undecoded
from mock_mcp.interceptors.requests import patch as patch_sync

__all__ = ["patch"]


def patch(niquests: ModuleType, patches: Patches) -> None:
    """Hook the adapters of ``niquests``."""

    def make(original: Any) -> Any:
        async def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            sending = Sending.of(niquests, self, request, args, kwargs)
            if sending is None:
                return await original(self, request, *args, **kwargs)
            return self.build_response(request, await _run(sending, request.body, original))

        return send

    patch_sync(niquests, patches)
    patches.replace(niquests.adapters.AsyncHTTPAdapter, "send", make)


async def _run(sending: Sending, body: Any, original: Any) -> Any:
    """Do what `Sending.run` does, without blocking the loop."""
    if hasattr(body, "__aiter__"):
        body = [chunk async for chunk in body]
    asked = sending.asked(body)

    async def send() -> HttpResponse:
        with forwarding():
            real = await sending.really(original, asked)
            real.raw = Undecoded(real.raw)
            try:
                content = await whole_async(await real.iter_content(CHUNK_BYTES), asked)
            finally:
                await real.close()
            return received(asked, real.status_code, real.raw.headers.items(), content)

    while True:
        outcome: HttpResponse | Exception
        try:
            outcome = await answer_async(sending.exchange, asked, sending.timeout_s, send)
        except (TransportFailure, sending.errors) as failure:
            outcome = failure
        settled = sending.settle(asked, outcome, sending.urllib3.AsyncHTTPResponse)
        if settled is not None:
            return settled
        await asyncio.sleep(sending.pause_s)
