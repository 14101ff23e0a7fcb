"""Real SDKs, unmodified, against the real contracts of their APIs: recorded, then replayed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command import PLUGIN

SPECS = Path(__file__).parents[3] / "shared" / "specs"

OPENAI = """
    import asyncio
    import pytest
    from openai import AsyncOpenAI, OpenAI

    QUESTION = [{"role": "user", "content": "Hello"}]

    @pytest.mark.mock_mcp
    def test_models_and_chat():
        client = OpenAI(api_key="the-api-key")
        assert client.models.list().data[0].id
        done = client.chat.completions.create(model="gpt-4o", messages=QUESTION)
        assert done.choices[0].message.role == "assistant"
        stream = client.chat.completions.create(model="gpt-4o", messages=QUESTION, stream=True)
        chunks = list(stream)
        assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
        assert [c.choices[0].finish_reason for c in chunks][:-1] == [None, None]

    @pytest.mark.mock_mcp
    def test_async():
        async def ask():
            async with AsyncOpenAI(api_key="the-api-key") as client:
                chats = (
                    client.chat.completions.create(model=model, messages=QUESTION)
                    for model in ("gpt-4o", "gpt-4o-mini")
                )
                return await asyncio.gather(*chats)

        assert all(done.choices for done in asyncio.run(ask()))
"""

GITHUB = """
    import pytest
    from github import Auth, Github

    @pytest.mark.mock_mcp
    def test_issues():
        hub = Github(auth=Auth.Token("the-api-key"))
        repository = hub.get_repo("octocat/Hello-World")
        assert repository.full_name
        issue = repository.create_issue("A bug", body="It fails", labels=["bug"])
        assert issue.number
        assert repository.get_issue(7).state
"""


@pytest.fixture
def contract(project: Path) -> Callable[[str], None]:
    """Register a published document as the project's contract."""

    def register(name: str) -> None:
        if not (SPECS / name).is_file():
            pytest.skip(f"{name} is not in ../shared/specs")
        settings = f"[tool.mock-mcp]\nopenapi = [{str(SPECS / name)!r}]\n"
        (project / "pyproject.toml").write_text(settings)

    return register


@pytest.mark.parametrize(
    "sdk",
    [
        ("openai", "openai-3.1.json", OPENAI, 2, 5),
        ("github", "github-3.0.json", GITHUB, 1, 3),
    ],
    ids=["openai", "PyGithub"],
)
def test_an_sdk_works_recorded_and_replayed(project, contract, run, sdk):
    module, document, test, tests, calls = sdk
    pytest.importorskip(module, reason=f"the SDK {module} is not installed")
    contract(document)
    (project / "test_sdk.py").write_text(textwrap.dedent(test))

    first = run("pytest", *PLUGIN, "--mock-source=example")
    assert first.returncode == 0, first.stdout + first.stderr
    assert f"{calls} from the contract" in first.stdout
    recordings = {path: path.read_bytes() for path in project.rglob("__mocks__/**/*.json")}
    assert len(recordings) == tests
    assert not any(b"the-api-key" in text for text in recordings.values())

    again = run("pytest", *PLUGIN)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{calls} replayed" in again.stdout
    assert {path: path.read_bytes() for path in recordings} == recordings

    check = run("mock_mcp", "check")
    assert check.returncode == 0, check.stdout + check.stderr
    assert f"{calls} calls: {calls} fit the contract" in check.stdout


def test_a_call_that_breaks_the_published_contract_fails(project, contract, run):
    pytest.importorskip("openai", reason="the SDK openai is not installed")
    contract("openai-3.1.json")
    (project / "test_sdk.py").write_text(
        textwrap.dedent(OPENAI).replace('[{"role": "user", "content": "Hello"}]', "[]")
    )
    ended = run("pytest", *PLUGIN, "--mock-source=example", "-k", "models_and_chat")
    assert ended.returncode == 1
    assert "ContractViolation" in ended.stdout
    assert "/body/messages" in ended.stdout
    assert not list(project.rglob("__mocks__"))
