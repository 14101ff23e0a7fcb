"""What only some libraries have, with the real API behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests
import trio
import urllib3

from mock_mcp.exchange import HttpRequest, HttpResponse
from mock_mcp.interceptors import install
from mock_mcp.runtime.project import Project
from mock_mcp.scope import Polices, Scope, make_settings
from unit.interceptors.servers import Answer, RealServer, free_port


@pytest.fixture
def scope(project: Path, cache_dir: Path) -> Scope:
    settings = make_settings({"mode": "all", "source": "live", "hosts": ["127.0.0.1", "localhost"]})
    return Scope(None, settings, polices=Polices(Project.resolve(project), cache_dir=cache_dir))


@pytest.fixture
def servers() -> Iterator[list[RealServer]]:
    """Servers to be closed."""
    started: list[RealServer] = []
    yield started
    for server in started:
        server.close()


def statuses(*answers: int) -> Answer:
    left = iter(answers)
    return lambda request: HttpResponse.from_mock(request, {}, status=next(left))


def test_httpx_on_trio(scope: Scope, servers: list[RealServer]) -> None:
    servers.append(RealServer())
    url = servers[0].url.replace("127.0.0.1", "localhost")

    async def main() -> list[int]:
        found: list[int] = []
        async with httpx.AsyncClient() as client:

            async def get(number: int) -> None:
                found.append((await client.get(f"{url}/{number}")).status_code)

            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(get, number)
        return found

    with install(scope):
        assert trio.run(main) == [200] * 8
    assert len(servers[0].requests) == 8


def session(retries: urllib3.Retry) -> requests.Session:
    made = requests.Session()
    made.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
    return made


def test_each_retry_of_requests_is_a_call(scope: Scope, servers: list[RealServer]) -> None:
    servers.append(RealServer(statuses(503, 503, 200)))
    retries = urllib3.Retry(total=3, status_forcelist=[503], backoff_factor=0)
    with install(scope), session(retries) as client:
        assert client.get(servers[0].url).status_code == 200
    assert len(servers[0].requests) == 3
    assert [call.status for call in scope.calls] == [503, 503, 200]


def test_retries_that_run_out_end_as_without_us(scope: Scope) -> None:
    retries = urllib3.Retry(total=2, backoff_factor=0)
    url = f"http://127.0.0.1:{free_port()}/"
    with install(scope), session(retries) as client, pytest.raises(requests.ConnectionError):
        client.get(url)
    assert len(scope.calls) == 3
    assert [call.source for call in scope.calls] == [None] * 3


@pytest.mark.parametrize("status", [200, 503])
def test_the_adapter_of_a_caller_is_not_changed(
    scope: Scope, servers: list[RealServer], status: int
) -> None:
    servers.append(RealServer(statuses(status)))
    with install(scope), session(urllib3.Retry(total=7)) as client:
        before = dict(vars(client.get_adapter("http://")))
        assert client.get(servers[0].url).status_code == status
        assert vars(client.get_adapter("http://")) == before


def test_the_total_timeout_of_aiohttp_holds(scope: Scope, servers: list[RealServer]) -> None:
    def slow(request: HttpRequest) -> HttpResponse:
        return HttpResponse.from_mock(request, {}, delay_s=600)

    servers.append(RealServer(slow))

    async def main() -> None:
        timeout = aiohttp.ClientTimeout(total=0.2)
        async with aiohttp.ClientSession(timeout=timeout) as client:
            await client.get(servers[0].url)

    with install(scope), pytest.raises(TimeoutError):
        asyncio.run(main())
    assert "gave no answer" in scope.live.notes[0]
