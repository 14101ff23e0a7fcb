"""Real SDKs, unmodified, against the real contracts of their APIs: recorded, then replayed."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        events = client.responses.create(model="gpt-4o", input="Hello", stream=True)
        types = [event.type for event in events]
        assert (types[0], types[-1]) == ("response.created", "response.completed")

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

STREAMS = """
    import asyncio
    import anthropic, ollama
    import pytest

    ASKED = {"model": "m1", "messages": [{"role": "user", "content": "Hello"}]}
    HOST = "https://ollama.example.com"

    @pytest.mark.mock_mcp
    def test_messages():
        client = anthropic.Anthropic(api_key="the-api-key")
        with client.messages.stream(max_tokens=9, **ASKED) as stream:
            text = "".join(stream.text_stream)
            assert text and stream.get_final_message().content[0].text == text

    @pytest.mark.mock_mcp
    def test_messages_async():
        async def ask():
            async with anthropic.AsyncAnthropic(api_key="the-api-key") as client:
                events = await client.messages.create(max_tokens=9, stream=True, **ASKED)
                return [event.type async for event in events]

        types = asyncio.run(ask())
        assert (types[0], types[-1], len(types)) == ("message_start", "message_stop", 5)

    @pytest.mark.mock_mcp
    def test_lines():
        parts = list(ollama.Client(host=HOST).chat(stream=True, **ASKED))
        assert [part.done for part in parts] == [False, False, True]
        assert all(part.message.content for part in parts)

    @pytest.mark.mock_mcp
    def test_lines_async():
        async def ask():
            parts = await ollama.AsyncClient(host=HOST).chat(stream=True, **ASKED)
            return [part.done async for part in parts]

        assert asyncio.run(ask()) == [False, False, True]
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


def _object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*fields], "properties": fields}


def _stream(path: str, server: str, media_type: str, schema: Any) -> dict[str, Any]:
    content = {media_type: {"schema": schema}}
    post = {"responses": {"200": {"description": "", "content": content}}}
    return {path: {"servers": [{"url": server}], "post": post}}


TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
BLOCK = _object(type={"const": "text"}, text=TEXT)
MESSAGE = _object(
    id=TEXT,
    type={"const": "message"},
    role={"const": "assistant"},
    content={"type": "array", "items": BLOCK},
    model=TEXT,
    stop_reason={"enum": ["end_turn", None]},
    usage=_object(input_tokens=COUNT, output_tokens=COUNT),
)
EVENTS = [
    _object(type={"const": "message_start"}, message=MESSAGE),
    _object(type={"const": "message_stop"}),
    _object(type={"const": "error"}, error=_object(message=TEXT)),
    _object(
        type={"const": "content_block_start"},
        index=COUNT,
        content_block=_object(type={"const": "text"}, text={"const": ""}),
    ),
    _object(
        type={"const": "content_block_delta"},
        index=COUNT,
        delta=_object(type={"const": "text_delta"}, text=TEXT),
    ),
    _object(type={"const": "content_block_stop"}, index=COUNT),
]
LINE = _object(
    model=TEXT, message=_object(role={"const": "assistant"}, content=TEXT), done={"type": "boolean"}
)


def test_sdks_read_streams_recorded_and_replayed(project, run):
    for module in ("anthropic", "ollama"):
        pytest.importorskip(module, reason=f"the SDK {module} is not installed")
    events = ("/v1/messages", "https://api.anthropic.com", "text/event-stream", {"oneOf": EVENTS})
    lines = ("/api/chat", "https://ollama.example.com", "application/x-ndjson", LINE)
    api = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}}
    api["paths"] = {**_stream(*events), **_stream(*lines)}
    (project / "api.json").write_text(json.dumps(api))
    (project / "pyproject.toml").write_text('[tool.mock-mcp]\nopenapi = ["api.json"]\n')
    (project / "test_sdk.py").write_text(textwrap.dedent(STREAMS))
    _recorded_and_replayed(project, run, tests=4, calls=4)


@pytest.mark.parametrize(
    "sdk",
    [
        ("openai", "openai-3.1.json", OPENAI, 2, 6),
        ("github", "github-3.0.json", GITHUB, 1, 3),
    ],
    ids=["openai", "PyGithub"],
)
def test_an_sdk_works_recorded_and_replayed(project, contract, run, sdk):
    module, document, test, tests, calls = sdk
    pytest.importorskip(module, reason=f"the SDK {module} is not installed")
    contract(document)
    (project / "test_sdk.py").write_text(textwrap.dedent(test))
    _recorded_and_replayed(project, run, tests=tests, calls=calls)


def _recorded_and_replayed(project: Path, run: Any, *, tests: int, calls: int) -> None:
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
