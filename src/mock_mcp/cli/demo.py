"""``mock-mcp demo``: the whole product at work, without an AI account.

Everything is real: a project with an OpenAPI document, a test that pytest runs over real HTTP
libraries, a daemon, an adapter process spoken to by an MCP client over stdio, a recording, its
replay, and a contract that changes. Only the assistant is scripted; it takes its data from the
contract's examples, and makes one mistake on purpose.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mock_mcp.errors import MissingExtra, MockMcpError
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.launch import find_daemons
from mock_mcp.runtime.locks import FileLock
from mock_mcp.runtime.shield import shielded

if TYPE_CHECKING:
    from mock_mcp.adapter.scripted import ScriptedAssistant

__all__ = ["configure", "run"]

_WAIT_MS = 20_000
_RUN_S = 60.0
_NEEDED = ("mcp", "pytest", "httpx")
_SETTINGS = '[tool.mock-mcp]\nopenapi = ["petstore.json"]\n'
_RECORDING = "__mocks__/test_shop/test_front_page.json"
_TOTAL = {"type": "number", "minimum": 0, "description": "What the order costs"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--keep", action="store_true", help="keep the project the demo makes")


def run(options: argparse.Namespace) -> int:
    """Tell the story; 0 when every step worked."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"The demo needs {', '.join(missing)}: install it with `pip install 'mock-mcp[demo]'`."
        )
    directory = Path(tempfile.mkdtemp(prefix="mock-mcp-demo-")).resolve()
    story = _Story(directory)
    try:
        asyncio.run(story.tell())
    except BaseException:
        if not story.is_interrupted:
            raise
        print("\nInterrupted; cleaned up.")
        return 130
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
        # The demo may itself run in CI or under pytest; its own pytest must not notice.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in ("CI", "MOCK_MCP") and not name.startswith(("PYTEST_", "COV_"))
        }
        self._env = {
            **inherited,
            "MOCK_MCP_CACHE_DIR": str(self._cache),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "utf-8",
            "PYTHONUNBUFFERED": "1",
        }
        self._bold, self._dim, self._plain = (
            ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")
        )
        self._pets: dict[str, dict[str, Any]] = {}
        self._steps = 0
        self.is_interrupted = False

    async def tell(self) -> None:
        self._stop_on_signals()
        self._step("A project: the contract of an API, and a test that calls it")
        self._project.mkdir(parents=True)
        self._project.joinpath("pyproject.toml").write_text(_SETTINGS)
        for name in ("petstore.json", "test_shop.py"):
            text = files("mock_mcp.demo").joinpath(name).read_text("utf-8")
            self._project.joinpath(name).write_text(text, "utf-8")
        test = self._project.joinpath("test_shop.py").read_text("utf-8")
        self._say(test[test.index("@pytest") :])
        try:
            await self._record()
            await self._replay()
            await self._change_the_contract()
            await self._ask_again()
        finally:
            await self._stop_daemon()
        self._step("Cleaned up: no process and no file is left")
        print(
            "\nThat is mock-mcp. Next: run `mock-mcp init` in a project of yours, and ask your\n"
            "assistant to serve the mocks of its tests."
        )

    def _stop_on_signals(self) -> None:
        """Make Ctrl-C and SIGTERM end the story through its clean-up."""
        task = asyncio.current_task()

        def stop() -> None:
            if task is not None and not self.is_interrupted:
                self.is_interrupted = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises by itself
                asyncio.get_running_loop().add_signal_handler(number, stop)

    # -- The steps ---------------------------------------------------------------------------

    async def _record(self) -> None:
        self._step(
            "MOCK_MCP=1 pytest: the calls are parked for an assistant (here a script, no AI)"
        )
        async with self._assistant() as assistant:
            self._say("its MCP tools: " + ", ".join(await assistant.tools()))
            async with _Run.start(self, "pytest", live=True) as test:
                batch = await self._claim(assistant, test)
                self._step("It answers the first call, with a mistake: a pet that is 'sold out'")
                mocks = self._from_contract(batch)
                pet = {**mocks[0]["data"][0], "status": "sold out"}
                refused = await assistant.provide(batch, [{**mocks[0], "data": [pet]}])
                if not refused.is_error:
                    raise MockMcpError(f"The wrong answer was let through: {refused.text}")
                self._say(refused.text)
                self._step("It corrects that, and answers the other calls")
                await self._provide(assistant, batch)
                for _ in range(2):
                    await self._provide(assistant, await self._claim(assistant, test))
                self._step("The test has its data and passes; its calls are recorded")
                self._say(await test.end())
        await self._stop_daemon()
        self._say(await _Run.output(self, "mock-mcp", "show", _RECORDING))

    async def _replay(self) -> None:
        self._step("pytest: the recording is replayed. No assistant, no daemon, no network")
        self._say(await _Run.output(self, "pytest"))

    async def _change_the_contract(self) -> None:
        self._step("The API changes: an order now says its total. mock-mcp check, without tests:")
        file = self._project / "petstore.json"
        document = json.loads(file.read_text("utf-8"))
        order = document["components"]["schemas"]["Order"]
        order["required"].append("total")
        order["properties"]["total"] = _TOTAL
        file.write_text(json.dumps(document, indent=2), "utf-8")
        self._say(await _Run.output(self, "mock-mcp", "check", code=1))

    async def _ask_again(self) -> None:
        self._step("MOCK_MCP=1 pytest --mock-mode=new_episodes: only that answer is asked for")
        async with (
            self._assistant() as assistant,
            _Run.start(self, "pytest", "--mock-mode=new_episodes", live=True) as test,
        ):
            await self._provide(assistant, await self._claim(assistant, test))
            self._say(await test.end())
        self._say(await _Run.output(self, "mock-mcp", "check"))

    # -- The assistant -----------------------------------------------------------------------

    @asynccontextmanager
    async def _assistant(self) -> AsyncIterator[ScriptedAssistant]:
        from mock_mcp.adapter.scripted import ScriptedAssistant

        async with ScriptedAssistant.start(str(self._project), self._env) as assistant:
            yield assistant

    async def _claim(self, assistant: ScriptedAssistant, test: _Run) -> Mapping[str, Any]:
        """Return the next batch; raises when the test ends without asking."""
        claim = asyncio.create_task(assistant.claim(_WAIT_MS))
        await asyncio.wait((claim, test.ended), return_when=asyncio.FIRST_COMPLETED)
        batch = claim.result() if claim.done() else None
        if batch is None:
            claim.cancel()
            raise MockMcpError(f"The demo's test asked for nothing:\n{await test.end(code=None)}")
        for request in batch["requests"]:
            self._say(f"parked: {request['method']} {request['endpoint']}")
        return batch

    async def _provide(self, assistant: ScriptedAssistant, batch: Mapping[str, Any]) -> None:
        accepted = await assistant.provide(batch, self._from_contract(batch))
        if accepted.is_error:
            raise MockMcpError(f"The demo's answer was refused: {accepted.text}")

    def _from_contract(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        from mock_mcp.contract.expected import sample_mock
        from mock_mcp.contract.project import ProjectContracts

        contracts, _ = ProjectContracts(self._project).current()
        return [
            self._agreeing(
                request, msgspec.to_builtins(sample_mock(contracts, request, seed="demo-2"))
            )
            for request in batch["requests"]
        ]

    def _agreeing(self, request: Mapping[str, Any], mock: dict[str, Any]) -> dict[str, Any]:
        """Return a sample that agrees with what is sent and listed before, as an assistant's."""
        data = mock["data"]
        if isinstance(data, list):
            self._pets = {str(pet["id"]): pet for pet in data}
            return mock
        listed = self._pets.get(request["endpoint"].rpartition("/")[2], {})
        return {**mock, "data": {**data, **listed, **request.get("body", {})}}

    async def _stop_daemon(self) -> None:
        from mock_mcp.control.client import DaemonClient

        cache = CacheDirectory(self._cache)
        for info in find_daemons(cache):
            async with DaemonClient.of(info) as client:
                await client.shutdown()
            with FileLock(cache.lock(info.project_id)) as lock:
                lock.acquire(timeout_s=5)  # held by the daemon until it is gone

    # -- How it is told ----------------------------------------------------------------------

    def command(self, name: str, *arguments: str) -> list[str]:
        """Return the command line of a program that is installed beside this one."""
        if name == "pytest":
            name = "pytest -q --tb=short -p mock_mcp.pytest_plugin -p no:cacheprovider"
        else:
            name = "mock_mcp"
        return [sys.executable, "-P", "-m", *name.split(), *arguments]

    def environment(self, *, live: bool) -> dict[str, str]:
        """Return the environment of a run; a live one may ask the assistant."""
        return {**self._env, "MOCK_MCP": "1"} if live else self._env

    @property
    def project(self) -> Path:
        """The project's directory."""
        return self._project

    def _step(self, title: str) -> None:
        self._steps += 1
        print(f"\n{self._bold}{self._steps}. {title}{self._plain}", flush=True)

    def _say(self, text: str) -> None:
        for line in text.strip("\n").splitlines():
            print(f"   {self._dim}{line}{self._plain}".rstrip(), flush=True)


class _Run:
    """A program of the story, running in its project."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.ended = asyncio.create_task(process.communicate())

    @classmethod
    @asynccontextmanager
    async def start(
        cls, story: _Story, name: str, *arguments: str, live: bool = False
    ) -> AsyncIterator[_Run]:
        """Start the program; it is killed if it is still there at the end."""
        process = await asyncio.create_subprocess_exec(
            *story.command(name, *arguments),
            cwd=story.project,
            env=story.environment(live=live),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        run = cls(process)
        try:
            yield run
        finally:
            if process.returncode is None:
                process.kill()
            await run.ended

    @classmethod
    async def output(cls, story: _Story, name: str, *arguments: str, code: int = 0) -> str:
        """Run the program to its end and return what it prints."""
        async with cls.start(story, name, *arguments) as run:
            return await run.end(code=code)

    async def end(self, code: int | None = 0) -> str:
        """Wait for the end; return what was printed.

        Raises:
            MockMcpError: The exit code is not ``code``; None expects none.
        """
        output, _ = await asyncio.wait_for(shielded(self.ended), _RUN_S)
        text: str = output.decode("utf-8", "replace")
        if code is not None and self._process.returncode != code:
            raise MockMcpError(f"A step of the demo failed:\n{text}")
        return text
