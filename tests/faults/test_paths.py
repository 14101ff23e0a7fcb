"""A project may be anywhere: a whole round with a client, a daemon and an adapter."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_mcp.control.client import DaemonClient
from mock_mcp.runtime.cache import SOCKET_PATH_BYTES
from mock_mcp.types import Mock
from support.daemons import kill_daemons
from support.place import Place
from support.ws import HANG_S, eventually


def long_name(parent: Path, size: int) -> Path:
    """Return a directory below another whose path has so many bytes."""
    path = os.fsencode(parent)
    while (left := size - len(path) - 1) > 0:
        path += b"/" + b"d" * (left if left <= 200 else min(200, left - 2))
    assert len(path) == size
    return Path(os.fsdecode(path))


ROOTS = {
    "4000 bytes": lambda parent: long_name(parent, 4000),
    "spaces": lambda parent: parent / " a project  with spaces ",
    "quotes and newlines": lambda parent: parent / 'it\'s "a"\n$project;',
    "not UTF-8": lambda parent: parent / os.fsdecode(b"caf\xe9\xff"),
    "beyond latin": lambda parent: parent / "项目 🚀",
}


@pytest.fixture(params=ROOTS)
def anywhere(request: pytest.FixtureRequest, project: Path, cache_dir: Path) -> Place:
    root: Path = ROOTS[request.param](project)
    root.mkdir(parents=True)
    (root / "package.json").touch()
    return Place(root, cache_dir)


@pytest.fixture
def cache_far_away(short_dir: Path, project: Path) -> Iterator[Place]:
    cache = long_name(short_dir / "far", 1500)
    yield Place(project, cache)
    kill_daemons(cache)


async def a_whole_round(place: Place) -> None:
    async with place.connect(file_path=place.root / "test_a.py") as client:
        async with place.adapter("a") as claims:
            asked = asyncio.create_task(client.request_mock("/a"))
            found = await claims.claim_next(wait_s=HANG_S)
            assert found is not None
            claim = found.claim
            await claims.provide(claim.batch_id, claim.claim_token, [Mock("r1", "é")])
            assert (await asked).data == "é"
            assert found.test is not None
            found.daemon.info.project_root.encode()
        info = await asyncio.to_thread(place.start)
        async with DaemonClient.of(info) as control:
            assert (await control.list_runs())[0].cwd == str(Path.cwd())
    async with DaemonClient.of(info) as control:
        await control.shutdown()
    eventually(lambda: not place.socket.exists())
    assert not place.cache.registry(place.project.id).exists()


@pytest.mark.asyncio
async def test_a_project_anywhere(anywhere: Place) -> None:
    await a_whole_round(anywhere)


@pytest.mark.asyncio
async def test_a_cache_whose_path_no_socket_can_have(cache_far_away: Place) -> None:
    await a_whole_round(cache_far_away)
    assert len(os.fsencode(cache_far_away.socket)) <= SOCKET_PATH_BYTES


def test_the_project_is_found_from_a_file_in_it(anywhere: Place) -> None:
    below = anywhere.root / "tests"
    below.mkdir()
    with anywhere.connect_sync(project_root=None, file_path=below / "test_a.py"):
        assert anywhere.pid() is not None
