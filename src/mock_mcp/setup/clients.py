"""The MCP clients that ``mock-mcp init`` configures: which file, in which form, for whom.

Each is written as its maker documents it:

- Claude Code: https://code.claude.com/docs/en/mcp (scopes, ``${VAR:-default}``)
- Cursor: https://cursor.com/docs/context/mcp (``${workspaceFolder}``)
- VS Code: https://code.visualstudio.com/docs/copilot/reference/mcp-configuration (``servers``)
- Codex: https://developers.openai.com/codex/mcp (``mcp_servers``; a project's file is read only
  where the user trusts the project)
- Claude Desktop: https://modelcontextprotocol.io/docs/develop/connect-local-servers
- Windsurf: https://docs.windsurf.com/windsurf/cascade/mcp

The last two have no file of a project.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mock_mcp.errors import ConfigurationError

__all__ = ["CLIENTS", "SERVER", "Client", "System", "Target", "detect", "target"]

SERVER = "mock-mcp"
"""The name of the server in every configuration."""


@dataclass(frozen=True, slots=True)
class System:
    """Whose machine it is: what decides where a client keeps its files."""

    home: Path
    platform: str = sys.platform
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @classmethod
    def current(cls) -> System:
        """Return this machine and user.

        Raises:
            ConfigurationError: There is no home directory.
        """
        try:
            return cls(Path.home())
        except RuntimeError:
            raise ConfigurationError(
                "There is no home directory, where MCP clients keep their files; set HOME."
            ) from None

    @property
    def applications(self) -> Path:
        """Where desktop applications keep their settings."""
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        if self.platform == "win32":
            return Path(self.environ.get("APPDATA") or self.home / "AppData" / "Roaming")
        return Path(self.environ.get("XDG_CONFIG_HOME") or self.home / ".config")


@dataclass(frozen=True, slots=True)
class Client:
    """One MCP client.

    Attributes:
        id: Its name on the command line.
        label: Its name for people.
        form: The form of its files.
        key: The table that holds the servers.
        everywhere: Its file for all projects.
        project: Its file of one project, relative to the root; None if it has none.
        folder: What stands for the project's root in that file; None if nothing does.
        names_root: Whether it starts servers in a directory that may not be the project.
        fields: What an entry needs beside command and arguments.
        traces: Files in a project, or below the home directory, that only this client makes.
        program: What it is called on PATH.
    """

    id: str
    label: str
    form: Literal["json", "toml"]
    key: str
    everywhere: Callable[[System], Path]
    project: str | None = None
    folder: str | None = None
    names_root: bool = False
    fields: Mapping[str, object] = field(default_factory=dict)
    traces: tuple[str, ...] = ()
    program: str | None = None


def _claude(system: System) -> Path:
    moved = system.environ.get("CLAUDE_CONFIG_DIR")
    return Path(moved or system.home) / ".claude.json"


def _codex(system: System) -> Path:
    moved = system.environ.get("CODEX_HOME")
    return (Path(moved) if moved else system.home / ".codex") / "config.toml"


CLIENTS = {
    client.id: client
    for client in (
        Client(
            "claude-code",
            "Claude Code",
            "json",
            "mcpServers",
            _claude,
            project=".mcp.json",
            folder="${CLAUDE_PROJECT_DIR:-.}",
            traces=(".claude", "CLAUDE.md"),
            program="claude",
        ),
        Client(
            "cursor",
            "Cursor",
            "json",
            "mcpServers",
            lambda system: system.home / ".cursor" / "mcp.json",
            project=".cursor/mcp.json",
            folder="${workspaceFolder}",
            names_root=True,
            traces=(".cursor", ".cursorrules"),
            program="cursor",
        ),
        Client(
            "vscode",
            "VS Code",
            "json",
            "servers",
            lambda system: system.applications / "Code" / "User" / "mcp.json",
            project=".vscode/mcp.json",
            folder="${workspaceFolder}",
            names_root=True,
            fields={"type": "stdio"},
            traces=(".vscode",),
            program="code",
        ),
        Client(
            "codex",
            "Codex",
            "toml",
            "mcp_servers",
            _codex,
            project=".codex/config.toml",
            # The default of 10 s is not enough for the first start, which may install.
            fields={"startup_timeout_sec": 60},
            traces=(".codex",),
            program="codex",
        ),
        Client(
            "claude-desktop",
            "Claude Desktop",
            "json",
            "mcpServers",
            lambda system: system.applications / "Claude" / "claude_desktop_config.json",
        ),
        Client(
            "windsurf",
            "Windsurf",
            "json",
            "mcpServers",
            lambda system: system.home / ".codeium" / "windsurf" / "mcp_config.json",
            program="windsurf",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Target:
    """One client's file: of a project, or (``root`` None) of all projects.

    ``base`` is the directory below which nothing may be a link: what a project holds is not ours.
    """

    client: Client
    path: Path
    base: Path
    root: Path | None

    @property
    def label(self) -> str:
        """The client and whose file it is, for people."""
        return f"{self.client.label}, {'this project' if self.root else 'all projects'}"


def target(client: Client, system: System, root: Path | None) -> Target | None:
    """Return the client's file of the project at ``root``, or of all projects when None.

    None if the client has no file of a project.
    """
    if root is not None:
        return Target(client, root / client.project, root, root) if client.project else None
    path = client.everywhere(system)
    return Target(client, path, path.parent, None)


def detect(system: System, root: Path | None) -> list[Client]:
    """Return the clients that are used here: in the project, or by this user at all."""
    return [client for client in CLIENTS.values() if _is_used(client, system, root)]


def _is_used(client: Client, system: System, root: Path | None) -> bool:
    if root is not None and client.project is not None:
        places = (client.project, *client.traces)
        if any(os.path.lexists(root / place) for place in places):
            return True
    everywhere = client.everywhere(system)
    homes = [system.home / trace for trace in client.traces]
    if everywhere.parent != system.home:
        homes.append(everywhere.parent)
    if any(os.path.lexists(place) for place in (everywhere, *homes)):
        return True
    path = system.environ.get("PATH", "")
    return client.program is not None and shutil.which(client.program, path=path) is not None
