from __future__ import annotations

import json

import pytest

from mock_mcp.errors import DaemonUnreachable
from mock_mcp.responders.errors import CannotAnswer
from mock_mcp.responders.model import SYSTEM, Ask, ModelSource, Reply
from mock_mcp.responders.source import Unusable
from mock_mcp.serving.claims import Next
from mock_mcp.serving.contracts import unread
from mock_mcp.types import Claim, TestMeta, UsedValues

pytestmark = pytest.mark.asyncio


class Model:
    """A model that answers what it is given: text, or a `Reply`."""

    name = "model"

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.asks: list[Ask] = []

    async def ask(self, ask: Ask) -> Reply:
        self.asks.append(ask)
        answer = self.answers.pop(0)
        if isinstance(answer, Reply):
            return answer
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return Reply(text, text, tokens_in=5, tokens_out=2)

    @property
    def told(self) -> list[str]:
        """What it was told, one text for each call."""
        return [ask.turns[-1].text for ask in self.asks]


class Contracts:
    """Contracts that nobody can read."""

    def read(self, info, requests):
        return unread(requests, "there is none")


class Daemon:
    """A daemon whose batch log fails when the model has been told something twice."""

    info = None

    def __init__(self) -> None:
        self.client = self
        self.logged: list[str] = []

    async def log_shown(self, adapter_id, batch_ids, tool, text):
        assert (adapter_id, batch_ids, tool) == ("model", ["b1"], "respond")
        self.logged.append(text)
        if len(self.logged) > 1:
            raise DaemonUnreachable("It is gone.")


def mock(request_id, data="x", **fields):
    return {"requestId": request_id, "data": data, **fields}


def mocks(*request_ids):
    return {"mocks": [mock(request_id) for request_id in request_ids]}


def writing(model, *request_ids, **claim):
    requests = [
        {"requestId": rid, "endpoint": f"https://api.test/{rid}", "method": "GET"}
        for rid in request_ids
    ]
    made = Claim("b1", "run", requests, "the-token", 0, **claim)
    source = ModelSource(model, Contracts())
    return source, source.begin(Next(Daemon(), made, TestMeta("test_app.py", "test_one")))


async def test_the_model_is_told_the_batch_but_not_the_claim():
    model = Model(mocks("r1", "r2"))
    used = [UsedValues("GET", "/u", answer={"id": 7})]
    source, written = writing(model, "r1", "r2", used=used)
    assert [each.request_id for each in await written.write(None)] == ["r1", "r2"]
    batch = json.loads(model.told[0])
    assert batch["test"] == {"file": "test_app.py", "name": "test_one"}
    assert [request["unchecked"] for request in batch["requests"]] == ["there is none"] * 2
    assert batch["used"] == [{"call": "GET /u", "answer": {"id": 7}}]
    assert "the-token" not in model.told[0]
    assert model.asks[0].schema["properties"]["mocks"]["items"]["properties"]["requestId"][
        "enum"
    ] == ["r1", "r2"]
    assert (source.usage.calls, source.usage.tokens_in, source.usage.tokens_out) == (1, 5, 2)


@pytest.mark.parametrize("logged", [False, True])
async def test_a_batch_log_says_what_the_model_was_told_and_keeps_nobody_waiting(logged):
    model = Model(mocks("r1"), mocks("r1"))
    _, written = writing(model, "r1", logged=logged)
    await written.write(None)
    assert await written.write("r1 is wrong")
    wanted = [f"{SYSTEM}\n\n{model.told[0]}", "r1 is wrong"] if logged else []
    assert written.found.daemon.logged == wanted


@pytest.mark.parametrize(
    "text",
    [
        '{"mocks": [{"requestId": "r1", "data": {"a": 1}}]}',
        '[{"requestId": "r1", "data": {"a": 1}}]',
        'Here it is:\n```json\n{"mocks": [{"requestId": "r1", "data": {"a": 1}}]}\n```\nBye',
        'Sure! {"mocks": [{"requestId": "r1", "data": {"a": 1}}]} Done.',
        '{"mocks": [{"requestId": "r1", "data": {"a": 1}, "status": null, "headers": null}]}',
    ],
)
async def test_an_answer_is_found_in_what_models_write_around_it(text):
    _, written = writing(Model(text), "r1")
    (found,) = await written.write(None)
    assert (found.data, found.status, found.headers) == ({"a": 1}, None, None)


async def test_a_body_that_is_null_is_one():
    _, written = writing(Model({"mocks": [mock("r1", None, status=204)]}), "r1")
    (found,) = await written.write(None)
    assert (found.data, found.status) == (None, 204)


async def test_a_status_is_whole_however_it_is_written():
    _, written = writing(Model({"mocks": [mock("r1", 1, status=201.0)]}), "r1")
    (found,) = await written.write(None)
    assert repr(found.status) == "201"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"mocks": [{"requestId": "r1", "data": {"a"', "not JSON"),
        ("", "not JSON"),
        ('"hello"', 'list "mocks"'),
        ({"mocks": [{"requestId": "r1"}]}, r"mocks\[0\] is no mock: .*data"),
        ({"mocks": [mock("r1", status="200")]}, r"mocks\[0\] is no mock: .*status"),
        ({"mocks": [mock("r1", status=200.5)]}, r"mocks\[0\] is no mock: .*status"),
        ({"mocks": [mock("r1", body=1)]}, r"mocks\[0\] is no mock: .*body"),
        (mocks("r9"), "No request has the id 'r9'; there are r1, r2"),
        (mocks("r1", "r1"), "two mocks"),
        (mocks("r1"), "no mock for r2"),
    ],
)
async def test_an_answer_that_is_none_says_why_and_is_corrected(answer, words):
    model = Model(answer, mocks("r1", "r2"))
    _, written = writing(model, "r1", "r2")
    with pytest.raises(Unusable, match=words) as caught:
        await written.write(None)
    assert len(await written.write(str(caught.value))) == 2
    assert model.told[1] == str(caught.value)
    # The correction sees what it corrects.
    assert model.asks[1].turns[1].reply is not None
    assert model.asks[1].turns[0] == model.asks[0].turns[0]


async def test_a_correction_keeps_what_was_right():
    model = Model(mocks("r1", "r2"), {"mocks": [mock("r2", "better")]})
    _, written = writing(model, "r1", "r2")
    await written.write(None)
    assert [each.data for each in await written.write("r2 is wrong")] == ["x", "better"]


async def test_an_answer_that_is_cut_off_is_asked_for_in_halves():
    cut = Reply('{"mocks": [{"req', "…", is_cut=True, tokens_in=5, tokens_out=9)
    model = Model(cut, cut, mocks("r1"), mocks("r2"), mocks("r3"), mocks("r4"))
    _, written = writing(model, "r1", "r2", "r3", "r4")
    assert [each.request_id for each in await written.write(None)] == ["r1", "r2", "r3", "r4"]
    assert "only r1, r2 now" in model.told[1]
    assert "only r1 now" in model.told[2]
    assert model.told[3:] == ["Go on: answer r2.", "Go on: answer r3.", "Go on: answer r4."]


async def test_a_large_batch_is_read_in_parts():
    ids = [f"r{n}" for n in range(120)]
    model = Model(mocks(*ids[:50]), mocks(*ids[50:99]), mocks("r99"), mocks(*ids[100:]))
    _, written = writing(model, *ids)
    with pytest.raises(Unusable, match=r"no mock for r99\."):
        await written.write(None)
    assert [each.request_id for each in await written.write("r99 is missing")] == ids
    read = [json.loads(text)["requests"] for text in (model.told[0], model.told[1], model.told[3])]
    assert [len(requests) for requests in read] == [50, 50, 20]


async def test_one_mock_that_is_cut_off_cannot_be_written():
    _, written = writing(Model(Reply("{", "{", is_cut=True)), "r1")
    with pytest.raises(CannotAnswer, match="--max-tokens"):
        await written.write(None)


async def test_a_refusal_is_not_argued_with():
    source, written = writing(Model(Reply("", "", refusal="no names", tokens_in=3)), "r1")
    with pytest.raises(CannotAnswer, match="model refused to answer: no names"):
        await written.write(None)
    assert source.usage.tokens_in == 3
