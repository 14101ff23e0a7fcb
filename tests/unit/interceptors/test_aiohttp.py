"""What only aiohttp has; what it shares with the others is in the integration suite."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from mock_mcp.exchange import HttpRequest, HttpResponse, NetworkBlocked
from mock_mcp.interceptors import install
from support.ws import HANG_S
from unit.interceptors.servers import FakeExchange

aiohttp = pytest.importorskip("aiohttp")

URL = "http://a.test/"


def run(
    exchange: FakeExchange, work: Callable[[Any], Coroutine[Any, Any, Any]], **session: Any
) -> Any:
    """Run a coroutine with a session of mocked calls; nothing may be left open."""

    async def main() -> Any:
        async with aiohttp.ClientSession(**session) as client:
            return await work(client)

    with install(exchange):
        result = asyncio.run(main())
    gc.collect()
    return result


class Slow(FakeExchange):
    """Answers after some turns of the loop, and counts who is asked together."""

    def __init__(self, answer: Any = None, pause_s: float = 0.05) -> None:
        super().__init__(*([answer] if answer else []))
        self.pause_s = pause_s
        self.together = 0
        self.most = 0
        self.cancelled = 0

    async def handle_async(self, request: HttpRequest, send: Any = None) -> HttpResponse:
        self.together += 1
        self.most = max(self.most, self.together)
        try:
            await asyncio.sleep(self.pause_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.together -= 1
        return self.handle(request)


def delayed(seconds: float) -> Callable[[HttpRequest], HttpResponse]:
    return lambda request: HttpResponse.from_mock(request, 1, delay_s=seconds)


# -- Timeouts ---------------------------------------------------------------------------------


def test_waiting_for_the_exchange_is_not_counted() -> None:
    async def work(session: Any) -> None:
        for timeout in ({"total": 0.01}, {"sock_read": 0.01}, {"connect": 0.01}):
            async with session.get(URL, timeout=aiohttp.ClientTimeout(**timeout)) as response:
                assert response.status == 200
                await asyncio.sleep(0.02)  # nor does a clock that was held hit later
                assert (await response.json())["method"] == "GET"

    run(Slow(), work)


def test_a_total_timeout_still_runs_after_the_exchange() -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        headers = {"Location": "/again"}
        return HttpResponse.from_mock(request, "", status=302, headers=headers, delay_s=0.02)

    async def work(session: Any) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await session.get(URL, timeout=aiohttp.ClientTimeout(total=0.01))

    run(Slow(answer), work)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        ({"total": 0.01}, asyncio.TimeoutError),
        ({"sock_read": 0.01}, aiohttp.ServerTimeoutError),
        ({"total": 300, "sock_read": 0.01}, aiohttp.ServerTimeoutError),
        ({"total": 0.01, "sock_read": 300}, asyncio.TimeoutError),
    ],
)
def test_a_delay_beyond_a_timeout(timeout: dict[str, float], error: type[Exception]) -> None:
    async def work(session: Any) -> None:
        with pytest.raises(error) as caught:
            await session.get(URL, timeout=aiohttp.ClientTimeout(**timeout))
        assert isinstance(caught.value, aiohttp.ClientError) is (error is not asyncio.TimeoutError)

    run(FakeExchange(delayed(600)), work)


@pytest.mark.parametrize("timeout", [{"total": 0}, {"total": None}, {"sock_read": 0}])
def test_a_timeout_of_zero_is_none(timeout: dict[str, float]) -> None:
    async def work(session: Any) -> None:
        async with session.get(URL, timeout=aiohttp.ClientTimeout(**timeout)) as response:
            assert response.status == 200

    run(Slow(delayed(0.01)), work)


def test_a_cancelled_call_is_cancelled_at_the_exchange() -> None:
    exchange = Slow(pause_s=600)

    async def work(session: Any) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await session.get(URL)
        task = asyncio.ensure_future(session.post(URL, json=1))
        while not exchange.together:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(exchange, work)
    assert exchange.cancelled == 2


# -- Requests ---------------------------------------------------------------------------------


def test_calls_of_every_kind_reach_the_exchange_together() -> None:
    exchange = Slow()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def work(session: Any) -> None:
        calls = [session.get(URL), session.post(URL, json=1), session.put(URL, data=chunks())]
        for response in await asyncio.gather(*calls):
            response.release()

    run(exchange, work)
    assert exchange.most == 3


def test_a_limit_of_connections_does_not_split_a_batch() -> None:
    exchange = Slow()

    async def work(_: Any) -> None:
        connector = aiohttp.TCPConnector(limit=1, limit_per_host=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            responses = await asyncio.gather(*(session.get(URL) for _ in range(20)))
            assert [response.status for response in responses] == [200] * 20
            for response in responses:
                response.close()

    run(exchange, work)
    assert exchange.most == 20


def test_expect_100_continue() -> None:
    async def work(session: Any) -> Any:
        async with session.post(URL, data=b"later", expect100=True) as response:
            return await response.json()

    assert run(FakeExchange(), work) == {"method": "POST", "body": "later"}


def test_expect_100_continue_before_a_body_in_pieces() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield b"abc"

    async def work(client: Any) -> int:
        async with asyncio.timeout(HANG_S), client.put(URL, data=pieces(), expect100=True) as resp:
            return int(resp.status)

    exchange = FakeExchange()
    assert run(exchange, work) == 200
    assert [request.body for request in exchange.requests] == [b"abcabcabc"]


def test_a_compressed_request() -> None:
    exchange = FakeExchange(lambda request: HttpResponse.from_mock(request, {}))

    async def work(session: Any) -> None:
        async with session.post(URL, data=b"x" * 1000, compress=True) as response:
            assert response.status == 200

    run(exchange, work)
    assert exchange.requests[0].header("content-encoding") == "deflate"
    assert 0 < len(exchange.requests[0].body) < 1000


def test_a_body_that_fails_is_the_callers_error() -> None:
    exchange = FakeExchange()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"begun"
        raise ZeroDivisionError

    async def work(session: Any) -> None:
        with pytest.raises((aiohttp.ClientError, ZeroDivisionError)):
            await session.post(URL, data=chunks())

    run(exchange, work)
    assert exchange.requests == []


def test_middlewares_and_traces_are_above() -> None:
    events: list[str] = []
    config = aiohttp.TraceConfig()
    for name in (
        "request_start",
        "connection_create_start",
        "connection_create_end",
        "request_end",
    ):

        async def note(session: Any, context: Any, params: Any, name: str = name) -> None:
            events.append(name)

        getattr(config, f"on_{name}").append(note)

    async def work(session: Any) -> None:
        async with session.get(URL) as response:
            await response.read()

    run(FakeExchange(), work, trace_configs=[config])
    assert events == [
        "request_start",
        "connection_create_start",
        "connection_create_end",
        "request_end",
    ]


# -- Responses --------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", [{}, {"Content-Encoding": "gzip"}])
def test_a_large_body_in_pieces(coding: dict[str, str]) -> None:
    text = "0123456789" * 500_000

    def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse.from_mock(request, text, headers=coding, media_type="text/plain")

    async def work(session: Any) -> bytes:
        async with session.get(URL) as response:
            assert response.connection is None or response.connection.transport is not None
            return b"".join([chunk async for chunk in response.content.iter_any()])

    assert run(FakeExchange(answer), work) == text.encode()


def test_a_body_without_length_ends_with_the_connection() -> None:
    answer = HttpResponse(200, (("content-type", "text/plain"),), b"all of it")

    async def work(session: Any) -> str:
        async with session.get(URL) as response:
            return await response.text()

    assert run(FakeExchange(lambda request: answer), work) == "all of it"


def test_a_response_nobody_reads() -> None:
    async def work(session: Any) -> None:
        for _ in range(2):
            response = await session.get(URL)
            response.close()

    exchange = FakeExchange()
    run(exchange, work)
    assert len(exchange.requests) == 2


# -- What is not ours -------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["ws://a.test/ws", "http://a.test/ws"])
def test_a_web_socket_is_refused_as_no_http(url: str) -> None:
    async def work(session: Any) -> None:
        with pytest.raises(NetworkBlocked, match="not HTTP"):
            await session.ws_connect(url)

    exchange = FakeExchange()
    run(exchange, work)
    assert exchange.requests == []


def test_a_unix_connector_is_left_alone(tmp_path: Any) -> None:
    async def work(_: Any) -> None:
        connector = aiohttp.UnixConnector(str(tmp_path / "nobody"))
        async with aiohttp.ClientSession(connector=connector) as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("http://docker/")

    exchange = FakeExchange()
    run(exchange, work)
    assert exchange.requests == []


def test_a_connector_that_is_closed() -> None:
    async def work(_: Any) -> None:
        connector = aiohttp.TCPConnector()
        session = aiohttp.ClientSession(connector=connector, connector_owner=False)
        await connector.close()
        with pytest.raises((aiohttp.ClientConnectionError, RuntimeError)):
            await session.get(URL)
        await session.close()

    run(FakeExchange(), work)
