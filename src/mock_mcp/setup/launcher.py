"""The command that an MCP client starts, written so that it works without anybody's shell.

A client knows nothing of the virtual environment that is active in a terminal, so a bare
``mock-mcp`` is never written. Two commands work everywhere:

- ``uvx --from mock-mcp[adapter,yaml]~=VERSION mock-mcp adapter`` makes an environment of its own.
  It names no path, so it is right in a file that is committed. In a file of this machine ``uvx``
  is written with its full path, because desktop clients are not started by a shell.
- ``PYTHON -P -m mock_mcp adapter`` with the full path of the interpreter that runs now. Inside the
  project the path is written from the client's own variable for the project's folder, where it has
  one, so that the file can be committed.

The first is chosen where ``uvx`` is installed and mock-mcp came from a package index: a build of
one's own is nothing that ``uvx`` could find.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mock_mcp._version import __version__
from mock_mcp.errors import ConfigurationError, MissingExtra
from mock_mcp.setup.clients import Target

__all__ = [
    "LAUNCHERS",
    "REQUIREMENT",
    "Command",
    "Launcher",
    "choose_launcher",
    "command_of",
    "make_command",
]

Launcher = Literal["uvx", "python"]
LAUNCHERS: tuple[Launcher, ...] = ("uvx", "python")

REQUIREMENT = f"mock-mcp[adapter,yaml]~={__version__}"
_PYTHON = re.compile(r"python[0-9.]*t?(\.exe)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Command:
    """A program and its arguments, and which launcher it is."""

    launcher: Launcher
    program: str
    arguments: tuple[str, ...]

    @property
    def names_machine(self) -> bool:
        """Whether it holds a path that means nothing on another machine."""
        return os.path.isabs(self.program)  # noqa: PTH117 - may begin with a variable

    @property
    def requirement(self) -> str | None:
        """What ``uvx`` installs."""
        return self.arguments[1] if self.launcher == "uvx" else None


def choose_launcher(asked: Launcher | None, path: str | None = None) -> Launcher:
    """Return the launcher to write.

    Args:
        asked: What the user asked for.
        path: Where ``uvx`` is looked for; PATH when None.

    Raises:
        MissingExtra: It is this interpreter, and the adapter cannot run in it.
    """
    chosen = asked
    if chosen is None:
        found = shutil.which("uvx", path=path) is not None and _is_from_index()
        chosen = "uvx" if found else "python"
    if chosen == "python" and importlib.util.find_spec("mcp") is None:
        raise MissingExtra(
            f"The adapter cannot run in {sys.executable}: install its extra there with "
            "`pip install 'mock-mcp[adapter]'`, or install uv and use `--launcher uvx`."
        )
    return chosen


def _is_from_index() -> bool:
    """Return whether this installation came from an index (PEP 610: no file says otherwise)."""
    try:
        return importlib.metadata.distribution("mock-mcp").read_text("direct_url.json") is None
    except importlib.metadata.PackageNotFoundError:
        return False


def make_command(launcher: Launcher, target: Target, path: str | None = None) -> Command:
    """Return the command for one client's file.

    Raises:
        ConfigurationError: The file needs a full path that is not known.
    """
    arguments = ["adapter"]
    if target.root is not None and target.client.names_root and target.client.folder:
        arguments += ["--project-root", target.client.folder]
    if launcher == "uvx":
        program = "uvx"
        if target.root is None:
            found = shutil.which("uvx", path=path)
            if found is None:
                raise ConfigurationError(
                    "uvx is not on PATH, and a file of all projects needs its full path: install "
                    "uv, or use `--launcher python`."
                )
            program = os.path.abspath(found)  # noqa: PTH100 - links are the user's own
        return Command(launcher, program, ("--from", REQUIREMENT, "mock-mcp", *arguments))
    if not sys.executable:
        raise ConfigurationError(
            "This interpreter does not know its own path; use `--launcher uvx`."
        )
    return Command(launcher, _python(target), ("-P", "-m", "mock_mcp", *arguments))


def _python(target: Target) -> str:
    """Return the interpreter's path; from the client's variable where that can be."""
    python = Path(os.path.abspath(sys.executable))  # noqa: PTH100 - a venv's is a link
    folder = target.client.folder
    if target.root is not None and folder and python.is_relative_to(target.root):
        return f"{folder}/{python.relative_to(target.root).as_posix()}"
    return str(python)


def command_of(program: Any, arguments: Any) -> Command | None:
    """Return the command of an entry if it starts our adapter, else None."""
    if not isinstance(program, str) or not _is_texts(arguments):
        return None
    name = re.split(r"[\\/]", program)[-1]
    rest = tuple(arguments)
    if name.lower() in ("uvx", "uvx.exe") and len(rest) > 3 and rest[0] == "--from":
        if re.match(r"mock-mcp\b(?!-)", rest[1]) and rest[2:4] == ("mock-mcp", "adapter"):
            return Command("uvx", program, rest)
    elif _PYTHON.fullmatch(name):
        options = rest[1:] if rest[:1] == ("-P",) else rest
        if options[:3] == ("-m", "mock_mcp", "adapter"):
            return Command("python", program, rest)
    elif name.lower() in ("mock-mcp", "mock-mcp.exe") and rest[:1] == ("adapter",):
        return Command("python", program, rest)
    return None


def _is_texts(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(each, str) for each in value)
