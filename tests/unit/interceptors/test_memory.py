from __future__ import annotations

import itertools

import pytest

from mock_mcp.exchange import HttpRequest, HttpResponse, Origin
from mock_mcp.interceptors.memory import MemorySocket, RequestReader, render

ORIGIN = Origin.make("https", "a.test", None)
COUNTED = b"POST /p?q HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nX-A:  \x85b \r\n\r\nhello"
CHUNKED = (
    b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;ext=1\r\n\r\na\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_requests_in_any_pieces(size: int) -> None:
    data = COUNTED + CHUNKED + b"FOO http://b.test/x HTTP/1.1\r\n\r\n"
    reader = RequestReader(ORIGIN)
    found = []
    for start in range(0, len(data), size):
        request = reader.feed(data[start : start + size])
        while request is not None:
            found.append((request.method, request.url, request.body))
            request = reader.feed(b"")
    assert found == [
        ("POST", "https://a.test/p?q", b"hello"),
        ("PUT", "https://a.test/c", b"\r\na0123456789"),
        ("FOO", "http://b.test/x", b""),
    ]


def test_headers_are_latin_1() -> None:
    request = RequestReader(ORIGIN).feed(COUNTED)
    assert request is not None
    assert request.headers == (("Host", "a.test"), ("Content-Length", "5"), ("X-A", "\x85b"))


def test_render() -> None:
    response = HttpResponse(299, (("X-A", "é"), ("X-A", "2")), b"body")
    assert render(response) == b"HTTP/1.1 299 \r\nX-A: \xe9\r\nX-A: 2\r\n\r\nbody"


def never(written: bytes, request: HttpRequest) -> HttpResponse:
    raise AssertionError("nothing is really sent here")


def test_a_closed_connection_takes_no_request() -> None:
    sock = MemorySocket(ORIGIN, None, never)
    sock.close()
    with pytest.raises(OSError, match="closed"):
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")


def test_a_request_after_the_mocking_ended_is_a_reset() -> None:
    with pytest.raises(ConnectionResetError):
        MemorySocket(ORIGIN, None, never).sendall(b"GET / HTTP/1.1\r\n\r\n")


def test_reading_without_a_request_is_the_end() -> None:
    assert MemorySocket(ORIGIN, None, never).makefile("rb").read() == b""


def test_many_chunks_are_read_in_linear_time() -> None:
    reader = RequestReader(ORIGIN)
    reader.feed(b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in itertools.repeat(None, 20_000):
        assert reader.feed(b"1\r\nx\r\n") is None
    request = reader.feed(b"0\r\n\r\n")
    assert request is not None
    assert len(request.body) == 20_000
