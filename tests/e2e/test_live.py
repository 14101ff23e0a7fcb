"""The real API as the source of a pytest run: what is written, and what the summary says."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

import mock_mcp
from mock_mcp.exchange import HttpRequest, HttpResponse
from mock_mcp.scope import ApiDrift
from support.plugin import DOCUMENT, PluginProject, tests
from unit.interceptors.servers import RealServer, free_port

pytest_plugins = ["pytester"]

LIVE = "--mock-source=live"
GOOD = {"id": 1, "name": "Ada"}
DRIFTED = {"id": 1, "nick": "Ada"}


class Upstream:
    """A real API, and the project whose tests call it."""

    def __init__(self, tests: PluginProject) -> None:
        self.body: Any = GOOD
        self.server = RealServer(self._answer)
        self._tests = tests
        document = copy.deepcopy(DOCUMENT)
        document["servers"] = [{"url": self.server.url}]
        tests.contract(document)
        self.settings()

    def settings(self, lines: str = "") -> None:
        self._tests.settings(f'hosts = ["127.0.0.1"]\n{lines}')

    def write(self, code: str) -> None:
        """Write a test module in which ``get(n)`` asks for a user."""
        self._tests.write(
            f"""
            def get(n=1):
                return httpx.get("{self.server.url}/users/" + str(n)).json()
            """
        )
        path = self._tests.path / "test_app.py"
        path.write_text(path.read_text() + code)

    @property
    def asked(self) -> int:
        return len(self.server.requests)

    def _answer(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse.from_mock(request, self.body, headers={"X-Cost": "7", "X-Noise": "a"})


@pytest.fixture
def upstream(tests: PluginProject) -> Iterator[Upstream]:
    """A real API on loopback that keeps to the contract until its ``body`` is changed."""
    found = Upstream(tests)
    yield found
    found.server.close()


ONE = """
@pytest.mark.mock_mcp
def test_one():
    assert get()["id"] == 1
"""
TWO = """
@pytest.mark.mock_mcp
@pytest.mark.parametrize("n", [1, 2])
def test_users(n):
    assert get(n)["id"] == 1
"""


def test_a_run_records_from_the_real_api_and_replays(tests: PluginProject, upstream: Upstream):
    upstream.write(ONE)
    live = tests.run(LIVE)
    assert live.outcomes() == {"passed": 1}
    assert "1 from the real API, 1 written" in live.text
    assert tests.bodies() == [GOOD]
    assert tests.recording()["interactions"][0]["source"] == "live"
    upstream.server.close()
    replayed = tests.run(CI="true")
    assert replayed.outcomes() == {"passed": 1}
    assert "1 replayed" in replayed.text


def test_drift_fails_the_test_and_is_named_once(tests: PluginProject, upstream: Upstream):
    upstream.body = DRIFTED
    upstream.write(TWO)
    result = tests.run(LIVE)
    assert result.outcomes() == {"failed": 2}
    assert "The API has drifted from its contract" in result.text
    summary = result.text.partition("= mock-mcp =")[2]
    assert "API drift, in 2 tests: GET /users/{id} really answers 200" in summary
    assert summary.count('/body/name: Add the required property "name"') == 1
    assert tests.recordings() == {}


def test_a_test_that_stumbles_over_drift_says_so(tests: PluginProject, upstream: Upstream):
    upstream.body = DRIFTED
    upstream.write(ONE.replace("id", "name"))
    result = tests.run(LIVE)
    assert result.outcomes() == {"failed": 1}
    assert "KeyError: 'name'" in result.text
    assert "The API has drifted from its contract" in result.text


def test_drift_warns_where_the_contract_warns(tests: PluginProject, upstream: Upstream):
    upstream.settings('contract = "warn"')
    upstream.body = DRIFTED
    upstream.write(ONE)
    result = tests.run(LIVE, "-W", "default")
    assert result.outcomes() == {"passed": 1}
    assert "ContractWarning: The API has drifted" in result.text
    assert "API drift, in 1 test: GET /users/{id}" in result.text
    assert tests.bodies() == [DRIFTED]


def test_drift_after_recording_is_found_by_recording_again(
    tests: PluginProject, upstream: Upstream
):
    upstream.write(ONE)
    assert tests.run(LIVE).ret == 0
    before = tests.recordings()
    upstream.body = DRIFTED
    assert tests.run(LIVE).ret == 0  # it is replayed
    assert "API drift" in tests.run(LIVE, "--mock-mode=all").text
    assert tests.recordings() == before


def test_ci_asks_only_when_the_mode_says_so(tests: PluginProject, upstream: Upstream):
    upstream.write(ONE)
    assert tests.run(LIVE, CI="true").outcomes() == {"failed": 1}
    assert upstream.asked == 0
    assert tests.run(LIVE, "--mock-mode=all", CI="true").outcomes() == {"passed": 1}
    assert upstream.asked == 1


@pytest.mark.parametrize("where", ["marker", "project"])
def test_a_header_that_the_test_needs_is_named(
    tests: PluginProject, upstream: Upstream, where: str
):
    if where == "project":
        upstream.settings('response_headers = ["x-cost"]')
    keyword = '(response_headers="X-Cost")' if where == "marker" else ""
    upstream.write(
        f"""
@pytest.mark.mock_mcp{keyword}
def test_one():
    assert httpx.get("{upstream.server.url}/users/1").headers["x-cost"] == "7"
"""
    )
    assert tests.run(LIVE).outcomes() == {"passed": 1}
    assert tests.run(CI="true").outcomes() == {"passed": 1}
    assert upstream.asked == 1
    headers = tests.recording()["interactions"][0]["response"]["headers"]
    assert headers == {"content-type": "application/json", "x-cost": "7"}


def test_a_marker_alone_asks_nobody(tests: PluginProject, upstream: Upstream):
    upstream.write(ONE.replace("mock_mcp\n", 'mock_mcp(source="live")\n'))
    assert tests.run().outcomes() == {"failed": 1}
    assert upstream.asked == 0
    assert tests.run(MOCK_MCP="1").outcomes() == {"passed": 1}
    assert tests.recording()["interactions"][0]["source"] == "live"


def test_the_project_may_choose_it(tests: PluginProject, upstream: Upstream):
    upstream.settings('source = "live"')
    upstream.write(ONE)
    assert tests.run(MOCK_MCP="1").outcomes() == {"passed": 1}
    assert upstream.asked == 1


def test_a_call_without_an_answer_is_named(tests: PluginProject, upstream: Upstream):
    upstream.write(
        f"""
@pytest.mark.mock_mcp
def test_down():
    with pytest.raises(httpx.ConnectError):
        httpx.get("http://127.0.0.1:{free_port()}/users/1?token=s3cret")
"""
    )
    result = tests.run(LIVE)
    assert result.outcomes() == {"passed": 1}
    summary = result.text.partition("= mock-mcp =")[2]
    assert "the real API gave no answer (ConnectError); nothing of this call is recorded" in summary
    assert "s3cret" not in summary
    assert tests.recordings() == {}


def test_a_call_that_breaks_the_contract_is_not_made(tests: PluginProject, upstream: Upstream):
    upstream.write(ONE.replace("get()", "get('x')"))
    result = tests.run(LIVE)
    assert result.outcomes() == {"failed": 1}
    assert "ContractViolation" in result.text
    assert upstream.asked == 0


def test_a_call_of_no_library_cannot_be_made(tests: PluginProject, upstream: Upstream):
    upstream.write(
        f"""
def test_asked(mock_mcp):
    mock_mcp.request_mock("{upstream.server.url}/users/1", "GET")
"""
    )
    result = tests.run(LIVE)
    assert result.outcomes() == {"failed": 1}
    assert "cannot be really called" in result.text


def test_workers_report_drift_together(tests: PluginProject, upstream: Upstream):
    upstream.body = DRIFTED
    upstream.write(TWO)
    result = tests.spawn(LIVE, "-n", "2")
    assert result.outcomes() == {"failed": 2}
    assert "API drift, in 2 tests: GET /users/{id} really answers 200" in result.text


def test_a_shared_fixture_that_several_workers_asked_for_is_named(
    tests: PluginProject, upstream: Upstream
) -> None:
    upstream.write("""
@pytest.fixture(scope="session")
def user():
    return get()

@pytest.mark.mock_mcp
@pytest.mark.parametrize("n", range(8))
def test_users(user, n):
    assert user["id"] == 1
""")
    told = "__mocks__/_session.user.json: 2 workers asked the real API for it"
    result = tests.spawn(LIVE, "-n2", "--mock-mode=all")
    assert result.outcomes() == {"passed": 8}, result.text
    assert told in result.text
    assert "asked the real API" not in tests.spawn("-n2").text
    assert "asked the real API" not in tests.run(LIVE, "--mock-mode=all").text


def test_a_block_of_code(tests: PluginProject, upstream: Upstream, monkeypatch: pytest.MonkeyPatch):
    import httpx

    url = f"{upstream.server.url}/users/1"
    file = tests.path / "job.py"
    settings: dict[str, Any] = {"file": file, "mode": "once", "source": "live"}
    settings["hosts"] = ["127.0.0.1"]
    with mock_mcp.intercept("nightly", **settings) as scope:
        assert httpx.get(url).json() == GOOD
    assert [call.source for call in scope.calls] == ["live"]
    with mock_mcp.intercept("nightly", **settings) as scope:
        assert httpx.get(url).json() == GOOD
    assert [call.source for call in scope.calls] == ["recording"]
    upstream.body = DRIFTED
    with pytest.raises(ApiDrift), mock_mcp.intercept("nightly", **settings | {"mode": "all"}):
        assert httpx.get(url).json() == DRIFTED
    assert tests.bodies("job/nightly.json") == [GOOD]
