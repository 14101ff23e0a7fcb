"""What the tests of the client share: clients of a project, who answers them, and a broom."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import mock_mcp
from mock_mcp.control.client import DaemonClient
from support.daemons import ServedDaemon
from support.responder import Responder, respond_to
from support.script import Script
from support.ws import eventually


@pytest.fixture
def served(daemon: ServedDaemon) -> Iterator[ServedDaemon]:
    """A daemon whose every batch is answered with its endpoints."""

    async def begin() -> asyncio.Task[None]:
        client = DaemonClient.of(daemon.info)
        task = asyncio.get_running_loop().create_task(Responder(client).serve())
        task.add_done_callback(lambda _: asyncio.ensure_future(client.close()))
        return task

    async def end(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait({task})

    task = daemon.run(begin())
    yield daemon
    daemon.run(end(task))


@pytest_asyncio.fixture
async def responder(daemon: ServedDaemon) -> AsyncIterator[Responder]:
    async with respond_to(daemon.info) as responder:
        yield responder


@pytest.fixture
def connect(project: Path, cache_dir: Path) -> Callable[..., Any]:
    return functools.partial(
        mock_mcp.connect, project_root=project, cache_dir=cache_dir, enabled=True
    )


@pytest.fixture
def connect_sync(project: Path, cache_dir: Path) -> Callable[..., Any]:
    return functools.partial(
        mock_mcp.connect_sync, project_root=project, cache_dir=cache_dir, enabled=True
    )


@pytest.fixture
def nothing_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No thread of a client stays, nothing is unclosed, and no error was only logged."""
    yield
    eventually(lambda: not client_threads())
    gc.collect()
    records = [each for when in ("setup", "call", "teardown") for each in caplog.get_records(when)]
    errors = [record.getMessage() for record in records if record.levelno >= logging.ERROR]
    assert not errors, errors


def client_threads() -> list[str]:
    names = ("mock-mcp-client", "mock-mcp-launch")
    return [each.name for each in threading.enumerate() if each.name in names]


@pytest.fixture
def script(project: Path, cache_dir: Path) -> Iterator[Callable[[str], Script]]:
    scripts: list[Script] = []

    def start(code: str) -> Script:
        scripts.append(Script(project, cache_dir, code))
        return scripts[-1]

    yield start
    for each in scripts:
        each.close()
