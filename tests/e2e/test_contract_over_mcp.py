"""The contract, end to end: an adapter process over stdio, a daemon process, published documents.

The assistant is a script, but it knows of the API only what its claims show: its data are the
examples it read there, or are written from the schema it read there.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mock_mcp import connect
from mock_mcp.adapter.scripted import ScriptedAssistant
from mock_mcp.client.collector import BatchMockCollector
from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.expected import expected
from mock_mcp.contract.gate import Contracts
from mock_mcp.errors import ContractViolation, ContractWarning
from mock_mcp.runtime.launch import ensure_daemon_running_async
from mock_mcp.runtime.project import compute_project_id
from support.ws import WsClient

pytestmark = pytest.mark.asyncio

SPECS = Path(__file__).resolve().parents[2].parent / "shared" / "specs"
REPO = "https://api.github.com/repos/octocat/hello"
WAIT_MS = 45_000
BUDGET = 6000


def published(name: str) -> Path:
    path = SPECS / name
    if not path.is_file():
        pytest.skip(f"the published documents are not at {SPECS}")
    return path


def configure(project: Path, document: Path, settings: str = "") -> None:
    project.joinpath("pyproject.toml").write_text(
        f"[tool.mock-mcp]\nopenapi = [{json.dumps(str(document))}]\n{settings}\n"
    )


class Session:
    """One test client and one assistant on one project."""

    def __init__(
        self, project: Path, cache_dir: Path, test: BatchMockCollector, assistant: ScriptedAssistant
    ) -> None:
        self.test = test
        self.assistant = assistant
        self._log = cache_dir / "mock-mcp/logs" / compute_project_id(project) / "batches.jsonl"

    async def claim(self) -> Claimed:
        batch = await self.assistant.claim(WAIT_MS)
        assert batch is not None
        return Claimed(batch)

    async def answer(self, claimed: Claimed, *mocks: dict[str, Any]) -> Mapping[str, Any]:
        told = await self.assistant.provide(claimed.batch, list(mocks))
        assert not told.is_error, told.text
        return told.data

    async def refusal(self, claimed: Claimed, *mocks: dict[str, Any]) -> str:
        told = await self.assistant.provide(claimed.batch, list(mocks))
        assert told.is_error
        return told.text

    def logged(self, event: str) -> list[Any]:
        entries = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [entry for entry in entries if entry["event"] == event]


class Claimed:
    """A claim, as an assistant reads it."""

    def __init__(self, batch: Mapping[str, Any]) -> None:
        self.batch = batch
        self.requests = batch["requests"]

    def contract(self, n: int) -> Mapping[str, Any]:
        return self.batch["contracts"][self.requests[n]["contract"]]

    def mock(self, n: int, data: Any, **more: Any) -> dict[str, Any]:
        return {"requestId": self.requests[n]["requestId"], "data": data, **more}


@pytest.fixture
def session(project: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MOCK_MCP_LOG", "1")

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[Session]:
        async with (
            connect(project_root=project, enabled=True, **settings) as test,
            ScriptedAssistant.start(str(project), os.environ) as assistant,
        ):
            yield Session(project, cache_dir, test, assistant)

    return start


async def test_only_what_was_wrong_is_corrected_and_nothing_wrong_leaves_the_daemon(
    session, project
):
    configure(project, published("github-3.0.json"))
    paths = ("topics", "labels", "milestones", "git/tags/v1", "issues/1/comments", "issues/9")
    async with session() as at:
        asked = [asyncio.create_task(at.test.request_mock(f"{REPO}/{path}")) for path in paths]
        claimed = await at.claim()
        assert [shown["endpoint"] for shown in claimed.requests] == [f"{REPO}/{p}" for p in paths]
        assert "404" in claimed.contract(5)["statuses"]
        topics, labels, milestones, tag, comments = (
            copy.deepcopy(claimed.contract(n)["example"]) for n in range(5)
        )
        not_found = {"message": "Not Found", "documentation_url": "https://docs.test"}
        milestones = [copy.deepcopy(milestones[0]) for _ in range(5)]
        good = [
            claimed.mock(0, topics),
            claimed.mock(1, labels),
            claimed.mock(2, milestones),
            claimed.mock(3, tag),
            claimed.mock(4, comments),
            claimed.mock(5, not_found, status=404),
        ]
        wrong = copy.deepcopy(good)
        wrong[0]["data"] = {"topics": topics["names"]}  # a missing field
        wrong[1]["data"][0]["id"] = "wrong-id"  # a wrong type
        wrong[2]["data"][3]["state"] = "wrong-state"  # an enum deep in an array
        wrong[3]["status"] = 418  # an undeclared status

        refused = await at.refusal(claimed, *wrong)
        told = re.findall(r"^- request (\S+), (\S+) \((\S+)\)", refused, re.MULTILINE)
        ids = [mock["requestId"] for mock in good]
        assert sorted(told) == sorted(
            [
                (ids[0], "/body/names", "required"),
                (ids[1], "/body/0/id", "type"),
                (ids[2], "/body/3/state", "enum"),
                (ids[3], "/status", "status"),
            ]
        )
        assert '"open", "closed"' in refused
        assert f"no need to send again: {ids[4]}, {ids[5]}." in refused
        assert not any(task.done() for task in asked)

        still = await at.refusal(claimed, good[0], good[1], wrong[2], good[3])
        assert re.findall(r"^- request (\S+), (\S+)", still, re.MULTILINE) == [
            (ids[2], "/body/3/state")
        ]
        assert (await at.answer(claimed, good[2]))["delivered"] is True
        received = await asyncio.gather(*asked)
        assert [mock.data for mock in received] == [mock["data"] for mock in good]
        assert received[5].status == 404

        (sent,) = at.logged("provide")
        by_id = {mock["requestId"]: mock for mock in sent["mocks"]}
        assert [by_id[each]["data"] for each in ids] == [mock["data"] for mock in good]
        assert "wrong-" not in json.dumps(sent)
        assert len(at.logged("reject")) == 2


async def test_the_condensed_view_of_a_recursive_schema_suffices(session, project):
    document = published("stripe-3.0.json")
    configure(project, document)
    url = "https://api.stripe.com/v1/customers/cus_1"
    async with session() as at:
        asked = asyncio.create_task(at.test.request_mock(url))
        claimed = await at.claim()
        contract = claimed.contract(0)
        shown = {key: contract[key] for key in ("schema", "example") if key in contract}
        assert len(json.dumps(shown, separators=(",", ":"), ensure_ascii=False)) <= BUDGET
        assert contract["operation"] == "GET /v1/customers/{customer}"
        assert contract.get("complete", True) is True
        customer = write(contract["schema"])
        await at.answer(claimed, claimed.mock(0, customer))
        assert (await asked).data == customer
        wanted = expected(
            Contracts([DocumentSource(document)]),
            {"requestId": "r", "endpoint": url, "method": "GET"},
        )
        assert wanted is not None
        assert wanted.compiled is not None
        assert wanted.compiled.is_valid(customer)

        again = asyncio.create_task(at.test.request_mock(url))
        claimed = await at.claim()
        where = {"batchId": claimed.batch["batchId"], "requestId": claimed.requests[0]["requestId"]}
        folds = list(folded(contract["schema"]))
        assert folds
        for pointer in folds:
            opened = await at.assistant.call("get_schema", **where, pointer=pointer)
            assert not opened.is_error, opened.text
            assert len(json.dumps(opened.data["schema"], separators=(",", ":"))) <= BUDGET
        error = await at.assistant.call("get_schema", **where, pointer="", status=402)
        assert error.data["operation"] == "GET /v1/customers/{customer}"
        await at.answer(claimed, claimed.mock(0, write(error.data["schema"]), status=402))
        assert (await again).status == 402


async def test_warn_delivers_and_reports_and_off_does_not_look(session, project):
    configure(project, published("github-3.0.json"))
    wrong = {"names": "not a list"}
    async with session(contract="warn") as at:
        warned = asyncio.create_task(at.test.request_mock(f"{REPO}/topics"))
        claimed = await at.claim()
        assert claimed.requests[0]["contractMode"] == "warn"
        provided = await at.answer(claimed, claimed.mock(0, wrong))
        assert [each["pointer"] for each in provided["warnings"]] == ["/body/names"]
        assert (await warned).data == wrong

        asked = asyncio.create_task(at.test.request_mock(f"{REPO}/topics", "DELETE"))
        with pytest.warns(ContractWarning, match="not declared for"):
            claimed = await at.claim()
        assert claimed.requests[0]["requestViolations"][0]["keyword"] == "method"
        await at.answer(claimed, claimed.mock(0, None))
        await asked

        off = asyncio.create_task(at.test.request_mock(f"{REPO}/topics", contract="off"))
        claimed = await at.claim()
        assert claimed.requests[0]["contractMode"] == "off"
        provided = await at.answer(claimed, claimed.mock(0, wrong, status=599))
        assert "switched" in provided["unchecked"][claimed.requests[0]["requestId"]]
        assert "warnings" not in provided
        assert (await off).data == wrong


async def test_a_document_that_changed_on_disk_is_shown_and_enforced_at_once(session, project):
    document = project / "api.json"
    configure(project, document)

    def publish(*required: str) -> None:
        schema = {"type": "object", "required": list(required)}
        answer = {"description": "", "content": {"application/json": {"schema": schema}}}
        paths = {"/user": {"get": {"responses": {"200": answer}}}}
        info = {"title": "t", "version": "1"}
        document.write_text(json.dumps({"openapi": "3.1.0", "info": info, "paths": paths}))

    publish("id")
    async with session() as at:
        asked = asyncio.create_task(at.test.request_mock("/user"))
        claimed = await at.claim()
        assert claimed.contract(0)["schema"]["required"] == ["id"]
        publish("id", "name")
        assert "/body/name (required)" in await at.refusal(claimed, claimed.mock(0, {"id": 1}))
        where = {"batchId": claimed.batch["batchId"], "requestId": claimed.requests[0]["requestId"]}
        opened = await at.assistant.call("get_schema", **where, pointer="")
        assert opened.data["schema"]["required"] == ["id", "name"]
        await at.answer(claimed, claimed.mock(0, {"id": 1, "name": "Zoë"}))
        assert (await asked).data == {"id": 1, "name": "Zoë"}

        asked = asyncio.create_task(at.test.request_mock("/user"))
        claimed = await at.claim()
        assert claimed.contract(0)["schema"]["required"] == ["id", "name"]
        await at.answer(claimed, claimed.mock(0, {"id": 2, "name": ""}))
        await asked

        document.write_text("{")  # a document that broke leaves the claim alone
        asked = asyncio.create_task(at.test.request_mock("/user", contract="off"))
        claimed = await at.claim()
        assert "api.json" in claimed.requests[0]["unchecked"]
        await at.answer(claimed, claimed.mock(0, 1))
        await asked


async def test_requests_of_a_client_that_does_not_check_are_reported_and_answered(
    session, project, cache_dir
):
    configure(project, published("github-3.0.json"))
    info = await ensure_daemon_running_async(project, cache_dir=cache_dir)
    requests = [
        {"requestId": "js-1", "endpoint": f"{REPO}/issues/one", "method": "GET"},
        {"requestId": "js-2", "endpoint": f"{REPO}/issues", "method": "POST", "body": {"body": 1}},
        {"requestId": "js-3", "endpoint": f"{REPO}/topics", "method": "GET"},
        {"requestId": "js-4", "endpoint": "/repository", "method": "GET"},
    ]
    async with session() as at:
        with pytest.raises(ContractViolation):  # this project's client is stopped at once
            await at.test.request_mock(f"{REPO}/issues/one")
        with WsClient(info.ipc_path, info.token) as browser:
            browser.hello("js-run")
            browser.submit(requests)
            claimed = await at.claim()
            first, second, third, fourth = claimed.requests
            assert [each["pointer"] for each in first["requestViolations"]] == [
                "/path/issue_number"
            ]
            pointers = {each["pointer"] for each in second["requestViolations"]}
            assert "/body/title" in pointers
            assert "requestViolations" not in third
            assert fourth["requestViolations"][0]["keyword"] == "path"
            assert "unchecked" in fourth
            names = claimed.contract(2)["example"]
            issue = {"message": "Gone"}
            await at.answer(
                claimed,
                claimed.mock(0, issue, status=404),
                claimed.mock(1, issue, status=410),
                claimed.mock(2, names),
                claimed.mock(3, {}),
            )
            result = await asyncio.to_thread(browser.recv)
        assert [mock["data"] for mock in result["mocks"]] == [issue, issue, names, {}]


# -- An assistant that knows only the view ------------------------------------------------------


def write(view: Mapping[str, Any]) -> Any:
    """Return a value written from a condensed schema alone: what it requires and no more."""
    return _write(view, view.get("$defs", {}))


def _write(view: Any, defs: Mapping[str, Any]) -> Any:
    assert "$fold" not in view, f"required content is folded: {view}"
    if "$ref" in view:
        return _write(defs[view["$ref"].removeprefix("#/$defs/")], defs)
    if "const" in view:
        return view["const"]
    if "enum" in view:
        return view["enum"][0]
    for keyword in ("anyOf", "oneOf"):
        if keyword in view:
            return _write(view[keyword][0], defs)
    kind = view.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: _write(view["properties"][name], defs) for name in view.get("required", ())}
    plain = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "array": []}
    return plain.get(kind)


def folded(view: Any) -> Iterator[str]:
    """Yield the pointers of the folds in a view."""
    if isinstance(view, dict):
        if isinstance(view.get("$fold"), str):
            yield view["$fold"]
        for part in view.values():
            yield from folded(part)
    elif isinstance(view, list):
        for part in view:
            yield from folded(part)


async def test_a_stream_is_written_as_its_items_and_corrected_by_item(session, project):
    kinds = [
        {
            "type": "object",
            "required": ["type", *fields],
            "properties": {"type": {"const": name}, **fields},
        }
        for name, fields in (("start", {}), ("delta", {"text": {"type": "string"}}), ("stop", {}))
    ]
    content = {"text/event-stream": {"schema": {"oneOf": kinds}}}
    post = {"responses": {"200": {"description": "", "content": content}}}
    document = project / "api.json"
    document.write_text(
        json.dumps(
            {
                "openapi": "3.1.0",
                "info": {"title": "t", "version": "1"},
                "servers": [{"url": "https://api.test"}],
                "paths": {"/chat": {"post": post}},
            }
        )
    )
    configure(project, document)
    async with session() as at:
        call = at.test.request_mock("https://api.test/chat", "POST", body={"stream": True})
        asked = asyncio.create_task(call)
        claimed = await at.claim()
        contract = claimed.contract(0)
        assert contract["body"].startswith("a list of its events")
        assert len(contract["schema"]["oneOf"]) == 3
        items = [{"data": {"type": "start"}}, {"data": {"type": "delta"}}, {"data": "[DONE]"}]
        headers = {"content-type": contract["mediaType"]}
        told = await at.refusal(claimed, claimed.mock(0, items, headers=headers))
        assert "/body/1/data/text (required)" in told
        assert "/body/0" not in told
        items[1]["data"]["text"] = "Hello"
        await at.answer(claimed, claimed.mock(0, items, headers=headers))
        assert (await asked).data == items
