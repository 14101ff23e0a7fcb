"""The adapter's tools over real daemons and real test clients, called by a real MCP client."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
import mcp_types as types
import msgspec
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from mock_mcp import connect
from mock_mcp.adapter.server import Adapter
from mock_mcp.adapter.tools import TOOLS
from mock_mcp.client.collector import BatchMockCollector
from mock_mcp.control.client import DaemonClient
from mock_mcp.daemon.server import MockMcpDaemon
from mock_mcp.limits import Limits
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.launch import find_daemon
from mock_mcp.runtime.project import Project
from mock_mcp.serving.times import Times
from mock_mcp.types import MockRequest

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.parametrize("mode", ["legacy", "auto"]),
]

SCHEMA = {"type": "object", "properties": {f"field{n}": {"type": "string"} for n in range(20)}}


class Place:
    """A short cache directory, and everything that runs on it until the test ends."""

    def __init__(self, path: Path, mode: str, stack: AsyncExitStack) -> None:
        self.cache_dir = path / "c"
        self._path = path
        self._mode = mode
        self._stack = stack

    def project(self, name: str = "p") -> Path:
        root = self._path / name
        root.mkdir(exist_ok=True)
        return root

    async def daemon(self, name: str = "p", **options: Any) -> MockMcpDaemon:
        daemon = MockMcpDaemon(self.project(name), cache_dir=self.cache_dir, **options)
        return await self._stack.enter_async_context(daemon)

    async def test(self, name: str = "p", **settings: Any) -> BatchMockCollector:
        return await self._stack.enter_async_context(
            connect(
                project_root=self.project(name), cache_dir=self.cache_dir, enabled=True, **settings
            )
        )

    @asynccontextmanager
    async def assistant(self, name: str = "p", **settings: Any) -> AsyncIterator[Assistant]:
        adapter = Adapter(project_root=self.project(name), cache_dir=self.cache_dir, **settings)
        async with Client(adapter.server(), mode=self._mode) as client:
            yield Assistant(client, adapter)


class Assistant:
    """An MCP client that checks what every result must hold."""

    def __init__(self, client: Client, adapter: Adapter) -> None:
        self.client = client
        self.adapter = adapter

    async def __call__(self, tool: str, **arguments: Any) -> Any:
        result = await self.client.call_tool(tool, arguments)
        (text,) = result.content
        assert isinstance(text, types.TextContent)
        assert not result.is_error, text.text
        assert json.loads(text.text) == result.structured_content
        return result.structured_content

    async def refusal(self, tool: str, **arguments: Any) -> str:
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error
        (text,) = result.content
        assert isinstance(text, types.TextContent)
        return text.text

    async def provide(self, claim: Any, **data: Any) -> Any:
        mocks = [
            {"requestId": request["requestId"], "data": data.get("data")}
            for request in claim["requests"]
        ]
        return await self("provide_batch_mock_data", **key(claim), mocks=mocks)


def key(claim: Any) -> dict[str, str]:
    return {"batchId": claim["batchId"], "claimToken": claim["claimToken"]}


@asynccontextmanager
async def opened(mode: str) -> AsyncIterator[Place]:
    with tempfile.TemporaryDirectory(prefix="mm") as path:
        async with AsyncExitStack() as stack:
            yield Place(Path(path), mode, stack)


async def test_a_test_gets_the_mock_an_assistant_writes(mode):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test(file_path="/t/test_users.py", test_name="test_get")
        async with at.assistant() as ask:
            asked = asyncio.create_task(
                test.request_mock("/user", "GET", metadata={"instructions": "One user."})
            )
            claim = await ask("claim_next_batch", waitMs=30_000)
            assert claim["state"] == "claimed"
            assert claim["test"] == {"file": "/t/test_users.py", "name": "test_get"}
            assert claim["projectRoot"] == str(at.project().resolve())
            assert claim["requests"][0]["metadata"] == {"instructions": "One user."}
            provided = await ask.provide(claim, data={"name": "Zoë"})
            assert provided["delivered"] is True
            assert (await asked).data == {"name": "Zoë"}


async def test_status_runs_and_pending_batches_are_told(mode):
    async with opened(mode) as at:
        await at.daemon("own"), await at.daemon("other")
        test = await at.test("other")
        async with at.assistant("own") as ask:
            asked = asyncio.gather(*(test.request_mock(f"/{n}", "GET") for n in range(3)))
            claim = await ask("claim_next_batch", waitMs=30_000)
            await ask("release_batch", **key(claim), reason="just looking")
            status = await ask("get_status")
            assert [daemon["own"] for daemon in status["daemons"]] == [True, False]
            assert (status["runs"], status["pending"], status["claimed"]) == (1, 1, 0)
            (run,) = (await ask("list_runs"))["runs"]
            assert run["runId"] == test.run_id
            pending = await ask("get_pending_batches", runId=test.run_id)
            assert pending["total"] == 1
            (batch,) = pending["batches"]
            assert [request["endpoint"] for request in batch["requests"]] == ["/0", "/1", "/2"]
            read = await ask("get_batch", batchId=batch["batchId"])
            assert read["status"] == "pending"
            claim = await ask("claim_next_batch")
            assert claim["history"] == [{"outcome": "released", "reason": "just looking"}]
            assert claim["attempts"] == 1
            assert (await ask("get_batch", batchId=batch["batchId"]))["claim"]["leaseUntil"]
            await ask.provide(claim)
            await asked


async def test_an_empty_claim_starts_the_own_projects_daemon_and_other_tools_do_not(mode):
    async with opened(mode) as at:
        project, cache = Project.resolve(at.project()), CacheDirectory(at.cache_dir)
        async with at.assistant() as ask:
            for tool in ("get_status", "list_runs", "get_pending_batches"):
                await ask(tool)
            await ask.refusal("get_batch", batchId="batch:x:1")
            assert find_daemon(project, cache) is None
            assert (await ask("claim_next_batch"))["state"] == "empty"
        info = find_daemon(project, cache)
        assert info is not None
        async with DaemonClient.of(info) as client:
            await client.shutdown()


async def test_wrong_calls_are_answered_and_the_server_lives_on(mode):
    async with opened(mode) as at:
        await at.daemon()
        async with at.assistant() as ask:
            with pytest.raises(MCPError) as caught:
                await ask.client.call_tool("claim", {})
            assert caught.value.error.code == -32602
            assert "claim_next_batch" in caught.value.error.message
            assert "'batch_id'" in await ask.refusal("claim_next_batch", batch_id=1)
            assert "waitMs" in await ask.refusal("claim_next_batch", waitMs=99_999)
            assert "not found" in await ask.refusal("get_batch", batchId="batch:x:1")
            refused = await ask.refusal(
                "provide_batch_mock_data", batchId="batch:x:1", claimToken="t", mocks=[]
            )
            assert "not found" in refused
            with pytest.raises(MCPError) as caught:
                await ask.client.get_prompt("nope")
            assert caught.value.error.code == -32602
            assert (await ask("claim_next_batch"))["state"] == "empty"


async def test_mocks_that_do_not_match_are_refused_and_the_claim_is_kept(mode):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            asked = asyncio.create_task(test.request_mock("/user", "GET"))
            claim = await ask("claim_next_batch", waitMs=30_000)
            wrong = [{"requestId": "nobody", "data": 1}]
            refused = await ask.refusal("provide_batch_mock_data", **key(claim), mocks=wrong)
            assert "nobody" in refused
            assert claim["requests"][0]["requestId"] in refused
            await ask.provide(claim, data=1)
            assert (await asked).data == 1


async def test_after_violations_only_the_wrong_mocks_are_sent_again(mode):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            metadata = {"schema": {"type": "object", "properties": {"id": {"type": "integer"}}}}
            asked = asyncio.gather(
                *(test.request_mock(f"/{n}", "GET", metadata=metadata) for n in range(3))
            )
            claim = await ask("claim_next_batch", waitMs=30_000)
            first, second, third = (request["requestId"] for request in claim["requests"])
            mocks = [
                {"requestId": first, "data": {"id": 1}},
                {"requestId": second, "data": {"id": "2"}},
                {"requestId": third, "data": {"id": 3}},
            ]
            refused = await ask.refusal("provide_batch_mock_data", **key(claim), mocks=mocks)
            assert f"request {second}, /body/id (type)" in refused
            assert f"need to send again: {first}, {third}." in refused
            corrected = [{"requestId": second, "data": {"id": 2}}]
            await ask("provide_batch_mock_data", **key(claim), mocks=corrected)
            assert [mock.data["id"] for mock in await asked] == [1, 2, 3]


async def test_what_no_contract_judged_is_said(mode):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            asked = asyncio.create_task(test.request_mock("/user", "GET"))
            claim = await ask("claim_next_batch", waitMs=30_000)
            provided = await ask.provide(claim, data=1)
            assert [*provided["unchecked"]] == [claim["requests"][0]["requestId"]]
            await asked


async def test_tools_and_prompt_are_listed(mode):
    async with opened(mode) as at, at.assistant() as ask:
        assert len((await ask.client.list_tools()).tools) == 9
        (prompt,) = (await ask.client.list_prompts()).prompts
        found = await ask.client.get_prompt(prompt.name, {"command": "pytest -k users"})
        assert "pytest -k users" in found.messages[0].content.text
        assert "claim_next_batch" in (ask.client.instructions or "")


async def test_fifty_requests_carry_their_schema_once_and_it_can_be_opened(mode):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            metadata = {"schema": {"summary": "A user", "response": SCHEMA}}
            asked = asyncio.gather(
                *(test.request_mock(f"/users/{n}", "GET", metadata=metadata) for n in range(50))
            )
            claim = await ask("claim_next_batch", waitMs=30_000)
            assert len(claim["requests"]) == 50
            assert json.dumps(claim).count('"field19"') == 1
            where = {
                "batchId": claim["batchId"],
                "requestId": claim["requests"][7]["requestId"],
            }
            opened_ = await ask("get_schema", **where, pointer="/properties/field3")
            assert opened_["schema"] == {"type": "string"}
            assert (await ask("get_schema", **where, pointer=""))["schema"] == SCHEMA
            assert "properties" in await ask.refusal("get_schema", **where, pointer="/nope")
            await ask.provide(claim, data={})
            await asked


async def test_a_request_without_a_schema_has_no_contract(mode):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            asked = asyncio.create_task(test.request_mock("/user", "GET"))
            claim = await ask("claim_next_batch", waitMs=30_000)
            where = {"batchId": claim["batchId"], "pointer": ""}
            request_id = claim["requests"][0]["requestId"]
            refused = await ask.refusal("get_schema", **where, requestId=request_id)
            assert "no contract" in refused
            assert request_id in await ask.refusal("get_schema", **where, requestId="other")
            await ask.provide(claim)
            await asked


class SlowContracts:
    """Contracts that are read when the test says so."""

    def __init__(self, ask: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._read = ask.adapter._contracts.read
        monkeypatch.setattr(ask.adapter._contracts, "read", self.read)

    def read(self, *arguments: Any) -> Any:
        self.begun.set()
        assert self.go_on.wait(30)
        return self._read(*arguments)


async def test_a_contract_that_is_slow_to_read_does_not_hold_up_a_claim(mode, monkeypatch):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant(times=Times(contract_s=0.01)) as ask:
            slow = SlowContracts(ask, monkeypatch)
            asked = asyncio.create_task(test.request_mock("/user", metadata={"schema": SCHEMA}))
            claim = await ask("claim_next_batch", waitMs=30_000)
            slow.go_on.set()
            assert "get_batch shows it" in claim["requests"][0]["unchecked"]
            assert claim["requests"][0]["metadata"] == {"schema": SCHEMA}
            await ask.provide(claim, data={})
            await asked


async def test_a_claim_cancelled_while_its_contract_is_read_is_given_back(mode, monkeypatch):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            slow = SlowContracts(ask, monkeypatch)
            asked = asyncio.create_task(test.request_mock("/user"))
            claiming = asyncio.create_task(ask("claim_next_batch", waitMs=30_000))
            await asyncio.to_thread(slow.begun.wait, 30)
            claiming.cancel()
            await asyncio.wait([claiming])
            slow.go_on.set()
            claim = await ask("claim_next_batch", waitMs=30_000)
            assert "cancelled" in claim["history"][0]["reason"]
            await ask.provide(claim)
            await asked


async def test_a_failure_inside_the_contracts_does_not_break_a_claim(mode, monkeypatch):
    def fail(*arguments: Any) -> Any:
        raise RecursionError

    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            monkeypatch.setattr(ask.adapter._contracts, "read", fail)
            asked = asyncio.create_task(test.request_mock("/user"))
            claim = await ask("claim_next_batch", waitMs=30_000)
            assert "could not be shown" in claim["requests"][0]["unchecked"]
            await ask.provide(claim)
            await asked


async def test_results_are_what_their_output_schemas_say(mode):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            asked = asyncio.gather(
                test.request_mock("/a", metadata={"schema": SCHEMA}), test.request_mock("/b")
            )
            claim = await ask("claim_next_batch", waitMs=30_000)
            batch = {"batchId": claim["batchId"]}
            where = {**batch, "requestId": claim["requests"][0]["requestId"], "pointer": ""}
            results = {
                "claim_next_batch": claim,
                "get_batch": await ask("get_batch", **batch),
                "get_schema": await ask("get_schema", **where),
                "get_pending_batches": await ask("get_pending_batches"),
                "provide_batch_mock_data": await ask.provide(claim, data={}),
            }
            for tool, result in results.items():
                schema = TOOLS[tool].output_schema
                jsonschema_rs.validate(schema, result)
                assert result.keys() <= schema["properties"].keys(), tool
            assert results["get_batch"]["requests"] == claim["requests"]
            await asked


@pytest.mark.parametrize("metadata", ["text", 5, ["x"]])
async def test_metadata_need_not_be_an_object(mode, metadata):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            asked = asyncio.create_task(test.request_mock("/user", metadata=metadata))
            claim = await ask("claim_next_batch", waitMs=30_000)
            jsonschema_rs.validate(TOOLS["claim_next_batch"].output_schema, claim)
            assert claim["requests"][0]["metadata"] == metadata
            await ask.provide(claim, data=1)
            assert (await asked).data == 1


async def test_an_answer_after_the_lease_reaches_the_test(mode):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            asked = asyncio.create_task(test.request_mock("/user", "GET"))
            claim = await ask("claim_next_batch", waitMs=30_000, leaseMs=1)
            while (await ask("get_status"))["claimed"]:
                pass
            await ask.provide(claim, data="late")
            assert (await asked).data == "late"


async def test_an_answer_after_another_took_the_batch_is_refused_in_words(mode):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as slow, at.assistant() as quick:
            asked = asyncio.create_task(test.request_mock("/user", "GET"))
            claim = await slow("claim_next_batch", waitMs=30_000, leaseMs=1)
            other = await quick("claim_next_batch", waitMs=30_000)
            assert other["batchId"] == claim["batchId"]
            mocks = [{"requestId": claim["requests"][0]["requestId"], "data": "late"}]
            refused = await slow.refusal("provide_batch_mock_data", **key(claim), mocks=mocks)
            assert "another responder holds it" in refused
            await quick.provide(other, data="first")
            assert (await asked).data == "first"


async def test_claims_are_released_when_the_client_leaves(mode):
    async with opened(mode) as at:
        daemon = await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            asked = asyncio.create_task(test.request_mock("/user", "GET"))
            claim = await ask("claim_next_batch", waitMs=30_000)
            assert daemon.hub.broker.claimed == 1
        assert (daemon.hub.broker.claimed, daemon.hub.broker.pending) == (0, 1)
        async with at.assistant() as ask:
            again = await ask("claim_next_batch")
            assert again["batchId"] == claim["batchId"]
            assert "left" in again["history"][0]["reason"]
            await ask.provide(again)
            await asked


async def test_an_abandoned_wait_leaves_no_claim(mode):
    async with opened(mode) as at:
        daemon = await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            waiting = asyncio.create_task(ask("claim_next_batch", waitMs=45_000))
            async with DaemonClient.of(daemon.info) as client:
                asked = asyncio.create_task(test.request_mock("/user", "GET"))
                waiting.cancel()
                await asyncio.wait([waiting])
                while not (waiting_now := await client.wait_for_batch(10_000)).pending:
                    pass
                assert waiting_now.pending == 1
            claim = await ask("claim_next_batch")
            assert claim["state"] == "claimed"
            await ask.provide(claim)
            await asked


async def test_progress_is_reported_while_waiting(mode):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        reported = asyncio.Event()

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            assert (total, message) == (30, "No test waits for mock data yet.")
            reported.set()

        async with at.assistant(times=Times(progress_s=0.01)) as ask:
            waiting = asyncio.create_task(
                ask.client.call_tool(
                    "claim_next_batch", {"waitMs": 30_000}, progress_callback=on_progress
                )
            )
            await reported.wait()
            asked = asyncio.create_task(test.request_mock("/user", "GET"))
            claim = (await waiting).structured_content
            await ask.provide(claim)
            await asked


async def test_ten_thousand_batches_are_listed_within_bounds(mode):
    async with opened(mode) as at:
        daemon = await at.daemon()
        park(daemon, 10_000)
        async with at.assistant() as ask:
            listed = await ask("get_pending_batches")
            assert listed["total"] == 10_000
            assert len(listed["batches"]) + listed["notShown"] == 10_000
            assert len(json.dumps(listed)) < 75_000
            assert listed["batches"][0]["batchId"] == "batch:run:1"


def park(daemon: MockMcpDaemon, count: int) -> None:
    """Park batches without their way over the wire, which is not what is tested."""
    broker, now = daemon.hub.broker, daemon.hub.clock.now()
    broker.open_run(now, "run", 1, capabilities=("ack", "resume"))
    for n in range(count):
        text = json.dumps({"requestId": f"r{n}", "endpoint": f"/users/{n}", "method": "GET"})
        request = MockRequest(f"r{n}", f"/users/{n}", "GET", msgspec.Raw(text.encode()))
        broker.submit(now, "run", [request])
    broker.take_effects()


async def test_batches_of_more_bytes_than_an_answer_may_have_are_listed(mode):
    async with opened(mode) as at:
        await at.daemon(limits=Limits(write_buffer_bytes=100_000))
        test = await at.test(max_batch_size=1)
        async with at.assistant() as ask:
            asked = [asyncio.create_task(test.request_mock("/", body="x" * 50_000)) for _ in "abc"]
            while (await ask("get_status"))["pending"] < 3:
                pass
            assert (await ask("get_pending_batches"))["total"] == 3
            for _ in asked:
                await ask.provide(await ask("claim_next_batch"), data=1)
            await asyncio.gather(*asked)


async def test_a_claim_tells_what_the_run_has_used_already(mode):
    async with opened(mode) as at:
        await at.daemon()
        test, other = await at.test(), await at.test()
        async with at.assistant() as ask:
            asked = asyncio.create_task(test.request_mock("/users", "POST", body={"name": "Ann"}))
            claim = await ask("claim_next_batch", waitMs=30_000)
            assert "used" not in claim
            await ask.provide(claim, data={"id": 7, "bio": "x"})
            await asked
            asked = asyncio.create_task(test.request_mock("/users/7", "GET"))
            claim = await ask("claim_next_batch", waitMs=30_000)
            assert claim["used"] == [
                {"call": "POST /users", "sent": {"name": "Ann"}, "answer": {"id": 7}}
            ]
            await ask.provide(claim, data={"id": 7})
            await asked
            asked = asyncio.create_task(other.request_mock("/users/7", "GET"))
            claim = await ask("claim_next_batch", waitMs=30_000)
            assert "used" not in claim, "another run's"
            await ask.provide(claim, data={"id": 7})
            await asked


async def test_several_batches_are_claimed_at_once(mode):
    async with opened(mode) as at:
        await at.daemon()
        tests = [await at.test() for _ in range(3)]
        async with at.assistant() as ask:
            empty = await ask("claim_next_batch", maxBatches=2)
            assert (empty["state"], empty["batches"]) == ("empty", [])
            asked = [
                asyncio.create_task(test.request_mock(f"/{n}", "GET"))
                for n, test in enumerate(tests)
            ]
            while (await ask("get_status"))["pending"] < 3:
                await asyncio.sleep(0.01)
            two = await ask("claim_next_batch", maxBatches=2)
            one = await ask("claim_next_batch", maxBatches=10, waitMs=30_000)
            assert [len(claim["batches"]) for claim in (two, one)] == [2, 1]
            batches = [*two["batches"], *one["batches"]]
            assert len({batch["claimToken"] for batch in batches}) == 3
            for claim in (two, one, empty):
                schema = TOOLS["claim_next_batch"].output_schema
                assert jsonschema_rs.Draft202012Validator(schema).is_valid(claim)
            for batch in batches:
                await ask.provide(batch, data=batch["requests"][0]["endpoint"])
            assert [(await each).data for each in asked] == ["/0", "/1", "/2"]


async def test_several_large_batches_fit_in_one_result(mode):
    async with opened(mode) as at:
        await at.daemon()
        tests = [await at.test(timeout_s=30) for _ in range(3)]
        async with at.assistant() as ask:
            asked = [
                asyncio.create_task(test.request_mock("/", "POST", body={"b": "x" * size}))
                for test, size in zip(tests, (50_000, 10, 50_000), strict=True)
            ]
            while (await ask("get_status"))["pending"] < 3:
                await asyncio.sleep(0.01)
            claim = await ask("claim_next_batch", maxBatches=5)
            assert len(json.dumps(claim)) < 70_000
            cut = ["$cut" in json.dumps(batch["requests"]) for batch in claim["batches"]]
            assert sorted(cut) == [False, False, True], "what one leaves is the next one's"
            for batch in claim["batches"]:
                await ask.provide(batch, data=1)
            await asyncio.gather(*asked)


async def test_a_poll_is_asked_for_once_when_the_answer_is_for_the_run(mode):
    async with opened(mode) as at:
        await at.daemon()
        test = await at.test()
        async with at.assistant() as ask:
            asked = asyncio.create_task(test.request_mock("/jobs/1", "GET"))
            claim = await ask("claim_next_batch", waitMs=30_000)
            (request,) = claim["requests"]
            mock = {"requestId": request["requestId"], "data": "done", "reuse": "run"}
            await ask("provide_batch_mock_data", **key(claim), mocks=[mock])
            first = await asked
            polled = [await test.request_mock("/jobs/1", "GET") for _ in range(3)]
            assert [mock.data for mock in [first, *polled]] == ["done"] * 4
            assert all(mock.reuse is None for mock in [first, *polled])
            assert (await ask("get_status"))["pending"] == 0
            both = asyncio.gather(
                test.request_mock("/jobs/1", "GET"), test.request_mock("/jobs/2", "GET")
            )
            claim = await ask("claim_next_batch", waitMs=30_000)
            assert [request["endpoint"] for request in claim["requests"]] == ["/jobs/2"]
            assert len((await ask("get_batch", batchId=claim["batchId"]))["requests"]) == 1
            await ask.provide(claim, data="running")
            assert [mock.data for mock in await both] == ["done", "running"]
            text = await ask.refusal(
                "provide_batch_mock_data", **key(claim), mocks=[{**mock, "reuse": "always"}]
            )
            assert "reuse" in text


async def test_the_batch_log_says_word_for_word_what_the_model_read(mode):
    async with opened(mode) as at:
        daemon = await at.daemon(log_batches=True)
        tests = [await at.test() for _ in range(2)]
        async with at.assistant() as ask:
            asked = [asyncio.create_task(test.request_mock("/x", "GET")) for test in tests]
            while (await ask("get_status"))["pending"] < 2:
                await asyncio.sleep(0.01)
            result = await ask.client.call_tool("claim_next_batch", {"maxBatches": 2})
            claims = result.structured_content["batches"]
            read = [result.content[0].text]
            read.append(await ask.refusal("provide_batch_mock_data", **key(claims[0]), mocks=[]))
            for claim in claims:
                mocks = [{"requestId": claim["requests"][0]["requestId"], "data": 1}]
                arguments = {**key(claim), "mocks": mocks}
                result = await ask.client.call_tool("provide_batch_mock_data", arguments)
                read.append(result.content[0].text)
            await asyncio.gather(*asked)
        (path,) = daemon.cache.logs(daemon.project_id).iterdir()
        entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        shown = [entry for entry in entries if entry["event"] == "show"]
        assert [entry["text"] for entry in shown] == read
        assert shown[0]["batchIds"] == [claim["batchId"] for claim in claims]
        events = [entry["event"] for entry in entries]
        assert events.index("claim") < events.index("show") < events.index("provide")
