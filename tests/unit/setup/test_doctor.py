"""What the doctor says of things that a test cannot break for real."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
from pathlib import Path

import msgspec
import pytest

from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project
from mock_mcp.setup import doctor
from mock_mcp.setup.clients import System
from mock_mcp.setup.doctor import Check
from mock_mcp.setup.probe import expand


def examine(project: Path, home: Path, name: str) -> list[Check]:
    checks = doctor.examine(Project.resolve(project), System(home, "linux", {}))
    return [check for check in checks if check.name == name]


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The distributions that are installed."""
    installed: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return installed


@pytest.mark.parametrize(
    ("installed", "status", "told"),
    [
        (("httpx", "0.26.9"), "warning", "older than the oldest version tested, 0.27"),
        (("httpx", "0.28.1"), "ok", "intercepted: httpx 0.28.1"),
        (("aiohttp", "3.14.99"), "ok", "aiohttp 3.14.99"),
        (("aiohttp", "3.100.0rc1"), "note", "newer than what was tested"),
        (("requests", "2.4"), "warning", "older"),
        (("urllib3", "2.10"), "note", "newer"),
        (("pycurl", "7"), "note", "is not intercepted"),
    ],
)
def test_libraries_are_compared_with_what_was_tested(versions, installed, status, told):
    name, version = installed
    versions[name] = version
    first, *rest = doctor._libraries()
    assert (first.status, told in first.message) == (status, True)
    assert (first.repair is not None) == (status == "warning")
    if status == "warning":
        assert first.repair == f"pip install '{name}>={doctor.TESTED[name][0]}'"
    assert [check.status for check in rest] == ([] if status == "ok" else ["ok"])


def test_an_environment_without_pytest(project, cache_dir, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pytest" else found(name)
    )
    (check,) = examine(project, tmp_path, "environment")
    assert check.status == "warning"
    assert "python -m mock_mcp doctor" in check.repair


def test_a_cache_directory_that_cannot_be_written_to(project, cache_dir, tmp_path, monkeypatch):
    def refuse(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    (check,) = examine(project, tmp_path, "cache")
    assert check.status == "error"
    assert "No space left on device" in check.message
    assert "free space" in check.repair
    assert "MOCK_MCP_CACHE_DIR" in check.repair


def test_a_cache_directory_that_cannot_be_made(project, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"")
    monkeypatch.setenv("MOCK_MCP_CACHE_DIR", str(file))
    (check,) = examine(project, tmp_path, "cache")
    assert check.status == "error"
    assert "cannot be created" in check.message
    assert "MOCK_MCP_CACHE_DIR" in check.repair
    assert "chmod" not in check.repair


def test_a_registry_with_the_token_of_another_daemon(daemon, project, cache_dir, monkeypatch):
    stale = msgspec.structs.replace(daemon.info, token="0" * 64)
    monkeypatch.setattr(doctor, "find_daemon", lambda *_: stale)
    check = asyncio.run(doctor._daemon(Project.resolve(project), CacheDirectory()))
    assert check.status == "error"
    assert "does not know this token" in check.message
    assert f"kill -9 {stale.pid}" in check.repair


def test_a_daemon_without_a_registry(daemon, project, cache_dir, monkeypatch):
    monkeypatch.setattr(doctor, "find_daemon", lambda *_: None)
    check = asyncio.run(doctor._daemon(Project.resolve(project), CacheDirectory()))
    assert check.status == "error"
    assert "nobody finds it" in check.message


def test_batches_that_nobody_claims(daemon, project, cache_dir, tmp_path):
    client = daemon.attach()
    client.send(
        {
            "type": "BATCH_MOCK_REQUEST",
            "runId": "run-1",
            "requests": [{"requestId": "1", "endpoint": "/x", "method": "GET"}],
        }
    )
    daemon.control.call("waitForBatch", waitMs=60_000)
    check = asyncio.run(doctor._daemon(Project.resolve(project), CacheDirectory()))
    assert (check.status, "1 batch waiting" in check.message) == ("note", True)
    assert "serve their mocks" in check.repair


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${workspaceFolder}/.venv", "/root/p/.venv"),
        ("${CLAUDE_PROJECT_DIR:-.}/x", "/root/p/x"),
        ("${env:MM_SET}", "value"),
        ("${MM_SET}", "value"),
        ("${MM_UNSET:-default}", "default"),
        ("${MM_UNSET}", ""),
        ("$plain", "$plain"),
    ],
)
def test_variables_are_replaced_as_clients_do(monkeypatch, text, expanded):
    monkeypatch.setenv("MM_SET", "value")
    assert expand(text, Path("/root/p")) == expanded
