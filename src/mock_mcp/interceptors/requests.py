"""requests: ``HTTPAdapter.send``, which builds its real response over urllib3's from memory.

Sessions, redirects, cookies, hooks and authentication are above this layer. The retries of an
adapter (``max_retries``) are below it, so they are counted here, by the same ``Retry`` object.
What niquests, a fork, does likewise is shared: `Sending` is one call of an adapter's ``send``.
"""

from __future__ import annotations

import errno
import io
import sys
import time
from collections.abc import Iterable
from http.client import HTTPMessage
from types import ModuleType
from typing import Any

from mock_mcp.exchange import (
    Exchange,
    FailureKind,
    HttpRequest,
    HttpResponse,
    Origin,
    TransportFailure,
)
from mock_mcp.interceptors import stack
from mock_mcp.interceptors.answer import answer
from mock_mcp.interceptors.forward import CHUNK_BYTES, forwarding, received, whole
from mock_mcp.interceptors.patches import Patches

__all__ = ["Sending", "Undecoded", "patch"]

_OURS = ("stream", "multiplexed")  # arguments that are decided here
_SCHEMES = ("http", "https")  # not those of adapters for Unix sockets, such as Docker's


def patch(requests: ModuleType, patches: Patches) -> None:
    """Hook the adapter of ``requests``."""

    def make(original: Any) -> Any:
        def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            sending = Sending.of(requests, self, request, args, kwargs)
            if sending is None:
                return original(self, request, *args, **kwargs)
            return self.build_response(request, sending.run(request.body, original))

        return send

    patches.replace(requests.adapters.HTTPAdapter, "send", make)


class Sending:
    """A request that an adapter sends, with the retries that urllib3 would make.

    Args:
        library: requests or niquests.
        adapter: The adapter.
        request: The prepared request.
        exchange: Who answers.
        arguments: All arguments of ``send``, but for the request and ``stream``.
    """

    def __init__(
        self,
        library: ModuleType,
        adapter: Any,
        request: Any,
        exchange: Exchange,
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> None:
        self.exchange = exchange
        args, kwargs = arguments
        self.timeout_s = _read_timeout_s(kwargs.get("timeout", args[0] if args else None))
        self.pause_s = 0.0
        self._errors = library.exceptions
        self.errors = library.exceptions.RequestException
        self.urllib3 = sys.modules[library.adapters.PoolManager.__module__.partition(".")[0]]
        self._request = request
        self._adapter = adapter
        self._arguments = arguments
        self._retries = self.urllib3.Retry.from_int(adapter.max_retries)

    @classmethod
    def of(
        cls, library: ModuleType, adapter: Any, request: Any, args: Any, kwargs: Any
    ) -> Sending | None:
        """Return the sending of a request; None when the adapter shall do it itself."""
        origin = Origin.of(request.url)
        if origin.scheme not in _SCHEMES:
            return None
        what = f"{request.method} {origin.url(request.path_url)}"
        exchange = stack.exchange_for(origin, what)
        if exchange is None:
            return None
        given = {name: value for name, value in kwargs.items() if name not in _OURS}
        return cls(library, adapter, request, exchange, (args[1:], given))

    def run(self, body: Any, original: Any) -> Any:
        """Return urllib3's response; raise the library's errors.

        Args:
            body: The request's.
            original: The adapter's own ``send``.
        """
        asked = self.asked(body)

        def send() -> HttpResponse:
            with forwarding(), self.really(original, asked) as real:
                real.raw = Undecoded(real.raw)
                content = whole(real.iter_content(CHUNK_BYTES), asked)
                return received(asked, real.status_code, real.raw.headers.items(), content)

        while True:
            outcome: HttpResponse | Exception
            try:
                outcome = answer(self.exchange, asked, self.timeout_s, send)
            except (TransportFailure, self.errors) as failure:
                outcome = failure
            settled = self.settle(asked, outcome, self.urllib3.HTTPResponse)
            if settled is not None:
                return settled
            time.sleep(self.pause_s)

    def asked(self, body: Any) -> HttpRequest:
        """Return the request as it leaves, with the host that the connection adds."""
        request = self._request
        origin = Origin.of(request.url)
        headers = [(_text(name), _text(value)) for name, value in request.headers.items()]
        if "Host" not in request.headers:
            headers.insert(0, ("Host", origin.authority))
        url = origin.url(request.path_url)
        return HttpRequest(request.method, url, tuple(headers), _body(body))

    def really(self, original: Any, asked: HttpRequest) -> Any:
        """Return what the adapter's ``send`` does, once: its retries are counted here."""
        adapter = object.__new__(type(self._adapter))
        vars(adapter).update(vars(self._adapter))
        adapter.max_retries = self.urllib3.Retry(0, read=False)
        request = self._request.copy()
        if request.body is not None:
            request.body = asked.body
        args, kwargs = self._arguments
        return original(adapter, request, True, *args, **kwargs)

    def settle(
        self, asked: HttpRequest, outcome: HttpResponse | Exception, made_of: Any
    ) -> Any | None:
        """Return urllib3's response; None when the request is made again, after ``pause_s``.

        Args:
            asked: The request.
            outcome: What became of it.
            made_of: urllib3's class of the response.

        Raises:
            Exception: The library's error for what urllib3 makes of the outcome.
        """
        try:
            return self._settle(asked, outcome, made_of)
        except self.urllib3.exceptions.HTTPError as error:
            if isinstance(outcome, self.errors):
                raise outcome from None
            raise self._as_library(error) from error

    def _settle(
        self, asked: HttpRequest, outcome: HttpResponse | Exception, made_of: Any
    ) -> Any | None:
        if not isinstance(outcome, HttpResponse):
            pool = _pool(self.urllib3, asked)
            if isinstance(outcome, TransportFailure):
                error = _as_urllib3(self.urllib3, pool, outcome, self._request.path_url)
            else:
                error = self._cause(outcome)
            self._retries = self._retries.increment(
                asked.method, self._request.path_url, error=error, _pool=pool
            )
            self.pause_s = self._retries.get_backoff_time()
            return None
        raw = _raw(outcome, asked.method, made_of)
        if not self._retries.is_retry(asked.method, raw.status, "Retry-After" in raw.headers):
            return raw
        try:
            self._retries = self._retries.increment(
                asked.method,
                self._request.path_url,
                response=raw,
                _pool=_pool(self.urllib3, asked),
            )
        except self.urllib3.exceptions.MaxRetryError:
            if self._retries.raise_on_status:
                raise
            return raw
        retry_after = None
        if self._retries.respect_retry_after_header:
            retry_after = self._retries.get_retry_after(raw)
        self.pause_s = retry_after or self._retries.get_backoff_time()
        return None

    def _cause(self, error: Exception) -> Exception:
        """Return urllib3's error beneath one of the library's; raise that where there is none."""
        cause: Any = error.args[0] if error.args else None
        if isinstance(cause, self.urllib3.exceptions.MaxRetryError):
            cause = cause.reason
        if not isinstance(cause, self.urllib3.exceptions.HTTPError):
            raise error
        found: Exception = cause
        return found

    def _as_library(self, error: Exception) -> Exception:
        """Return the error that the adapter makes of urllib3's."""
        theirs = self.urllib3.exceptions
        kind = self._errors.ConnectionError
        reason = error.reason if isinstance(error, theirs.MaxRetryError) else error
        if isinstance(error, theirs.ReadTimeoutError):
            kind = self._errors.ReadTimeout
        elif isinstance(reason, theirs.ResponseError):
            kind = self._errors.RetryError
        elif isinstance(reason, theirs.ConnectTimeoutError) and not isinstance(
            reason, theirs.NewConnectionError
        ):
            kind = self._errors.ConnectTimeout
        made: Exception = kind(error, request=self._request)
        return made


# -- The request ------------------------------------------------------------------------------


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
    if isinstance(timeout, tuple):  # connect, read and, for niquests, total
        given = [part for part in timeout[1:] if isinstance(part, int | float)]
        read = min(given, default=None)
    elif hasattr(timeout, "start_connect"):  # urllib3's Timeout, whose total is a clock
        timeout = timeout.clone()
        timeout.start_connect()
        read = timeout.read_timeout
    else:
        read = timeout
    return float(read) if isinstance(read, int | float) else None


# -- What a real server answers ------------------------------------------------------------------


class Undecoded:
    """urllib3's response, of which the library reads the content as it was sent."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def stream(self, amt: int, decode_content: bool | None = None) -> Any:
        """Do what urllib3's method does, without decoding."""
        return self._raw.stream(amt, decode_content=False)

    def read(self, amt: int | None = None, decode_content: bool | None = None) -> Any:
        """Do what urllib3's method does, without decoding."""
        return self._raw.read(amt, decode_content=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


# -- What urllib3 would make of an answer ------------------------------------------------------


def _pool(urllib3: Any, asked: HttpRequest) -> Any:
    """Return the pool that the errors of urllib3 name; it opens nothing."""
    origin = Origin.of(asked.url)
    pools = urllib3.connectionpool
    pool = pools.HTTPSConnectionPool if origin.scheme == "https" else pools.HTTPConnectionPool
    return pool(origin.host, origin.port)


def _as_urllib3(urllib3: Any, pool: Any, failure: TransportFailure, url: str) -> Exception:
    errors = urllib3.exceptions
    error: Exception
    if failure.kind is FailureKind.READ_TIMEOUT:
        error = errors.ReadTimeoutError(pool, url, failure.message)
    elif failure.kind is FailureKind.CONNECT_TIMEOUT:
        error = errors.ConnectTimeoutError(pool, failure.message)
    elif failure.kind is FailureKind.RESET:
        reset = ConnectionResetError(errno.ECONNRESET, failure.message)
        error = errors.ProtocolError("Connection aborted.", reset)
    else:
        error = errors.NewConnectionError(pool, failure.message)
    return error


class _Original:
    """What the libraries read cookies from: the place of http.client's response."""

    def __init__(self, response: HttpResponse) -> None:
        self.msg = HTTPMessage()
        for name, value in response.headers:
            self.msg[name] = value

    def isclosed(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing: there is no connection."""


def _raw(response: HttpResponse, method: str, made_of: Any) -> Any:
    return made_of(
        body=io.BytesIO(response.body),
        headers=response.headers,
        status=response.status,
        version=11,
        reason=response.reason,
        preload_content=False,
        decode_content=False,
        original_response=_Original(response),
        request_method=method,
    )
