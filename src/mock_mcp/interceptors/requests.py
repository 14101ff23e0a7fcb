"""requests: ``HTTPAdapter.send``, which builds its real response over urllib3's from memory.

Sessions, redirects, cookies, hooks and authentication are above this layer. The retries of an
adapter (``max_retries``) are below it, so they are counted here, by the same ``Retry`` object.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterable
from http.client import HTTPMessage
from types import ModuleType
from typing import Any

from mock_mcp.exchange import (
    FailureKind,
    HttpRequest,
    HttpResponse,
    Origin,
    TransportFailure,
)
from mock_mcp.interceptors import stack
from mock_mcp.interceptors.answer import answer
from mock_mcp.interceptors.patches import Patches

__all__ = ["patch"]

_SCHEMES = ("http", "https")  # not those of adapters for Unix sockets, such as Docker's


def patch(requests: ModuleType, patches: Patches) -> None:
    """Hook the adapter of ``requests``."""
    from urllib3.exceptions import HTTPError

    def make(original: Any) -> Any:
        def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            origin = Origin.of(request.url)
            url = origin.url(request.path_url)
            exchange = None
            if origin.scheme in _SCHEMES:
                exchange = stack.exchange_for(origin, f"{request.method} {url}")
            if exchange is None:
                return original(self, request, *args, **kwargs)
            timeout = kwargs.get("timeout", args[1] if len(args) > 1 else None)  # stream, timeout
            asked = HttpRequest(request.method, url, _headers(request, origin), _body(request.body))

            def ask() -> HttpResponse:
                return answer(exchange, asked, _read_timeout_s(timeout))

            try:
                raw = _with_retries(ask, asked, self.max_retries)
            except HTTPError as error:
                raise _as_requests(requests.exceptions, error, request) from error
            return self.build_response(request, raw)

        return send

    patches.replace(requests.adapters.HTTPAdapter, "send", make)


# -- The request ------------------------------------------------------------------------------


def _headers(request: Any, origin: Origin) -> tuple[tuple[str, str], ...]:
    """Return the headers as they leave, with the host that the connection adds."""
    given = [(_text(name), _text(value)) for name, value in request.headers.items()]
    if "Host" not in request.headers:
        given.insert(0, ("Host", origin.authority))
    return tuple(given)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _body(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    if hasattr(body, "read"):
        return _bytes(body.read())
    chunks: Iterable[str | bytes] = body
    return b"".join(_bytes(chunk) for chunk in chunks)


def _bytes(chunk: str | bytes) -> bytes:
    return chunk.encode() if isinstance(chunk, str) else bytes(chunk)


def _read_timeout_s(timeout: Any) -> float | None:
    """Return the read timeout of every form that ``timeout=`` may take."""
    if isinstance(timeout, tuple):
        _, read = timeout
    elif hasattr(timeout, "start_connect"):  # urllib3's Timeout, whose total is a clock
        timeout = timeout.clone()
        timeout.start_connect()
        read = timeout.read_timeout
    else:
        read = timeout
    return float(read) if isinstance(read, int | float) else None


# -- Failures and retries, as urllib3 and the adapter treat them -------------------------------


def _with_retries(ask: Callable[[], HttpResponse], asked: HttpRequest, retries: Any) -> Any:
    """Return urllib3's response; raise urllib3's errors."""
    from urllib3.exceptions import MaxRetryError

    while True:
        try:
            raw = _raw(ask(), asked.method)
        except TransportFailure as failure:
            error = _as_urllib3(failure, asked)
            retries = retries.increment(asked.method, asked.url, error=error)
            retries.sleep()
            continue
        if not retries.is_retry(asked.method, raw.status, "Retry-After" in raw.headers):
            return raw
        try:
            retries = retries.increment(asked.method, asked.url, response=raw)
        except MaxRetryError:
            if retries.raise_on_status:
                raise
            return raw
        retries.sleep(raw)


def _as_urllib3(failure: TransportFailure, asked: HttpRequest) -> Exception:
    from urllib3.connectionpool import HTTPConnectionPool
    from urllib3.exceptions import (
        ConnectTimeoutError,
        NewConnectionError,
        ProtocolError,
        ReadTimeoutError,
    )

    origin = Origin.of(asked.url)
    pool = HTTPConnectionPool(origin.host, origin.port)
    if failure.kind is FailureKind.READ_TIMEOUT:
        return ReadTimeoutError(pool, asked.url, failure.message)
    if failure.kind is FailureKind.CONNECT_TIMEOUT:
        return ConnectTimeoutError(pool, failure.message)
    if failure.kind is FailureKind.RESET:
        reset = ConnectionResetError(errno.ECONNRESET, failure.message)
        return ProtocolError("Connection aborted.", reset)
    return NewConnectionError(pool, failure.message)  # type: ignore[arg-type]  # it only prints it


def _as_requests(errors: Any, error: Exception, request: Any) -> Exception:
    """Return the error that the adapter makes of urllib3's."""
    from urllib3.exceptions import (
        ConnectTimeoutError,
        MaxRetryError,
        NewConnectionError,
        ReadTimeoutError,
        ResponseError,
    )

    kind = errors.ConnectionError
    reason = error.reason if isinstance(error, MaxRetryError) else error
    if isinstance(error, ReadTimeoutError):
        kind = errors.ReadTimeout
    elif isinstance(reason, ResponseError):
        kind = errors.RetryError
    elif isinstance(reason, ConnectTimeoutError) and not isinstance(reason, NewConnectionError):
        kind = errors.ConnectTimeout
    made: Exception = kind(error, request=request)
    return made


# -- The response -----------------------------------------------------------------------------


class _Original:
    """What ``requests`` reads cookies from: the place of http.client's response."""

    def __init__(self, response: HttpResponse) -> None:
        self.msg = HTTPMessage()
        for name, value in response.headers:
            self.msg.add_header(name, value)

    def isclosed(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing: there is no connection."""


def _raw(response: HttpResponse, method: str) -> Any:
    from urllib3 import HTTPHeaderDict, HTTPResponse

    return HTTPResponse(
        body=io.BytesIO(response.body),
        headers=HTTPHeaderDict(response.headers),
        status=response.status,
        version=11,
        reason=response.reason,
        preload_content=False,
        decode_content=False,
        original_response=_Original(response),  # type: ignore[arg-type]
        request_method=method,
    )
