"""One suite for every HTTP library: a mocked call behaves as a call to a real server does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mock_mcp.exchange import (
    HostRules,
    HttpRequest,
    HttpResponse,
    NetworkBlocked,
    TransportFailure,
)
from mock_mcp.interceptors import install
from unit.interceptors.clients import CHUNKS, CLIENTS, Call, HttpClient, Outcome, Session, chunks_of
from unit.interceptors.servers import Answer, FakeExchange, RealServer, free_port

API = "http://api.example.test"
SECURE_API = "https://api.example.test"

pytestmark = pytest.mark.parametrize("library", CLIENTS)


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], RealServer]]:
    """Start real servers on loopback."""
    servers: list[RealServer] = []

    def start(answer: Answer) -> RealServer:
        servers.append(RealServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def respond(data: Any, **mock: Any) -> Answer:
    return lambda request: HttpResponse.from_mock(request, data, **mock)


def respond_by_path(answers: dict[str, Answer]) -> Answer:
    """Answer each path by its last segment, so that one test makes calls that differ in it."""
    return lambda request: answers[request.url.rpartition("/")[2]](request)


def without_place(request: HttpRequest) -> tuple[Any, ...]:
    """Return what a server sees of a request but for where the server is."""
    path = request.url.partition("//")[2].partition("/")[2]
    headers = {name.lower(): value for name, value in request.headers}
    headers.pop("host")
    content_type = headers.pop("content-type", "")
    kind, _, parameter = content_type.partition(";")
    if kind.startswith("multipart/"):
        boundary = parameter.partition("=")[2]
        return request.method, path, headers, kind, request.body.replace(boundary.encode(), b"")
    return request.method, path, headers, content_type, request.body


def both(
    library: type[Session],
    serve: Callable[[Answer], RealServer],
    answer: Answer,
    calls: Callable[[str], list[Call]],
) -> list[Outcome]:
    """Make the same calls to a mock and to a real server; check that nobody can tell.

    Returns what the library showed, and leaves that both ends were asked the same.
    """
    server = serve(answer)
    with library() as session:
        real = [session.fetch(call) for call in calls(server.url)]
    exchange = FakeExchange(answer)
    with install(exchange), library() as session:
        mocked = [session.fetch(call) for call in calls(API)]
    assert mocked == real
    assert [without_place(request) for request in exchange.requests] == [
        without_place(request) for request in server.requests
    ]
    return mocked


# -- Requests and responses -------------------------------------------------------------------


def test_json(library: type[Session], serve: Any) -> None:
    [outcome] = both(
        library,
        serve,
        respond({"id": 1, "name": "Zoë"}),
        lambda url: [Call("GET", f"{url}/users/1?q=a%20b&q=c")],
    )
    assert (outcome.status, outcome.reason) == (200, "OK")
    assert outcome.text == '{"id":1,"name":"Zoë"}'


def test_json_request(library: type[Session], serve: Any) -> None:
    def echo(request: HttpRequest) -> HttpResponse:
        return HttpResponse.from_mock(request, request.body_value(), status=201)

    methods = ("POST", "PUT", "DELETE", "PURGE")
    outcomes = both(
        library,
        serve,
        echo,
        lambda url: [Call(method, f"{url}/users", json={"a": ["é", 1]}) for method in methods],
    )
    told = [(outcome.status, outcome.reason, outcome.text) for outcome in outcomes]
    assert told == [(201, "Created", '{"a":["é",1]}')] * 4


def test_form_request(library: type[Session], serve: Any) -> None:
    def echo(request: HttpRequest) -> HttpResponse:
        return HttpResponse.from_mock(request, {"got": request.body_value()})

    [outcome] = both(
        library, serve, echo, lambda url: [Call("POST", url + "/", form={"a": "1 2", "b": "ü"})]
    )
    assert outcome.text == '{"got":{"$form":{"a":"1 2","b":"ü"}}}'


def test_multipart_request(library: type[Session], serve: Any) -> None:
    def name_of(request: HttpRequest) -> HttpResponse:
        [part] = request.body_value()["$multipart"]
        return HttpResponse.from_mock(request, [part["name"], part["filename"], part["$base64"]])

    [outcome] = both(
        library, serve, name_of, lambda url: [Call("POST", url + "/", file=b"\0\r\n\xff--")]
    )
    assert outcome.text == '["upload","a.bin","AA0K/y0t"]'


def test_generator_request(library: type[Session], serve: Any) -> None:
    def echo(request: HttpRequest) -> HttpResponse:
        return HttpResponse.from_mock(request, request.body.decode(), media_type="text/plain")

    [outcome] = both(
        library, serve, echo, lambda url: [Call("POST", url + "/", chunks=chunks_of(*CHUNKS))]
    )
    assert outcome.text == "first second third"


def test_content_encoding(library: type[Session], serve: Any) -> None:
    codings = ("gzip", "deflate", "br")
    accepted = {"Accept-Encoding": "gzip, deflate"}
    outcomes = both(
        library,
        serve,
        respond_by_path(
            {each: respond({"id": 1}, headers={"Content-Encoding": each}) for each in codings}
        ),
        lambda url: [Call("GET", f"{url}/{each}", headers=accepted) for each in codings],
    )
    for coding, outcome in zip(codings, outcomes, strict=True):
        encoded = ("content-encoding", coding) in outcome.headers
        assert encoded is (coding != "br")
        if library.name in ("urllib", "http.client") and encoded:  # they decode nothing
            assert outcome.body != b'{"id":1}'
        else:
            assert outcome.body == b'{"id":1}'


def test_an_encoding_the_client_does_not_accept_is_left_out(library: type[Session]) -> None:
    exchange = FakeExchange(respond({"id": 1}, headers={"Content-Encoding": "gzip"}))
    with install(exchange), library() as session:
        outcome = session.fetch(Call("GET", API + "/", headers={"Accept-Encoding": "identity"}))
    assert outcome.body == b'{"id":1}'


def test_latin_1(library: type[Session], serve: Any) -> None:
    [outcome] = both(
        library,
        serve,
        respond("café", headers={"Content-Type": "text/plain; charset=iso-8859-1", "X-A": "é"}),
        lambda url: [Call("GET", url + "/")],
    )
    assert outcome.body == "café".encode("latin-1")
    assert outcome.text == "café"
    assert ("x-a", "é") in outcome.headers


def test_a_header_beyond_latin_1_is_sent_as_utf_8(library: type[Session], serve: Any) -> None:
    both(
        library,
        serve,
        respond(1, headers={"X-Dash": "a € b"}),
        lambda url: [Call("GET", url + "/")],
    )


def test_multi_value_headers_and_cookies(library: type[Session], serve: Any) -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        cookies = ["a=1; Path=/", "b=2; Path=/; HttpOnly"]
        headers = {"Set-Cookie": cookies, "X-Many": ["1", "2"]}
        return HttpResponse.from_mock(request, request.header("cookie"), headers=headers)

    first, second = both(
        library, serve, answer, lambda url: [Call("GET", f"{url}/{n}") for n in (1, 2)]
    )
    many = [value for name, value in first.headers if name == "x-many"]
    assert many == (["1, 2"] if library.name == "httplib2" else ["1", "2"])
    assert first.text == "null"
    if library.keeps_cookies:
        assert first.cookies == {"a": "1", "b": "2"}
        assert second.text == '"a=1; b=2"'


def test_redirects(library: type[Session], serve: Any) -> None:
    statuses = (301, 302, 303, 307, 308)

    def answer(request: HttpRequest) -> HttpResponse:
        last = request.url.rpartition("/")[2]
        if not last.isdecimal():
            return HttpResponse.from_mock(request, {"method": request.method})
        headers = {"Location": "/new?x=1", "Set-Cookie": f"c={last}"}
        return HttpResponse.from_mock(request, None, status=int(last), headers=headers)

    outcomes = both(
        library,
        serve,
        answer,
        lambda url: [Call("GET", f"{url}/{status}", follow=True) for status in statuses],
    )
    for status, outcome in zip(statuses, outcomes, strict=True):
        if library.follows:
            assert outcome.history == [status]
            assert outcome.text == '{"method":"GET"}'
        else:
            assert outcome.status == status


def test_redirect_of_a_post(library: type[Session], serve: Any) -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        if request.url.endswith("/old"):
            return HttpResponse.from_mock(request, "", status=302, headers={"Location": "/new"})
        return HttpResponse.from_mock(request, {"method": request.method})

    both(library, serve, answer, lambda url: [Call("POST", url + "/old", json=1, follow=True)])


def test_error_status(library: type[Session], serve: Any) -> None:
    statuses = (400, 404, 500, 503)
    answer = respond_by_path(
        {str(status): respond({"error": "no"}, status=status) for status in statuses}
    )
    outcomes = both(
        library, serve, answer, lambda url: [Call("GET", f"{url}/{each}") for each in statuses]
    )
    assert tuple(outcome.status for outcome in outcomes) == statuses
    server = serve(answer)
    for status in statuses:
        call = Call("GET", f"/{status}", raise_for_status=True)
        real, mocked = errors(library, server, FakeExchange(answer), call)
        assert mocked is real


def test_streaming(library: type[Session], serve: Any) -> None:
    sizes = [0, 1, 70_000]  # more than is read at once
    outcomes = both(
        library,
        serve,
        respond_by_path({str(n): respond("x" * n, media_type="text/plain") for n in sizes}),
        lambda url: [Call("GET", f"{url}/{size}", stream=True) for size in sizes],
    )
    assert [len(outcome.body) for outcome in outcomes] == sizes


def test_head_has_the_length_and_no_body(library: type[Session], serve: Any) -> None:
    [outcome] = both(
        library, serve, respond({"id": 1}), lambda url: [Call("HEAD", url + "/", follow=True)]
    )
    assert outcome.body == b""
    assert ("content-length", "8") in outcome.headers


def test_statuses_without_a_body(library: type[Session], serve: Any) -> None:
    statuses = (204, 205, 304)
    outcomes = both(
        library,
        serve,
        respond_by_path({str(each): respond({"ignored": True}, status=each) for each in statuses}),
        lambda url: [
            Call("GET", f"{url}{again}/{each}") for each in statuses for again in ("", "/a")
        ],
    )
    assert [(outcome.status, outcome.body) for outcome in outcomes] == [
        (status, b"") for status in statuses for _ in range(2)
    ]


def test_binary(library: type[Session], serve: Any) -> None:
    [outcome] = both(
        library, serve, respond({"$base64": "AAECgA=="}), lambda url: [Call("GET", url + "/")]
    )
    assert outcome.body == b"\0\1\2\x80"


def test_https(library: type[Session]) -> None:
    exchange = FakeExchange()
    with install(exchange), library() as session:
        assert session.fetch(Call("GET", f"{SECURE_API}/a")).status == 200
        assert session.fetch(Call("GET", f"{SECURE_API}:8443/b")).status == 200
    assert [request.url for request in exchange.requests] == [
        f"{SECURE_API}/a",
        f"{SECURE_API}:8443/b",
    ]


# -- Failures ---------------------------------------------------------------------------------


def error_of(library: type[Session], call: Call) -> BaseException | None:
    with library() as session:
        try:
            session.fetch(call)
        except Exception as error:  # noqa: BLE001 - which it is, is the question
            return error
    return None


def chain(error: BaseException | None) -> list[type[BaseException]]:
    """Return the type of an error and, for urllib, of its reason."""
    found = [type(error)] if error is not None else []
    reason = getattr(error, "reason", None)
    return [*found, type(reason)] if isinstance(reason, OSError) else found


def errors(
    library: type[Session], server: RealServer | str, exchange: FakeExchange, call: Call
) -> tuple[Any, Any]:
    """Return the types of the error of a real call to a path and of a mocked one."""
    url = server if isinstance(server, str) else server.url
    path = call.url or "/"
    real = error_of(library, Call(**vars(call) | {"url": url + path}))
    with install(exchange):
        mocked = error_of(library, Call(**vars(call) | {"url": API + path}))
    assert mocked is not None
    return type(real), type(mocked)


def fail(kind: str) -> Answer:
    def answer(request: HttpRequest) -> HttpResponse:
        raise TransportFailure(kind)

    return answer


def test_connection_refused(library: type[Session]) -> None:
    refused = f"http://127.0.0.1:{free_port()}"
    real, mocked = errors(library, refused, FakeExchange(fail("refused")), Call("GET", ""))
    assert mocked is real


def test_connection_reset(library: type[Session], serve: Any) -> None:
    answer = fail("reset")
    real, mocked = errors(library, serve(answer), FakeExchange(answer), Call("GET", ""))
    assert mocked is real


def test_unknown_host(library: type[Session]) -> None:
    unknown = "http://nowhere.invalid"
    real, mocked = errors(library, unknown, FakeExchange(fail("unresolved")), Call("GET", ""))
    assert mocked is real


def test_delay_beyond_the_read_timeout(library: type[Session], serve: Any) -> None:
    answer = respond(1, delay_s=600.0)  # neither is waited for
    call = Call("GET", "", read_timeout_s=0.05)
    real, mocked = errors(library, serve(answer), FakeExchange(answer), call)
    assert mocked is real


def test_read_timeout_at_once(library: type[Session], serve: Any) -> None:
    call = Call("GET", "", read_timeout_s=0.05)
    exchange = FakeExchange(fail("read_timeout"))
    real, mocked = errors(library, serve(respond(1, delay_s=600.0)), exchange, call)
    assert mocked is real


def test_connect_timeout(library: type[Session]) -> None:
    with install(FakeExchange(fail("connect_timeout"))):
        error = error_of(library, Call("GET", f"{API}/"))
    expected = {
        "httpx": "httpx.ConnectTimeout",
        "httpx-async": "httpx.ConnectTimeout",
        "httpx2": "httpx2.ConnectTimeout",
        "httpx2-async": "httpx2.ConnectTimeout",
        "requests": "requests.exceptions.ConnectTimeout",
        "urllib": "urllib.error.URLError",
        "http.client": "builtins.TimeoutError",
        "httplib2": "builtins.TimeoutError",
        "urllib3": "urllib3.exceptions.MaxRetryError",
        "niquests": "niquests.exceptions.ConnectTimeout",
        "niquests-async": "niquests.exceptions.ConnectTimeout",
        "aiohttp": "aiohttp.client_exceptions.ConnectionTimeoutError",
    }
    found = f"{type(error).__module__}.{type(error).__qualname__}"
    if library.name == "aiohttp":  # until 3.9
        found = found.replace("ServerTimeoutError", "ConnectionTimeoutError")
    assert found == expected[library.name]


def test_delay_within_the_timeout(library: type[Session]) -> None:
    with install(FakeExchange(respond(1, delay_s=0.001))), library() as session:
        assert session.fetch(Call("GET", f"{API}/", read_timeout_s=30.0)).text == "1"


def test_other_errors_of_the_exchange_arrive_unchanged(library: type[Session]) -> None:
    class TestFailed(Exception):
        pass

    def answer(request: HttpRequest) -> HttpResponse:
        raise TestFailed

    with install(FakeExchange(answer)):
        assert isinstance(error_of(library, Call("GET", f"{API}/")), TestFailed)


def test_a_connection_works_again_after_a_failure(library: type[Session]) -> None:
    answers = [fail("reset")]

    def answer(request: HttpRequest) -> HttpResponse:
        return (answers.pop() if answers else respond("fine"))(request)

    with install(FakeExchange(answer)), library() as session:
        with contextlib.suppress(Exception):
            session.fetch(Call("GET", f"{API}/"))
        assert session.fetch(Call("GET", f"{API}/")).text == '"fine"'


# -- Where calls go ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        (f"{API}/a", "http://127.0.0.1:9"),
        (f"{SECURE_API}/a", "http://127.0.0.1:9"),
        (f"{SECURE_API}/a", "http://proxy.example.test:3128"),
    ],
)
def test_a_proxy_makes_no_difference(library: type[Session], url: str, proxy: str) -> None:
    if not library.has_proxies:
        pytest.skip("the library knows no proxies")
    exchange = FakeExchange(rules=HostRules(["api.example.test"]))
    with install(exchange), library(proxy=proxy) as session:
        assert session.fetch(Call("GET", url)).status == 200
    assert [request.url for request in exchange.requests] == [url]


def test_loopback_passes_by_default(library: type[Session], serve: Any) -> None:
    server = serve(respond("real"))
    exchange = FakeExchange(respond("mocked"))
    with install(exchange), library() as session:
        assert session.fetch(Call("GET", f"{server.url}/")).text == '"real"'
        assert session.fetch(Call("GET", f"{API}/")).text == '"mocked"'
    assert len(exchange.requests) == 1


def test_passthrough_of_streams_and_bodies(library: type[Session], serve: Any) -> None:
    def echo(request: HttpRequest) -> HttpResponse:
        return HttpResponse.from_mock(request, request.body.decode(), media_type="text/plain")

    server = serve(echo)
    exchange = FakeExchange(rules=HostRules(["*"], passthrough=["127.0.0.1"]))
    with install(exchange), library() as session:
        call = Call("POST", f"{server.url}/", chunks=chunks_of(*CHUNKS), stream=True)
        assert session.fetch(call).body == b"".join(CHUNKS)
    assert exchange.requests == []


def test_loopback_can_be_mocked(library: type[Session]) -> None:
    exchange = FakeExchange(rules=HostRules(["localhost:8123"]))
    with install(exchange), library() as session:
        assert session.fetch(Call("GET", "http://localhost:8123/x")).status == 200
    assert exchange.requests[0].url == "http://localhost:8123/x"


def test_other_hosts_are_refused_by_name(library: type[Session]) -> None:
    exchange = FakeExchange(rules=HostRules(["api.example.test"]))
    with install(exchange):
        error = error_of(library, Call("GET", "https://other.example.test/v1?a=b"))
    assert isinstance(error, NetworkBlocked)
    target = "" if library.connects_first else "/v1"  # without the query: it may hold secrets
    assert f"https://other.example.test{target} " in error.message
    assert exchange.refusals == [error]


def test_nested_installations(library: type[Session]) -> None:
    outer = FakeExchange(respond("outer"), HostRules(["a.test", "b.test"]))
    inner = FakeExchange(respond("inner"), HostRules(["b.test"]))
    with library() as session:

        def text(host: str) -> str:
            return session.fetch(Call("GET", f"http://{host}/")).text

        with install(outer):
            assert [text("a.test"), text("b.test")] == ['"outer"', '"outer"']
            with install(inner):
                assert [text("a.test"), text("b.test")] == ['"outer"', '"inner"']
                assert isinstance(error_of(library, Call("GET", "http://c.test/")), NetworkBlocked)
            assert [text("a.test"), text("b.test")] == ['"outer"', '"outer"']


def test_a_session_outlives_the_installations(library: type[Session], serve: Any) -> None:
    server = serve(respond("real"))
    mocking = FakeExchange(respond("mocked"), HostRules(["127.0.0.1"]))
    call = Call("GET", f"{server.url}/")
    with library() as session:
        assert session.fetch(call).text == '"real"'
        for _ in range(2):
            with install(mocking):
                assert session.fetch(call).text == '"mocked"'
            assert session.fetch(call).text == '"real"'


# -- Concurrency ------------------------------------------------------------------------------


def test_twenty_threads_at_once(library: type[Session]) -> None:
    together = threading.Barrier(20)

    def answer(request: HttpRequest) -> HttpResponse:
        together.wait(30)  # passes only if all twenty are asked at the same time
        return HttpResponse.from_mock(request, request.url.rpartition("/")[2])

    texts: list[str] = []

    def work(number: int) -> None:
        with library() as session:
            texts.append(session.fetch(Call("GET", f"{API}/{number}")).text)

    with install(FakeExchange(answer)):
        threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(texts) == sorted(f'"{n}"' for n in range(20))


def test_fifty_tasks_reach_the_exchange_in_one_turn(library: type[Session]) -> None:
    if not library.is_async:
        pytest.skip("the library is not async")

    class Batching(FakeExchange):
        """Answers nothing until a turn of the loop brings nothing new."""

        def __init__(self) -> None:
            super().__init__()
            self.batches: list[int] = []
            self.waiting: list[asyncio.Future[None]] = []

        async def handle_async(self, request: HttpRequest, send: Any = None) -> HttpResponse:
            loop = asyncio.get_running_loop()
            if not self.waiting:
                loop.call_soon(self.flush)
            self.waiting.append(loop.create_future())
            await self.waiting[-1]
            return self.handle(request)

        def flush(self) -> None:
            batch, self.waiting = self.waiting, []
            self.batches.append(len(batch))
            for future in batch:
                future.set_result(None)

    exchange = Batching()
    with install(exchange), library() as session:

        async def run() -> list[Outcome]:
            bodies: list[dict[str, Any]] = [{"json": 1}, {}, {"form": {"a": "b"}}, {"file": b"x"}]
            calls = [Call("POST", f"{API}/{n}", **bodies[n % 4]) for n in range(49)]
            calls.append(Call("GET", f"{API}/", chunks=chunks_of(*CHUNKS)))
            return await asyncio.gather(*(session.fetch_async(call) for call in calls))

        outcomes = session.runner.run(run())
    assert [outcome.status for outcome in outcomes] == [200] * 50
    assert exchange.batches == [50]


def test_a_blocking_client_in_async_code(library: type[Session]) -> None:
    """The answer comes from another thread while the test's loop stands still."""
    if library.is_async:
        pytest.skip("the library is async")

    def answer(request: HttpRequest) -> HttpResponse:
        done: list[HttpResponse] = []
        thread = threading.Thread(
            target=lambda: done.append(asyncio.run(FakeExchange().handle_async(request)))
        )
        thread.start()
        thread.join()
        return done[0]

    async def run() -> Outcome:
        with library() as session:
            return session.fetch(Call("GET", f"{API}/"))

    with install(FakeExchange(answer)):
        assert asyncio.run(run()).status == 200


def test_keep_alive_sends_every_request(library: type[Session]) -> None:
    exchange = FakeExchange()
    with install(exchange), library() as session:
        for number in range(3):
            session.fetch(Call("POST", f"{API}/{number}", json=number))
    assert [request.body_value() for request in exchange.requests] == [0, 1, 2]
    if library is HttpClient:
        assert exchange.requests[0].header("host") == "api.example.test"
