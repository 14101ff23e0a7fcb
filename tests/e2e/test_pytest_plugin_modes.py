"""Which mode does what: recorded or not, in CI or not, from where it was chosen."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest

from mock_mcp.recordings.check import check_recordings
from support.plugin import (  # fixtures too
    DOCUMENT,
    PluginProject,
    ScriptedAssistant,
    assistant,
    tests,
)

pytest_plugins = ["pytester"]

MODES = ("none", "once", "new_episodes", "all", "rewrite")
ONE = """
    @pytest.mark.mock_mcp
    def test_one():
        assert user()
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of ``test_one``, whose answer is named "recorded"."""
    from mock_mcp.recordings.format import RecordedInteraction, RecordedRequest, RecordedResponse
    from mock_mcp.recordings.paths import locate
    from mock_mcp.recordings.store import RecordingFile

    directory = tmp_path_factory.mktemp("recorded")
    file = RecordingFile(*locate(directory / "test_app.py", ["test_one"]))
    request = RecordedRequest("GET", "https://api.test/users/1")
    response = RecordedResponse(200, body={"id": 1, "name": "recorded"})
    file.stage(RecordedInteraction(request, "ai", response))
    file.promote()
    return directory / "__mocks__"


@pytest.mark.parametrize("ci", [False, True], ids=["local", "ci"])
@pytest.mark.parametrize("has_recording", [True, False], ids=["recorded", "new"])
@pytest.mark.parametrize("where", ["command line", "project", "marker"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode(  # noqa: PLR0917
    tests: PluginProject,
    assistant: ScriptedAssistant,
    recorded: Path,
    mode: str,
    where: str,
    has_recording: bool,
    ci: bool,
) -> None:
    tests.write(ONE.replace(".mock_mcp", f".mock_mcp(mode={mode!r})") if where == "marker" else ONE)
    if where == "project":
        tests.settings(f"mode = {mode!r}")
    if has_recording:
        shutil.copytree(recorded, tests.path / "__mocks__")
    before = tests.recordings()

    arguments = [f"--mock-mode={mode}"] if where == "command line" else []
    result = tests.run(*arguments, MOCK_MCP="1", **({"CI": "true"} if ci else {}))

    holds = mode if where == "command line" or not ci else "none"
    obtains = holds in ("all", "rewrite") or (holds != "none" and not has_recording)
    assert len(assistant.asked) == obtains
    if obtains:
        assert result.outcomes() == {"passed": 1}, result.text
        assert tests.bodies() == [{"id": 1, "name": "asked 1"}]
        assert "1 from the assistant" in result.text
    elif has_recording:
        assert result.outcomes() == {"passed": 1}, result.text
        assert tests.recordings() == before
        assert "1 replayed" in result.text
    else:
        assert result.outcomes() == {"failed": 1}
        assert "No recorded answer for GET https://api.test/users/1" in result.text
        assert "MOCK_MCP=1 pytest --mock-mode=new_episodes test_app.py::test_one" in result.text
        assert not tests.recordings()


def test_without_mock_mcp_nobody_is_asked_whatever_the_project_says(
    tests: PluginProject,
    assistant: ScriptedAssistant,
) -> None:
    tests.write(ONE)
    tests.settings("mode = 'all'")
    assert tests.run().outcomes() == {"failed": 1}
    assert tests.run(MOCK_MCP="0").outcomes() == {"failed": 1}
    assert not assistant.asked


def test_replay_starts_no_daemon(tests: PluginProject, cache_dir: Path) -> None:
    tests.write(ONE)
    tests.record()
    assert tests.run().outcomes() == {"passed": 1}
    assert tests.run(MOCK_MCP="1").outcomes() == {"passed": 1}
    assert not [*cache_dir.glob("mock-mcp/*.sock")]


@pytest.mark.parametrize("ci", ["true", "1"])
def test_in_ci_a_source_alone_obtains_nothing(tests: PluginProject, ci: str) -> None:
    tests.write(ONE)
    assert tests.run("--mock-source=example", CI=ci).outcomes() == {"failed": 1}
    assert tests.run("--mock-source=example", CI="false").outcomes() == {"passed": 1}


def test_the_example_source_needs_no_assistant_and_always_says_the_same(
    tests: PluginProject,
    cache_dir: Path,
) -> None:
    tests.write(ONE)
    result = tests.run("--mock-source=example")
    assert result.outcomes() == {"passed": 1}, result.text
    assert "1 from the contract, 1 written" in result.text
    first = tests.recordings()
    assert tests.run("--mock-source=example", "--mock-mode=rewrite").outcomes() == {"passed": 1}
    assert tests.recordings() == first
    assert tests.recording()["interactions"][0]["source"] == "example"
    assert not [*cache_dir.glob("mock-mcp/*.sock")]


def test_the_example_source_says_what_it_lacks(tests: PluginProject) -> None:
    tests.write(ONE)
    tests.settings("openapi = []")
    result = tests.run("--mock-source=example")
    assert result.outcomes() == {"failed": 1}
    assert "cannot be answered from a contract: no" in result.text


def test_a_reason_that_is_a_sentence_ends_once(tests: PluginProject) -> None:
    tests.write(ONE.replace("user()", 'httpx.get("https://other.test/")'))
    result = tests.run("--mock-source=example")
    assert "if it serves this API." in result.text
    assert "if it serves this API.." not in result.text


def test_new_episodes_keeps_what_is_recorded(
    tests: PluginProject,
    assistant: ScriptedAssistant,
) -> None:
    tests.write(ONE)
    assert tests.run(MOCK_MCP="1").outcomes() == {"passed": 1}
    tests.write(ONE + "        assert user(2)\n")
    assert tests.run(MOCK_MCP="1").outcomes() == {"failed": 1}
    result = tests.run("--mock-mode=new_episodes", MOCK_MCP="1")
    assert "1 replayed, 1 from the assistant" in result.text
    assert [body["name"] for body in tests.bodies()] == ["asked 1", "asked 2"]


def test_an_answer_is_not_reused_for_a_call_with_another_matched_header(
    tests: PluginProject,
    assistant: ScriptedAssistant,
) -> None:
    assistant.answer = lambda request: {
        "data": {"id": 1, "name": request["headers"]["x-tenant"]},
        "reuse": "run",
    }
    tests.settings('match = ["method", "path", "headers:X-Tenant"]')
    tests.write("""
        def user_of(tenant):
            headers = {"x-tenant": tenant}
            return httpx.get("https://api.test/users/1", headers=headers).json()["name"]

        @pytest.mark.mock_mcp
        def test_one():
            assert [user_of(tenant) for tenant in "abab"] == ["a", "b", "a", "b"]
    """)
    assert tests.run(MOCK_MCP="1").outcomes() == {"passed": 1}
    assert len(assistant.asked) == 2
    assert tests.run().outcomes() == {"passed": 1}


def test_rewrite_forgets_what_is_not_asked_for_and_all_does_not_touch_what_made_no_calls(
    tests: PluginProject,
) -> None:
    tests.write(ONE)
    tests.record()
    tests.write("@pytest.mark.mock_mcp\ndef test_one(): pass")
    example = ("--mock-source=example",)
    assert tests.run("--mock-mode=all", *example).outcomes() == {"passed": 1}
    assert len(tests.recordings()) == 1
    assert tests.run("--mock-mode=rewrite", *example).outcomes() == {"passed": 1}
    assert not tests.recordings()


# -- Contract drift ---------------------------------------------------------------------------

TWO = """
    @pytest.mark.mock_mcp
    def test_one():
        assert user()

    @pytest.mark.mock_mcp
    def test_two():
        assert httpx.post("https://api.test/users", json={"name": "Ada"}).status_code == 201
"""


def test_a_changed_contract_asks_again_only_for_what_no_longer_fits(
    tests: PluginProject,
    assistant: ScriptedAssistant,
) -> None:
    assistant.answer = lambda request: {
        "data": {"id": 1, "name": "Ada"},
        "status": 201 if request["method"] == "POST" else 200,
    }
    tests.write(TWO)
    assert tests.run(MOCK_MCP="1").outcomes() == {"passed": 2}
    before = tests.recordings()
    assistant.asked.clear()

    document = copy.deepcopy(DOCUMENT)
    schema = copy.deepcopy(
        document["paths"]["/users/{id}"]["get"]["responses"]["200"]["content"]["application/json"][
            "schema"
        ]
    )
    schema["required"].append("email")
    schema["properties"]["email"] = {"type": "string"}
    content = document["paths"]["/users/{id}"]["get"]["responses"]["200"]["content"]
    content["application/json"]["schema"] = schema
    document["info"]["version"] = "2"  # the whole document is another one
    tests.contract(document)

    replayed = tests.run()
    assert replayed.outcomes() == {"passed": 1, "failed": 1}
    assert "The recorded answer to GET https://api.test/users/1 no longer fits the contract" in (
        replayed.text
    )
    assert "email" in replayed.text
    assert "--mock-mode=new_episodes test_app.py::test_one" in replayed.text
    assert tests.recordings() == before

    assistant.answer = lambda request: {"data": {"id": 1, "name": "Ada", "email": "a@b.test"}}
    result = tests.run("--mock-mode=new_episodes", MOCK_MCP="1")
    assert result.outcomes() == {"passed": 2}, result.text
    assert [request["endpoint"] for request in assistant.asked] == ["https://api.test/users/1"]
    assert tests.bodies() == [{"id": 1, "name": "Ada", "email": "a@b.test"}]
    unchanged = "__mocks__/test_app/test_two.json"
    assert tests.recordings()[unchanged] == before[unchanged]
    assert tests.run().outcomes() == {"passed": 2}


def test_a_changed_contract_that_still_fits_changes_nothing(
    tests: PluginProject,
) -> None:
    tests.write(TWO)
    tests.record()
    before = tests.recordings()
    document = copy.deepcopy(DOCUMENT)
    document["paths"]["/users"]["post"]["responses"]["201"]["content"]["application/json"][
        "schema"
    ] = {"type": "object"}
    tests.contract(document)
    assert tests.run().outcomes() == {"passed": 2}
    assert tests.run("--mock-mode=new_episodes", MOCK_MCP="1").outcomes() == {"passed": 2}
    assert tests.recordings() == before


@pytest.fixture
def billing(tests: PluginProject) -> Path:
    """A project in a project, each with settings and a contract of its own."""
    root = tests.path / "packages" / "billing"
    tests.write(ONE.replace("user()", "user(7)"), "packages/billing/tests/test_bills.py")
    (root / "api.json").write_text(json.dumps(DOCUMENT))
    (root / "pyproject.toml").write_text('[tool.mock-mcp]\nopenapi = ["api.json"]\n')
    tests.contract(DOCUMENT | {"servers": [{"url": "https://another.test"}]})
    return root


def test_a_test_has_the_settings_and_contract_of_the_nearest_project(
    tests: PluginProject, billing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests.write(ONE)
    for place in (tests.path, billing):
        monkeypatch.chdir(place)
        result = tests.run("--mock-source=example", "--mock-mode=all", str(billing))
        assert result.outcomes() == {"passed": 1}, result.text
    result = tests.run("--mock-source=example", str(tests.path / "test_app.py"))
    assert "https://api.test is none of the servers of" in result.text
    report = check_recordings(tests.path)
    assert (report.recordings, dict(report.unchecked)) == (1, {})
    (billing / "pyproject.toml").write_text("[tool.mock-mcp]\nopenapy = []\n")
    result = tests.run(str(tests.path))
    assert result.outcomes() == {"errors": 1, "failed": 1}
    assert "billing/pyproject.toml: [tool.mock-mcp] has the unknown key 'openapy'" in result.text


def test_the_daemon_of_a_run_is_told_the_contract_of_a_project_further_down(
    tests: PluginProject, billing: Path, assistant: ScriptedAssistant
) -> None:
    assert tests.run(MOCK_MCP="1").outcomes() == {"passed": 1}
    (asked,) = assistant.asked
    assert asked["contract"] == {
        "documents": [{"path": str(billing / "api.json")}],
        "mode": "enforce",
    }
