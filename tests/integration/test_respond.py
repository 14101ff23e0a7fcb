"""Responders against a real daemon and a real client; models behind a server that misbehaves."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

import mock_mcp
from mock_mcp.errors import BatchGivenUp, ClientClosed
from mock_mcp.responders.apis import Anthropic, Ollama, OpenAI
from mock_mcp.responders.errors import ResponderUnusable
from mock_mcp.responders.http import Api, Patience
from mock_mcp.responders.model import ModelSource
from mock_mcp.responders.plain import SampleSource
from mock_mcp.responders.report import Answered, Corrected, NotAnswered, Unwanted
from mock_mcp.responders.serve import Responder
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project
from mock_mcp.serving.contracts import ContractReader
from support.models import KEY, answer, fail, mocks_for, model_server, raw
from support.plugin import DOCUMENT
from support.responder import respond_to, until

pytestmark = pytest.mark.asyncio

KINDS = {"openai": OpenAI, "anthropic": Anthropic, "ollama": Ollama}
QUICK = Patience(tries=3, first_s=0.001, longest_s=0.001, timeout_s=10)
USER = "https://api.test/users/{}"


class At:
    """A project with a contract, its daemon, and a server with a model."""

    def __init__(self, directory, server) -> None:
        self.project_root = directory / "p"
        self.project_root.mkdir()
        settings = '[tool.mock-mcp]\nopenapi = ["openapi.json"]\n'
        (self.project_root / "pyproject.toml").write_text(settings)
        (self.project_root / "openapi.json").write_text(json.dumps(DOCUMENT))
        self.cache = directory / "c"
        self.project = Project.resolve(self.project_root)
        self.server = server
        self.events = []

    def model(self, kind="openai", *, patience=QUICK, url=None, **options):
        url = url or self.server.url + ("/v1" if kind == "openai" else "")
        headers = {"authorization": f"Bearer {KEY}"}
        api = Api(kind, url, headers=headers, key=KEY, patience=patience, **options)
        reader = ContractReader(CacheDirectory(self.cache), self.project)
        return ModelSource(KINDS[kind](api, "m-1"), reader)

    def sample(self):
        return SampleSource(self.project, cache_dir=self.cache)

    @asynccontextmanager
    async def responding(self, source, run_id=None, **options):
        responder = Responder(
            source, self.project, tell=self.events.append, cache_dir=self.cache, **options
        )
        async with responder.opened():
            serving = asyncio.create_task(responder.serve(run_id))
            try:
                yield responder
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

    def connect(self, **options):
        return mock_mcp.connect(
            project_root=self.project_root,
            cache_dir=self.cache,
            enabled=True,
            timeout_s=30,
            **options,
        )

    def events_of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest_asyncio.fixture
async def at(tmp_path):
    with model_server() as server:
        at = At(tmp_path, server)
        daemon = mock_mcp.MockMcpDaemon(at.project_root, cache_dir=at.cache)
        async with daemon:
            at.daemon = daemon
            yield at


async def ask(client, *numbers):
    return await asyncio.gather(*(client.request_mock(USER.format(n), "GET") for n in numbers))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_model_answers_a_batch(at, kind):
    async with at.responding(at.model(kind)) as responder, at.connect() as client:
        found = await ask(client, 1, 2, 3)
    assert [mock.data for mock in found] == [{"id": n, "name": "Ann"} for n in (1, 2, 3)]
    (call,) = at.server.calls
    assert (
        call.structure == {"openai": "json_schema", "anthropic": "tool", "ollama": "schema"}[kind]
    )
    assert {name for each in call.batch["contracts"].values() for name in each} >= {"schema"}
    assert responder.totals.line() == (
        "3 calls answered in 1 batch; 1 call of the model, 100 tokens in, 10 out"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "behaviour",
    [
        fail(429, "slow down"),
        fail(429, "slow down", retry_after="0"),
        fail(500),
        fail(529, {"type": "overloaded_error", "message": "Overloaded"}),
        raw('{"choices": [{"mess'),
        raw('{"choices": [{"mess', cut_off=True),
    ],
    ids=["429", "retry-after", "500", "overloaded", "truncated", "cut-off"],
)
async def test_what_passes_is_waited_out(at, kind, behaviour):
    at.server.script += [behaviour, behaviour]
    async with at.responding(at.model(kind)), at.connect() as client:
        (found,) = await ask(client, 1)
    assert found.data == {"id": 1, "name": "Ann"}
    assert len(at.server.calls) == 3
    assert not at.events_of(Corrected)


def wrong(call):
    requests = call.batch["requests"]
    return {"mocks": [{"requestId": r["requestId"], "data": {"id": "seven"}} for r in requests]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (answer(wrong), "/body/id (type): expected integer"),
        (answer('{"mocks": [{"requestId": '), "not JSON"),
        (answer({"mocks": []}), "no mock for"),
    ],
    ids=["invalid", "truncated", "missing"],
)
async def test_what_is_wrong_goes_back_to_the_model(at, kind, behaviour, told):
    at.server.script += [behaviour, behaviour]
    async with at.responding(at.model(kind)) as responder, at.connect() as client:
        (found,) = await ask(client, 1)
    assert found.data == {"id": 1, "name": "Ann"}
    assert [told in call.said_last for call in at.server.calls] == [False, True, True]
    assert [event.number for event in at.events_of(Corrected)] == [1, 2]
    assert responder.totals.corrections == 2


async def test_after_three_corrections_the_test_is_told_what_is_wrong(at):
    at.server.always = answer(wrong)
    async with at.responding(at.model()) as responder, at.connect() as client:
        with pytest.raises(BatchGivenUp, match=r"(?s)no valid answer after 4 tries.*/body/id") as e:
            await ask(client, 1)
    assert str(e.value).count("4 tries") == 1
    assert len(at.server.calls) == 4  # each time it is offered again costs nothing
    assert responder.totals.failed == len(at.events_of(NotAnswered)) == 1


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (answer("", refusal="I cannot do that"), "refused to answer: I cannot do that"),
        (answer("{", end="length"), "cut off by its output limit"),
        (fail(503, "maintenance"), "failed 3 times; at last: HTTP 503 maintenance"),
        (fail(400, {"message": "context too long"}), "HTTP 400 context too long"),
        (raw("null"), "something that is no answer"),
    ],
    ids=["refusal", "length", "503", "400", "null"],
)
async def test_a_batch_that_cannot_be_answered_fails_with_the_reason_and_the_next_is_answered(
    at, behaviour, words
):
    at.server.always = behaviour
    async with at.responding(at.model()), at.connect() as client:
        with pytest.raises(BatchGivenUp, match=words):
            await ask(client, 1)
        at.server.always = answer(mocks_for)
        assert (await ask(client, 2))[0].data["id"] == 2


async def test_what_is_being_provided_as_the_responder_stops_is_seen_through(at, monkeypatch):
    providing, ending = asyncio.Event(), asyncio.Event()
    async with at.connect() as client:
        async with at.responding(at.sample()) as responder:
            provide, end_writing = responder._claims.provide, responder._end_writing

            async def provide_as_it_ends(*claim):
                providing.set()
                await ending.wait()
                return await provide(*claim)

            async def begin_to_end():
                ending.set()
                await end_writing()

            monkeypatch.setattr(responder._claims, "provide", provide_as_it_ends)
            monkeypatch.setattr(responder, "_end_writing", begin_to_end)
            asked = asyncio.create_task(ask(client, 1))
            async with asyncio.timeout(30):
                await providing.wait()
        assert responder.totals.batches == 1
        assert responder.totals.failed == 0
        assert len(await asked) == 1


async def test_a_large_answer_is_cut_off_and_comes_in_parts(at):
    def short(call):
        """Answer two mocks at most."""
        asked = call.body["response_format"]["json_schema"]["schema"]["properties"]["mocks"]
        ids = asked["items"]["properties"]["requestId"]["enum"]
        if len(ids) > 2:
            return answer("{", end="length")(call)
        mocks = [mock for mock in mocks_for(call)["mocks"] if mock["requestId"] in ids]
        return answer({"mocks": mocks})(call)

    at.server.always = short
    async with at.responding(at.model()), at.connect() as client:
        found = await ask(client, *range(1, 9))
    assert [mock.data["id"] for mock in found] == [*range(1, 9)]


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (fail(401, f"Incorrect API key provided: {KEY}"), "refused the key.*\\[key\\]"),
        (fail(404, "model 'm-1' not found"), "does not know the model"),
    ],
    ids=["401", "404"],
)
async def test_a_responder_that_can_answer_nothing_ends_and_gives_back(at, behaviour, words):
    at.server.always = behaviour
    async with at.connect() as client:
        asked = asyncio.create_task(ask(client, 1))
        with pytest.raises(ResponderUnusable, match=words) as caught:
            async with at.responding(at.model()) as responder:
                await responder.failed()
        assert KEY not in str(caught.value)
        async with respond_to(at.daemon.info) as other:  # whoever comes next has it
            claim = await other.claim()
            assert [entry.outcome for entry in claim.history] == ["released"]
            assert KEY not in str(claim.history)
            await other.provide(claim, data={"id": 1, "name": "Bob"})
        assert (await asked)[0].data["name"] == "Bob"


async def test_one_that_persists_fails_every_batch_with_the_reason(at):
    at.server.always = fail(401, "no")
    async with at.responding(at.model(), persists=True), at.connect() as client:
        for number in (1, 2):
            with pytest.raises(BatchGivenUp, match="refused the key"):
                await ask(client, number)
    assert len(at.server.calls) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_one_that_cannot_work_does_not_start(at, kind):
    at.server.probe = fail(401, f"wrong: {KEY}")
    with pytest.raises(ResponderUnusable, match="refused the key") as caught:
        async with at.responding(at.model(kind)):
            pass
    assert KEY not in str(caught.value)
    with pytest.raises(ResponderUnusable, match="nobody answers at"):
        async with at.responding(at.model(kind, url="http://127.0.0.1:9")):
            pass


async def test_a_claim_is_kept_while_the_model_thinks_and_given_back_when_the_responder_stops(at):
    at.server.always = at.server.hold(answer(mocks_for))
    async with at.connect() as client, respond_to(at.daemon.info) as other:
        asked = asyncio.create_task(ask(client, 1))
        async with at.responding(at.model()):
            await asyncio.to_thread(at.server.arrived.wait, 30)
            (batch,) = await other.batches()
            assert batch.status == "claimed"
        (batch,) = await other.batches()
        assert batch.status == "pending"
        claim = await other.claim()
        assert claim.history[0].reason == "the responder openai stopped"
        await other.provide(claim, data={"id": 1, "name": "Bob"})
        assert (await asked)[0].data["name"] == "Bob"


async def test_a_batch_whose_run_has_ended_is_not_a_failure(at):
    at.server.always = at.server.hold(answer(mocks_for))
    async with at.responding(at.model()) as responder:
        async with at.connect() as client:
            asked = asyncio.create_task(ask(client, 1))
            await asyncio.to_thread(at.server.arrived.wait, 30)
        with pytest.raises(ClientClosed):
            await asked
        async with respond_to(at.daemon.info) as other:

            async def none_is_left():
                return not await other.batches()

            await until(none_is_left)
        at.server.released.set()

        async def is_told():
            return at.events_of(Unwanted)

        await until(is_told)
        assert responder.totals.failed == 0


async def test_only_so_many_batches_are_worked_on_at_once(at):
    at.server.always = at.server.hold(answer(mocks_for))
    async with at.responding(at.model(), concurrency=2), at.connect(max_batch_size=1) as client:
        asked = asyncio.create_task(ask(client, *range(5)))
        async with respond_to(at.daemon.info) as other:

            async def two_are_claimed():
                batches = await other.batches()
                claimed = [batch for batch in batches if batch.status == "claimed"]
                return len(claimed) == 2 and len(at.server.calls) == 2 and len(batches) == 5

            await until(two_are_claimed)
        at.server.released.set()
        assert len(await asked) == 5


async def test_only_the_runs_that_are_named_are_answered(at):
    async with at.connect(run_id="mine") as mine, at.connect(run_id="other") as theirs:
        left = asyncio.create_task(ask(theirs, 1))
        async with at.responding(at.sample(), run_id="mine"):
            await ask(mine, 2)
            assert not left.done()
        left.cancel()
    assert [event.found.claim.run_id for event in at.events_of(Answered)] == ["mine"]


async def test_it_ends_when_runs_have_come_and_none_is_left(at):
    async with at.responding(at.sample()) as responder:
        ended = asyncio.create_task(responder.runs_ended())
        async with at.connect() as client:
            await ask(client, 1)
            assert not ended.done()
        await asyncio.wait_for(ended, 30)


async def test_what_no_contract_describes_is_reported_to_the_test(at):
    async with at.responding(at.sample()), at.connect(contract="off") as client:
        with pytest.raises(BatchGivenUp, match="cannot be answered from a contract"):
            await client.request_mock("https://other.test/", "GET")


async def test_prices_are_the_users(at):
    async with at.responding(at.model()) as responder, at.connect() as client:
        await ask(client, 1)
    totals = responder.totals
    assert "cost" not in totals.line()
    totals.price_in, totals.price_out = 2.0, 10.0
    assert totals.line().endswith("; cost 0.0003 at the given prices")
    assert totals.json()["cost"] == pytest.approx(0.0003)
