"""httpx and httpx2: the request methods of the transports that open connections.

Clients with another transport (``ASGITransport``, ``MockTransport``, their own) never come here.
Redirects, cookies, authentication, decoding and streaming are the client's, above this layer.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from mock_mcp.exchange import FailureKind, HttpRequest, HttpResponse, Origin, TransportFailure
from mock_mcp.interceptors import stack
from mock_mcp.interceptors.answer import answer, answer_async
from mock_mcp.interceptors.forward import forwarding, received, whole, whole_async
from mock_mcp.interceptors.patches import Patches

__all__ = ["patch"]

_ERRORS = {
    FailureKind.REFUSED: "ConnectError",
    FailureKind.UNRESOLVED: "ConnectError",
    FailureKind.CONNECT_TIMEOUT: "ConnectTimeout",
    FailureKind.READ_TIMEOUT: "ReadTimeout",
    FailureKind.RESET: "ReadError",
}


def patch(httpx: ModuleType, patches: Patches) -> None:
    """Hook the transports of ``httpx`` or ``httpx2``."""

    def sync(original: Any) -> Any:
        def handle_request(self: Any, request: Any) -> Any:
            origin, url = _target(request)
            exchange = stack.exchange_for(origin, f"{request.method} {url}")
            if exchange is None:
                return original(self, request)
            asked = _request(request, url, b"".join(request.stream))

            def send() -> HttpResponse:
                with forwarding():
                    real = original(self, _again(httpx, request, asked))
                    try:
                        body = whole(real.stream, asked)
                    finally:
                        real.stream.close()
                return received(asked, real.status_code, _headers(real), body)

            try:
                response = answer(exchange, asked, _read_timeout_s(request), send)
            except TransportFailure as failure:
                raise _error(httpx, failure, request) from failure
            return _response(httpx, response)

        return handle_request

    def asynchronous(original: Any) -> Any:
        async def handle_async_request(self: Any, request: Any) -> Any:
            origin, url = _target(request)
            exchange = stack.exchange_for(origin, f"{request.method} {url}")
            if exchange is None:
                return await original(self, request)
            asked = _request(request, url, b"".join([chunk async for chunk in request.stream]))

            async def send() -> HttpResponse:
                with forwarding():
                    real = await original(self, _again(httpx, request, asked))
                    try:
                        body = await whole_async(real.stream, asked)
                    finally:
                        await real.stream.aclose()
                return received(asked, real.status_code, _headers(real), body)

            try:
                response = await answer_async(exchange, asked, _read_timeout_s(request), send)
            except TransportFailure as failure:
                raise _error(httpx, failure, request) from failure
            return _response(httpx, response)

        return handle_async_request

    patches.replace(httpx.HTTPTransport, "handle_request", sync)
    patches.replace(httpx.AsyncHTTPTransport, "handle_async_request", asynchronous)


def _target(request: Any) -> tuple[Origin, str]:
    url = request.url
    origin = Origin.make(url.scheme, url.raw_host.decode("ascii"), url.port)
    return origin, origin.url(url.raw_path.decode("ascii"))


def _request(request: Any, url: str, body: bytes) -> HttpRequest:
    return HttpRequest(request.method, url, _headers(request), body)


def _again(httpx: ModuleType, request: Any, asked: HttpRequest) -> Any:
    """Return a request to send in place of one whose body was read."""
    return httpx.Request(
        request.method,
        request.url,
        headers=request.headers,
        stream=httpx.ByteStream(asked.body),
        extensions=request.extensions,
    )


def _headers(message: Any) -> tuple[tuple[str, str], ...]:
    return tuple(
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.headers.raw]
    )


def _read_timeout_s(request: Any) -> float | None:
    timeout_s: float | None = request.extensions.get("timeout", {}).get("read")
    return timeout_s


def _response(httpx: ModuleType, response: HttpResponse) -> Any:
    return httpx.Response(
        response.status,
        headers=[
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers
        ],
        stream=httpx.ByteStream(response.body),
        extensions={
            "http_version": b"HTTP/1.1",
            "reason_phrase": response.reason.encode("ascii"),
        },
    )


def _error(httpx: ModuleType, failure: TransportFailure, request: Any) -> Exception:
    error: Exception = getattr(httpx, _ERRORS[failure.kind])(failure.message, request=request)
    return error
