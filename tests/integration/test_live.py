"""One suite for every HTTP library: what a real server answers reaches the test, and is recorded.

The server listens on loopback, breaks its contract on purpose, and is gone when recordings replay.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.errors import ContractWarning, LimitExceeded
from mock_mcp.exchange import HttpRequest, HttpResponse, TransportFailure
from mock_mcp.interceptors import install
from mock_mcp.recordings.paths import locate
from mock_mcp.runtime.project import Project
from mock_mcp.scope import ApiDrift, Polices, Scope, UnrecordableAnswer, make_settings
from unit.interceptors.clients import (
    CHUNKS,
    CLIENTS,
    Call,
    Outcome,
    Session,
    chunks_of,
    urllib3,
)
from unit.interceptors.servers import Answer, RealServer, free_port

pytestmark = pytest.mark.parametrize("library", CLIENTS)

USER = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "token": {"type": "string", "pattern": "^tok_"},
    },
}


def document(url: str) -> dict[str, Any]:
    answer = {
        "description": "",
        "headers": {"X-Page": {"required": True, "schema": {"type": "integer"}}},
        "content": {"application/json": {"schema": USER}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "users", "version": "1"},
        "servers": [{"url": url}],
        "paths": {"/users/1": {"get": {"responses": {"200": answer}}}},
    }


class Api:
    """A real server, and the recording of one test that calls it."""

    def __init__(self, project: Path, cache_dir: Path, answer: Answer) -> None:
        self.server = RealServer(answer)
        self.url = self.server.url
        self.scopes: list[Scope] = []
        self._project = project
        self._cache_dir = cache_dir

    def declare(self, contract: str = "enforce") -> None:
        """Give the project a contract."""
        (self._project / "openapi.json").write_text(json.dumps(document(self.url)))
        (self._project / "pyproject.toml").write_text(
            f'[tool.mock-mcp]\nopenapi = ["openapi.json"]\ncontract = "{contract}"\n'
        )

    def scope(self, mode: str, **settings: Any) -> Scope:
        place = locate(self._project / "test_it.py", ["test_one"])
        settings = {"mode": mode, "source": "live", "hosts": ["127.0.0.1"], **settings}
        polices = Polices(Project.resolve(self._project), cache_dir=self._cache_dir)
        self.scopes.append(Scope(place, make_settings(settings), polices=polices))
        return self.scopes[-1]

    def record(self, library: type[Session], *calls: Call, **settings: Any) -> list[Outcome]:
        """Make calls live; the test passes."""
        scope = self.scope("once", **settings)
        with install(scope), library() as session:
            outcomes = [session.fetch(call) for call in calls]
        scope.verify()
        scope.finish(passed=True)
        return outcomes

    def replay(self, library: type[Session], *calls: Call) -> list[Outcome]:
        """Make calls again, without the server."""
        self.server.close()
        with install(self.scope("none")), library() as session:
            return [session.fetch(call) for call in calls]

    def really(self, library: type[Session], *calls: Call) -> list[Outcome]:
        """Make calls past everything."""
        with library() as session:
            return [session.fetch(call) for call in calls]

    @property
    def recording(self) -> list[dict[str, Any]]:
        path = self._project / "__mocks__" / "test_it" / "test_one.json"
        return json.loads(path.read_bytes())["interactions"] if path.is_file() else []


@pytest.fixture
def serve(project: Path, cache_dir: Path) -> Iterator[Callable[[Answer], Api]]:
    """Start a real server on loopback."""
    served: list[Api] = []

    def start(answer: Answer) -> Api:
        served.append(Api(project, cache_dir, answer))
        return served[-1]

    yield start
    for api in served:
        api.server.close()


def respond(data: Any, **mock: Any) -> Answer:
    return lambda request: HttpResponse.from_mock(request, data, **mock)


def raw(body: bytes, status: int = 200, **headers: str) -> Answer:
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return lambda request: HttpResponse(status, fields, body)


GOOD = respond({"id": 1, "name": "Zoë"}, headers={"X-Page": "2", "X-Noise": "a"})
DRIFTED = respond({"id": "1", "nick": "Zoë"}, headers={"X-Page": "2"})


# -- What reaches the test, and the recording -------------------------------------------------


def test_a_call_is_made_checked_and_recorded(library: type[Session], serve: Any) -> None:
    api = serve(GOOD)
    api.declare()
    call = Call("GET", f"{api.url}/users/1")
    [real] = api.really(library, call)
    [live] = api.record(library, call)
    assert live == real
    assert len(api.server.requests) == 2
    [recorded] = api.recording
    assert recorded["source"] == "live"
    assert recorded["operation"] == "GET /users/1"
    assert "contract" in recorded
    assert recorded["response"] == {
        "status": 200,
        "headers": {"content-type": "application/json", "x-page": "2"},  # the declared ones
        "body": {"id": 1, "name": "Zoë"},
    }
    [replayed] = api.replay(library, call)
    assert (replayed.status, replayed.text) == (live.status, live.text)


def test_more_headers_are_recorded_by_name(library: type[Session], serve: Any) -> None:
    headers = {"X-Request-Cost": "7", "X-Rate-Left": "1", "X-Rate-Token": "s3cret", "X-Noise": "a"}
    api = serve(respond({}, headers=headers))
    call = Call("GET", f"{api.url}/priced")
    settings = {"response_headers": ["X-Request-Cost", "x-rate-*"], "redact": ["x-rate-token"]}
    api.record(library, call, **settings)
    kept = {"x-request-cost": "7", "x-rate-left": "1", "x-rate-token": "REDACTED"}
    plain = {"content-type": "application/json"}
    assert api.recording[0]["response"]["headers"] == {**plain, **kept}
    [replayed] = api.replay(library, call)
    assert kept.items() <= dict(replayed.headers).items()


def test_the_server_is_asked_what_the_library_asks(library: type[Session], serve: Any) -> None:
    api = serve(lambda request: HttpResponse.from_mock(request, {"got": request.body_value()}))
    url = f"{api.url}/things?q=a%20b&q=c"

    def calls() -> list[Call]:
        return [
            Call("POST", url, headers={"X-A": "1"}, json={"a": ["é", 1]}),
            Call("PUT", url, form={"a": "1 2", "b": "ü"}),
            Call("POST", url, chunks=chunks_of(*CHUNKS)),
            Call("DELETE", url),
        ]

    real = api.really(library, *calls())
    live = api.record(library, *calls())
    assert live == real
    count = len(real)
    assert api.server.requests[count:] == api.server.requests[:count]
    assert [each.body for each in api.replay(library, *calls())] == [each.body for each in real]


def test_a_multipart_body_is_sent(library: type[Session], serve: Any) -> None:
    api = serve(
        lambda request: HttpResponse.from_mock(request, request.body_value()["$multipart"][0])
    )
    [live] = api.record(library, Call("POST", f"{api.url}/upload", file=b"\0\r\n\xff--"))
    assert json.loads(live.text)["$base64"] == "AA0K/y0t"


def compressed(body: bytes, content_type: str, coding: str) -> Answer:
    return raw(
        body,
        content_type=content_type,
        content_encoding=coding,
        content_length=str(len(body)),
    )


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_answer(library: type[Session], serve: Any, coding: str) -> None:
    content = b'{"id": 1}'
    packed = gzip.compress(content) if coding == "gzip" else zlib.compress(content)
    api = serve(compressed(packed, "application/json", coding))
    call = Call("GET", f"{api.url}/packed", headers={"Accept-Encoding": coding})
    assert api.record(library, call) == api.really(library, call)
    assert api.recording[0]["response"]["body"] == {"id": 1}
    assert "content-encoding" not in api.recording[0]["response"]["headers"]
    [replayed] = api.replay(library, call)
    assert replayed.body.replace(b" ", b"") == b'{"id":1}'


@pytest.mark.parametrize(
    ("coding", "module"),
    [("br", "brotli"), ("zstd", "compression.zstd"), ("zstd", "backports.zstd")],
)
def test_an_answer_in_a_coding_of_modules(
    library: type[Session], serve: Any, coding: str, module: str
) -> None:
    packed = pytest.importorskip(module).compress(b"some text " * 10)
    api = serve(compressed(packed, "text/plain", coding))
    call = Call("GET", f"{api.url}/packed", headers={"Accept-Encoding": coding})
    assert api.record(library, call) == api.really(library, call)
    assert api.recording[0]["response"]["body"] == "some text " * 10


def test_an_answer_in_chunks_is_one_piece(library: type[Session], serve: Any) -> None:
    body = b"5\r\nfirst\r\n7;x=y\r\n second\r\n0\r\nX-Trailer: 1\r\n\r\n"
    api = serve(raw(body, content_type="text/plain", transfer_encoding="chunked"))
    call = Call("GET", f"{api.url}/stream", stream=True)
    [live] = api.record(library, call)
    assert live.body == b"first second"
    assert ("content-length", "12") in live.headers
    assert api.recording[0]["response"]["body"] == "first second"
    assert api.replay(library, call)[0].body == b"first second"


@pytest.mark.parametrize(
    ("kind", "body", "items"),
    [
        ("application/x-ndjson", b'{"a":1}\n{"a": 2}\n', [{"a": 1}, '{"a": 2}']),
        ("text/event-stream", b'data: {"a":1}\n\n: end\n\n', [{"data": {"a": 1}}, ": end"]),
    ],
)
def test_a_stream_is_its_items_and_replays_byte_for_byte(
    library: type[Session], serve: Any, *, kind: str, body: bytes, items: list[Any]
) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    api = serve(raw(chunks, content_type=kind, transfer_encoding="chunked"))
    call = Call("GET", f"{api.url}/stream", stream=True)
    assert api.record(library, call)[0].body == body
    assert api.recording[0]["response"]["body"] == items
    assert api.replay(library, call)[0].body == body


def test_an_answer_that_ends_with_the_connection(library: type[Session], serve: Any) -> None:
    api = serve(raw(b"to the end", content_type="text/plain", connection="close"))
    [live] = api.record(library, Call("GET", f"{api.url}/end"))
    assert live.body == b"to the end"


def test_binary(library: type[Session], serve: Any) -> None:
    content = bytes(range(256))
    api = serve(raw(content, content_type="image/png", content_length="256"))
    call = Call("GET", f"{api.url}/logo.png")
    assert api.record(library, call)[0].body == content
    assert api.replay(library, call)[0].body == content


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [("HEAD", 200, {"Content-Length": "12"}), ("GET", 204, {}), ("GET", 304, {"ETag": '"a"'})],
)
def test_answers_without_a_body(
    library: type[Session], serve: Any, method: str, status: int, headers: dict[str, str]
) -> None:
    api = serve(lambda request: HttpResponse(status, tuple(headers.items()), b""))
    call = Call(method, f"{api.url}/nothing")
    assert api.record(library, call) == api.really(library, call)
    assert "body" not in api.recording[0]["response"]
    [replayed] = api.replay(library, call)
    assert replayed.status == status
    assert ("content-length", "12") in replayed.headers or method != "HEAD"


def test_an_error_status_is_an_answer(library: type[Session], serve: Any) -> None:
    api = serve(respond({"detail": "not today"}, status=503))
    call = Call("GET", f"{api.url}/busy")
    assert api.record(library, call) == api.really(library, call)
    assert api.replay(library, call)[0].status == 503


def test_each_hop_of_a_redirect_is_a_call(library: type[Session], serve: Any) -> None:
    if not library.follows:
        pytest.skip("the library follows nothing")

    def answer(request: HttpRequest) -> HttpResponse:
        if request.url.endswith("/new"):
            return HttpResponse.from_mock(request, {"here": True})
        return HttpResponse.from_mock(request, None, status=302, headers={"Location": "/new"})

    api = serve(answer)
    call = Call("GET", f"{api.url}/old", follow=True)
    real = api.really(library, call)
    assert api.record(library, call) == real
    assert [each["response"]["status"] for each in api.recording] == [302, 200]
    [replayed] = api.replay(library, call)
    assert (replayed.status, replayed.history) == (200, real[0].history)


def test_secrets_reach_the_test_and_not_the_file(library: type[Session], serve: Any) -> None:
    headers = {"Set-Cookie": ["sid=s3cret; Path=/", "theme=dark-s3cret; Path=/"]}
    api = serve(respond({"access_token": "s3cret", "id": 1}, headers=headers))
    call = Call("GET", f"{api.url}/login?api_key=s3cret", headers={"Authorization": "s3cret"})
    [live] = api.record(library, call)
    assert json.loads(live.text)["access_token"] == "s3cret"
    if library.keeps_cookies:
        assert live.cookies == {"sid": "s3cret", "theme": "dark-s3cret"}
    [recorded] = api.recording
    assert "s3cret" not in json.dumps(recorded)
    cookies = recorded["response"]["headers"]["set-cookie"]
    assert cookies == ["sid=REDACTED; Path=/", "theme=REDACTED; Path=/"]
    [replayed] = api.replay(library, call)
    assert json.loads(replayed.text) == {"access_token": "REDACTED", "id": 1}


def test_a_host_by_its_name(library: type[Session], serve: Any) -> None:
    api = serve(GOOD)
    url = api.url.replace("127.0.0.1", "localhost")
    [live] = api.record(library, Call("GET", f"{url}/named"), hosts=["localhost"])
    assert live.status == 200
    assert api.recording[0]["request"]["url"] == f"{url}/named"


def test_through_a_proxy(library: type[Session], serve: Any) -> None:
    if not library.has_proxies:
        pytest.skip("the library has no proxies")
    api = serve(GOOD)
    url = "http://api.example.test/far"
    proxy = api.url.replace("://", "://user:pass@")
    with library(proxy) as session:
        assert session.fetch(Call("GET", url)).status == 200
    scope = api.scope("once", hosts=["api.example.test"])
    with install(scope), library(proxy) as session:
        for _ in range(2):  # the second time by the same connection
            assert session.fetch(Call("GET", url)).status == 200
    scope.finish(passed=True)
    assert [request.url for request in api.server.requests] == [url] * 3
    asked = [request.header("proxy-authorization") for request in api.server.requests]
    assert asked == [asked[0]] * 3
    assert api.recording[0]["request"]["url"] == url


def test_many_threads_at_once(library: type[Session], serve: Any) -> None:
    api = serve(lambda request: HttpResponse.from_mock(request, request.url.rpartition("/")[2]))
    scope = api.scope("once")

    def fetch(number: int) -> str:
        with library() as session:
            return session.fetch(Call("GET", f"{api.url}/{number}")).text

    with install(scope), ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(fetch, range(8)))
    assert texts == [f'"{number}"' for number in range(8)]
    scope.finish(passed=True)
    assert len(api.recording) == 8


def test_a_connection_serves_live_and_recorded_calls(library: type[Session], serve: Any) -> None:
    api = serve(GOOD)
    one, two = (Call("GET", f"{api.url}/{n}") for n in (1, 2))
    api.record(library, one)
    scope = api.scope("new_episodes")
    with library() as session:
        with install(scope):
            for call in (two, one, two):
                assert session.fetch(call).status == 200
        assert session.fetch(one).status == 200  # after the mocking ended
    assert [call.source for call in scope.calls] == ["live", "recording", "live"]
    assert len(api.server.requests) == 4


# -- Drift ------------------------------------------------------------------------------------


def test_drift_is_the_apis(library: type[Session], serve: Any) -> None:
    api = serve(DRIFTED)
    api.declare()
    scope = api.scope("once")
    with install(scope), library() as session:
        outcome = session.fetch(Call("GET", f"{api.url}/users/1"))
    assert outcome.text == '{"id":"1","nick":"Zoë"}'  # what is really said
    with pytest.raises(ApiDrift, match="drifted from its contract") as caught:
        scope.verify()
    assert {found.pointer for found in caught.value.violations} == {"/body/id", "/body/name"}
    assert (caught.value.operation, caught.value.status) == ("GET /users/1", 200)
    assert [drift.summary for drift in scope.live.drifts] == [caught.value.summary]
    scope.finish(passed=False)
    assert api.recording == []


def test_drift_is_a_warning_where_the_contract_warns(library: type[Session], serve: Any) -> None:
    api = serve(DRIFTED)
    api.declare("warn")
    with pytest.warns(ContractWarning, match="drifted from its contract"):
        api.record(library, Call("GET", f"{api.url}/users/1"))
    assert len(api.scopes[0].live.drifts) == 1
    assert api.recording[0]["response"]["body"] == {"id": "1", "nick": "Zoë"}


def test_an_undeclared_status_is_drift(library: type[Session], serve: Any) -> None:
    api = serve(respond({"detail": "who are you?"}, status=401))
    api.declare()
    with pytest.raises(ApiDrift, match="401"):
        api.record(library, Call("GET", f"{api.url}/users/1"))
    assert api.recording == []


def test_a_redaction_that_breaks_the_contract_is_said(library: type[Session], serve: Any) -> None:
    secret = {"id": 1, "name": "Zoë", "token": "tok_1"}
    api = serve(respond(secret, headers={"X-Page": "1"}))
    api.declare()
    with pytest.raises(UnrecordableAnswer, match="before_record") as caught:
        api.record(library, Call("GET", f"{api.url}/users/1"))
    assert "/token" in caught.value.message
    assert api.recording == []


# -- What cannot be recorded ------------------------------------------------------------------


def test_json_that_is_none_is_delivered_and_refused(library: type[Session], serve: Any) -> None:
    api = serve(raw(b"oops", content_type="application/json", content_length="4"))
    scope = api.scope("once")
    with install(scope), library() as session:
        assert session.fetch(Call("GET", f"{api.url}/broken")).body == b"oops"
    with pytest.raises(UnrecordableAnswer, match="its body is not JSON"):
        scope.verify()


def test_an_answer_that_is_too_large(
    library: type[Session], serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mock_mcp.exchange.LIVE_BODY_BYTES", 1000)
    api = serve(raw(b"x" * 1001, content_type="text/plain", content_length="1001"))
    scope = api.scope("once")
    call = Call("GET", f"{api.url}/large")
    with install(scope), library() as session, pytest.raises(LimitExceeded, match="1000 bytes"):
        session.fetch(call)
    with pytest.raises(LimitExceeded):
        scope.verify()
    scope.finish(passed=False)
    assert api.recording == []


def test_an_answer_of_just_the_limit(
    library: type[Session], serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mock_mcp.exchange.LIVE_BODY_BYTES", 1000)
    api = serve(raw(b"x" * 1000, content_type="text/plain", content_length="1000"))
    assert len(api.record(library, Call("GET", f"{api.url}/large"))[0].body) == 1000


# -- No answer --------------------------------------------------------------------------------


def error_of(library: type[Session], call: Call) -> Exception:
    """Make a call that fails; return the library's error."""
    with library() as session:
        try:
            session.fetch(call)
        except Exception as error:  # noqa: BLE001 - each library has its own
            return error
    raise AssertionError("it did not fail")


def fails(library: type[Session], api: Api, call: Call) -> None:
    """Check that a call fails live as it really does, and that nothing is recorded."""
    real = error_of(library, call)
    scope = api.scope("once")
    with install(scope):
        live = error_of(library, call)
    assert (type(live), type(live.__cause__)) == (type(real), type(real.__cause__))
    scope.verify()
    scope.finish(passed=True)
    assert api.recording == []
    assert any("gave no answer" in note for note in scope.live.notes)


def test_a_refused_connection(library: type[Session], serve: Any) -> None:
    fails(library, serve(GOOD), Call("GET", f"http://127.0.0.1:{free_port()}/"))


def test_a_timeout_of_the_library(library: type[Session], serve: Any) -> None:
    api = serve(respond({}, delay_s=600))
    fails(library, api, Call("GET", f"{api.url}/slow", read_timeout_s=0.2))


def test_a_reset_connection(library: type[Session], serve: Any) -> None:
    def reset(request: HttpRequest) -> HttpResponse:
        raise TransportFailure("reset")

    api = serve(reset)
    fails(library, api, Call("GET", f"{api.url}/reset"))


def test_a_body_that_is_cut(library: type[Session], serve: Any) -> None:
    if library.name == "requests" and urllib3.__version__ < "2":
        pytest.skip("requests on urllib3 1 takes what came for the whole")
    api = serve(raw(b"cut", content_type="text/plain", content_length="100", connection="close"))
    fails(library, api, Call("GET", f"{api.url}/cut"))


# -- Modes ------------------------------------------------------------------------------------


def test_what_is_recorded_is_not_asked_again(library: type[Session], serve: Any) -> None:
    api = serve(GOOD)
    one, two = (Call("GET", f"{api.url}/{n}") for n in (1, 2))
    api.record(library, one)
    assert len(api.server.requests) == 1
    scope = api.scope("new_episodes")
    with install(scope), library() as session:
        outcomes = [session.fetch(call) for call in (one, two)]
    scope.finish(passed=True)
    assert [outcome.status for outcome in outcomes] == [200, 200]
    assert [call.source for call in scope.calls] == ["recording", "live"]
    assert [request.url for request in api.server.requests] == [one.url, two.url]
    assert len(api.recording) == 2
