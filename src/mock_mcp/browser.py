"""Answer the requests of a browser that Playwright drives: its ``route``, an exchange, ``fulfill``.

Strategy: a handler of the sync API runs in a greenlet, on the event loop that Playwright keeps in
this thread; if it blocked there, no other request of the page would even arrive. So an answer is
awaited in a task of that loop under both APIs, and the greenlet gives way until the task is done.
Requests of one page load come a few milliseconds apart; `Lull` holds those that somebody has to
answer until no more come, so that they are asked for together.

Playwright routes a request but not where it is redirected to. A redirect to what is routed is
therefore followed here, and the page gets the answer at its end. Preflights never come here:
Playwright allows them, and lets the page read the answer to a call of another origin.

The real server is asked by the ``fetch`` of the page's context, which shares its cookies, proxy and
certificates, one hop at a time. Under the sync API that call too runs in a greenlet of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import inspect
import re
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import urldefrag, urljoin, urlsplit

import msgspec

from mock_mcp.errors import MockMcpError
from mock_mcp.exchange import (
    FailureKind,
    Headers,
    HttpRequest,
    HttpResponse,
    Origin,
    SendAsync,
    TransportFailure,
    check_size,
)
from mock_mcp.recordings.bodies import Budget, Unusable

__all__ = ["Lull", "PageCallFailed", "PageExchange", "UrlMatch", "route"]

UrlMatch = str | re.Pattern[str] | Callable[[str], bool]
"""Which URLs, as Playwright's ``route`` takes it: a glob, a pattern or a function."""

QUIET_S = 0.25
"""How long no request must come until those that came are asked for."""
LONGEST_S = 2.0
"""How long a request is held at most while others keep coming."""
MAX_REDIRECTS = 20
"""As many as a browser follows."""

_ABORTED = {
    FailureKind.REFUSED: "connectionrefused",
    FailureKind.UNRESOLVED: "namenotresolved",
    FailureKind.CONNECT_TIMEOUT: "timedout",
    FailureKind.READ_TIMEOUT: "timedout",
    FailureKind.RESET: "connectionreset",
}
_FAILURES = {
    "ECONNREFUSED": FailureKind.REFUSED,
    "ENOTFOUND": FailureKind.UNRESOLVED,
    "EAI_AGAIN": FailureKind.UNRESOLVED,
    "ETIMEDOUT": FailureKind.CONNECT_TIMEOUT,
    "Request timed out": FailureKind.READ_TIMEOUT,  # Playwright 1.44 has no class for it here
}
"""What Node's error codes mean; Playwright has them in the text of its error only."""
_UNPACKED = frozenset(("gzip", "x-gzip", "deflate", "br"))
"""The content codings that Playwright's ``fetch`` undoes, while the header stays."""
_OF_THE_CONNECTION = frozenset(
    ("connection", "keep-alive", "proxy-connection", "trailer", "transfer-encoding", "upgrade")
)
_GLOB = re.compile(r"\\(?P<literal>.)|(?P<any>\*\*/?)|(?P<part>\*)|(?P<open>\{)|(?P<close>\})|.")


class PageCallFailed(MockMcpError):
    """A request of a page got no answer because of an error that is none of this project's.

    The page sees an aborted request only; the error is the cause of this one.
    """

    code = "page-call-failed"


class PageExchange(Protocol):
    """Answers the requests of pages."""

    def passes(self, origin: Origin) -> bool:
        """Tell whether a request goes its way although its URL is routed."""
        ...

    async def handle_page(self, request: HttpRequest, send: SendAsync) -> HttpResponse:
        """Return the answer; what it raises aborts the request.

        Args:
            request: What is asked.
            send: Asks the real server; the body of what it returns is no longer content-encoded.
        """
        ...

    def page_failed(self, request: HttpRequest, error: Exception) -> None:
        """Take note of an error that the page does not let out."""
        ...


def route(target: Any, url: UrlMatch, exchange: PageExchange) -> Any:
    """Answer the requests of a page or browser context whose URL matches.

    Args:
        target: A ``Page`` or ``BrowserContext`` of Playwright's sync or async API.
        url: Which URLs.
        exchange: Who answers.

    Returns:
        What Playwright's own ``route`` does: an awaitable under the async API.

    Raises:
        TypeError: ``target`` is neither.
    """
    method = getattr(target, "route", None)
    if not callable(method) or not hasattr(target, "expect_event"):
        raise TypeError(f"route takes a Page or BrowserContext of Playwright, not {target!r}.")
    is_async = inspect.iscoroutinefunction(method)
    playwright = importlib.import_module(f"playwright.{'async' if is_async else 'sync'}_api")
    routed = _Route(target, url, exchange, playwright)
    target.on("requestfailed", routed.gone)
    return method(url, routed.handle_async if is_async else routed.handle_sync)


class Lull:
    """Hold what comes shortly after one another, then let it go on in one turn of its loop.

    Args:
        quiet_s: How long nothing must come.
        longest_s: How long the first is held at most.
    """

    def __init__(self, quiet_s: float = QUIET_S, longest_s: float = LONGEST_S) -> None:
        self._quiet_s = quiet_s
        self._longest_s = longest_s
        self._groups: dict[asyncio.AbstractEventLoop, _Group] = {}

    async def wait(self) -> None:
        """Return when no other caller has come for a while."""
        loop = asyncio.get_running_loop()
        group = self._groups.get(loop)
        if group is None:
            group = self._groups[loop] = _Group(loop.time() + self._longest_s)
        elif group.timer is not None:
            group.timer.cancel()
        due = min(loop.time() + self._quiet_s, group.latest)
        group.timer = loop.call_at(due, self._end, loop)
        await group.over.wait()

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        self._groups.pop(loop).over.set()


class _Group:
    def __init__(self, latest: float) -> None:
        self.latest = latest
        self.timer: asyncio.TimerHandle | None = None
        self.over = asyncio.Event()


_Action = tuple[str, Mapping[str, Any]]
"""What is done with a route: the name of its method, and the arguments."""

_Fetch = Callable[[HttpRequest], Awaitable[tuple[Any, bytes]]]
"""Really asks, by one of Playwright's APIs; gives its response and the body."""


class _Route:
    """One call of `route`: the requests of one target that match."""

    def __init__(
        self, target: Any, url: UrlMatch, exchange: PageExchange, playwright: ModuleType
    ) -> None:
        self._target = target
        self._matches = _matcher(url)
        self._exchange = exchange
        self._playwright = playwright
        self._waiting: dict[Any, asyncio.Task[HttpResponse]] = {}

    def gone(self, request: Any) -> None:
        """Stop waiting for the answer to a request: its page has left, or aborted it."""
        if (task := self._waiting.get(request)) is not None:
            task.cancel()

    async def handle_async(self, route: Any, request: Any) -> None:
        """Answer a request, under the async API."""
        asked = _asked(request)
        if self._exchange.passes(Origin.of(asked.url)):
            await route.fallback()
            return
        with self._parked(request, asked, self._fetch_async) as task:
            await asyncio.wait({task})
        name, arguments = self._action(task)
        try:
            await getattr(route, name)(**arguments)
        except self._playwright.Error as error:
            self._unanswered(request, asked, error)

    def handle_sync(self, route: Any, request: Any) -> None:
        """Answer a request, under the sync API."""
        asked = _asked(request)
        if self._exchange.passes(Origin.of(asked.url)):
            route.fallback()
            return
        with self._parked(request, asked, self._fetch_sync) as task:
            _give_way(task)
        name, arguments = self._action(task)
        try:
            getattr(route, name)(**arguments)
        except self._playwright.Error as error:
            self._unanswered(request, asked, error)

    @contextlib.contextmanager
    def _parked(
        self, request: Any, asked: HttpRequest, fetch: _Fetch
    ) -> Iterator[asyncio.Task[HttpResponse]]:
        """Give a task that waits for an answer until the page closes or leaves the request."""
        task = asyncio.get_running_loop().create_task(self._answer(asked, fetch))
        page = self._page_of(request)

        def closed(_: Any) -> None:
            task.cancel()

        self._waiting[request] = task
        page.on("close", closed)
        try:
            yield task
        finally:
            page.remove_listener("close", closed)
            del self._waiting[request]
            task.cancel()

    def _page_of(self, request: Any) -> Any:
        """Return the page that makes a request; the target when it is not known."""
        try:
            return request.frame.page
        except Exception:  # noqa: BLE001 - a service worker's, or a navigation that opens the page
            return self._target

    async def _answer(self, asked: HttpRequest, fetch: _Fetch) -> HttpResponse:
        """Return the answer to a request, after redirects and its delay."""
        cookies: list[tuple[str, str]] = []
        request = asked
        for hop in range(MAX_REDIRECTS):
            send = functools.partial(self._really, request, fetch, has_cookies=hop == 0)
            response = await self._exchange.handle_page(request, send)
            await asyncio.sleep(response.delay_s)
            following = _following(request, response)
            if following is None or not self._is_ours(following.url):
                return _joined(response, cookies, following)
            if Origin.of(request.url) == Origin.of(asked.url):
                cookies += _cookies(response)
            request = following
        raise TransportFailure(FailureKind.RESET, "Too many redirects")

    async def _really(
        self, request: HttpRequest, fetch: _Fetch, *, has_cookies: bool
    ) -> HttpResponse:
        """Return what the real server answers.

        Args:
            request: What is asked.
            fetch: Who asks.
            has_cookies: Whether the request's cookies are of now; else it gets the context's.

        Raises:
            TransportFailure: There is no answer.
        """
        dropped = () if has_cookies else ("cookie",)
        sent = msgspec.structs.replace(request, headers=_without(request.headers, dropped))
        try:
            response, body = await fetch(sent)
        except self._playwright.TimeoutError as late:
            raise TransportFailure(FailureKind.READ_TIMEOUT) from late
        except self._playwright.Error as error:
            raise _failure(str(error)) from error
        check_size(request, len(body))
        return _received(request, response, body)

    async def _fetch_async(self, request: HttpRequest) -> tuple[Any, bytes]:
        response = await self._fetch(request)
        body = await response.body()
        await response.dispose()  # else the browser's driver keeps it
        return response, body

    async def _fetch_sync(self, request: HttpRequest) -> tuple[Any, bytes]:
        def fetch() -> tuple[Any, bytes]:
            response = self._fetch(request)
            body = response.body()
            response.dispose()
            return response, body

        return await _in_greenlet(fetch)

    def _fetch(self, request: HttpRequest) -> Any:
        context = getattr(self._target, "context", self._target)
        return context.request.fetch(
            request.url,
            method=request.method,
            headers=dict(request.headers),
            data=request.body or None,
            max_redirects=0,
        )

    def _is_ours(self, url: str) -> bool:
        return self._matches(url) and not self._exchange.passes(Origin.of(url))

    def _action(self, task: asyncio.Task[HttpResponse]) -> _Action:
        if task.cancelled():
            return "abort", {}
        error = task.exception()
        if isinstance(error, TransportFailure):
            return "abort", {"error_code": _ABORTED[error.kind]}
        if error is not None:  # the exchange has taken note of it
            return "abort", {"error_code": "failed"}
        return "fulfill", _fulfilment(task.result())

    def _unanswered(self, request: Any, asked: HttpRequest, error: Exception) -> None:
        if not self._page_of(request).is_closed():
            self._exchange.page_failed(asked, error)


def _give_way(task: asyncio.Task[Any]) -> None:
    """Let the event loop that started this greenlet go on until a task of it is done."""
    import greenlet

    here = greenlet.getcurrent()
    task.add_done_callback(lambda _: here.switch())
    while not task.done():
        assert here.parent is not None
        here.parent.switch()


async def _in_greenlet(call: Callable[[], tuple[Any, bytes]]) -> tuple[Any, bytes]:
    """Return what a function returns that calls Playwright's sync API, while the loop goes on."""
    import greenlet

    result: asyncio.Future[tuple[Any, bytes]] = asyncio.get_running_loop().create_future()

    def run() -> None:
        try:
            returned = call()
        except Exception as error:  # noqa: BLE001 - raised by who awaits the result
            if not result.done():
                result.set_exception(error)
        else:
            if not result.done():  # else nobody waits any more
                result.set_result(returned)

    greenlet.greenlet(run).switch()
    return await result


# -- From and to Playwright ---------------------------------------------------------------------


def _asked(request: Any) -> HttpRequest:
    """Return a request of a page; an answer that it gets is never decoded, so none is encoded."""
    headers = tuple(
        (name, value) for name, value in request.headers.items() if name != "accept-encoding"
    )
    url = urldefrag(request.url).url
    return HttpRequest(request.method, url, headers, request.post_data_buffer or b"")


def _received(request: HttpRequest, response: Any, body: bytes) -> HttpResponse:
    """Return a real answer; its body is decoded, unless by a coding that nobody asked for."""
    fields = tuple((field["name"], field["value"]) for field in response.headers_array)
    answer = HttpResponse(response.status, _without(fields, _OF_THE_CONNECTION), body)
    coding = (answer.header("content-encoding") or "").strip().lower()
    dropped = {"content-encoding"} if coding in _UNPACKED else set[str]()
    if request.method != "HEAD":
        dropped.add("content-length")
    return msgspec.structs.replace(answer, headers=_without(answer.headers, dropped))


def _failure(text: str) -> TransportFailure:
    """Return why there is no answer, from the text of Playwright's error."""
    found = re.search("|".join(_FAILURES), text)
    kind = _FAILURES[found[0]] if found else FailureKind.RESET
    return TransportFailure(kind, text.partition("\n")[0].removeprefix("APIRequestContext.fetch: "))


def _without(headers: Headers, names: Container[str]) -> Headers:
    return tuple(field for field in headers if field[0].lower() not in names)


def _fulfilment(response: HttpResponse) -> dict[str, Any]:
    """Return the arguments of ``fulfill``."""
    headers: dict[str, str] = {}
    for name, value in _decoded(response):
        key = name.lower()
        joint = "\n" if key == "set-cookie" else ", "
        headers[key] = f"{headers[key]}{joint}{value}" if key in headers else value
    return {"status": response.status, "headers": headers, "body": _body(response)}


def _decoded(response: HttpResponse) -> Iterator[tuple[str, str]]:
    """Yield the headers as Playwright takes them: of a body that is not encoded, in Unicode."""
    is_encoded = response.body and response.header("content-encoding") is not None
    dropped = ("content-encoding", "content-length") if is_encoded else ()
    for name, value in _without(response.headers, dropped):
        try:
            yield name, value.encode("latin-1").decode()
        except UnicodeDecodeError:
            yield name, value


def _body(response: HttpResponse) -> bytes:
    """Return the body, decoded: a browser takes the bytes of ``fulfill`` as they are."""
    try:
        return Budget().unpack(response.body, response.header("content-encoding"))
    except Unusable:
        return response.body


# -- Redirects ------------------------------------------------------------------------------------


def _following(request: HttpRequest, response: HttpResponse) -> HttpRequest | None:
    """Return the request that a redirect leads to (Fetch standard, "HTTP-redirect fetch")."""
    location = response.header("location")
    if response.status not in (301, 302, 303, 307, 308) or location is None:
        return None
    url = urldefrag(urljoin(request.url, location)).url
    if urlsplit(url).scheme not in ("http", "https"):
        return None
    method, body, dropped = request.method, request.body, set[str]()
    if (response.status in (301, 302) and method == "POST") or (
        response.status == 303 and method not in ("GET", "HEAD")
    ):
        method, body = "GET", b""
        dropped |= {name.lower() for name, _ in request.headers if name.startswith("content-")}
    if Origin.of(url) != Origin.of(request.url):
        dropped |= {"authorization", "cookie"}
    return HttpRequest(method, url, _without(request.headers, dropped), body)


def _cookies(response: HttpResponse) -> list[tuple[str, str]]:
    return [field for field in response.headers if field[0].lower() == "set-cookie"]


def _joined(
    response: HttpResponse, cookies: list[tuple[str, str]], following: HttpRequest | None
) -> HttpResponse:
    """Return the last answer with the cookies of those before, its redirect as a whole URL."""
    headers = (*cookies, *response.headers)
    if following is not None:
        headers = tuple(
            (name, following.url if name.lower() == "location" else value)
            for name, value in headers
        )
    return HttpResponse(response.status, headers, response.body)


def _matcher(url: UrlMatch) -> Callable[[str], bool]:
    """Return whether a URL is one of those, as Playwright has it."""
    if isinstance(url, re.Pattern):
        return lambda text: url.search(text) is not None
    if not isinstance(url, str):
        return url
    tokens = {"any": "(?:.*)", "part": "[^/]*", "open": "(?:", "close": ")"}
    written, is_group = "", False
    for found in _GLOB.finditer(url):
        kind, text = found.lastgroup or "", found[0]
        is_group = kind == "open" or (is_group and kind != "close")
        if text == "**/":
            written += "(?:.*/)?" if written.endswith("/") else "(?:.*/)"
        elif text == "," and is_group:
            written += "|"
        else:
            written += tokens.get(kind) or re.escape(found["literal"] or text)
    pattern = re.compile(written)
    is_path = url.startswith("/")  # of the context's base URL

    def matches(text: str) -> bool:
        path = urlsplit(text)._replace(scheme="", netloc="").geturl()
        return pattern.fullmatch(path if is_path else text) is not None

    return matches
