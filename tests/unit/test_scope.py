"""A scope without pytest, and `mock_mcp.intercept`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import mock_mcp
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.errors import (
    ConfigurationError,
    ContractViolation,
    ContractWarning,
    LimitExceeded,
    MockMcpDisabled,
    MockMcpError,
    RequestTimeout,
)
from mock_mcp.exchange import NetworkBlocked
from mock_mcp.interceptors import install
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.miss import RecordingMiss
from mock_mcp.recordings.paths import locate
from mock_mcp.runtime.project import Project
from mock_mcp.scope import (
    Polices,
    Scope,
    ScopeSettings,
    UnusedResponse,
    make_settings,
    resolve_mode,
)
from mock_mcp.types import Mock

USERS = "https://api.test/users/1"
SCHEMA = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CI", "MOCK_MCP"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def document(project: Path) -> Path:
    """The project's contract: one operation."""
    answer = {"200": {"description": "", "content": {"application/json": {"schema": SCHEMA}}}}
    path = project / "openapi.json"
    path.write_text(
        json.dumps(
            {
                "openapi": "3.1.0",
                "info": {"title": "t", "version": "1"},
                "servers": [{"url": "https://api.test"}],
                "paths": {"/users/1": {"get": {"responses": answer}}},
            }
        )
    )
    (project / "pyproject.toml").write_text('[tool.mock-mcp]\nopenapi = ["openapi.json"]\n')
    return path


@pytest.fixture
def file(project: Path, document: Path, cache_dir: Path) -> Path:
    return project / "checkout.py"


def scope(project: Path, **settings: Any) -> Scope:
    return Scope(None, make_settings(settings), polices=Polices(Project.resolve(project)))


# -- mock_mcp.intercept -----------------------------------------------------------------------


def test_a_block_is_recorded_and_replayed(file: Path) -> None:
    with mock_mcp.intercept("buy", file=file, mode="once", source="example") as mocks:
        first = httpx.get(USERS).json()
    assert [call.source for call in mocks.calls] == ["example"]
    assert (file.parent / "__mocks__/checkout/buy.json").is_file()
    with mock_mcp.intercept("buy", file=file) as mocks:
        assert httpx.get(USERS).json() == first
    assert [call.source for call in mocks.calls] == ["recording"]


def test_a_stream_is_recorded_as_its_items_and_replays_byte_for_byte(
    file: Path, document: Path
) -> None:
    media = {"application/json": {"schema": SCHEMA}, "application/x-ndjson": {"schema": SCHEMA}}
    contract = json.loads(document.read_text())
    contract["paths"]["/users/1"]["get"]["responses"]["200"]["content"] = media
    document.write_text(json.dumps(contract))
    asked = {"accept": "application/x-ndjson"}
    with mock_mcp.intercept("buy", file=file, mode="once", source="example") as mocks:
        first = httpx.get(USERS, headers=asked)
        items = mocks.request_mock(USERS, headers=asked).data
    assert [json.loads(line) for line in first.text.splitlines()] == items
    recording = json.loads((file.parent / "__mocks__/checkout/buy.json").read_text())
    assert recording["interactions"][0]["response"]["body"] == items
    with mock_mcp.intercept("buy", file=file) as mocks:
        assert httpx.get(USERS, headers=asked).content == first.content
        assert mocks.request_mock(USERS, headers=asked).data == items


def test_a_recorded_answer_without_a_body_replays_without_one(file: Path) -> None:
    recording = file.parent / "__mocks__/checkout/empty.json"
    recording.parent.mkdir(parents=True)
    call = {"request": {"method": "GET", "url": "https://other.test/"}, "source": "live"}
    recording.write_text(
        json.dumps(
            {
                "version": 1,
                "test": "checkout.py::empty",
                "interactions": [
                    call | {"response": {"status": 200}},
                    call | {"response": {"status": 200, "body": None}},
                ],
            }
        )
    )
    with mock_mcp.intercept("empty", file=file):
        assert httpx.get("https://other.test/").content == b""
        assert httpx.get("https://other.test/").content == b"null"


@pytest.mark.parametrize(
    ("url", "settings", "error"),
    [
        ("https://api.test/none", {}, ContractViolation),
        (USERS, {}, RecordingMiss),
        (USERS, {"hosts": "other.test"}, NetworkBlocked),
        ("https://other.test/", {"mode": "once", "source": "example"}, MockMcpError),
    ],
    ids=["violation", "miss", "blocked", "no sample"],
)
def test_an_error_names_the_call_without_its_secrets(
    file: Path, url: str, settings: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught, mock_mcp.intercept("buy", file=file, **settings):
        httpx.get(f"{url}?api_key=hunter2")
    shown = str(caught.value)
    assert f"GET {url}" in shown
    assert "hunter2" not in shown


def test_a_block_that_raises_is_not_recorded(file: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        mock_mcp.intercept("buy", file=file, mode="once", source="example"),
    ):
        assert 1 / (httpx.get(USERS).status_code - 200)
    assert not (file.parent / "__mocks__").exists()


def test_a_block_raises_what_its_code_swallowed(file: Path) -> None:
    with (
        pytest.raises(RecordingMiss) as caught,
        mock_mcp.intercept("buy", file=file),
        contextlib.suppress(RecordingMiss),
    ):
        httpx.get(USERS)
    assert "mode='new_episodes' given to intercept('buy')" in caught.value.repair


def test_blocks_nest(file: Path) -> None:
    with (
        mock_mcp.intercept("outer", file=file, hosts=["outer.test"], contract="off") as outer,
        mock_mcp.intercept("inner", file=file, hosts=["inner.test"], contract="off") as inner,
    ):
        outer.add_response("GET", "/", "outer")
        inner.add_response("GET", "/", "inner")
        assert httpx.get("https://inner.test/").json() == "inner"
        assert httpx.get("https://outer.test/").json() == "outer"
        assert [len(inner.calls), len(outer.calls)] == [1, 1]


def test_inside_async_code(file: Path) -> None:
    async def buy() -> list[Any]:
        with mock_mcp.intercept("buy", file=file, mode="once", source="example"):
            async with httpx.AsyncClient() as client:
                answers = await asyncio.gather(*(client.get(USERS) for _ in range(3)))
        return [answer.json() for answer in answers]

    assert len(asyncio.run(buy())) == 3


def test_the_callers_file_is_found_at_the_call(cache_dir: Path, project: Path) -> None:
    script = project / "script.py"
    script.write_text(
        "import contextlib, mock_mcp, httpx\n"
        "block = mock_mcp.intercept('buy', mode='once', contract='off')\n"
        "with contextlib.ExitStack() as stack:\n"
        "    mocks = stack.enter_context(block)\n"
        "    print(mocks.file.path)\n"
    )
    ran = subprocess.run(
        [sys.executable, str(script)], check=True, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.strip() == str(project / "__mocks__/script/buy.json")


def test_a_caller_without_a_file_must_name_one() -> None:
    with pytest.raises(ConfigurationError, match="name one with file="):
        eval("mock_mcp.intercept('buy')", {"mock_mcp": mock_mcp})


def test_an_unknown_setting_is_named(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="'colour' is no setting of mock-mcp"):
        mock_mcp.intercept("buy", file=file, colour=1)


def test_an_assistant_is_asked_in_a_block(file: Path, start_daemon: Any, monkeypatch: Any) -> None:
    from mock_mcp.control.client import DaemonClient

    daemon = start_daemon()

    async def serve() -> None:
        async with DaemonClient.of(daemon.info) as client:
            await client.wait_for_batch(15_000)
            claim = await client.claim_next_batch("scripted")
            assert claim is not None
            mock = Mock(claim.requests[0]["requestId"], {"id": 7})
            await client.provide_batch("scripted", claim.batch_id, claim.claim_token, [mock])

    monkeypatch.setenv("MOCK_MCP", "1")
    serving = asyncio.run_coroutine_threadsafe(serve(), daemon._loop)
    with mock_mcp.intercept("buy", file=file):
        assert httpx.get(USERS).json() == {"id": 7}
    serving.result(15)
    monkeypatch.delenv("MOCK_MCP")
    with mock_mcp.intercept("buy", file=file):
        assert httpx.get(USERS).json() == {"id": 7}


def test_the_first_calls_of_a_loop_are_one_batch(
    file: Path, start_daemon: Any, monkeypatch: Any
) -> None:
    """Connecting takes a while; those who wait for it are asked for together all the same."""
    from mock_mcp.control.client import DaemonClient

    daemon = start_daemon()

    async def serve() -> int:
        async with DaemonClient.of(daemon.info) as client:
            claim = await client.claim_next_batch("scripted", wait_ms=15_000)
            assert claim is not None
            mocks = [Mock(request["requestId"], {"id": 7}) for request in claim.requests]
            await client.provide_batch("scripted", claim.batch_id, claim.claim_token, mocks)
            return len(mocks)

    async def fetch() -> list[httpx.Response]:
        async with httpx.AsyncClient() as client:
            return await asyncio.gather(*(client.get(USERS) for _ in range(20)))

    monkeypatch.setenv("MOCK_MCP", "1")
    serving = asyncio.run_coroutine_threadsafe(serve(), daemon._loop)
    with mock_mcp.intercept("burst", file=file, timeout_s=15):
        answers = asyncio.run(fetch())
    assert [answer.json() for answer in answers] == [{"id": 7}] * 20
    assert serving.result(15) == 20


# -- Scope ------------------------------------------------------------------------------------


def test_without_a_recording_only_answers_by_hand_are_known(project: Path) -> None:
    mocks = scope(project)
    mocks.add_response("get", "/users/1", {"id": 1})
    assert mocks.request_mock("/users/1").data == {"id": 1}
    with pytest.raises(MockMcpDisabled, match="add_response gives one"):
        mocks.request_mock("/users/2")
    with pytest.raises(MockMcpDisabled):
        mocks.verify()


def test_a_failure_can_be_expected(project: Path, document: Path, cache_dir: Path) -> None:
    mocks = scope(project)
    with pytest.raises(ContractViolation):
        mocks.request_mock("https://api.test/nowhere")
    mocks.failures.clear()
    mocks.verify()


def test_documents_add_up(project: Path, document: Path, cache_dir: Path) -> None:
    (project / "pyproject.toml").write_text("")
    more = project / "more.json"
    more.write_text(document.read_text().replace("api.test", "more.test"))
    mocks = scope(project, mode="once", source="example")
    mocks.openapi(document)
    mocks.openapi(more)
    for host in ("api.test", "more.test"):
        assert "id" in mocks.request_mock(f"https://{host}/users/1").data


def test_code_that_asks_for_samples_without_end_is_stopped(
    project: Path, document: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mock_mcp.scope.scope.SAMPLES", 3)
    mocks = scope(project, mode="once", source="example")
    for page in range(3):
        mocks.request_mock(f"https://api.test/users/1?page={page}")
    with pytest.raises(LimitExceeded, match=r"GET https://api\.test/users/1 got 3 answers"):
        mocks.request_mock("https://api.test/users/1?page=3")
    with pytest.raises(LimitExceeded):
        mocks.verify()


def test_scopes_share_their_contracts(project: Path, document: Path, cache_dir: Path) -> None:
    polices = Polices(Project.resolve(project))
    assert polices.get((), None) is polices.get((), None)
    assert polices.get((document,), None) is not polices.get((), None)


def test_an_answer_by_hand_is_used_up(project: Path) -> None:
    mocks = scope(project)
    mocks.add_response("GET", "/users/*", sequence=["a", "b"])
    assert [mocks.request_mock("/users/1").data, mocks.request_mock("/users/2?x=1").data] == [
        "a",
        "b",
    ]
    with pytest.raises(MockMcpDisabled):
        mocks.request_mock("/users/3")


def test_a_used_up_answer_by_hand_is_named(project: Path, file: Path) -> None:
    mocks = scope(project, contract="off")
    mocks.add_response("POST", "/users/*")
    mocks.add_response("GET", "/users/*", sequence=["a", "b"])
    mocks.add_response("GET", "/other", optional=True)
    mocks.add_response("GET", "/1", optional=True)
    mocks.request_mock("/users/1")
    mocks.request_mock("/users/1")
    with pytest.raises(MockMcpDisabled) as caught:
        mocks.request_mock("/users/1")
    told = str(caught.value)
    assert "add_response('GET', '/users/*') was for it, but all 2 answers" in told
    assert "add_response('POST', '/users/*') is for another method" in told
    assert "add_response('GET', '/1') is for a path that begins so; put * before it" in told
    assert "/other" not in told
    with mock_mcp.intercept("buy", file=file, contract="off") as block:
        block.add_response("GET", "/users/1", 1)
        httpx.get(USERS)
        with pytest.raises(RecordingMiss, match="was for it, but its answer is used up"):
            httpx.get(USERS)
        block.failures.clear()


@pytest.mark.parametrize(
    ("url", "matching", "others"),
    [
        ("/u", ["/u", "https://api.test/u", "/u?a=1"], ["/u/1", "/"]),
        (
            "/u?a=1&b=2",
            ["/u?b=2&a=1", "https://api.test/u?a=1&b=2"],
            ["/u", "/u?a=1", "/u?a=1&b=3"],
        ),
        ("/u?a=1&a=2", ["/u?a=2&a=1"], ["/u?a=1&a=1"]),
        ("/u?q=a b", ["/u?q=a+b", "/u?q=a%20b"], ["/u?q=a"]),
        ("/u?a=*&b=2", ["/u?b=2&a=x", "/u?a=x&b=2"], ["/u?b=2"]),
        ("https://api.test/u?a=&b=2", ["https://api.test/u?b=2&a="], ["https://x.test/u?b=2&a="]),
        ("*/u", ["https://api.test/u", "https://api.test/v1/u?a=1"], ["/u/1"]),
        (re.compile(r"/u/\d+"), ["/u/1?x=1", "https://api.test/u/12"], ["/u/a"]),
    ],
)
def test_the_url_of_an_answer_by_hand(
    project: Path, url: Any, matching: list[str], others: list[str]
) -> None:
    mocks = scope(project)
    mocks.add_response("GET", url, "hand", repeat=True)
    for made in matching:
        assert mocks.request_mock(made).data == "hand"
    for made in others:
        with pytest.raises(MockMcpDisabled):
            mocks.request_mock(made)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"data": 1, "error": "refused"}, "a call that fails has no answer"),
        ({"sequence": [1], "error": "refused"}, "a call that fails has no answer"),
        ({"delay_ms": 5, "error": "refused"}, "a call that fails has no answer"),
        ({"data": 1, "sequence": [1]}, "data or a sequence, not both"),
        ({"sequence": []}, "sequence is empty"),
        ({"error": "sulking"}, "error must be one of refused"),
        ({"method": "GET /users"}, "a method is a word"),
        ({"method": ""}, "a method is a word"),
        ({"method": None}, "a method is a word"),
        ({"url": "users/1"}, "begin with *"),
        ({"url": "api.test/users/1"}, "write a whole one"),
        ({"url": ""}, "write a whole one"),
    ],
)
def test_arguments_of_an_answer_by_hand_that_mean_nothing(
    project: Path, arguments: Any, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        scope(project).add_response(**{"method": "GET", "url": "/users/1", **arguments})


def test_bytes_by_hand_are_sent_as_they_are(file: Path) -> None:
    with mock_mcp.intercept("bytes", file=file) as mocks:
        mocks.add_response("GET", "/users/1", b'{"id":  1}')
        mocks.add_response("GET", "/users/1", b"{", headers={"content-type": "application/json"})
        answer = httpx.get(USERS)
        assert (answer.content, answer.headers["content-type"]) == (
            b'{"id":  1}',
            "application/json",
        )
        with pytest.raises(ContractViolation):
            httpx.get(USERS)
        mocks.failures.clear()
        mocks.add_response("GET", "/users/1", b"{", contract="off")
        answer = httpx.get(USERS)
        assert (answer.content, answer.headers["content-type"]) == (
            b"{",
            "application/octet-stream",
        )


def test_an_answer_that_no_contract_can_judge_is_not_delivered(file: Path, document: Path) -> None:
    broken = json.loads(document.read_text())
    media = broken["paths"]["/users/1"]["get"]["responses"]["200"]["content"]["application/json"]
    media["schema"] = {"$ref": "#/components/schemas/Gone"}
    document.write_text(json.dumps(broken))
    with mock_mcp.intercept("buy", file=file) as mocks:
        mocks.add_response("GET", "/users/1", {"id": 1})
        with pytest.raises(ContractDocumentError, match="Gone"):
            httpx.get(USERS)
        mocks.failures.clear()
        mocks.add_response("GET", "/users/1", {"id": 1}, contract="warn")
        with pytest.warns(ContractWarning, match="was not checked"):
            assert httpx.get(USERS).json() == {"id": 1}


def test_an_example_without_a_contract_says_which(file: Path) -> None:
    block = {"file": file, "mode": "once", "source": "example"}
    with (
        pytest.raises(ConfigurationError, match='contract is "off"'),
        mock_mcp.intercept("buy", contract="off", **block),
    ):
        httpx.get(USERS)
    (file.parent / "pyproject.toml").write_text("")
    with (
        pytest.raises(ConfigurationError, match="none is registered"),
        mock_mcp.intercept("buy", **block),
    ):
        httpx.get(USERS)


def test_no_mode_is_the_usual_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mock_mcp.intercept("buy", file=file, mode=None) as mocks:
        assert mocks.settings.mode == "none"
    monkeypatch.setenv("MOCK_MCP", "1")
    with mock_mcp.intercept("buy", file=file, mode=None) as mocks:
        assert mocks.settings.mode == "once"


def test_an_unused_answer_by_hand_fails(project: Path) -> None:
    mocks = scope(project)
    mocks.add_response("GET", "/users/1", optional=True)
    mocks.verify()
    mocks.add_response("GET", "/users/2")
    with pytest.raises(UnusedResponse, match="'/users/2'"):
        mocks.verify()


def test_a_refused_connection_is_a_failure(project: Path) -> None:
    mocks = scope(project)
    mocks.blocked(NetworkBlocked("refused"))
    with pytest.raises(NetworkBlocked):
        mocks.verify()


# -- Answers that cannot be recorded ----------------------------------------------------------


class Odd:
    """A client whose answers are no JSON."""

    is_connected = False

    def sync(self) -> Odd:
        return self

    def ask(self, fields: Any, timeout_s: float | None) -> Mock:
        return Mock(fields["requestId"], float("nan"), 200)


def test_an_answer_that_cannot_be_recorded_fails_code_that_swallows_it(project: Path) -> None:
    place = locate(project / "test_a.py", ["test_one"])
    settings, polices = ScopeSettings(mode="all"), Polices(Project.resolve(project))
    mocks = Scope(place, settings, polices=polices, client=Odd())  # type: ignore[arg-type]
    with contextlib.suppress(RecordingError):
        mocks.request_mock(USERS)
    with pytest.raises(RecordingError, match="cannot be recorded"):
        mocks.verify()


# -- Contracts that change --------------------------------------------------------------------


def require_name(document: Path) -> None:
    """Have the contract ask for more than any answer so far has."""
    document.write_text(document.read_text().replace('["id"]', '["id", "name"]'))


class Slow:
    """A client whose answer comes when the contract has changed."""

    is_connected = False

    def __init__(self, document: Path) -> None:
        self._document = document

    def sync(self) -> Slow:
        return self

    def ask(self, fields: Any, timeout_s: float | None) -> Mock:
        require_name(self._document)
        return Mock(fields["requestId"], {"id": 1}, 200)


def test_an_answer_is_judged_by_the_contract_as_it_is_when_it_comes(
    project: Path, document: Path, cache_dir: Path
) -> None:
    settings, polices = ScopeSettings(mode="all"), Polices(Project.resolve(project))
    mocks = Scope(None, settings, polices=polices, client=Slow(document))  # type: ignore[arg-type]
    with pytest.raises(ContractViolation, match='Add the required property "name"') as caught:
        mocks.request_mock(USERS)
    assert mocks.failures == [caught.value]


def test_a_change_between_two_replayed_calls_is_seen(file: Path, document: Path) -> None:
    with mock_mcp.intercept("buy", file=file, mode="once", source="example"):
        answers = [httpx.get(USERS).json() for _ in range(2)]
    with mock_mcp.intercept("buy", file=file) as mocks:
        assert httpx.get(USERS).json() == answers[0]
        require_name(document)
        with pytest.raises(RecordingMiss, match='Add the required property "name"'):
            httpx.get(USERS)
        mocks.failures.clear()
    assert [call.source for call in mocks.calls] == ["recording", None]


# -- Errors of ours inside libraries ----------------------------------------------------------


class Silent:
    """A client whose assistant never answers."""

    is_connected = False

    def __init__(self) -> None:
        self.asked = 0

    def sync(self) -> Silent:
        return self

    def ask(self, fields: Any, timeout_s: float | None) -> Any:
        self.asked += 1
        raise RequestTimeout("Nobody answered.")


def with_urllib3(url: str) -> None:
    import urllib3

    urllib3.PoolManager(retries=urllib3.Retry(3, backoff_factor=0)).request("GET", url)


def with_requests(url: str) -> None:
    import requests
    from requests.adapters import HTTPAdapter

    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=3))
        session.get(url)


def with_httpx(url: str) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(retries=3)) as client:
        client.get(url)


def with_urllib(url: str) -> None:
    urllib.request.urlopen(url)


def with_openai(url: str) -> None:
    openai = pytest.importorskip("openai")
    openai.OpenAI(api_key="k", base_url=url).models.list()


def with_pygithub(url: str) -> None:
    github = pytest.importorskip("github")
    github.Github(base_url=url).get_repo("octocat/Hello-World")


@pytest.mark.parametrize(
    "call", [with_urllib3, with_requests, with_httpx, with_urllib, with_openai, with_pygithub]
)
def test_an_answer_that_does_not_come_is_neither_retried_nor_wrapped(
    project: Path, call: Any
) -> None:
    client = Silent()
    settings, polices = ScopeSettings(mode="all"), Polices(Project.resolve(project))
    mocks = Scope(None, settings, polices=polices, client=client)  # type: ignore[arg-type]
    with install(mocks), pytest.raises(RequestTimeout):
        call("https://api.test/v1")
    assert client.asked == 1


def test_code_that_tries_again_does_not_wait_again(project: Path) -> None:
    client = Silent()
    settings, polices = ScopeSettings(mode="all"), Polices(Project.resolve(project))
    mocks = Scope(None, settings, polices=polices, client=client)  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(RequestTimeout):
            mocks.request_mock("https://api.test/v1")
    assert client.asked == len(mocks.failures) == 1
    mocks.failures.clear()  # it was expected
    with pytest.raises(RequestTimeout):
        mocks.request_mock("https://api.test/v1")
    assert client.asked == 2


def test_no_error_of_ours_looks_like_a_broken_connection() -> None:
    def below(cls: type[MockMcpError]) -> Iterator[type[MockMcpError]]:
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    assert [error.__name__ for error in below(MockMcpError) if issubclass(error, OSError)] == []


# -- Settings ---------------------------------------------------------------------------------


def test_a_list_of_one_may_be_written_without_it() -> None:
    made = make_settings({"hosts": "api.test", "openapi": {"path": "x"}, "redact": False})
    assert made == ScopeSettings(hosts=("api.test",), openapi=({"path": "x"},), redact=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "x"),
        ("source", None),
        ("timeout_s", True),
        ("timeout_s", float("inf")),
        ("instructions", ""),
        ("contract", "x"),
        ("hosts", [None]),
        ("passthrough", None),
        ("before_match", "x"),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name.removesuffix("_s")):
        make_settings({name: value})


@pytest.mark.parametrize(
    ("asked", "chosen", "env", "mode"),
    [
        (None, None, {}, "none"),
        (None, "all", {}, "none"),
        (None, None, {"MOCK_MCP": "1"}, "once"),
        (None, "all", {"MOCK_MCP": "1"}, "all"),
        (None, "all", {"MOCK_MCP": "1", "CI": "true"}, "none"),
        (None, None, {"MOCK_MCP": "1", "CI": "0"}, "once"),
        (None, None, {"MOCK_MCP": "1", "CI": ""}, "once"),
        (None, None, {"MOCK_MCP": "0"}, "none"),
        ("rewrite", "all", {"CI": "1"}, "rewrite"),
        ("none", "all", {"MOCK_MCP": "1"}, "none"),
    ],
)
def test_the_mode_that_holds(
    monkeypatch: pytest.MonkeyPatch,
    asked: str | None,
    chosen: str | None,
    env: dict[str, str],
    mode: str,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert resolve_mode(asked, chosen, asks_nobody=False) == mode
