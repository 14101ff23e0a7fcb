"""The gate of a running daemon, where the contract itself is what is wrong."""

from __future__ import annotations

import asyncio
import builtins
import json
import threading
from pathlib import Path
from typing import Any

import pytest

import mock_mcp
from mock_mcp import DaemonClient, MockMcpDaemon
from mock_mcp.errors import UnusableContract
from support.daemons import ServedDaemon
from support.http import RpcError
from support.ws import WsClient

USER = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
HEAD = {"openapi": "3.0.0", "servers": [{"url": "https://api.test"}]}
URL = "https://api.test/user"
OURS = ["ack", "errors", "resume"]


def document(schema: Any) -> str:
    responses = {"200": {"content": {"application/json": {"schema": schema}}}}
    return json.dumps({**HEAD, "paths": {"/user": {"get": {"responses": responses}}}})


def asked(**more: Any) -> dict[str, Any]:
    return {"requestId": "a", "endpoint": URL, "method": "GET"} | more


def configure(project: Path, name: str = "api.json", mode: str = "enforce") -> Path:
    settings = f'[tool.mock-mcp]\nopenapi = ["{name}"]\ncontract = "{mode}"\n'
    project.joinpath("pyproject.toml").write_text(settings)
    return project / name


def provide(daemon: ServedDaemon, data: Any = 5) -> Any:
    return daemon.control.provide(daemon.control.claim(), [{"requestId": "a", "data": data}])


def told(client: WsClient) -> str:
    """Return what the test was told; nothing may have been delivered."""
    message = client.recv()
    assert message["type"] == "BATCH_MOCK_ERROR", message
    assert message["code"] == "unusable-contract"
    return str(message["message"])


BROKEN = {
    "truncated": (document(USER)[:-40], "is not valid JSON"),
    "missing": (None, "cannot be read"),
    "not OpenAPI": ("{}", "is not an OpenAPI document"),
    "dangling": (document({"$ref": "#/nowhere"}), "nothing is there"),
    "remote": (document({"$ref": "https://x.test/a.json"}), "never fetched"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_nothing_is_delivered_that_a_broken_contract_should_have_judged(
    daemon: ServedDaemon, project: Path, name: str
) -> None:
    content, reason = BROKEN[name]
    path = configure(project)
    if content is not None:
        path.write_text(content)
    client = daemon.attach(capabilities=OURS)
    client.submit([asked(), {"requestId": "b", "endpoint": URL, "method": "GET"}])
    claim = daemon.control.claim()
    with pytest.raises(RpcError) as refused:
        daemon.control.provide(claim, [{"requestId": rid, "data": {"id": 1}} for rid in "ab"])
    assert refused.value.code == -32000
    assert refused.value.data["code"] == "unusable-contract"
    message = told(client)
    for text in (message, refused.value.message):
        assert reason in text
        assert str(path) in text
        assert URL in text
    client.settle()
    assert daemon.control.call("listBatches")["batches"] == []
    assert daemon.control.call("getStatus")["claimed"] == 0


def test_a_client_that_knows_no_errors_is_closed_with_the_reason(
    daemon: ServedDaemon, project: Path
) -> None:
    configure(project)
    client = daemon.attach()
    client.submit([asked()])
    with pytest.raises(RpcError):
        provide(daemon)
    code, reason = client.expect_close()
    assert code == 1008
    assert reason.startswith(f"GET {URL}: nothing was delivered")


def test_yaml_without_pyyaml(
    daemon: ServedDaemon, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(project, "api.yaml").write_text(f"# YAML\n{document(USER)}")
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    client = daemon.attach(capabilities=OURS)
    client.submit([asked()])
    with pytest.raises(RpcError):
        provide(daemon)
    assert "mock-mcp[yaml]" in told(client)


def test_a_document_the_test_brought(daemon: ServedDaemon, project: Path) -> None:
    client = daemon.attach(capabilities=OURS)
    missing = str(project / "none.json")
    client.submit([asked(contract={"documents": [{"path": missing}]})])
    with pytest.raises(RpcError):
        provide(daemon)
    assert missing in told(client)


def test_settings_that_cannot_be_read(daemon: ServedDaemon, project: Path) -> None:
    project.joinpath("pyproject.toml").write_text("[tool.mock-mcp\n")
    client = daemon.attach(capabilities=OURS)
    client.submit([asked()])
    with pytest.raises(RpcError):
        provide(daemon)
    assert "pyproject.toml" in told(client)


@pytest.mark.parametrize("by_test", [True, False])
def test_warn_delivers_and_reports(daemon: ServedDaemon, project: Path, by_test: bool) -> None:
    configure(project, mode="enforce" if by_test else "warn")
    client = daemon.attach()
    client.submit([asked(contract={"mode": "warn"}) if by_test else asked()])
    assert "api.json: cannot be read" in provide(daemon)["unchecked"]["a"]
    assert client.recv()["mocks"][0]["data"] == 5


def test_off_does_not_look(daemon: ServedDaemon, project: Path) -> None:
    configure(project)
    client = daemon.attach()
    client.submit([asked(contract={"mode": "off"})])
    assert provide(daemon)["unchecked"] == {"a": "the test switched the check off"}
    assert client.recv()["type"] == "BATCH_MOCK_RESULT"


def test_a_schema_in_the_request_needs_no_document(daemon: ServedDaemon, project: Path) -> None:
    configure(project)
    client = daemon.attach()
    client.submit([asked(metadata={"schema": USER})])
    assert "unchecked" not in provide(daemon, {"id": 1})
    assert client.recv()["type"] == "BATCH_MOCK_RESULT"


def test_what_of_a_schema_was_ignored_is_said(daemon: ServedDaemon) -> None:
    client = daemon.attach()
    client.submit([asked(metadata={"schema": {"type": "objct", "enum": []}})])
    provided = provide(daemon)
    assert provided["message"].endswith("1 checked in part.")
    assert "'objct' is not a type" in provided["unchecked"]["a"]
    assert "/enum is not a list of values" in provided["unchecked"]["a"]


@pytest.mark.asyncio
async def test_the_python_client_raises_what_the_daemon_says(
    daemon: ServedDaemon, project: Path, connect: Any, responder: Any
) -> None:
    """The client polices requests only; that the answer's schema dangles, the daemon finds."""
    configure(project).write_text(document({"$ref": "#/nowhere"}))
    async with connect() as client:
        asking = asyncio.create_task(client.request_mock(URL))
        with pytest.raises(UnusableContract, match="its test was told why"):
            await responder.provide(await responder.claim())
        with pytest.raises(UnusableContract, match="nothing is there"):
            await asking


@pytest.mark.asyncio
async def test_its_thread_ends_with_the_daemon(project: Path, cache_dir: Path) -> None:
    configure(project).write_text(document(USER))
    before = set(threading.enumerate())
    async with (
        MockMcpDaemon(project, cache_dir=cache_dir) as daemon,
        mock_mcp.connect(project_root=project, cache_dir=cache_dir, enabled=True) as client,
        DaemonClient.of(daemon.info) as control,
    ):
        waiting = asyncio.create_task(client.request_mock(URL))
        claim = await control.claim_next_batch("a", wait_ms=10_000)
        assert claim is not None
        mocks = [mock_mcp.Mock(claim.requests[0]["requestId"], {"id": 7})]
        await control.provide_batch("a", claim.batch_id, claim.claim_token, mocks)
        assert (await waiting).data == {"id": 7}
        gates = [each for each in set(threading.enumerate()) - before if "gate" in each.name]
        assert len(gates) == 1
    gates[0].join(60)
    assert not gates[0].is_alive()
