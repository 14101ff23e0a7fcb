"""Pages in Chromium whose requests are routed, under both APIs of Playwright."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import serve

import mock_mcp
from mock_mcp.browser import Lull, PageCallFailed
from mock_mcp.errors import ConfigurationError, ContractViolation
from mock_mcp.recordings.miss import RecordingMiss
from mock_mcp.scope import Call
from support.browser import Chromium, Site, Step, chromium, needs_chromium, site, until
from support.plugin import DOCUMENT, ScriptedAssistant
from support.ws import HANG_S

__all__ = ["chromium", "site"]

pytest.importorskip("playwright", reason="needs playwright")
pytestmark = needs_chromium

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
    monkeypatch.setattr("mock_mcp.scope.scope.Lull", lambda: Lull(quiet_s=1.5, longest_s=HANG_S))


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


def test_a_body_that_is_encoded_already_is_decoded_for_the_page(browse: Any, mocks: Any) -> None:
    data = {"$base64": "H4sIAAAAAAACA8tIzcnJBwCGphA2BQAAAA=="}
    mocks.add_response("GET", "/api/a", data, headers={**OCTETS, "content-encoding": "gzip"})
    [answer] = browse(mocks, fetch("/api/a"))
    assert text_of(answer) == "hello"
    assert "content-encoding" not in answer["headers"]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("DELETE", 204)])
def test_answers_without_a_body(browse: Any, mocks: Any, method: str, status: int) -> None:
    mocks.add_response(method, "/api/a", status=status)
    [answer] = browse(mocks, fetch("/api/a", method=method))
    assert (answer["status"], answer["bytes"]) == (status, [])


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


def test_another_origin_is_preflighted_and_read(browse: Any, mocks: Any) -> None:
    mocks.add_response("PUT", f"{ELSEWHERE}/api/a", {"ok": True})
    put = {"method": "PUT", "headers": {"x-a": "1"}, "body": "{}", "credentials": "include"}
    [answer] = browse(mocks, fetch(f"{ELSEWHERE}/api/a", **put))
    assert json.loads(text_of(answer)) == {"ok": True}
    assert [call.method for call in mocks.calls] == ["PUT"]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("refused", "ERR_CONNECTION_REFUSED"),
        ("unresolved", "ERR_NAME_NOT_RESOLVED"),
        ("connect_timeout", "ERR_TIMED_OUT"),
        ("reset", "ERR_CONNECTION_RESET"),
    ],
)
def test_a_call_that_shall_fail_does(browse: Any, mocks: Any, kind: str, code: str) -> None:
    mocks.add_response("GET", "/api/a", error=kind)
    failed: list[str] = []
    [_, answer, _] = browse(
        mocks,
        lambda page: page.on("requestfailed", lambda request: failed.append(request.failure)),
        fetch("/api/a"),
        until(lambda: failed),
    )
    assert answer == "TypeError: Failed to fetch"
    assert failed == [f"net::{code}"]
    assert mocks.failures == []


# -- Redirects --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"), [(302, ("GET", None)), (303, ("GET", None)), (307, ("POST", "q"))]
)
def test_a_redirect_to_what_is_routed_is_mocked(
    browse: Any, mocks: Any, site: Site, status: int, expected: Any
) -> None:
    headers = {"Location": "next", "Set-Cookie": "a=1; Path=/"}
    mocks.add_response("POST", "/api/first", status=status, headers=headers)
    mocks.add_response("*", "/api/next", "there")
    [answer, seen] = browse(
        mocks,
        fetch("/api/first", method="POST", body="q"),
        lambda page: page.evaluate("document.cookie"),
    )
    assert (answer["status"], json.loads(text_of(answer)), seen) == (200, "there", "a=1")
    assert (mocks.calls[1].method, mocks.calls[1].body) == expected
    assert "content-type" not in mocks.calls[1].headers or status == 307
    assert site.asked == []


def test_a_redirect_to_what_is_not_routed_is_the_browsers(
    browse: Any, mocks: Any, site: Site
) -> None:
    mocks.add_response("GET", "/api/first", status=302, headers={"Location": "/api/second"})
    mocks.add_response("GET", "/api/second", status=302, headers={"Location": "../home"})
    [answer] = browse(mocks, fetch("/api/first"))
    assert text_of(answer) == "from the site"
    assert (answer["url"], answer["redirected"]) == (f"{site.url}/home", True)
    assert site.asked == ["GET /home"]


def test_a_redirect_without_end_fails(browse: Any, mocks: Any) -> None:
    again = {"Location": "/api/first"}
    mocks.add_response("GET", "/api/first", status=302, headers=again, repeat=True)
    assert browse(mocks, fetch("/api/first")) == ["TypeError: Failed to fetch"]


def test_a_page_itself_can_be_mocked(browse: Any, mocks: Any) -> None:
    page_ = "<title>mocked</title>"
    mocks.add_response("GET", f"{ELSEWHERE}/api/page", page_, headers={"Content-Type": "text/html"})
    assert browse(mocks, open_(f"{ELSEWHERE}/api/page"), lambda page: page.title())[1] == "mocked"


# -- What is asked for ------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["page", "context"])
def test_the_requests_of_a_page_load_are_one_batch(
    browse: Any, file: Path, assistant: ScriptedAssistant, of: str, patient: None
) -> None:
    paths = [f"/api/items/{number}" for number in range(20)]
    expected = [str(number) for number in range(20)]
    target = (lambda page: page) if of == "page" else (lambda page: page.context)
    assistant.start()
    with mock_mcp.intercept("load", file=file, mode="new_episodes") as mocks:
        assert browse(mocks, fetch_all(*paths), of=target) == [expected]
    status = assistant.status()
    assert (status["totalBatches"], len(assistant.asked)) == (1, 20)


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


@pytest.mark.parametrize(
    "leave",
    [
        open_("about:blank"),
        lambda page: page.reload(),
        lambda page: page.close(),
        lambda page: page.evaluate("abort.abort()"),
    ],
    ids=["navigate", "reload", "close", "abort"],
)
def test_a_page_that_leaves_takes_its_requests_back(
    browse: Any, file: Path, assistant: ScriptedAssistant, leave: Step
) -> None:
    def pending(expected: int) -> Callable[[], bool]:
        return lambda: assistant.status()["pending"] == expected

    hang = (
        "self.abort = new AbortController();"
        "void fetch('/api/a', {signal: abort.signal}).catch(() => 0)"
    )
    with mock_mcp.intercept("load", file=file, mode="new_episodes") as mocks:
        browse(
            mocks,
            lambda page: page.context.new_page(),  # for events to be handled when the page is gone
            lambda page: page.evaluate(hang),
            until(pending(1)),
            leave,
            lambda page: until(pending(0))(page.context.pages[-1]),
        )
    assert mocks.failures == []
    assert [call.source for call in mocks.calls] == [None]


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


def test_a_request_that_breaks_the_contract_fails_the_block(browse: Any, file: Path) -> None:
    wrong = {"method": "POST", "body": "{}", "headers": {"content-type": "application/json"}}
    asked = fetch("https://api.test/users", **wrong)
    refused(browse, file, ContractViolation, "name", asked)


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
