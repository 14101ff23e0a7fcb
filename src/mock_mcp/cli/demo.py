"""``mock-mcp demo``: the whole product at work, without an AI account.

Everything is real: a project with an OpenAPI document, a daemon, an adapter process spoken to by an
MCP client over stdio, and a script whose calls are answered. Only the assistant is scripted; it
takes its data from the contract's examples, and makes one mistake on purpose.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from mock_mcp.errors import DaemonUnreachable, MissingExtra, MockMcpError
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.launch import find_daemons
from mock_mcp.runtime.locks import FileLock

__all__ = ["configure", "run"]

_WAIT_MS = 20_000
_SETTINGS = '[tool.mock-mcp]\nopenapi = ["petstore.json"]\n'


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--keep", action="store_true", help="keep the project the demo makes")


def run(options: argparse.Namespace) -> int:
    """Tell the story; 0 when every step worked."""
    try:
        import mock_mcp.adapter.scripted  # noqa: F401
    except ImportError:
        raise MissingExtra(
            "The demo needs the MCP SDK: install it with `pip install 'mock-mcp[adapter]'`."
        ) from None
    directory = Path(tempfile.mkdtemp(prefix="mock-mcp-demo-"))
    try:
        asyncio.run(_Story(directory).tell())
    finally:
        if options.keep:
            print(f"The project is kept in {directory}.")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return 0


class _Story:
    def __init__(self, directory: Path) -> None:
        self._project = directory / "petshop"
        self._cache = directory / "cache"
        self._env = {
            **os.environ,
            "MOCK_MCP": "1",
            "MOCK_MCP_CACHE_DIR": str(self._cache),
            "PYTHONUNBUFFERED": "1",
        }
        self._bold, self._dim, self._plain = (
            ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")
        )
        self._steps = 0

    async def tell(self) -> None:
        self._step("A project with the contract of the API it calls")
        self._project.mkdir(parents=True)
        self._project.joinpath("pyproject.toml").write_text(_SETTINGS)
        for name in ("petstore.json", "shop.py"):
            text = files("mock_mcp.demo").joinpath(name).read_text("utf-8")
            self._project.joinpath(name).write_text(text)
        self._say("petstore.json  an OpenAPI document with 3 operations")
        self._say("shop.py        code that needs 3 answers from https://petstore.example.com/v1")
        try:
            await self._serve()
        finally:
            await self._stop_daemon()
        print(
            "\nThat is mock-mcp. Next: put it into your assistant's MCP configuration (see the\n"
            "README), and ask the assistant to serve the mocks of your own tests."
        )

    async def _serve(self) -> None:
        from mock_mcp.adapter.scripted import ScriptedAssistant

        self._step("An assistant connects over MCP (here a script takes the place of the AI)")
        async with ScriptedAssistant.start(str(self._project), self._env) as assistant:
            self._say("tools: " + ", ".join(await assistant.tools()))
            self._step("The shop runs; its calls are parked for the assistant")
            shop = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                str(self._project / "shop.py"),
                cwd=self._project,
                env=self._env,
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                await self._answer(assistant)
                await self._show_result(shop)
            finally:
                if shop.returncode is None:
                    shop.kill()
                    await shop.wait()

    async def _answer(self, assistant: Any) -> None:
        batch = await assistant.claim(_WAIT_MS)
        if batch is None:
            raise DaemonUnreachable("The demo's script asked for nothing; see its output above.")
        for request in batch["requests"]:
            self._say(f"{request['method']:4} {request['endpoint']}")
        self._step("The assistant answers, with a mistake: a pet that is 'sold out'")
        mocks = [self._from_contract(request) for request in batch["requests"]]
        wrong = [{**mocks[0], "data": [{**mocks[0]["data"][0], "status": "sold out"}]}, *mocks[1:]]
        refused = await assistant.provide(batch, wrong)
        if not refused.is_error:
            raise MockMcpError(f"The demo's wrong answer was let through: {refused.text}")
        for line in refused.text.splitlines():
            self._say(line)
        self._step("It corrects that one answer; the daemon delivers all three")
        accepted = await assistant.provide(batch, mocks[:1])
        if accepted.is_error:
            raise MockMcpError(f"The demo's answer was refused: {accepted.text}")
        self._say(str(accepted.data.get("message", "")))

    def _from_contract(self, request: Mapping[str, Any]) -> dict[str, Any]:
        from mock_mcp.contract.expected import sample_mock
        from mock_mcp.contract.project import ProjectContracts

        contracts, _ = ProjectContracts(self._project).current()
        mock = sample_mock(contracts, request, seed="demo")
        fields: dict[str, Any] = msgspec.to_builtins(mock)
        return fields

    async def _show_result(self, shop: asyncio.subprocess.Process) -> None:
        self._step("The shop has its data")
        output, _ = await asyncio.wait_for(shop.communicate(), _WAIT_MS / 1000)
        if shop.returncode != 0:
            raise MockMcpError(f"The demo's script failed with exit code {shop.returncode}.")
        for line in output.decode().splitlines():
            answer = json.loads(line)
            self._say(f"{answer['status']}  {json.dumps(answer['data'])}")

    async def _stop_daemon(self) -> None:
        from mock_mcp.control.client import DaemonClient

        cache = CacheDirectory(self._cache)
        for info in find_daemons(cache):
            async with DaemonClient.of(info) as client:
                await client.shutdown()
            with FileLock(cache.lock(info.project_id)) as lock:
                lock.acquire(timeout_s=5)  # held by the daemon until it is gone
        self._step("Cleaned up: no process and no file is left")

    def _step(self, title: str) -> None:
        self._steps += 1
        print(f"\n{self._bold}{self._steps}. {title}{self._plain}", flush=True)

    def _say(self, line: str) -> None:
        print(f"   {self._dim}{line}{self._plain}", flush=True)
