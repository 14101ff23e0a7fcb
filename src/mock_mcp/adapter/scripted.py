"""A scripted assistant: a real MCP client that serves mocks without a model.

It does over stdio exactly what an AI assistant does (claim, provide, correct, provide again) with
a function in place of the model. The demo and the tests use it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult, TextContent

__all__ = ["ScriptedAssistant", "Told"]


class Told:
    """What a tool answered: ``data`` is its structure, ``text`` what an assistant reads."""

    def __init__(self, result: CallToolResult) -> None:
        self.is_error = bool(result.is_error)
        self.data: Mapping[str, Any] = result.structured_content or {}
        self.text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))


class ScriptedAssistant:
    """Call the adapter's tools by name."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def start(
        cls, project_root: str, env: Mapping[str, str], *, mode: str = "auto"
    ) -> AsyncIterator[Self]:
        """Start ``mock-mcp adapter`` in a process of its own and connect to it.

        Args:
            project_root: The adapter's own project.
            env: The process's environment.
            mode: The MCP era: ``legacy`` (handshake) or ``auto``.
        """
        server = StdioServerParameters(
            command=sys.executable,
            args=["-P", "-m", "mock_mcp", "adapter", "--project-root", project_root],
            env=dict(env),
        )
        async with Client(stdio_client(server), mode=mode) as client:
            yield cls(client)

    async def tools(self) -> list[str]:
        """Return the names of the tools that the adapter offers."""
        return [tool.name for tool in (await self._client.list_tools()).tools]

    async def call(self, tool: str, **arguments: Any) -> Told:
        """Call one tool."""
        return Told(await self._client.call_tool(tool, arguments))

    async def claim(self, wait_ms: int) -> Mapping[str, Any] | None:
        """Claim the next batch, waiting for it; None when none came."""
        told = await self.call("claim_next_batch", waitMs=wait_ms)
        return told.data if told.data.get("state") == "claimed" else None

    async def provide(self, batch: Mapping[str, Any], mocks: list[dict[str, Any]]) -> Told:
        """Provide mocks for a claimed batch."""
        return await self.call(
            "provide_batch_mock_data",
            batchId=batch["batchId"],
            claimToken=batch["claimToken"],
            mocks=mocks,
        )
