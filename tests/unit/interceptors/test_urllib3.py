"""What only urllib3 has; what it shares with the others is in the integration suite."""

from __future__ import annotations

import http.client
import io
import time

import pytest

from mock_mcp.exchange import HttpRequest, HttpResponse, TransportFailure
from mock_mcp.interceptors import install
from unit.interceptors.servers import FakeExchange, RealServer

urllib3 = pytest.importorskip("urllib3")
if not issubclass(urllib3.connection.HTTPConnection, http.client.HTTPConnection):
    pytest.skip("urllib3-future is in urllib3's place", allow_module_level=True)

URL = "http://a.test/"


def test_retries_are_its_own() -> None:
    answers = iter(["refused", "reset", 503, 200])

    def answer(request: HttpRequest) -> HttpResponse:
        status = next(answers)
        if isinstance(status, str):
            raise TransportFailure(status)
        return HttpResponse.from_mock(request, {}, status=status)

    retries = urllib3.Retry(total=5, status_forcelist=[503], backoff_factor=0)
    exchange = FakeExchange(answer)
    with install(exchange), urllib3.PoolManager() as pool:
        assert pool.request("GET", URL, retries=retries).status == 200
    assert len(exchange.requests) == 4


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("refused", urllib3.exceptions.NewConnectionError),
        ("unresolved", urllib3.exceptions.NewConnectionError),
        ("connect_timeout", urllib3.exceptions.ConnectTimeoutError),
        ("read_timeout", urllib3.exceptions.ReadTimeoutError),
        ("reset", urllib3.exceptions.ProtocolError),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_failures(scheme: str, kind: str, error: type[Exception]) -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        raise TransportFailure(kind)

    with install(FakeExchange(answer)), urllib3.PoolManager() as pool, pytest.raises(error):
        pool.request("GET", f"{scheme}://a.test/", retries=False)


def test_waiting_for_the_exchange_is_not_counted() -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        time.sleep(0.05)
        return HttpResponse.from_mock(request, {})

    with install(FakeExchange(answer)), urllib3.PoolManager() as pool:
        for timeout in (0.02, urllib3.Timeout(total=0.02), urllib3.Timeout(read=0.02)):
            assert pool.request("GET", URL, timeout=timeout, retries=False).status == 200


def test_a_pool_gives_its_connection_back() -> None:
    exchange = FakeExchange()
    with install(exchange), urllib3.HTTPSConnectionPool("a.test", maxsize=1, block=True) as pool:
        for _ in range(3):
            assert pool.request("GET", "/", pool_timeout=5).status == 200
        response = pool.request("GET", "/", preload_content=False, pool_timeout=5)
        assert io.BufferedReader(response).read() == b'{"method":"GET","body":null}'
        response.release_conn()
        assert pool.request("GET", "/", pool_timeout=5).status == 200
    assert len(exchange.requests) == 5


def test_a_connection_by_itself() -> None:
    with install(FakeExchange()):
        connection = urllib3.connection.HTTPSConnection("a.test")
        connection.request("POST", "/", body=b"hi")
        response = connection.getresponse()  # of 1.26 it is http.client's
        body = response.data if hasattr(response, "data") else response.read()
        assert body == b'{"method":"POST","body":"hi"}'
        connection.close()


def test_pools_work_after_the_end() -> None:
    server = RealServer()
    try:
        with urllib3.PoolManager() as pool:
            with install(FakeExchange()):
                assert pool.request("GET", URL).status == 200
                assert pool.request("GET", server.url).status == 200
            assert pool.request("GET", server.url).status == 200
    finally:
        server.close()
    assert len(server.requests) == 2


def test_a_client_that_waits_for_100_continue() -> None:
    """As botocore does, for bodies to S3; it reads the socket itself."""
    head = b"PUT / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    exchange = FakeExchange()
    with install(exchange):
        connection = urllib3.connection.HTTPConnection("a.test")
        connection.connect()
        sock = connection.sock
        sock.sendall(head)
        assert urllib3.util.wait.wait_for_read(sock, 30)
        assert sock.makefile("rb", 0).read() == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"body")
        sock.ask_now()
        assert sock.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        connection.close()
    assert exchange.requests[0].body == b"body"


def test_a_connection_that_waits_is_alive() -> None:
    with install(FakeExchange()):
        connection = urllib3.connection.HTTPSConnection("a.test")
        connection.connect()
        assert not urllib3.util.connection.is_connection_dropped(connection)
        connection.close()
