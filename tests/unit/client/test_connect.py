"""The door: its settings, and a client that is switched off."""

from __future__ import annotations

import asyncio
import threading

import pytest
import trio

import mock_mcp
from mock_mcp.client.connect import is_enabled
from mock_mcp.errors import ConfigurationError, MockMcpDisabled


@pytest.mark.parametrize(
    ("value", "enabled"),
    [(None, False), ("", False), ("0", False), ("False", False), ("1", True), ("true", True)],
)
def test_the_environment_decides(monkeypatch, value, enabled):
    monkeypatch.delenv("MOCK_MCP", raising=False)
    if value is not None:
        monkeypatch.setenv("MOCK_MCP", value)
    assert is_enabled() is enabled


@pytest.mark.parametrize(
    "setting",
    [
        {"timeout_s": 0},
        {"timeout_s": -1},
        {"timeout_s": float("nan")},
        {"timeout_s": float("inf")},
        {"timeout_s": 10**400},
        {"connect_timeout_s": 0},
        {"heartbeat_s": 0},
        {"debounce_s": -0.1},
        {"debounce_s": float("nan")},
        {"max_batch_size": 0},
        {"max_batch_size": 10_001},
        {"max_batch_size": 1.5},
        {"max_batch_size": None},
        {"timeout_s": "60"},
        {"connect_timeout_s": None},
        {"debounce_s": "0"},
        {"run_id": 5},
        {"run_id": "\ud800"},
        {"test_name": 5},
        {"project_root": 5},
        {"file_path": b"test_a.py"},
        {"cache_dir": 5},
        {"limits": {"depth": 5}},
    ],
    ids=lambda setting: "-".join(f"{name}={value}" for name, value in setting.items()),
)
@pytest.mark.parametrize("door", [mock_mcp.connect, mock_mcp.connect_sync])
def test_a_setting_that_cannot_work_is_named(door, setting):
    name = next(iter(setting))
    with pytest.raises(ConfigurationError, match=name):
        door(**setting, enabled=False)


@pytest.mark.parametrize(
    "openapi",
    [
        *(3, [3], [None], b"openapi.json", [["openapi.json"]], {}, {"path": None}),
        *({"path": "openapi.json", "server": 3}, {"path": "openapi.json", "sever": "x"}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("door", [mock_mcp.connect, mock_mcp.connect_sync])
def test_documents_of_the_wrong_kind_are_refused(door, project, openapi):
    (project / "openapi.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"^openapi takes a path, .* or a list of these"):
        door(openapi=openapi, project_root=project, enabled=True)


def test_under_trio_it_is_said_at_once_what_works(project, cache_dir):
    async def main():
        async with mock_mcp.connect(enabled=True, project_root=project, cache_dir=cache_dir):
            pass

    with pytest.raises(ConfigurationError, match=r"needs asyncio.*connect_sync"):
        trio.run(main)


@pytest.mark.parametrize("value", [None, "", "0"])
def test_a_client_that_is_off_touches_nothing(monkeypatch, tmp_path, value):
    monkeypatch.delenv("MOCK_MCP", raising=False)
    if value is not None:
        monkeypatch.setenv("MOCK_MCP", value)
    before = threading.active_count()
    cache = tmp_path / "cache"

    async def main() -> None:
        async with mock_mcp.connect(cache_dir=cache) as client:
            assert client.enabled is False
            assert client.run_id
            with pytest.raises(MockMcpDisabled, match="MOCK_MCP=1"):
                await client.request_mock("/user")
            await client.wait_for_pending_requests()
        await client.close()

    asyncio.run(main())
    with mock_mcp.connect_sync(cache_dir=cache, run_id="mine") as client:
        assert client.enabled is False
        assert client.run_id == "mine"
        with pytest.raises(MockMcpDisabled, match="enabled=True"):
            client.request_mock("/user")
        client.wait_for_pending_requests()
    client.close()
    assert not cache.exists()
    assert threading.active_count() == before


def test_enabled_false_wins_over_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MOCK_MCP", "1")
    with mock_mcp.connect_sync(cache_dir=tmp_path / "c", enabled=False) as client:
        assert not client.enabled
    assert not (tmp_path / "c").exists()


def test_every_client_has_a_run_id_of_its_own():
    ids = {mock_mcp.connect_sync(enabled=False).run_id for _ in range(100)}
    assert len(ids) == 100
