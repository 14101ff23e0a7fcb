"""Really make a call that was intercepted, and read its answer whole.

Strategy: an interceptor passes the call on with the library's own original method, so connections,
TLS, proxies, timeouts and errors are the library's. What comes back is read to its end, still
content-encoded, and goes the way of every mock: the exchange sees it, then the library reads it
from memory. Only how the bytes travelled (chunks, connection headers) is not handed on.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable

from mock_mcp.exchange import HttpRequest, HttpResponse, check_size
from mock_mcp.interceptors.stack import forwarding

__all__ = ["CHUNK_BYTES", "forwarding", "received", "whole", "whole_async"]

CHUNK_BYTES = 64 * 1024
"""How much of a body is read at a time."""

_OF_THE_CONNECTION = frozenset(
    ("connection", "keep-alive", "proxy-connection", "trailer", "transfer-encoding", "upgrade")
)
_NO_BODY = frozenset((204, 304))


def whole(chunks: Iterable[bytes], request: HttpRequest) -> bytes:
    """Return all of a body.

    Raises:
        LimitExceeded: It is too large for a test.
    """
    body = bytearray()
    for chunk in chunks:
        body += chunk
        check_size(request, len(body))
    return bytes(body)


async def whole_async(chunks: AsyncIterable[bytes], request: HttpRequest) -> bytes:
    """Return all of a body; raises as `whole`."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        check_size(request, len(body))
    return bytes(body)


def received(
    request: HttpRequest, status: int, headers: Iterable[tuple[str, str]], body: bytes
) -> HttpResponse:
    """Return a real answer, framed as one piece.

    Args:
        request: What it answers.
        status: Its status.
        headers: Its headers, in order.
        body: All of its body, without chunks, still content-encoded.
    """
    kept = [(name, value) for name, value in headers if name.lower() not in _OF_THE_CONNECTION]
    if request.method != "HEAD" and status not in _NO_BODY:
        kept = [field for field in kept if field[0].lower() != "content-length"]
        kept.append(("content-length", str(len(body))))
    return HttpResponse(status, tuple(kept), body)
