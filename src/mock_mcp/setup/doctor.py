"""What usually goes wrong, looked at one after the other, each with its repair.

Nothing is changed. The daemon that runs is asked, none is started; commands in MCP configurations
are started only if they are ones that ``mock-mcp init`` writes.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from mock_mcp._version import __version__
from mock_mcp.contract.config import load_project_config
from mock_mcp.contract.document import load_document
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.contract.finder import Finder
from mock_mcp.control.client import DaemonClient
from mock_mcp.errors import (
    ConfigurationError,
    DaemonUnreachable,
    InsecurePath,
    MissingExtra,
    MockMcpError,
    VersionMismatch,
)
from mock_mcp.interceptors.versions import NOT_INTERCEPTED, TESTED
from mock_mcp.recordings.check import check_recordings, shown
from mock_mcp.runtime.cache import CacheDirectory, default_cache_dir, environment, is_on
from mock_mcp.runtime.ipc import is_listening
from mock_mcp.runtime.launch import find_daemon
from mock_mcp.runtime.project import MARKERS, Project, display_path
from mock_mcp.setup.clients import CLIENTS, SERVER, System, Target, target
from mock_mcp.setup.documents import find_documents
from mock_mcp.setup.errors import ProbeFailed, SetupError
from mock_mcp.setup.launcher import REQUIREMENT
from mock_mcp.setup.plan import Entry, read_entry
from mock_mcp.setup.probe import probe
from mock_mcp.types import DaemonInfo, DaemonStatus
from mock_mcp.words import counted

__all__ = ["Check", "Status", "examine"]

Status = Literal["ok", "note", "warning", "error"]
_ASK_S = 5.0


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that was looked at.

    Attributes:
        name: What: ``project``, ``cache``, ``daemon`` …
        status: ``note`` is nothing wrong, but worth knowing; only ``error`` needs repair.
        message: What was found.
        repair: What to do about it.
    """

    name: str
    status: Status
    message: str
    repair: str | None = None


def examine(project: Project, system: System) -> Iterator[Check]:
    """Look at everything.

    Args:
        project: The project.
        system: Whose MCP clients.
    """
    yield _project(project)
    yield from _environment()
    cache: CacheDirectory | None = None
    try:
        cache = CacheDirectory()
        yield _writable(cache)
    except InsecurePath as error:
        yield Check("cache", "error", error.message, _make_private())
    except ConfigurationError as error:
        yield Check("cache", "error", error.message, _MAKE_WRITABLE)
    if cache is not None:
        yield asyncio.run(_daemon(project, cache))
    yield from asyncio.run(_clients(project, system))
    yield from _libraries()
    cache_dir = None if cache is None else cache.contracts()
    contract = list(_contract(project.root, cache_dir))
    yield from contract
    if all(check.status != "error" for check in contract):
        yield from _recordings(project.root, cache_dir)


# -- Where it runs ----------------------------------------------------------------------------


def _project(project: Project) -> Check:
    found = [name for name in MARKERS if os.path.lexists(project.root / name)]
    root = display_path(project.root)
    if not found:
        return Check(
            "project",
            "warning",
            f"{root} has none of {', '.join(MARKERS)}, so tests may take another directory for "
            "their project.",
            "Run it inside the project, or name the project with --project-root.",
        )
    return Check("project", "ok", f"{root} ({', '.join(found)})")


def _environment() -> Iterator[Check]:
    python = f"{sys.executable} (Python {sys.version.split()[0]})"
    if importlib.util.find_spec("pytest") is None:
        yield Check(
            "environment",
            "warning",
            f"mock-mcp {__version__} in {python}, where pytest is not installed.",
            "Run the doctor with the interpreter that runs the tests: python -m mock_mcp doctor",
        )
    elif environment("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        yield Check(
            "environment",
            "warning",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD is set, so pytest does not load mock-mcp by itself.",
            "Unset it, or run pytest with -p mock_mcp.pytest_plugin",
        )
    else:
        yield Check("environment", "ok", f"mock-mcp {__version__} in {python}")
    if is_on("CI"):
        yield Check("mode", "note", "CI is set: tests replay, and ask nobody.")
    elif not is_on("MOCK_MCP"):
        yield Check("mode", "note", "MOCK_MCP is not set: tests replay; MOCK_MCP=1 lets them ask.")


_MAKE_WRITABLE = "Make it writable, free space on its disk, or let MOCK_MCP_CACHE_DIR name another."


def _writable(cache: CacheDirectory) -> Check:
    path = display_path(cache.path)
    try:
        with tempfile.TemporaryFile(dir=cache.path):
            pass
    except OSError as error:
        return Check("cache", "error", f"{path}: {error.strerror}.", _MAKE_WRITABLE)
    return Check("cache", "ok", f"{path}, private and writable")


def _make_private() -> str:
    path = shlex.quote(display_path(default_cache_dir() / "mock-mcp"))
    return (
        f"chmod go-rwx {path}; if that cannot be done, remove it or set MOCK_MCP_CACHE_DIR to a "
        "directory of your own."
    )


# -- The daemon -------------------------------------------------------------------------------


async def _daemon(project: Project, cache: CacheDirectory) -> Check:
    registry = display_path(cache.registry(project.id))
    try:
        info = find_daemon(project, cache)
    except VersionMismatch as error:
        return Check("daemon", "error", error.message, "npx mock-mcp stop")
    except InsecurePath as error:
        return Check("daemon", "error", error.message, f"rm {shlex.quote(registry)}")
    if info is None:
        if is_listening(cache.ipc_path(project.id)):
            return Check(
                "daemon",
                "error",
                f"A daemon listens, but its registry {registry} is missing or damaged, so nobody "
                "finds it.",
                "Wait a few seconds, the daemon writes it again; else end that process.",
            )
        if cache.registry(project.id).exists():
            return Check(
                "daemon",
                "warning",
                f"None runs; {registry} was left by one that was killed.",
                f"rm {shlex.quote(registry)} (the next daemon replaces it anyway)",
            )
        return Check("daemon", "ok", "none runs; the first test that asks starts it")
    try:
        async with DaemonClient.of(info, timeout_s=_ASK_S) as client:
            status = await client.get_status()
    except DaemonUnreachable as error:
        return Check("daemon", "error", f"pid {info.pid}: {error.message}", _end_process(info))
    except MockMcpError as error:
        return Check("daemon", "error", error.message, _end_process(info))
    return _answered(status)


def _end_process(info: DaemonInfo) -> str:
    return (
        f"End the process {info.pid} (kill -9 {info.pid}); the next test starts a daemon, and "
        "tests that wait lose nothing."
    )


def _answered(status: DaemonStatus) -> Check:
    waiting = counted(status.pending, "batch")
    found = f"pid {status.pid}, version {status.version}, {waiting} waiting"
    if status.version != __version__:
        return Check(
            "daemon",
            "warning",
            f"{found}; this is mock-mcp {__version__}.",
            "mock-mcp stop (the next test starts one of this version)",
        )
    if status.pending and not status.claimed:
        return Check(
            "daemon",
            "note",
            f"{found}; no assistant has claimed one.",
            'Tell the assistant: "Run the tests and serve their mocks."',
        )
    return Check("daemon", "ok", found)


# -- MCP clients ------------------------------------------------------------------------------


async def _clients(project: Project, system: System) -> list[Check]:
    places = [
        place
        for root in (project.root, None)
        for client in CLIENTS.values()
        if (place := target(client, system, root)) is not None
    ]
    answers = await asyncio.gather(*(_client(place, project.root) for place in places))
    checks = [check for check, _ in answers if check is not None]
    if not any(starts for _, starts in answers):
        checks.append(
            Check(
                "clients",
                "error" if checks else "warning",
                "No MCP client can start the adapter, so no assistant can answer.",
                "mock-mcp init",
            )
        )
    return checks


async def _client(place: Target, root: Path) -> tuple[Check | None, bool]:
    """Look at one client's file; return what was found, and whether its adapter starts."""
    file = display_path(place.path)
    option = "" if place.root is not None else " --global"
    again = f"mock-mcp init{option} --client {place.client.id}"

    def found(status: Status, message: str, repair: str | None = None) -> Check:
        return Check("clients", status, f"{place.label}: {message}", repair)

    try:
        entry = read_entry(place)
    except SetupError as error:
        repair = f"Correct {file} by hand (the client cannot read it either), then: {again}"
        return found("error", error.message, repair), False
    if entry is None:
        return None, False
    command = entry.command
    if command is None:
        message = f"the server {SERVER} in {file} starts something else."
        return found("warning", message, f"Rename or remove it, then: {again}"), False
    try:
        version = await probe(place, command, _variables(entry), root)
    except ProbeFailed as error:
        repair = f"{again.replace(' init', ' init --remove')} && {again}"
        if not error.started and command.launcher == "uvx":
            repair = f"Install uv (https://docs.astral.sh/uv/), or: {repair}"
        return found("error", f"{file}: {error.message}", repair), False
    if version == __version__ or command.requirement == REQUIREMENT:
        return found("ok", f"its adapter, mock-mcp {version}, answers ({file})"), True
    message = f"its adapter is mock-mcp {version}, this is {__version__}."
    same = "Install the same version in both environments."
    return found("warning", message, again if command.requirement else same), True


def _variables(entry: Entry) -> dict[str, str]:
    env = entry.fields.get("env")
    pairs = env.items() if isinstance(env, dict) else ()
    return {name: value for name, value in pairs if isinstance(value, str)}


# -- HTTP libraries ---------------------------------------------------------------------------


def _libraries() -> Iterator[Check]:
    found: list[str] = []
    for name, (oldest, newest) in TESTED.items():
        version = _version(name)
        if version is None:
            continue
        if _numbers(version) < _numbers(oldest):
            yield Check(
                "libraries",
                "warning",
                f"{name} {version} is older than the oldest version tested, {oldest}.",
                f"pip install '{name}>={oldest}'",
            )
        elif _numbers(version)[:2] > _numbers(newest):
            yield Check("libraries", "note", f"{name} {version} is newer than what was tested.")
        else:
            found.append(f"{name} {version}")
    for name in NOT_INTERCEPTED:
        if version := _version(name):
            yield Check(
                "libraries",
                "note",
                f"{name} {version} is not intercepted: what it calls is really called "
                "(docs/interception.md).",
            )
    yield Check("libraries", "ok", f"intercepted: {', '.join([*found, 'urllib (http.client)'])}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> list[int]:
    release = re.match(r"[0-9.]*", version)
    assert release is not None
    return [int(number) for number in release[0].split(".") if number]


# -- The contract and the recordings ----------------------------------------------------------


def _contract(root: Path, cache_dir: Path | None) -> Iterator[Check]:
    try:
        config = load_project_config(root)
    except ConfigurationError as error:
        yield Check("contract", "error", error.message, "Correct [tool.mock-mcp] there.")
        return
    if not config.documents:
        found = find_documents(root, cache_dir).documents
        if found:
            yield Check(
                "contract",
                "warning",
                f"No document is registered, but there is {', '.join(found)}.",
                "mock-mcp init",
            )
        else:
            yield Check(
                "contract",
                "note",
                "No OpenAPI document is registered: answers with "
                "no schema of their own are not checked.",
            )
    for source in config.documents:
        name = display_path(source.path)
        try:
            document = load_document(source.path, server=source.server, cache_dir=cache_dir)
            operations = sum(1 for _ in Finder(document))
        except MissingExtra as error:
            yield Check("contract", "error", error.message, "pip install 'mock-mcp[yaml]'")
        except ContractDocumentError as error:
            yield Check(
                "contract",
                "error",
                error.message,
                f"Correct the document, or its name in {display_path(root / 'pyproject.toml')}.",
            )
        else:
            told = "" if config.mode == "enforce" else f'; contract = "{config.mode}"'
            yield Check(
                "contract",
                "ok" if operations else "warning",
                f"{name}: {counted(operations, 'operation')}{told}",
                None if operations else f"mock-mcp check-contract {shlex.quote(name)}",
            )


def _recordings(root: Path, cache_dir: Path | None) -> Iterator[Check]:
    report = check_recordings(root, cache_dir=cache_dir)
    for broken in report.broken:
        yield Check(
            "recordings",
            "error",
            f"{shown(broken.path)} no longer fits the contract.",
            f"{broken.repair} (`mock-mcp check` says what is wrong)",
        )
    for unreadable in report.unreadable:
        yield Check(
            "recordings",
            "error",
            unreadable.message,
            "Restore the file from version control, or delete it and record the test again.",
        )
    for path, reason in report.orphans:
        yield Check("recordings", "warning", f"{shown(path)}: {reason}.", "pytest --mock-prune")
    for problem in report.problems:
        yield Check("recordings", "error", problem, "Correct the document.")
    if report.has_findings:
        return
    if not report.recordings:
        yield Check("recordings", "note", "none yet; a passing test that asked writes one")
        return
    unchecked = report.unchecked.total()
    calls = report.interactions - unchecked
    told = f"{counted(report.recordings, 'recording')}, "
    told += f"{counted(calls, 'call')} as the contract has it"
    yield Check("recordings", "ok", told + (f", {unchecked} not checked" if unchecked else ""))
