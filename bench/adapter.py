"""The MCP adapter over stdio, beside the SDK's own empty tool."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator

from mcp import Client, StdioServerParameters

from bench.project import BenchProject, kill, project, timed_ms, wall_ms
from bench.report import Row, Size
from mock_mcp import ensure_daemon_running

EMPTY_SERVER = """
import anyio
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp_types import CallToolResult, ListToolsResult, Tool

TOOL = Tool(name="get_status", inputSchema={"type": "object"})

async def list_tools(context, params):
    return ListToolsResult(tools=[TOOL])

async def call_tool(context, params):
    return CallToolResult(content=[], structured_content={})

async def main():
    server = Server("empty", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())

anyio.run(main)
"""


def rows(size: Size) -> Iterator[Row]:
    """A tool call with 1 and 20 live daemons; the start."""
    calls, daemons = size.of(100, 5), size.of(20, 2)
    with project() as place:
        empty = asyncio.run(calls_ms(python("-c", EMPTY_SERVER), calls))
        place.daemon()
        one = asyncio.run(calls_ms(adapter(place), calls))
        yield Row("get_status, 1 daemon", one, "the SDK's empty tool", empty, "ms", 2)
        others = []
        for number in range(daemons - 1):
            root = place.root.with_name(f"project{number}")
            root.mkdir()
            others.append(ensure_daemon_running(root, cache_dir=place.cache))
        many = asyncio.run(calls_ms(adapter(place), calls))
        for info in others:
            kill(info)
        yield Row(f"get_status, {daemons} daemons", many, "1 daemon", one, "ms", 4)
        starts, imports = [], []
        for _ in range(size.of(11, 2)):
            starts.append(asyncio.run(start_ms(adapter(place))))
            imports.append(wall_ms("-c", "import mcp"))
        yield Row("adapter, spawn to tools/list", starts, "import mcp", imports, "ms", 1.25)


def adapter(place: BenchProject) -> StdioServerParameters:
    """Return how to start an adapter of a project."""
    command = "import sys; from mock_mcp.cli import main; sys.exit(main())"
    arguments = ("-c", command, "adapter", "--project-root", str(place.root))
    return python(*arguments, MOCK_MCP_CACHE_DIR=str(place.cache))


def python(*arguments: str, **variables: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=list(arguments), env={**os.environ, **variables}
    )


async def calls_ms(server: StdioServerParameters, calls: int) -> list[float]:
    async with Client(server) as client:
        await client.call_tool("get_status", {})
        return await timed_ms(calls, lambda: client.call_tool("get_status", {}))


async def start_ms(server: StdioServerParameters) -> float:
    began = time.perf_counter()
    async with Client(server) as client:
        await client.list_tools()
        return (time.perf_counter() - began) * 1e3
