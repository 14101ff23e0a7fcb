"""`mock-mcp init` as a user runs it, and the commands it writes as clients start them."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from mock_mcp.setup.clients import CLIENTS, System, target
from mock_mcp.setup.launcher import REQUIREMENT
from support.command import HANG_S, execute, user_environment
from support.daemons import kill_daemons

PETSTORE = Path(__file__).parents[2] / "src/mock_mcp/demo/petstore.json"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
PROJECT = [name for name, client in CLIENTS.items() if client.project]


class User:
    """A user's home, project and shell."""

    def __init__(self, place: Path, cache: Path) -> None:
        self.cache = cache
        self.home, self.root, self.bin = place / "home", place / "project", place / "bin"
        for directory in (self.home, self.root, self.bin):
            directory.mkdir()
        (self.root / "pyproject.toml").write_text("[project]\nname = 'p' # mine\n")
        self.env = user_environment(self.home, self.bin, cache)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mock_mcp", *arguments]
        return execute(command, cwd=self.root, env=self.env)

    def answer(self, reply: bytes, *arguments: str) -> tuple[int, str]:
        """Run in a terminal and answer the question."""
        main, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "mock_mcp", *arguments],
            cwd=self.root,
            env=self.env,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        os.close(terminal)
        os.write(main, reply)
        try:
            output, _ = process.communicate(timeout=HANG_S)
        finally:
            os.close(main)
        return process.returncode, output.decode()

    def install_uvx(self) -> None:
        """Put a `uvx` on PATH that knows one requirement and makes no environment."""
        uvx = self.bin / "uvx"
        uvx.write_text(
            f'#!/bin/sh\n[ "$1 $2 $3" = "--from {REQUIREMENT} mock-mcp" ] || exit 9\n'
            f'shift 3\nexec "{sys.executable}" -P -m mock_mcp "$@"\n'
        )
        uvx.chmod(0o755)

    def snapshot(self) -> dict[str, bytes | None]:
        return {
            str(path): path.read_bytes() if path.is_file() else None
            for place in (self.home, self.root)
            for path in place.rglob("*")
        }


@pytest.fixture
def user(tmp_path: Path, cache_dir: Path) -> User:
    return User(tmp_path, cache_dir)


def test_init_writes_says_what_is_next_and_is_undone(user: User):
    (user.root / ".vscode").mkdir()
    (user.root / ".vscode/mcp.json").write_text('{\n\t// mine\n\t"inputs": [],\n}\n')
    shutil.copy(PETSTORE, user.root / "openapi.json")
    before = user.snapshot()
    run = user.run("init", "--yes", "--client", "vscode", "--client", "codex")
    assert run.returncode == 0, run.stderr
    for line in (
        "wrote .vscode/mcp.json",
        "created .codex/config.toml",
        "wrote pyproject.toml",
        '+openapi = ["openapi.json"]',
        "MOCK_MCP=1 pytest",
        "mock-mcp doctor",
    ):
        assert line in run.stdout
    assert "\t// mine\n" in (user.root / ".vscode/mcp.json").read_text()
    after = user.snapshot()
    again = user.run("init")
    assert (again.returncode, user.snapshot()) == (0, after)
    assert "Nothing to change" in again.stdout
    undone = user.run("init", "--remove", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert "removed .codex/config.toml" in undone.stdout
    assert user.snapshot() == before
    assert "Nothing to remove" in user.run("init", "--remove").stdout


def test_without_a_terminal_and_without_yes_nothing_changes(user: User):
    before = user.snapshot()
    run = user.run("init", "--client", "cursor")
    assert run.returncode == 1
    assert "no terminal to ask at" in run.stderr
    assert "--yes" in run.stderr
    assert "+++ " in run.stdout
    assert user.snapshot() == before


@POSIX
@pytest.mark.parametrize(("reply", "written"), [(b"y\n", True), (b"\n", False), (b"\x04", False)])
def test_in_a_terminal_it_asks(user: User, reply: bytes, written: bool):
    code, output = user.answer(reply, "init", "--client", "cursor")
    assert "Make this change? [y/N]" in output
    assert (code == 0) == written == (user.root / ".cursor/mcp.json").exists()


def test_a_broken_file_is_reported_and_nothing_written(user: User):
    (user.root / ".mcp.json").write_text('{"mcpServers": {\n')
    before = user.snapshot()
    run = user.run("init", "--yes", "--client", "cursor", "--client", "claude-code")
    assert run.returncode == 1
    assert ".mcp.json:2: " in run.stderr
    assert "nothing was changed" in run.stderr
    assert user.snapshot() == before


def test_global_configuration_leaves_the_project_alone(user: User):
    shutil.copy(PETSTORE, user.root / "openapi.json")
    before = user.snapshot()
    names = [option for name in CLIENTS for option in ("--client", name)]
    run = user.run("init", "--global", "--yes", *names)
    assert run.returncode == 0, run.stderr
    assert {name for name in user.snapshot() if name.startswith(str(user.root))} == {
        name for name in before if name.startswith(str(user.root))
    }
    assert len([path for path in user.home.rglob("*") if path.is_file()]) == len(CLIENTS)
    assert user.run("init", "--global", "--remove", "--yes").returncode == 0
    assert user.snapshot() == before


# -- The written commands work ----------------------------------------------------------------


def entry_of(name: str, user: User, scope: str) -> dict[str, Any]:
    file = target(
        CLIENTS[name], System(user.home, environ={}), user.root if scope == "project" else None
    )
    assert file is not None
    text = file.path.read_text()
    data = tomllib.loads(text) if file.path.suffix == ".toml" else json.loads(text)
    entry: dict[str, Any] = data[CLIENTS[name].key]["mock-mcp"]
    return entry


def expanded(text: str, root: Path) -> str:
    """Replace variables as clients document it."""
    text = text.replace("${workspaceFolder}", str(root))
    return re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", text)


@POSIX
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("names", "scope", "launcher"),
    [
        (PROJECT, "project", "python"),
        (list(CLIENTS), "global", "python"),
        (["claude-code", "vscode"], "project", "uvx"),
        (["claude-desktop"], "global", "uvx"),
    ],
)
async def test_the_written_commands_serve_mcp(
    user: User, names: list[str], scope: str, launcher: str
):
    user.install_uvx()
    clients = [option for name in names for option in ("--client", name)]
    options = ["--global"] if scope == "global" else []
    run = user.run("init", "--yes", *clients, "--launcher", launcher, *options)
    assert run.returncode == 0, run.stderr
    # What several clients start, in the same directory, is started once.
    starts = set()
    for name in names:
        entry = entry_of(name, user, scope)
        command, *arguments = (
            expanded(each, user.root) for each in (entry["command"], *entry["args"])
        )
        below = user.home if CLIENTS[name].names_root else user.root
        starts.add((command, *arguments, below if scope == "project" else Path("/")))
    # A desktop client is not started by a shell: it does not know the user's PATH.
    path = "/usr/bin:/bin" if scope == "global" else user.env["PATH"]
    for command, *arguments, cwd in starts:
        server = StdioServerParameters(
            command=command, args=arguments, env={**user.env, "PATH": path}, cwd=cwd
        )
        async with Client(stdio_client(server)) as client:
            tools = await client.list_tools()
            assert "claim_next_batch" in {tool.name for tool in tools.tools}
            claimed = await client.call_tool("claim_next_batch", {"waitMs": 0})
            assert not claimed.is_error
            assert claimed.structured_content["state"] == "empty"
            status = await client.call_tool("get_status", {})
            projects = [each["projectRoot"] for each in status.structured_content["daemons"]]
            # In its project an adapter starts the daemon, so that there is one to wait at.
            assert projects == ([str(user.root)] if scope == "project" else [])
        kill_daemons(user.cache)
