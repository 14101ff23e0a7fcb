"""What only httplib2 has; what it shares with the others is in the integration suite."""

from __future__ import annotations

import pytest

from mock_mcp.exchange import HttpRequest, HttpResponse, TransportFailure
from mock_mcp.interceptors import install
from unit.interceptors.servers import FakeExchange, RealServer

httplib2 = pytest.importorskip("httplib2")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("refused", ConnectionRefusedError),
        ("unresolved", httplib2.ServerNotFoundError),
        ("connect_timeout", TimeoutError),
        ("read_timeout", TimeoutError),
        ("reset", ConnectionResetError),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_failures(scheme: str, kind: str, error: type[Exception]) -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        raise TransportFailure(kind)

    with install(FakeExchange(answer)), pytest.raises(error):
        httplib2.Http().request(f"{scheme}://a.test/")


def test_its_connections_are_as_before() -> None:
    before = [dict(vars(kind)) for kind in httplib2.SCHEME_TO_CONNECTION.values()]
    client, server = httplib2.Http(), RealServer()
    try:
        for _ in range(2):
            with install(FakeExchange()):
                assert client.request("https://a.test/")[0].status == 200
                assert client.request(server.url)[0].status == 200
            assert [dict(vars(kind)) for kind in httplib2.SCHEME_TO_CONNECTION.values()] == before
    finally:
        client.close()
        server.close()
    assert len(server.requests) == 2
