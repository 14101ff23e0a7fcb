"""Ask the assistant for the calls of one scope: with the test's context, without its secrets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from mock_mcp.browser import Lull
from mock_mcp.errors import MockMcpError
from mock_mcp.recordings.redact import Redaction
from mock_mcp.runtime.loops import in_asyncio, in_thread
from mock_mcp.scope.call import Call
from mock_mcp.scope.client import LazyClient
from mock_mcp.types import ASKING_HEADERS, Mock

__all__ = ["Assistant"]


class Assistant:
    """Who answers the calls of one scope.

    Nobody is asked again after an answer that did not come: the test has failed by then, and code
    that tries again would wait for the whole timeout each time.

    Args:
        client: The connection, which scopes share.
        timeout_s: Seconds a call waits; None for ever.
        test: What is told of the test.
        failures: The scope's; an error that is taken out of it is forgotten here, too.
        redaction: Which fields are secret; the assistant is not shown their values, even where
            they are recorded.
        match: The headers by which the project or the test tells two calls apart.
    """

    def __init__(
        self,
        client: LazyClient,
        timeout_s: float | None,
        test: Mapping[str, Any],
        failures: list[MockMcpError],
        *,
        redaction: Redaction,
        match: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._test = {name: value for name, value in test.items() if value}
        self._failures = failures
        self._redaction = redaction.recording(["*"])
        self._match = sorted({name.lower() for name in match} - {*ASKING_HEADERS})
        self._failed: MockMcpError | None = None
        self._lull = Lull()

    def ask(self, call: Call, instructions: str | None) -> Mock:
        """Return the answer to a call; raises what the client raises."""
        with self._asking():
            return self._client.sync().ask(self._fields(call, instructions), self._timeout_s)

    async def ask_async(self, call: Call, instructions: str | None) -> Mock:
        """Return the answer as `ask` does, from async code."""
        if not in_asyncio():
            return await in_thread(self.ask, call, instructions)
        with self._asking():
            client = await self._client.asynchronous()
            return await client.ask(self._fields(call, instructions), self._timeout_s)

    async def ask_for_page(self, call: Call, instructions: str | None) -> Mock:
        """Return the answer; it is asked for together with the other requests of a page load."""
        await self._client.asynchronous()  # connected first, all go on in the turn after the lull
        await self._lull.wait()
        return await self.ask_async(call, instructions)

    def wait(self) -> None:
        """Wait for every answer that is pending now in other threads; raise the first failure."""
        if self._client.is_connected:
            self._client.sync().wait_for_pending_requests()

    async def wait_async(self) -> None:
        """Wait as `wait` does, from async code."""
        if not in_asyncio():
            await in_thread(self.wait)
        elif self._client.is_connected:
            await (await self._client.asynchronous()).wait_for_pending_requests()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        if self._failed is not None and self._failed in self._failures:
            raise self._failed
        try:
            yield
        except MockMcpError as error:
            self._failed = error
            raise

    def _fields(self, call: Call, instructions: str | None) -> dict[str, Any]:
        """Return the request as the assistant reads it."""
        clean = self._redaction.request(call.recorded)
        fields = dict(call.wire)
        fields["endpoint"], fields["headers"] = clean.url, clean.headers
        if clean.body is not msgspec.UNSET:
            fields["body"] = clean.body
        if self._match:  # so that no answer is reused for what the recording tells apart
            fields["contract"] = {**fields.get("contract", {}), "match": self._match}
        metadata = dict(fields.get("metadata") or {})
        if instructions and "instructions" not in metadata:
            metadata["instructions"] = instructions
        if self._test:
            metadata["test"] = self._test
        if metadata:
            fields["metadata"] = metadata
        return fields
