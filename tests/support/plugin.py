"""A project whose tests are mocked, run by pytest inside pytest."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.control.client import DaemonClient
from mock_mcp.limits import Limits
from mock_mcp.types import Mock
from support.daemons import ServedDaemon
from support.ws import HANG_S

# pytester forgets modules that a run inside this process imports first, and the next run would
# import them again, beside the classes that the daemon of this process uses.
for name in (
    *(
        "httpcore",
        "httpx",
        "requests",
        "hypothesis",
        "anyio._backends._asyncio",
        "pytest_asyncio.plugin",
    ),
    *("mock_mcp.client.connect", "mock_mcp.contract.expected"),
    *("mock_mcp.contract.project", "mock_mcp.interceptors.httpx", "mock_mcp.interceptors.requests"),
    *("mock_mcp.interceptors.http_client", "mock_mcp.interceptors.context"),
    "mock_mcp.interceptors.guard",
    *("mock_mcp.pytest_plugin.session", "mock_mcp.recordings.survey"),
):
    importlib.import_module(name)

PLUGINS = tuple(
    argument
    for name in ("mock_mcp.pytest_plugin", "pytest_asyncio.plugin", "xdist.plugin")
    for argument in ("-p", name)
)
"""Loaded by name: finding and importing all that are installed takes longer than a test.

That pytest loads ours by itself is seen by the tests of the doctor and of the examples.
"""
USER = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {"id": {"type": "integer"}, "name": {"type": "string"}},
}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "users", "version": "1"},
    "servers": [{"url": "https://api.test"}],
    "paths": {
        "/users/{id}": {
            "get": {
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
                ],
                "responses": {
                    "200": {
                        "description": "A user.",
                        "content": {"application/json": {"schema": USER}},
                    }
                },
            }
        },
        "/users": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {"name": {"type": "string"}},
                            }
                        }
                    }
                },
                "responses": {
                    "201": {
                        "description": "The new user.",
                        "content": {"application/json": {"schema": USER}},
                    }
                },
            }
        },
    },
}
ELSEWHERE = """
    @pytest.mark.mock_mcp
    def test_one(monkeypatch, tmp_path):
        for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "MOCK_MCP_CACHE_DIR"):
            monkeypatch.setenv(name, str(tmp_path))
        assert user()
"""
"""A test that changes all by which a daemon is found."""

HEAD = """
import httpx, pytest

def user(n=1):
    return httpx.get(f"https://api.test/users/{n}").json()["name"]
"""


class PluginProject:
    """A project with a contract and a test module ``test_app.py``, run inside this process."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = pytester.path
        self._pytester = pytester
        self._monkeypatch = monkeypatch
        for variable in ("CI", "MOCK_MCP", "PYTEST_ADDOPTS"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        self.contract(DOCUMENT)
        self.settings()

    def settings(self, lines: str = "") -> None:
        """Write ``[tool.mock-mcp]``, with the contract unless it is given."""
        openapi = "" if "openapi" in lines else 'openapi = ["openapi.json"]'
        (self.path / "pyproject.toml").write_text(
            f"[tool.mock-mcp]\n{openapi}\n{lines}\n"
            "[tool.pytest.ini_options]\nasyncio_default_fixture_loop_scope = 'function'\n"
        )

    def contract(self, document: dict[str, Any]) -> None:
        (self.path / "openapi.json").write_text(json.dumps(document))

    def write(self, code: str, name: str = "test_app.py") -> None:
        """Write a test module; `HEAD` comes first."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = code.strip("\n").splitlines()
        margin = min((len(s) - len(s.lstrip()) for s in lines if s.strip()), default=0)
        path.write_text(HEAD + "\n".join(line[margin:] for line in lines) + "\n")

    def run(self, *arguments: str, **env: str) -> Result:
        """Run pytest in this process."""
        with self._monkeypatch.context() as patch:
            for variable, value in env.items():
                patch.setenv(variable, value)
            plugins = (*PLUGINS, "-p", "anyio.pytest_plugin", "-p", "no:cacheprovider")
            return Result(self._pytester.runpytest_inprocess(*plugins, *arguments))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pytest", *PLUGINS, *arguments]

    def environment(self, **env: str) -> dict[str, str]:
        return {**os.environ, "COLUMNS": "120", **env}

    def spawn(self, *arguments: str, before: Sequence[str] = (), **env: str) -> Result:
        """Run pytest in a process of its own; ``before`` comes before the command."""
        ended = subprocess.run(
            [*before, *self.command(*arguments)],
            cwd=self.path,
            env=self.environment(**env),
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Result(
            pytest.RunResult(
                pytest.ExitCode(ended.returncode),
                ended.stdout.splitlines(),
                ended.stderr.splitlines(),
                0.0,
            )
        )

    @contextlib.contextmanager
    def start(self, *arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        """Start pytest in a process of its own; it is killed at the end."""
        command = self.command("-p", "no:cacheprovider", *arguments)
        with subprocess.Popen(
            command,
            cwd=self.path,
            env=self.environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def record(self, *arguments: str) -> None:
        """Record what is missing, with answers sampled from the contract."""
        result = self.run("--mock-source=example", "--mock-mode=new_episodes", *arguments)
        assert result.ret == 0, result.text

    def recordings(self) -> dict[str, bytes]:
        """The files that hold recordings, by their path from the project."""
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in sorted(self.path.rglob("__mocks__/**/*"))
            if path.is_file()
        }

    def recording(self, name: str = "test_app/test_one.json") -> Any:
        return json.loads((self.path / "__mocks__" / name).read_bytes())

    def bodies(self, name: str = "test_app/test_one.json") -> list[Any]:
        return [item["response"].get("body") for item in self.recording(name)["interactions"]]


class Result:
    """How a run of pytest ended."""

    def __init__(self, result: pytest.RunResult) -> None:
        self.ret = result.ret
        self.text = "\n".join([*result.outlines, *result.errlines])
        self._result = result

    def outcomes(self) -> dict[str, int]:
        return {
            name: count
            for name, count in self._result.parseoutcomes().items()
            if name not in ("warning", "warnings")
        }


Answer = Callable[[dict[str, Any]], dict[str, Any]]


class ScriptedAssistant:
    """Serves the mocks of a project in this process; ``asked`` are the requests it answered."""

    def __init__(self, project: Path, cache_dir: Path) -> None:
        self.daemon = ServedDaemon(project, cache_dir, Limits())
        self.asked: list[dict[str, Any]] = []
        self.answer: Answer = self._default
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer."""
        self._task = self.daemon.run(self._begin())

    def leave(self) -> None:
        """Answer no more; the daemon stays."""
        if self._task is not None:
            self.daemon.run(self._end(self._task))
            self._task = None

    def status(self) -> Any:
        """Return what the daemon says of itself."""
        return self.daemon.control.call("getStatus")

    def close(self) -> None:
        self.leave()
        self.daemon.close()

    def _default(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"data": {"id": 1, "name": f"asked {len(self.asked)}"}}

    async def _begin(self) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        async with DaemonClient.of(self.daemon.info) as client:
            while True:
                await client.wait_for_batch(HANG_S * 1000)
                while claim := await client.claim_next_batch("scripted"):
                    mocks = []
                    for request in claim.requests:
                        self.asked.append(request)
                        mocks.append(Mock(request["requestId"], **self.answer(request)))
                    await client.provide_batch("scripted", claim.batch_id, claim.claim_token, mocks)

    async def _end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
def tests(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, cache_dir: Path
) -> PluginProject:
    """A project with a contract; its daemon, if one is started, ends with the test."""
    return PluginProject(pytester, monkeypatch)


@pytest.fixture
def assistant(tests: PluginProject, cache_dir: Path) -> Iterator[ScriptedAssistant]:
    """A scripted assistant that answers everything."""
    served = ScriptedAssistant(tests.path, cache_dir)
    try:
        served.start()
        yield served
    finally:
        served.close()
