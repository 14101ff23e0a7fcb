from __future__ import annotations

import json

import httpx
import pytest

from mock_mcp.responders.apis import Anthropic, Ollama, OpenAI
from mock_mcp.responders.errors import CannotAnswer
from mock_mcp.responders.http import Api
from mock_mcp.responders.model import Ask, Turn
from support.models import Call, answer

pytestmark = pytest.mark.asyncio

SCHEMA = {"type": "object", "properties": {"mocks": {"type": "array"}}}
ASK = Ask("be good", (Turn("the batch"),), SCHEMA)
CONTENT = {"mocks": []}
KINDS = [OpenAI, Anthropic, Ollama]


def served(kind, *behaviours, **options):
    """Return a model behind a server that behaves so, and the calls it got."""
    calls: list[Call] = []
    left = list(behaviours)

    def handle(request: httpx.Request) -> httpx.Response:
        calls.append(Call(request.url.path, dict(request.headers), json.loads(request.content)))
        reply = (left.pop(0) if len(left) > 1 else left[0])(calls[-1])
        return httpx.Response(reply.status, text=json.dumps(reply.body))

    prefix = "/v1" if kind is OpenAI else ""
    api = Api("model", f"http://models.test{prefix}", transport=httpx.MockTransport(handle))
    return kind(api, "m-1", **options), calls


@pytest.mark.parametrize("kind", KINDS)
async def test_a_model_is_asked_and_its_tokens_are_counted(kind):
    model, calls = served(kind, answer(CONTENT))
    reply = await model.ask(ASK)
    content = reply.content if isinstance(reply.content, dict) else json.loads(reply.content)
    assert content == CONTENT
    assert (reply.tokens_in, reply.tokens_out) == (100, 10)
    assert (reply.is_cut, reply.refusal) == (False, None)
    assert calls[0].body["model"] == "m-1"
    assert calls[0].messages == [{"role": "user", "content": "the batch"}]
    assert "be good" in json.dumps(calls[0].body)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_conversation_goes_on(kind):
    model, calls = served(kind, answer(CONTENT))
    first = await model.ask(ASK)
    await model.ask(Ask("be good", (*ASK.turns, Turn("wrong", first.raw)), SCHEMA))
    roles = [message["role"] for message in calls[1].messages]
    assert roles == ["user", "assistant", "user"]
    assert calls[1].said_last == "wrong"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cut_answer_and_a_refusal_are_seen(kind):
    model, _ = served(kind, answer("{", end="length"))
    assert (await model.ask(ASK)).is_cut
    if kind is not Ollama:
        model, _ = served(kind, answer("", refusal="I will not"))
        assert (await model.ask(ASK)).refusal == "I will not"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", [{}, [], {"choices": []}, {"message": "x", "content": 1}, None])
async def test_an_answer_of_another_shape_is_an_error_in_words(kind, body):
    def other(call):
        reply = answer(CONTENT)(call)
        reply.body = body
        return reply

    model, _ = served(kind, other)
    with pytest.raises(CannotAnswer, match="something that is no answer"):
        await model.ask(ASK)


def refusing(*structures):
    """Return a server that takes none of these ways to ask for structure."""

    def behave(call):
        reply = answer(CONTENT)(call)
        if call.structure in structures:
            reply.status, reply.body = 400, {"error": {"message": "unknown response_format"}}
        return reply

    return behave


@pytest.mark.parametrize(
    ("kind", "structures"),
    [(OpenAI, ("json_schema", "json_object", None)), (Ollama, ("schema", "json", None))],
)
async def test_less_structure_is_asked_for_where_a_server_refuses_more(kind, structures):
    model, calls = served(kind, refusing(*structures[:2]))
    await model.ask(ASK)
    assert tuple(call.structure for call in calls) == structures
    await model.ask(ASK)  # what is refused once is not tried again
    assert [call.structure for call in calls[3:]] == [None]


async def test_a_call_that_is_refused_for_another_reason_says_the_first_one():
    def too_long(call):
        reply = answer(CONTENT)(call)
        reply.status, reply.body = 400, {"error": {"message": f"too long ({call.structure})"}}
        return reply

    model, calls = served(OpenAI, too_long, too_long, too_long, answer(CONTENT))
    with pytest.raises(CannotAnswer, match=r"too long \(json_schema\)"):
        await model.ask(ASK)
    await model.ask(ASK)
    assert calls[-1].structure == "json_schema"


async def test_openai_gets_the_schema_and_a_limit_only_if_it_is_set():
    model, calls = served(OpenAI, answer(CONTENT), max_tokens=99)
    await model.ask(ASK)
    assert calls[0].body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert calls[0].body["max_tokens"] == 99
    model, calls = served(OpenAI, answer(CONTENT))
    await model.ask(ASK)
    assert "max_tokens" not in calls[0].body


async def test_anthropic_must_use_the_tool_and_gets_its_result():
    model, calls = served(Anthropic, answer(CONTENT))
    first = await model.ask(ASK)
    body = calls[0].body
    assert body["tools"][0]["input_schema"] == SCHEMA
    assert body["tool_choice"] == {"type": "tool", "name": body["tools"][0]["name"]}
    assert body["max_tokens"] == 8192
    await model.ask(Ask("be good", (*ASK.turns, Turn("wrong", first.raw)), SCHEMA))
    (result,) = calls[1].messages[-1]["content"]
    assert result == {"type": "tool_result", "tool_use_id": "toolu_1", "content": "wrong"}


async def test_ollama_gets_a_context_that_its_prompt_fits_in():
    model, calls = served(Ollama, answer(CONTENT), max_tokens=5)
    await model.ask(ASK)
    await model.ask(Ask("be good", (Turn("x" * 60_000),), SCHEMA))
    assert calls[0].body["options"] == {"num_ctx": 8192, "num_predict": 5}
    assert calls[0].body["stream"] is False
    assert calls[1].body["options"]["num_ctx"] == 65_536
