"""Pages in Chromium whose requests are routed, under both APIs of Playwright."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import brotli
import pytest
from websockets.sync.server import serve

import mock_mcp
from mock_mcp.browser import Lull, PageCallFailed
from mock_mcp.errors import ConfigurationError, ContractViolation, LimitExceeded
from mock_mcp.exchange import HttpRequest, HttpResponse, TransportFailure
from mock_mcp.recordings.miss import RecordingMiss
from mock_mcp.scope import ApiDrift, Call, UnrecordableAnswer
from support.browser import Chromium, Site, Step, chromium, needs_chromium, site, until
from support.plugin import DOCUMENT, ScriptedAssistant
from support.ws import HANG_S
from unit.interceptors.servers import Answer, RealServer, free_port

__all__ = ["chromium", "site"]

pytest.importorskip("playwright", reason="needs playwright")
pytestmark = needs_chromium

ASYNC_API = pytest.mark.parametrize("chromium", ["async"], indirect=True, scope="module")
"""For tests of what becomes of a request or an answer, in which the API has no part."""
ELSEWHERE = "http://api.example.test"
"""Another origin than the page's, which is nowhere."""
FETCH = """([url, options]) => fetch(url, options).then(async answer => ({
    status: answer.status, url: answer.url, redirected: answer.redirected,
    headers: Object.fromEntries(answer.headers),
    bytes: [...new Uint8Array(await answer.arrayBuffer())],
}), String)"""
FETCH_ALL = "urls => Promise.all(urls.map(url => fetch(url).then(answer => answer.json(), String)))"


def open_(url: str) -> Step:
    return lambda page: page.goto(url)


def fetch(url: str, **options: Any) -> Step:
    return lambda page: page.evaluate(FETCH, [url, options])


def fetch_all(*urls: str) -> Step:
    return lambda page: page.evaluate(FETCH_ALL, urls)


def text_of(answer: Any) -> str:
    return bytes(answer["bytes"]).decode()


@pytest.fixture
def browse(chromium: Chromium, site: Site) -> Callable[..., list[Any]]:
    """Visit the site with routes of mocks; the results are those of the steps after that."""

    def browse(
        mocks: Any,
        *steps: Step,
        url: Any = "**/api/**",
        of: Callable[[Any], Any] = lambda page: page,
    ) -> list[Any]:
        begin: list[Step] = [lambda page: mocks.route(of(page), url), open_(site.url)]
        return chromium.visit(*begin, *steps)[2:]

    return browse


@pytest.fixture
def file(project: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that recordings can lie beside, in a project with a contract for another host."""
    for variable in ("CI", "MOCK_MCP"):
        monkeypatch.delenv(variable, raising=False)
    (project / "pyproject.toml").write_text('[tool.mock-mcp]\nopenapi = ["openapi.json"]\n')
    (project / "openapi.json").write_text(json.dumps(DOCUMENT))
    return project / "shop.py"


@pytest.fixture
def mocks(file: Path) -> Iterator[Any]:
    """A block that may obtain nothing."""
    with mock_mcp.intercept("block", file=file, mode="none") as mocks:
        yield mocks


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the quiet that ends a page load longer, so that a busy machine does not split it."""
    monkeypatch.setattr(
        "mock_mcp.scope.assistant.Lull", lambda: Lull(quiet_s=1.5, longest_s=HANG_S)
    )


@pytest.fixture
def assistant(file: Path, cache_dir: Path) -> Iterator[ScriptedAssistant]:
    served = ScriptedAssistant(file.parent, cache_dir)
    served.answer = lambda request: {"data": request["endpoint"].rpartition("/")[2]}
    yield served
    served.close()


# -- One request ------------------------------------------------------------------------------


def test_a_request_and_its_answer_are_whole(browse: Any, mocks: Any) -> None:
    mocks.add_response(
        "POST",
        "/api/orders?page=1",
        {"id": 7, "name": "Zoë"},
        status=201,
        headers={"X-Name": "Zoë €", "Link": ["<a>", "<b>"]},
    )
    [answer] = browse(
        mocks,
        fetch(
            "/api/orders?page=1#top",
            method="POST",
            headers={"content-type": "application/json", "x-token": "t"},
            body='{"items": ["ü"]}',
        ),
    )
    assert (answer["status"], json.loads(text_of(answer))) == (201, {"id": 7, "name": "Zoë"})
    assert answer["headers"]["x-name"].encode("latin-1").decode() == "Zoë €"
    assert answer["headers"]["link"] == "<a>, <b>"
    assert answer["headers"]["content-type"] == "application/json"
    [call] = mocks.calls
    assert call.method == "POST"
    assert call.url.endswith("/api/orders?page=1")
    assert call.body == {"items": ["ü"]}
    assert call.headers["x-token"] == "t"


@ASYNC_API
def test_binary_bodies_go_both_ways(browse: Any, mocks: Any) -> None:
    mocks.add_response("PUT", "/api/image", lambda call: call.body, headers=OCTETS)
    [answer] = browse(
        mocks,
        lambda page: page.evaluate(
            FETCH.replace("fetch(url, options)", "fetch(url, {...options, body: BYTES})").replace(
                "BYTES", "new Uint8Array([0, 255, 10])"
            ),
            ["/api/image", {"method": "PUT", "headers": OCTETS}],
        ),
    )
    assert answer["bytes"] == [0, 255, 10]
    assert mocks.calls[0].body == {"$base64": "AP8K"}


OCTETS = {"content-type": "application/octet-stream"}


@ASYNC_API
def test_a_body_that_is_encoded_already_is_decoded_for_the_page(browse: Any, mocks: Any) -> None:
    data = {"$base64": "H4sIAAAAAAACA8tIzcnJBwCGphA2BQAAAA=="}
    mocks.add_response("GET", "/api/a", data, headers={**OCTETS, "content-encoding": "gzip"})
    [answer] = browse(mocks, fetch("/api/a"))
    assert text_of(answer) == "hello"
    assert "content-encoding" not in answer["headers"]


@ASYNC_API
def test_answers_without_a_body(browse: Any, mocks: Any) -> None:
    kinds = [("HEAD", 200), ("GET", 204), ("DELETE", 204)]
    for method, status in kinds:
        mocks.add_response(method, "/api/a", status=status)
    answers = browse(mocks, *(fetch("/api/a", method=method) for method, _ in kinds))
    assert [(each["status"], each["bytes"]) for each in answers] == [
        (200, []),
        (204, []),
        (204, []),
    ]


@ASYNC_API
def test_an_event_source_hears_the_items_of_a_stream(browse: Any, mocks: Any) -> None:
    items = [{"event": "price", "data": {"of": "tea", "cents": 350}}, {"data": "[DONE]"}]
    mocks.add_response("GET", "/api/prices", items, headers={"content-type": "text/event-stream"})
    [heard] = browse(mocks, lambda page: page.evaluate(LISTEN, "/api/prices"))
    assert heard == [["price", '{"of":"tea","cents":350}'], ["message", "[DONE]"]]
    assert [call.headers["accept"] for call in mocks.calls] == ["text/event-stream"]


LISTEN = """url => new Promise((resolve, reject) => {
    const source = new EventSource(url), heard = [];
    const hear = event => {
        heard.push([event.type, event.data]);
        if (event.data === "[DONE]") { source.close(); resolve(heard); }
    };
    source.addEventListener("price", hear);
    source.onmessage = hear;
    source.onerror = () => { source.close(); reject("closed early"); };
})"""


@ASYNC_API
def test_cookies_are_kept_and_sent(browse: Any, mocks: Any) -> None:
    cookies = ["a=1; Path=/", "b=2; Path=/; HttpOnly"]
    mocks.add_response("GET", "/api/login", 1, headers={"Set-Cookie": cookies})
    mocks.add_response("GET", "/api/me", lambda call: call.headers["cookie"])
    [_, answer, seen] = browse(
        mocks,
        fetch("/api/login"),
        fetch("/api/me"),
        lambda page: page.evaluate("document.cookie"),
    )
    assert json.loads(text_of(answer)) == "a=1; b=2"
    assert seen == "a=1"


@ASYNC_API
def test_another_origin_is_preflighted_and_read(browse: Any, mocks: Any) -> None:
    mocks.add_response("PUT", f"{ELSEWHERE}/api/a", {"ok": True})
    put = {"method": "PUT", "headers": {"x-a": "1"}, "body": "{}", "credentials": "include"}
    [answer] = browse(mocks, fetch(f"{ELSEWHERE}/api/a", **put))
    assert json.loads(text_of(answer)) == {"ok": True}
    assert [call.method for call in mocks.calls] == ["PUT"]


def test_a_call_that_shall_fail_does(browse: Any, mocks: Any) -> None:
    codes = {
        "refused": "ERR_CONNECTION_REFUSED",
        "unresolved": "ERR_NAME_NOT_RESOLVED",
        "connect_timeout": "ERR_TIMED_OUT",
        "reset": "ERR_CONNECTION_RESET",
    }
    for kind in codes:
        mocks.add_response("GET", f"/api/{kind}", error=kind)
    failed: dict[str, str] = {}
    [_, *answers, _] = browse(
        mocks,
        lambda page: page.on(
            "requestfailed",
            lambda request: failed.update({request.url.rpartition("/")[2]: request.failure}),
        ),
        *(fetch(f"/api/{kind}") for kind in codes),
        until(lambda: len(failed) == len(codes)),
    )
    assert answers == ["TypeError: Failed to fetch"] * 4
    assert failed == {kind: f"net::{code}" for kind, code in codes.items()}
    assert mocks.failures == []


# -- Redirects --------------------------------------------------------------------------------


@ASYNC_API
def test_a_redirect_to_what_is_routed_is_mocked(browse: Any, mocks: Any, site: Site) -> None:
    statuses = (302, 303, 307)
    for status in statuses:
        headers = {"Location": "next", "Set-Cookie": f"a={status}; Path=/"}
        mocks.add_response("POST", f"/api/{status}", status=status, headers=headers)
    mocks.add_response("*", "/api/next", "there", repeat=True)
    steps = (
        step
        for status in statuses
        for step in (
            fetch(f"/api/{status}", method="POST", body="q"),
            lambda page: page.evaluate("document.cookie"),
        )
    )
    results = browse(mocks, *steps)
    for status, answer, seen in zip(statuses, results[::2], results[1::2], strict=True):
        found = answer["status"], json.loads(text_of(answer)), seen
        assert found == (200, "there", f"a={status}")
    asked = [(call.method, call.body) for call in mocks.calls[1::2]]
    assert asked == [("GET", None), ("GET", None), ("POST", "q")]
    kept = ["content-type" in call.headers for call in mocks.calls[1::2]]
    assert kept == [False, False, True]
    assert site.asked == []


@ASYNC_API
def test_a_redirect_to_what_is_not_routed_is_the_browsers(
    browse: Any, mocks: Any, site: Site
) -> None:
    mocks.add_response("GET", "/api/first", status=302, headers={"Location": "/api/second"})
    mocks.add_response("GET", "/api/second", status=302, headers={"Location": "../home"})
    [answer] = browse(mocks, fetch("/api/first"))
    assert text_of(answer) == "from the site"
    assert (answer["url"], answer["redirected"]) == (f"{site.url}/home", True)
    assert site.asked == ["GET /home"]


@ASYNC_API
def test_a_redirect_without_end_fails(browse: Any, mocks: Any) -> None:
    again = {"Location": "/api/first"}
    mocks.add_response("GET", "/api/first", status=302, headers=again, repeat=True)
    assert browse(mocks, fetch("/api/first")) == ["TypeError: Failed to fetch"]


@ASYNC_API
def test_a_page_itself_can_be_mocked(browse: Any, mocks: Any) -> None:
    page_ = "<title>mocked</title>"
    mocks.add_response("GET", f"{ELSEWHERE}/api/page", page_, headers={"Content-Type": "text/html"})
    assert browse(mocks, open_(f"{ELSEWHERE}/api/page"), lambda page: page.title())[1] == "mocked"


# -- What is asked for ------------------------------------------------------------------------


def test_the_requests_of_a_page_load_are_one_batch(
    browse: Any, chromium: Chromium, file: Path, assistant: ScriptedAssistant, patient: None
) -> None:
    paths = [f"/api/items/{number}" for number in range(20)]
    expected = [str(number) for number in range(20)]
    # Of a page and of its context, each under one API: what follows is one code.
    target = (lambda page: page) if chromium.api == "sync" else (lambda page: page.context)
    assistant.start()
    with mock_mcp.intercept("load", file=file, mode="new_episodes") as mocks:
        assert browse(mocks, fetch_all(*paths), of=target) == [expected]
    status = assistant.status()
    assert (status["totalBatches"], len(assistant.asked)) == (1, 20)


@ASYNC_API
def test_what_was_recorded_is_replayed_without_a_daemon(
    browse: Any, file: Path, assistant: ScriptedAssistant
) -> None:
    urls = [f"{ELSEWHERE}/api/items/{number}" for number in range(20)]
    assistant.start()
    with mock_mcp.intercept("load", file=file, mode="once") as mocks:
        [recorded] = browse(mocks, fetch_all(*urls))
    assistant.leave()
    with mock_mcp.intercept("load", file=file, mode="none") as mocks:
        assert browse(mocks, fetch_all(*urls)) == [recorded]
    assert {call.source for call in mocks.calls} == {"recording"}
    assert len(assistant.asked) == 20


@ASYNC_API
def test_new_episodes_asks_for_what_is_not_recorded(
    browse: Any, file: Path, assistant: ScriptedAssistant
) -> None:
    assistant.start()
    with mock_mcp.intercept("load", file=file, mode="new_episodes") as mocks:
        browse(mocks, fetch_all(f"{ELSEWHERE}/api/1"))
    with mock_mcp.intercept("load", file=file, mode="new_episodes") as mocks:
        both = fetch_all(f"{ELSEWHERE}/api/1", f"{ELSEWHERE}/api/2")
        assert browse(mocks, both) == [["1", "2"]]
    assert sorted(call.source for call in mocks.calls) == ["ai", "recording"]


def test_a_page_that_leaves_takes_its_requests_back(
    browse: Any, site: Site, file: Path, assistant: ScriptedAssistant
) -> None:
    def pending(expected: int) -> Callable[[], bool]:
        return lambda: assistant.status()["pending"] == expected

    hang = (
        "self.abort = new AbortController();"
        "void fetch('/api/a', {signal: abort.signal}).catch(() => 0)"
    )
    abort: Step = lambda page: page.evaluate("abort.abort()")  # noqa: E731
    steps: list[Step] = []
    for leave in (
        abort,
        lambda page: page.reload(),
        open_("about:blank"),
        lambda page: page.close(),
    ):
        steps += (
            open_(site.url),
            lambda page: page.evaluate(hang),
            until(pending(1)),
            leave,
            lambda page: until(pending(0))(page.context.pages[-1]),
        )
    with mock_mcp.intercept("load", file=file, mode="new_episodes") as mocks:
        # The second page is there for events to be handled when the first is gone.
        browse(mocks, lambda page: page.context.new_page(), *steps)
    assert mocks.failures == []
    assert [call.source for call in mocks.calls] == [None] * 4


# -- The real API -----------------------------------------------------------------------------


class Api:
    """A real server, whose page asks for what lies below ``/api``; the recording of one block."""

    def __init__(self, chromium: Chromium, file: Path, answer: Answer) -> None:
        self.server = RealServer(self._answer)
        self.url = self.server.url
        self.mocks: Any = None
        self.results: list[Any] = []
        """Those of the last visit, even if its block has failed."""
        self._file = file
        self._chromium = chromium
        self._api = answer

    def _answer(self, request: HttpRequest) -> HttpResponse:
        if "/api/" in request.url:
            return self._api(request)
        return HttpResponse.from_mock(request, "from the site", headers=HTML)

    def visit(self, *steps: Step, mode: str | None = "all", page: str = "") -> list[Any]:
        """Visit a page with its API routed to the real one; return the results of the steps."""
        if mode is None:
            return self._chromium.visit(open_(page or self.url), *steps)[1:]
        with mock_mcp.intercept("block", file=self._file, mode=mode, source="live") as self.mocks:
            route: Step = lambda page: self.mocks.route(page, "**/api/**")  # noqa: E731
            self.results = self._chromium.visit(route, open_(page or self.url), *steps)[2:]
        return self.results

    @property
    def asked(self) -> list[HttpRequest]:
        """What the real API was asked."""
        return [request for request in self.server.requests if "/api/" in request.url]

    @property
    def recording(self) -> list[dict[str, Any]]:
        path = self._file.parent / "__mocks__" / "shop" / "block.json"
        return json.loads(path.read_bytes())["interactions"] if path.is_file() else []


HTML = {"content-type": "text/html"}


@pytest.fixture
def serve_api(chromium: Chromium, file: Path) -> Iterator[Callable[[Answer], Api]]:
    started: list[Api] = []

    def start(answer: Answer) -> Api:
        started.append(Api(chromium, file, answer))
        return started[-1]

    yield start
    for api in started:
        api.server.close()


def respond(data: Any, **mock: Any) -> Answer:
    return lambda request: HttpResponse.from_mock(request, data, **mock)


def raw(body: bytes, *headers: tuple[str, str]) -> Answer:
    return lambda _: HttpResponse(200, (*headers, ("content-length", str(len(body)))), body)


def test_the_requests_of_a_page_load_are_really_made_together(serve_api: Any) -> None:
    together = threading.Barrier(20)

    def answer(request: HttpRequest) -> HttpResponse:
        together.wait(HANG_S)
        return HttpResponse.from_mock(request, request.url.rpartition("/")[2])

    api = serve_api(answer)
    paths = [f"/api/items/{number}" for number in range(20)]
    expected = [str(number) for number in range(20)]
    assert api.visit(fetch_all(*paths)) == [expected]
    assert {call.source for call in api.mocks.calls} == {"live"}
    assert {(each["source"], each["response"]["status"]) for each in api.recording} == {
        ("live", 200)
    }
    assert api.visit(fetch_all(*paths), mode="none") == [expected]
    assert len(api.asked) == len(api.recording) == 20


def test_a_real_answer_is_what_the_page_gets_without_us(serve_api: Any) -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        got = [request.method, request.body_value(), request.header("x-token")]
        headers = {"Link": ["<a>", "<b>"], "X-Name": "a"}
        return HttpResponse.from_mock(request, got, status=201, headers=headers)

    api = serve_api(answer)
    sent = {"content-type": "application/json", "x-token": "t"}
    asked = [
        fetch("/api/orders?a=b%20c", method="POST", headers=sent, body='{"a": ["ü"]}'),
        fetch("/api/orders/1", method="DELETE"),
        fetch("/api/orders/2", method="HEAD"),
    ]
    assert api.visit(*asked) == api.visit(*asked, mode=None)
    live, real = api.asked[:3], api.asked[3:]
    assert [(each.method, each.url, each.body) for each in live] == [
        (each.method, each.url, each.body) for each in real
    ]


@ASYNC_API
def test_a_real_body_is_decoded_for_page_and_recording(serve_api: Any) -> None:
    content = bytes(range(256))
    packed = {
        "identity": content,
        "gzip": gzip.compress(content),
        "deflate": zlib.compress(content),
        "br": brotli.compress(content),
    }
    octets = ("content-type", "application/octet-stream")

    def answer(request: HttpRequest) -> HttpResponse:
        coding = request.url.rpartition("/")[2]
        encoding = [] if coding == "identity" else [("content-encoding", coding)]
        return raw(packed[coding], octets, *encoding)(request)

    api = serve_api(answer)
    for mode in ("all", "none"):
        for answered in api.visit(*(fetch(f"/api/{coding}") for coding in packed), mode=mode):
            assert bytes(answered["bytes"]) == content
            assert "content-encoding" not in answered["headers"]
    assert len(api.recording) == 4
    assert {file.read_bytes() for file in api._file.parent.rglob("*.bin")} == {content}


@ASYNC_API
def test_real_cookies_are_kept_and_not_recorded(serve_api: Any) -> None:
    cookies = ["a=s3cret; Path=/", "b=s3cret; Path=/; HttpOnly"]
    api = serve_api(respond({"token": "s3cret"}, headers={"Set-Cookie": cookies}))
    [login, _, seen] = api.visit(
        fetch("/api/login"),
        fetch("/api/me"),
        lambda page: page.evaluate("document.cookie"),
    )
    assert (json.loads(text_of(login)), seen) == ({"token": "s3cret"}, "a=s3cret")
    assert api.asked[1].header("cookie") == "a=s3cret; b=s3cret"
    assert "s3cret" not in json.dumps(api.recording)
    redacted = ["a=REDACTED; Path=/", "b=REDACTED; Path=/; HttpOnly"]
    assert api.recording[0]["response"]["headers"]["set-cookie"] == redacted


@ASYNC_API
def test_each_hop_of_a_real_redirect_is_a_call(serve_api: Any) -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        if request.url.endswith("/new"):
            return HttpResponse.from_mock(request, "there")
        headers = {"Location": "/api/new", "Set-Cookie": "a=1; Path=/"}
        return HttpResponse.from_mock(request, None, status=302, headers=headers)

    api = serve_api(answer)
    [redirected] = api.visit(fetch("/api/old", method="POST", body="q"))
    assert (redirected["status"], text_of(redirected)) == (200, '"there"')
    assert [(each.method, each.body) for each in api.asked] == [("POST", b"q"), ("GET", b"")]
    assert api.asked[1].header("cookie") == "a=1"
    assert api.asked[1].header("content-type") is None
    assert [each["response"]["status"] for each in api.recording] == [302, 200]
    [replayed] = api.visit(fetch("/api/old", method="POST", body="q"), mode="none")
    assert text_of(replayed) == '"there"'
    assert len(api.asked) == 2


@ASYNC_API
def test_a_real_redirect_to_what_is_not_routed_is_the_browsers(serve_api: Any) -> None:
    api = serve_api(respond(None, status=302, headers={"Location": "/home"}))
    [answer] = api.visit(fetch("/api/old"))
    assert (text_of(answer), answer["url"]) == ("from the site", f"{api.url}/home")
    assert [each["response"]["status"] for each in api.recording] == [302]


@ASYNC_API
def test_another_origin_is_really_asked_without_a_preflight(serve_api: Any, site: Site) -> None:
    api = serve_api(
        respond(
            {"ok": True}, headers={"Access-Control-Expose-Headers": "Link, X-Out", "Link": "<a>"}
        )
    )
    put = {"method": "PUT", "headers": {"x-a": "1"}, "body": "{}"}
    [live] = api.visit(fetch(f"{api.url}/api/a", **put), page=site.url)
    assert (json.loads(text_of(live)), live["headers"]["link"]) == ({"ok": True}, "<a>")
    [asked] = api.asked
    assert (asked.method, asked.header("x-a")) == ("PUT", "1")
    [replayed] = api.visit(fetch(f"{api.url}/api/a", **put), page=site.url, mode="none")
    assert (replayed["bytes"], replayed["headers"]["link"]) == (live["bytes"], "<a>")


@ASYNC_API
def test_a_page_of_the_real_server_is_a_call(serve_api: Any) -> None:
    api = serve_api(respond("<title>real</title>", headers=HTML))
    steps = [open_(f"{api.url}/api/page"), lambda page: page.title()]
    assert api.visit(*steps)[1] == "real"
    assert api.visit(*steps, mode="none")[1] == "real"
    assert len(api.asked) == 1


@ASYNC_API
def test_drift_reaches_the_page_and_fails_the_block(serve_api: Any, file: Path) -> None:
    api = serve_api(respond({"id": 1, "nick": "Zoë"}))
    contract = {**DOCUMENT, "servers": [{"url": f"{api.url}/api"}]}
    (file.parent / "openapi.json").write_text(json.dumps(contract))
    with pytest.raises(ApiDrift, match="drifted from its contract") as caught:
        api.visit(fetch("/api/users/1"))
    assert caught.value.operation == "GET /users/{id}"
    assert json.loads(text_of(api.results[0])) == {"id": 1, "nick": "Zoë"}
    assert api.recording == []


def reset(_: HttpRequest) -> HttpResponse:
    raise TransportFailure("reset")


def cut(_: HttpRequest) -> HttpResponse:
    return HttpResponse(200, (("content-length", "9"), ("connection", "close")), b"cut")


def test_a_real_server_that_gives_no_answer(serve_api: Any) -> None:
    answers = {"reset": reset, "cut": cut, "slow": respond({}, delay_s=600)}
    expected = {
        "refused": ("ERR_CONNECTION_REFUSED", "ECONNREFUSED"),
        "reset": ("ERR_CONNECTION_RESET", "ECONNRESET|socket hang up"),
        "cut": ("ERR_CONNECTION_RESET", "aborted"),
        "slow": ("ERR_TIMED_OUT", "timed out"),
    }
    api = serve_api(lambda request: answers[request.url.rpartition("/")[2]](request))
    failed: dict[str, str] = {}
    _, _, *asked, _, slow, _ = api.visit(
        lambda page: page.on(
            "requestfailed",
            lambda request: failed.update({request.url.rpartition("/")[2]: request.failure}),
        ),
        lambda page: page.context.set_default_timeout(60_000),
        fetch(f"http://127.0.0.1:{free_port()}/api/refused"),
        fetch("/api/reset"),
        fetch("/api/cut"),
        lambda page: page.context.set_default_timeout(500),
        fetch("/api/slow"),
        until(lambda: len(failed) == len(expected)),
    )
    assert [*asked, slow] == ["TypeError: Failed to fetch"] * 4
    assert failed == {name: f"net::{code}" for name, (code, _) in expected.items()}
    for note, (_, said) in zip(api.mocks.live.notes, expected.values(), strict=True):
        assert re.search(rf"the real API gave no answer \(.*({said}).*\)", note)
    assert api.recording == []


def test_a_page_that_leaves_a_real_request(serve_api: Any) -> None:
    api = serve_api(respond({}, delay_s=600))
    api.visit(
        lambda page: page.evaluate("void fetch('/api/a').catch(() => 0)"),
        until(lambda: api.asked),
        lambda page: page.context.new_page(),
        lambda page: page.close(),
        lambda page: until(lambda: api.mocks.live.notes)(page.context.pages[-1]),
    )
    assert "gave no answer (CancelledError)" in api.mocks.live.notes[0]
    assert api.recording == []


@ASYNC_API
def test_a_real_answer_that_is_too_large(serve_api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mock_mcp.exchange.LIVE_BODY_BYTES", 1000)
    api = serve_api(raw(b"x" * 1001, ("content-type", "text/plain")))
    with pytest.raises(LimitExceeded, match="1000 bytes"):
        api.visit(fetch("/api/large"))


@ASYNC_API
def test_a_real_answer_in_a_coding_that_nobody_asked_for(serve_api: Any) -> None:
    plain = ("content-type", "text/plain")
    api = serve_api(raw(b"packed", plain, ("content-encoding", "rot13")))
    with pytest.raises(UnrecordableAnswer, match="compressed as 'rot13'"):
        api.visit(fetch("/api/a"))
    assert text_of(api.results[0]) == "packed"


# -- What cannot be answered ------------------------------------------------------------------


def refused(
    browse: Any, file: Path, error: type[Exception], match: str, *steps: Step, hand: Any = None
) -> None:
    """Check that the page sees a failed request only, and that the block fails with the error."""
    block = mock_mcp.intercept("block", file=file, mode="none")
    mocks = block.__enter__()
    if hand is not None:
        mocks.add_response("GET", re.compile(".*"), hand)
    assert browse(mocks, *steps, url=REFUSING)[-1] == "TypeError: Failed to fetch"
    with pytest.raises(error, match=match):
        block.__exit__(None, None, None)


REFUSING = re.compile("/api/|api.test/")


def test_a_miss_fails_the_block_though_the_page_swallows_it(browse: Any, file: Path) -> None:
    refused(browse, file, RecordingMiss, r"GET http://127.0.0.1:\d+/api/a", fetch("/api/a"))


@ASYNC_API
def test_a_request_that_breaks_the_contract_fails_the_block(browse: Any, file: Path) -> None:
    wrong = {"method": "POST", "body": "{}", "headers": {"content-type": "application/json"}}
    asked = fetch("https://api.test/users", **wrong)
    refused(browse, file, ContractViolation, "name", asked)


@ASYNC_API
def test_an_answer_that_breaks_the_contract_fails_the_block(browse: Any, file: Path) -> None:
    asked = fetch("https://api.test/users/1")
    refused(browse, file, ContractViolation, "id", asked, hand={"name": "no id"})


def test_any_error_behind_a_request_fails_the_block(browse: Any, file: Path) -> None:
    def broken(call: Call) -> None:
        raise LookupError(call.method)

    message = r"GET http.*/api/a, a request .*: LookupError: GET"
    refused(browse, file, PageCallFailed, message, fetch("/api/a"), hand=broken)


# -- What is left alone -----------------------------------------------------------------------


def test_what_is_not_routed_is_untouched(browse: Any, mocks: Any, site: Site) -> None:
    [answer] = browse(mocks, fetch("/other", method="POST", body="b"))
    assert text_of(answer) == "from the site"
    assert site.asked == ["POST /other b"]
    assert mocks.calls == []


def test_hosts_of_passthrough_are_let_through(browse: Any, file: Path, site: Site) -> None:
    with mock_mcp.intercept("b", file=file, mode="none", passthrough=["127.0.0.1"]) as mocks:
        mocks.add_response("GET", ELSEWHERE + "/a", status=302, headers={"Location": site.url})
        [answer, redirected] = browse(mocks, fetch("/b"), fetch(ELSEWHERE + "/a"), url="**/*")
    assert text_of(answer) == "from the site"
    assert site.asked == ["GET /b"]
    assert redirected == "TypeError: Failed to fetch"  # the site allows no other origin
    assert len(mocks.calls) == 1


@ASYNC_API
def test_websockets_are_untouched(browse: Any, mocks: Any) -> None:
    with serve(lambda socket: socket.send("hello"), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/api/socket"
            received = """url => new Promise((done, failed) => {
                const socket = new WebSocket(url);
                socket.onmessage = event => done(event.data);
                socket.onerror = failed;
            })"""
            assert browse(mocks, lambda page: page.evaluate(received, url)) == ["hello"]
        finally:
            server.shutdown()
            thread.join()


def test_a_route_ends_with_its_block(browse: Any, file: Path, site: Site) -> None:
    with contextlib.ExitStack() as block:
        mocks = block.enter_context(mock_mcp.intercept("block", file=file, mode="none"))
        mocks.add_response("GET", "/api/a", "mocked")
        [mocked, _, real] = browse(
            mocks, fetch("/api/a"), lambda page: block.close(), fetch("/api/a")
        )
    assert (text_of(mocked), text_of(real)) == ('"mocked"', "from the site")


def test_the_module_routes_to_the_innermost_block(
    chromium: Chromium, file: Path, site: Site
) -> None:
    with pytest.raises(ConfigurationError, match="no test or block is mocked"):
        mock_mcp.route(None, "**/api/**")
    with (
        mock_mcp.intercept("outer", file=file, mode="none"),
        mock_mcp.intercept("inner", file=file, mode="none") as mocks,
    ):
        mocks.add_response("GET", "/api/a", "mocked")
        steps = [
            lambda page: mock_mcp.route(page, "**/api/**"),
            open_(site.url),
            fetch("/api/a"),
        ]
        assert text_of(chromium.visit(*steps)[2]) == '"mocked"'
