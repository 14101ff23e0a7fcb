"""An assistant that knows only the prompt and the tools' descriptions serves a suite of 12 tests.

It is a real MCP client of a real adapter process. What it does is what the prompt says, step by
step; what it writes comes from what a claim shows and from nothing else.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.adapter.scripted import ScriptedAssistant, Told
from support.daemons import environment
from support.plugin import DOCUMENT
from support.stress import STRESS

pytestmark = pytest.mark.asyncio

JOB = {
    "type": "object",
    "required": ["state"],
    "properties": {"state": {"type": "string", "enum": ["running", "done"]}},
}
TESTS = '''
import asyncio, urllib.request, json
import httpx, pytest

pytestmark = pytest.mark.mock_mcp
API = "https://api.test"

def get(path):
    return httpx.get(API + path).raise_for_status().json()

def create(name):
    return httpx.post(API + "/users", json={"name": name}).raise_for_status().json()

def test_a_user():
    assert get("/users/1")["id"] == 1

@pytest.mark.mock_mcp(instructions="The user is named Zoe.")
def test_instructions():
    assert get("/users/2")["name"] == "Zoe"

def test_docstring():
    """The user is named Max."""
    assert get("/users/3")["name"] == "Max"

def test_created_is_read():
    user = create("Bo")
    assert get(f"/users/{user['id']}") == user

def test_two_are_created():
    first, second = create("Ida"), create("Udo")
    assert first["id"] != second["id"]
    assert get(f"/users/{first['id']}")["name"] == "Ida"

def test_many_at_once():
    async def main():
        async with httpx.AsyncClient() as client:
            answers = await asyncio.gather(*(client.get(f"{API}/users/{n}") for n in range(10, 15)))
        return [answer.json()["id"] for answer in answers]
    assert asyncio.run(main()) == [10, 11, 12, 13, 14]

@pytest.mark.mock_mcp(instructions="There is no such user: status 404.")
def test_missing():
    assert httpx.get(API + "/users/99").status_code == 404

@pytest.mark.mock_mcp(instructions="The job is done; it is polled.")
def test_polling():
    assert {get("/jobs/1")["state"] for _ in range(5)} == {"done"}

def test_urllib():
    with urllib.request.urlopen(API + "/users/4") as answer:
        assert json.load(answer)["id"] == 4

@pytest.mark.parametrize("number", [5, 6])
def test_parameters(number):
    assert get(f"/users/{number}")["id"] == number

class TestClass:
    def test_method(self):
        assert create("Eva")["name"] == "Eva"
'''


def document() -> dict[str, Any]:
    found = json.loads(json.dumps(DOCUMENT))
    get = found["paths"]["/users/{id}"]["get"]
    get["responses"]["404"] = {"description": "No such user."}
    answer = {"description": "A job.", "content": {"application/json": {"schema": JOB}}}
    found["paths"]["/jobs/{id}"] = {
        "get": {"parameters": get["parameters"], "responses": {"200": answer}}
    }
    return found


def unshared(value: Any, shared: dict[str, Any]) -> Any:
    if isinstance(value, dict) and (name := value.get("$shared")):
        return shared[name]
    return {key: unshared(v, shared) for key, v in value.items()} if type(value) is dict else value


class Assistant(ScriptedAssistant):
    """Does what the prompt says."""

    claimed: list[str]
    refused: int

    async def serve(self, project: Path, env: dict[str, str], command: str) -> tuple[int, str]:
        self.claimed, self.refused = [], 0
        prompt = await self._client.get_prompt("serve_mocks", {"command": command})
        text = prompt.messages[0].content.text
        for step in ("background", "MOCK_MCP=1", "waitMs 45000", "no run is left"):
            assert step in text
        (line,) = re.findall(r"^    (.+)$", text, re.MULTILINE)
        process = await asyncio.create_subprocess_exec(
            *line.split(),
            cwd=project,
            env={**env, "MOCK_MCP": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = asyncio.create_task(process.communicate())
        while True:
            claim = asyncio.create_task(self.call("claim_next_batch", waitMs=45_000))
            await asyncio.wait((claim, output), return_when=asyncio.FIRST_COMPLETED)
            if not claim.done():  # the command ended: nobody will ask any more
                claim.cancel()
                assert (await self.call("claim_next_batch")).data["state"] == "empty"
                assert (await self.call("list_runs")).data["runs"] == []
                return process.returncode or 0, output.result()[0].decode()
            if (batch := claim.result().data)["state"] == "claimed":
                await self._answer(batch)

    async def _answer(self, batch: Any) -> None:
        known = batch.get("used", ())
        self.claimed += [f"{each['method']} {each['endpoint']}" for each in batch["requests"]]
        mocks = {r["requestId"]: self._write(r, batch, known) for r in batch["requests"]}
        told: Told = await self.provide(batch, list(mocks.values()))
        while told.is_error:
            self.refused += 1
            pattern = r"^- request (\w+), (/body/\w+) .*expected integer"
            wrong = set(re.findall(pattern, told.text, re.MULTILINE))
            assert wrong, told.text
            for request_id, pointer in wrong:
                mocks[request_id]["data"][pointer.removeprefix("/body/")] = 900 + self.refused
            told = await self.provide(batch, [mocks[request_id] for request_id, _ in wrong])
        assert told.data["delivered"]

    def _write(self, request: Any, batch: Any, known: Sequence[Any]) -> dict[str, Any]:
        contract = batch["contracts"][request["contract"]]
        metadata = unshared(request["metadata"], batch.get("shared", {}))
        said = f"{metadata.get('instructions', '')} {metadata['test'].get('doc') or ''}"
        mock: dict[str, Any] = {"requestId": request["requestId"], "status": contract["status"]}
        if "status 404" in said:
            return {**mock, "status": 404, "data": None}
        if "polled" in said:
            return {**mock, "data": {"state": "done"}, "reuse": "run"}
        properties = contract["schema"]["properties"]
        assert {*contract["schema"]["required"]} == {"id", "name"} == {*properties}
        # A model's slip, once for each user that is created: the id is a string.
        number = request["endpoint"].rpartition("/")[2]
        name = re.search(r"named (\w+)", said)
        data: dict[str, Any] = {
            "id": int(number) if number.isdigit() else "new",
            "name": name[1] if name else request.get("body", {}).get("name", "Ann"),
        }
        for each in known:  # what the run created is what it reads
            if request["method"] == "GET" and each.get("answer", {}).get("id") == data["id"]:
                data = {**data, **each["answer"]}
        return {**mock, "data": data}


@pytest.mark.parametrize("mode", ["auto", "legacy"] if STRESS else ["auto"])
async def test_a_suite_is_served_recorded_and_replayed(project, cache_dir, mode):
    (project / "openapi.json").write_text(json.dumps(document()))
    (project / "pyproject.toml").write_text('[tool.mock-mcp]\nopenapi = ["openapi.json"]\n')
    (project / "test_users.py").write_text(TESTS)
    env = {name: value for name, value in environment(cache_dir).items() if name != "CI"}
    env = {**env, "PYTHONDONTWRITEBYTECODE": "1"}
    for name in [name for name in env if name.startswith(("PYTEST_", "COV_"))]:
        del env[name]
    command = f"{sys.executable} -m pytest -q -p no:cacheprovider"
    async with Assistant.start(str(project), env, mode=mode) as assistant:
        code, output = await assistant.serve(project, env, command)
    assert code == 0, output
    assert "12 passed" in output
    assert assistant.refused == 4
    asked = [call for call in assistant.claimed if call.endswith("/jobs/1")]
    assert asked == ["GET https://api.test/jobs/1"], "polled answers are given once"
    recording = json.loads((project / "__mocks__/test_users/test_polling.json").read_bytes())
    assert len(recording["interactions"]) == 5, "each poll is recorded as obtained"
    process = await asyncio.create_subprocess_exec(
        *command.split(), cwd=project, env=env, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert b"12 passed" in output, output.decode()
