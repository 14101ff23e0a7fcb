"""What only requests has; what it shares with the others is in the integration suite."""

from __future__ import annotations

import pytest

from mock_mcp.exchange import HttpRequest, HttpResponse, TransportFailure
from mock_mcp.interceptors import install
from unit.interceptors.servers import FakeExchange

requests = pytest.importorskip("requests")


@pytest.mark.parametrize(
    ("url", "pool"),
    [
        ("https://a.test/x?q=1", "HTTPSConnectionPool(host='a.test', port=443)"),
        ("http://a.test:81/x?q=1", "HTTPConnectionPool(host='a.test', port=81)"),
    ],
)
def test_the_text_of_a_failure_names_the_pool_and_the_target(url: str, pool: str) -> None:
    def fail(request: HttpRequest) -> HttpResponse:
        raise TransportFailure("refused")

    with install(FakeExchange(fail)), pytest.raises(requests.ConnectionError) as caught:
        requests.get(url)
    assert str(caught.value).startswith(f"{pool}: Max retries exceeded with url: /x?q=1 (Caused by")
    assert "Connection refused" in str(caught.value)
