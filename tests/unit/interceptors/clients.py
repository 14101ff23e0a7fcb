"""Every HTTP library behind one small interface, so that one suite runs against them all.

A session makes calls and returns what the library shows of the response; errors are the library's
own. `CLIENTS` is what a suite is parametrised over; a library that is not installed is skipped.
"""

from __future__ import annotations

import asyncio
import http.client
import http.cookiejar
import importlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import urlencode, urlsplit

import pytest


def _optional(name: str) -> Any:
    """Return a library, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


aiohttp = _optional("aiohttp")
httplib2 = _optional("httplib2")
httpx = _optional("httpx")
httpx2 = _optional("httpx2")
niquests = _optional("niquests")
requests = _optional("requests")
urllib3 = _optional("urllib3")
if urllib3 and not issubclass(urllib3.connection.HTTPConnection, http.client.HTTPConnection):
    urllib3 = None  # urllib3-future, in its place
BOUNDARY = "suite-boundary"
CHUNKS = (b"first ", b"second ", b"third")


@dataclass(frozen=True)
class Call:
    """What a test asks of a library."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None
    form: dict[str, str] | None = None
    file: bytes | None = None
    chunks: Iterable[bytes] | None = None
    read_timeout_s: float | None = None
    """The read timeout alone, where a library can say so: a slow machine connects slowly."""
    follow: bool = False
    stream: bool = False
    raise_for_status: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a library shows of the response."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    text: str
    cookies: dict[str, str]
    history: list[int]


class Session:
    """One client of a library, with its cookies and connections."""

    name: ClassVar[str]
    follows: ClassVar[bool] = True
    keeps_cookies: ClassVar[bool] = True
    is_async: ClassVar[bool] = False
    has_proxies: ClassVar[bool] = True
    connects_first: ClassVar[bool] = False
    """Whether it connects before it tells what it wants."""
    package: ClassVar[Any] = True
    """The library's module; None where it is not installed."""

    def __init__(self, proxy: str | None = None) -> None:
        raise NotImplementedError

    def fetch(self, call: Call) -> Outcome:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _httpx_arguments(call: Call) -> dict[str, Any]:
    return {
        "headers": call.headers,
        "json": call.json,
        "data": call.form,
        "files": None if call.file is None else {"upload": ("a.bin", call.file)},
        "timeout": (None, call.read_timeout_s, None, None),
    }


def _httpx_outcome(response: Any, body: bytes, client: Any) -> Outcome:
    return Outcome(
        response.status_code,
        response.reason_phrase,
        response.headers.multi_items(),
        body,
        response.text if hasattr(response, "_content") else "",  # absent when streamed
        dict(client.cookies),
        [past.status_code for past in response.history],
    )


class HttpxSync(Session):
    name = "httpx"
    package: ClassVar[Any] = httpx

    def __init__(self, proxy: str | None = None) -> None:
        self.client = self.package.Client(proxy=proxy)

    def fetch(self, call: Call) -> Outcome:
        arguments = _httpx_arguments(call)
        if call.chunks is not None:
            arguments["content"] = iter(call.chunks)
        request = self.client.build_request(call.method, call.url, **arguments)
        response = self.client.send(request, stream=call.stream, follow_redirects=call.follow)
        try:
            body = b"".join(response.iter_bytes()) if call.stream else response.content
        finally:
            response.close()
        assert response.elapsed.total_seconds() >= 0
        if call.raise_for_status:
            response.raise_for_status()
        return _httpx_outcome(response, body, self.client)

    def close(self) -> None:
        self.client.close()


class HttpxAsync(Session):
    name = "httpx-async"
    package: ClassVar[Any] = httpx
    is_async = True

    def __init__(self, proxy: str | None = None) -> None:
        self.runner = asyncio.Runner()
        self.client = self.package.AsyncClient(proxy=proxy)

    def fetch(self, call: Call) -> Outcome:
        return self.runner.run(self.fetch_async(call))

    async def fetch_async(self, call: Call) -> Outcome:
        async def chunks(source: Iterable[bytes]) -> Any:
            for chunk in source:
                yield chunk

        arguments = _httpx_arguments(call)
        if call.chunks is not None:
            arguments["content"] = chunks(call.chunks)
        request = self.client.build_request(call.method, call.url, **arguments)
        response = await self.client.send(request, stream=call.stream, follow_redirects=call.follow)
        try:
            if call.stream:
                body = b"".join([chunk async for chunk in response.aiter_bytes()])
            else:
                body = response.content
        finally:
            await response.aclose()
        if call.raise_for_status:
            response.raise_for_status()
        return _httpx_outcome(response, body, self.client)

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()


class Httpx2Sync(HttpxSync):
    name = "httpx2"
    package = httpx2


class Httpx2Async(HttpxAsync):
    name = "httpx2-async"
    package = httpx2


class Requests(Session):
    name = "requests"
    package = requests

    def __init__(self, proxy: str | None = None) -> None:
        self.session = self.package.Session()
        if proxy:
            self.session.proxies = {"http": proxy, "https": proxy}

    def fetch(self, call: Call) -> Outcome:
        response = self.session.request(
            call.method,
            call.url,
            headers=call.headers,
            json=call.json,
            data=call.form if call.chunks is None else iter(call.chunks),
            files=None if call.file is None else {"upload": ("a.bin", call.file)},
            timeout=(None, call.read_timeout_s),
            allow_redirects=call.follow,
            stream=call.stream,
        )
        with response:
            body = b"".join(response.iter_content(7)) if call.stream else response.content
            assert response.elapsed.total_seconds() >= 0
            if call.raise_for_status:
                response.raise_for_status()
            pairs = response.raw.headers.items()  # urllib3 keeps what came several times
            return Outcome(
                response.status_code,
                response.reason,
                [(name.lower(), value) for name, value in pairs],
                body,
                "" if call.stream else response.text,
                self.session.cookies.get_dict(),
                [past.status_code for past in response.history],
            )

    def close(self) -> None:
        self.session.close()


def _plain_body(call: Call) -> tuple[Any, dict[str, str]]:
    """Return body and headers for libraries that encode nothing themselves."""
    headers = dict(call.headers)
    if call.json is not None:
        headers.setdefault("Content-Type", "application/json")
        return json.dumps(call.json).encode(), headers
    if call.form is not None:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        return urlencode(call.form).encode(), headers
    if call.file is not None:
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
        head = 'Content-Disposition: form-data; name="upload"; filename="a.bin"'
        lines = (f"--{BOUNDARY}", head, "", "")
        body = "\r\n".join(lines).encode() + call.file + f"\r\n--{BOUNDARY}--\r\n".encode()
        return body, headers
    if call.chunks is not None:
        headers.setdefault("Content-Type", "application/octet-stream")
        return iter(call.chunks), headers
    return None, headers


def _text(response: http.client.HTTPResponse, body: bytes) -> str:
    try:
        return body.decode(response.headers.get_content_charset("utf-8"))
    except UnicodeDecodeError:
        return ""


def _decoded(content_type: str, body: bytes) -> str:
    try:
        return body.decode(content_type.partition("charset=")[2] or "utf-8")
    except UnicodeDecodeError:
        return ""


class Urllib(Session):
    name = "urllib"

    def __init__(self, proxy: str | None = None) -> None:
        self.jar = http.cookiejar.CookieJar()
        self.history: list[int] = []
        session = self

        class Redirects(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, req: Any, fp: Any, code: int, *rest: Any) -> Any:
                if not session.follow:
                    return None
                session.history.append(code)
                return super().redirect_request(req, fp, code, *rest)

        self.follow = False
        proxies = {"http": proxy, "https": proxy} if proxy else {}
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies),
            urllib.request.HTTPCookieProcessor(self.jar),
            Redirects,
        )

    def fetch(self, call: Call) -> Outcome:
        self.follow = call.follow
        self.history.clear()
        body, headers = _plain_body(call)
        request = urllib.request.Request(call.url, data=body, headers=headers, method=call.method)
        try:
            timeout = {} if call.read_timeout_s is None else {"timeout": call.read_timeout_s}
            response = self.opener.open(request, **timeout)
        except urllib.error.HTTPError as error:
            if call.raise_for_status:
                error.close()
                raise
            response = error
        with response:
            content = (
                b"".join(iter(lambda: response.read(7), b"")) if call.stream else response.read()
            )
            return Outcome(
                response.status,
                response.reason,
                [(name.lower(), value) for name, value in response.headers.items()],
                content,
                _text(response, content),
                {cookie.name: cookie.value or "" for cookie in self.jar},
                list(self.history),
            )

    def close(self) -> None:
        self.opener.close()


class HttpClient(Session):
    name = "http.client"
    follows = False
    keeps_cookies = False
    has_proxies = False

    def __init__(self, proxy: str | None = None) -> None:
        self.connections: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def fetch(self, call: Call) -> Outcome:
        parts = urlsplit(call.url)
        connection = self.connections.get((parts.scheme, parts.netloc))
        if connection is None:
            kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
            connection = kinds[parts.scheme](parts.netloc, timeout=call.read_timeout_s)
            self.connections[parts.scheme, parts.netloc] = connection
        body, headers = _plain_body(call)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(call.method, target, body, headers, encode_chunked=True)
        with connection.getresponse() as response:
            content = (
                b"".join(iter(lambda: response.read(7), b"")) if call.stream else response.read()
            )
        if call.raise_for_status and response.status >= 400:
            raise http.client.HTTPException(response.status)
        return Outcome(
            response.status,
            response.reason,
            [(name.lower(), value) for name, value in response.getheaders()],
            content,
            _text(response, content),
            {},
            [],
        )

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()


class Httplib2(Session):
    name = "httplib2"
    package = httplib2
    keeps_cookies = False
    has_proxies = False  # without PySocks
    connects_first = True

    def __init__(self, proxy: str | None = None) -> None:
        info = httplib2.proxy_info_from_url(proxy) if proxy else None
        self.http = httplib2.Http(proxy_info=info)
        self.http.follow_all_redirects = True

    def fetch(self, call: Call) -> Outcome:
        body, headers = _plain_body(call)
        self.http.follow_redirects = call.follow
        self.http.timeout = call.read_timeout_s
        for connection in self.http.connections.values():
            connection.timeout = call.read_timeout_s
        response, content = self.http.request(call.url, call.method, body, headers)
        if call.raise_for_status and response.status >= 400:
            raise httplib2.HttpLib2Error(response.status)
        history, past = [], response.previous
        while past is not None:
            history.insert(0, past.status)
            past = past.previous
        return Outcome(
            response.status,
            response.reason,
            [
                (name.removeprefix("-"), value)  # as it names the encoding of what it decoded
                for name, value in response.items()
                if name not in ("status", "content-location")  # its own words
            ],
            content,
            _decoded(response.get("content-type", ""), content),
            {},
            history,
        )

    def close(self) -> None:
        self.http.close()


class Aiohttp(Session):
    name = "aiohttp"
    package = aiohttp
    is_async = True

    def __init__(self, proxy: str | None = None) -> None:
        self.runner = asyncio.Runner()
        self.proxy = proxy
        self.session: Any = None

    def fetch(self, call: Call) -> Outcome:
        return self.runner.run(self.fetch_async(call))

    async def fetch_async(self, call: Call) -> Outcome:
        async def chunks(source: Iterable[bytes]) -> Any:
            for chunk in source:
                yield chunk

        if self.session is None:  # on its loop; by default it keeps no cookies of addresses
            self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        data: Any = call.form
        if call.file is not None:
            data = aiohttp.FormData()
            data.add_field("upload", call.file, filename="a.bin")
        if call.chunks is not None:
            data = chunks(call.chunks)
        async with self.session.request(
            call.method,
            call.url,
            headers=call.headers,
            json=call.json,
            data=data,
            timeout=aiohttp.ClientTimeout(total=None, sock_read=call.read_timeout_s),
            allow_redirects=call.follow,
            raise_for_status=call.raise_for_status,
            proxy=self.proxy,
        ) as response:
            if call.stream:
                body = b"".join([chunk async for chunk in response.content.iter_chunked(7)])
            else:
                body = await response.read()
            try:
                text = "" if call.stream else await response.text()
            except UnicodeDecodeError:
                text = ""
            return Outcome(
                response.status,
                response.reason,
                [
                    (name.decode("latin-1").lower(), value.decode("latin-1"))
                    for name, value in response.raw_headers
                ],
                body,
                text,
                {cookie.key: cookie.value for cookie in self.session.cookie_jar},
                [past.status for past in response.history],
            )

    def close(self) -> None:
        if self.session is not None:
            self.runner.run(self.session.close())
        self.runner.run(asyncio.sleep(0))  # connections close in the next turn
        self.runner.close()


class Urllib3(Session):
    name = "urllib3"
    package = urllib3
    keeps_cookies = False
    connects_first = True

    def __init__(self, proxy: str | None = None) -> None:
        self.pool = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()

    def fetch(self, call: Call) -> Outcome:
        body, headers = _plain_body(call)
        response = self.pool.request(
            call.method,
            call.url,
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(read=call.read_timeout_s),
            redirect=call.follow,
            preload_content=not call.stream,
            chunked=call.chunks is not None,
        )
        content = b"".join(response.stream(7)) if call.stream else response.data
        response.release_conn()
        if call.raise_for_status and response.status >= 400:
            raise urllib3.exceptions.HTTPError(response.status)
        text = "" if call.stream else _decoded(response.headers.get("content-type", ""), content)
        return Outcome(
            response.status,
            response.reason,
            [(name.lower(), value) for name, value in response.headers.items()],
            content,
            text,
            {},
            [past.status for past in response.retries.history],
        )

    def close(self) -> None:
        self.pool.clear()


class Niquests(Requests):
    name = "niquests"
    package = niquests


class NiquestsAsync(Session):
    name = "niquests-async"
    package = niquests
    is_async = True

    def __init__(self, proxy: str | None = None) -> None:
        self.runner = asyncio.Runner()
        self.session = niquests.AsyncSession()
        if proxy:
            self.session.proxies = {"http": proxy, "https": proxy}

    def fetch(self, call: Call) -> Outcome:
        return self.runner.run(self.fetch_async(call))

    async def fetch_async(self, call: Call) -> Outcome:
        async def chunks(source: Iterable[bytes]) -> Any:
            for chunk in source:
                yield chunk

        response = await self.session.request(
            call.method,
            call.url,
            headers=call.headers,
            json=call.json,
            data=call.form if call.chunks is None else chunks(call.chunks),
            files=None if call.file is None else {"upload": ("a.bin", call.file)},
            timeout=(None, call.read_timeout_s),
            allow_redirects=call.follow,
            stream=call.stream,
        )
        if call.stream:
            body = b"".join([chunk async for chunk in await response.iter_content(7)])
        else:
            body = response.content
        if call.raise_for_status:
            response.raise_for_status()
        outcome = Outcome(
            response.status_code,
            response.reason,
            [(name.lower(), value) for name, value in response.raw.headers.items()],
            body,
            "" if call.stream else response.text,
            self.session.cookies.get_dict(),
            [past.status_code for past in response.history],
        )
        if call.stream:
            await response.close()
        return outcome

    def close(self) -> None:
        self.runner.run(self.session.close())
        self.runner.close()


LIBRARIES: list[type[Session]] = [
    HttpxSync,
    HttpxAsync,
    Httpx2Sync,
    Httpx2Async,
    Requests,
    Urllib,
    HttpClient,
    Httplib2,
    Aiohttp,
    Urllib3,
    Niquests,
    NiquestsAsync,
]

CLIENTS = [
    pytest.param(
        library,
        id=library.name,
        marks=pytest.mark.skipif(
            library.package is None, reason=f"{library.name} is not installed here"
        ),
    )
    for library in LIBRARIES
]


def chunks_of(*parts: bytes) -> Iterator[bytes]:
    """Return a generator, which can be read once."""
    yield from parts
