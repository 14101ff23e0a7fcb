"""What only niquests has; what it shares with the others is in the integration suite."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from mock_mcp.exchange import HttpRequest, HttpResponse, NetworkBlocked, TransportFailure
from mock_mcp.interceptors import install
from unit.interceptors.servers import FakeExchange

niquests = pytest.importorskip("niquests", reason="niquests is not installed here")

URL = "http://a.test/"


def adapters() -> list[Any]:
    return [
        dict(vars(niquests.adapters.HTTPAdapter)),
        dict(vars(niquests.adapters.AsyncHTTPAdapter)),
    ]


def run(exchange: FakeExchange, work: Any, **session: Any) -> Any:
    async def main() -> Any:
        async with niquests.AsyncSession(**session) as client:
            return await work(client)

    with install(exchange):
        main_: Coroutine[Any, Any, Any] = main()
        return asyncio.run(main_)


def test_everything_is_undone_exactly() -> None:
    before = adapters()
    with install(FakeExchange()):
        assert adapters() != before
    assert adapters() == before


def flaky() -> FakeExchange:
    answers = iter([503, "refused", 200])

    def answer(request: HttpRequest) -> HttpResponse:
        status = next(answers)
        if isinstance(status, str):
            raise TransportFailure(status)
        return HttpResponse.from_mock(request, {}, status=status)

    return FakeExchange(answer)


def retry() -> Any:
    kind = type(niquests.adapters.HTTPAdapter().max_retries)
    return kind(total=3, status_forcelist=[503], backoff_factor=0)


def test_retries() -> None:
    exchange = flaky()
    with install(exchange), niquests.Session(retries=retry()) as session:
        assert session.get(URL).status_code == 200
    assert len(exchange.requests) == 3


def test_retries_of_an_async_session() -> None:
    async def work(session: Any) -> int:
        return (await session.get(URL)).status_code

    exchange = flaky()
    assert run(exchange, work, retries=retry()) == 200
    assert len(exchange.requests) == 3


def test_retries_run_out() -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse.from_mock(request, {}, status=503)

    with (
        install(FakeExchange(answer)),
        niquests.Session(retries=retry()) as session,
        pytest.raises(niquests.exceptions.RetryError),
    ):
        session.get(URL)


def test_every_form_of_a_timeout() -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse.from_mock(request, {}, delay_s=600)

    with install(FakeExchange(answer)):
        for timeout in (0.01, (None, 0.01), (None, 600, 0.01)):
            with pytest.raises(niquests.exceptions.ReadTimeout):
                niquests.get(URL, timeout=timeout)


def test_multiplexed_calls_are_answered_at_once() -> None:
    with install(FakeExchange()), niquests.Session(multiplexed=True) as session:
        responses = [session.get(URL) for _ in range(3)]
        session.gather()
        assert [response.status_code for response in responses] == [200] * 3

    async def work(session: Any) -> list[int]:
        found = [await session.get(URL) for _ in range(3)]
        await session.gather()
        return [response.status_code for response in found]

    assert run(FakeExchange(), work, multiplexed=True) == [200] * 3


def test_streams_of_both_kinds() -> None:
    with install(FakeExchange()), niquests.Session() as session:
        response = session.get(URL, stream=True)
        assert next(response.iter_lines()) == b'{"method":"GET","body":null}'

    async def work(session: Any) -> Any:
        response = await session.post(URL, data=b"x", stream=True)
        return await response.json()

    assert run(FakeExchange(), work) == {"method": "POST", "body": "x"}


def test_a_scheme_of_its_own_is_not_http() -> None:
    exchange = FakeExchange()
    refused = (NetworkBlocked, niquests.exceptions.InvalidSchema)  # older ones do not know it
    with install(exchange), niquests.Session() as session, pytest.raises(refused):
        session.get("psse://a.test/")  # server-sent events
    assert exchange.requests == []
