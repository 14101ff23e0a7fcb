"""The house's import rules, read from its source; and what a light entry point may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mock_mcp

SOURCE = Path(__file__).parents[2] / "src" / "mock_mcp"

# `errors, types ← {core, wire} ← {contract, recordings, runtime} ← {daemon, control, client} ←
# serving ← {scope, adapter, responders} ← interceptors ← setup ← {pytest_plugin, cli}`: a part
# imports itself and those of lower layers. Parts of one layer do not know each other, unless
# SIBLINGS says so.
LAYERS = (
    (
        *("_version", "clock", "errors", "integers", "types", "limits", "media_types"),
        *("real_files", "sequential", "settings_table", "words"),
    ),
    ("core", "wire"),
    ("contract", "recordings", "runtime", "exchange"),
    ("browser", "daemon", "control", "client"),
    ("serving",),
    ("scope", "adapter", "responders", "convert"),
    ("intercept", "interceptors", "demo"),
    ("setup",),
    ("pytest_plugin", "cli"),
)
SIBLINGS = {
    "sequential": {"media_types"},
    "settings_table": {"errors"},
    "types": {"errors"},
    "errors": {"types"},  # for annotations only
    "recordings": {"contract", "exchange", "runtime"},
}
LAYER_OF = {part: level for level, parts in enumerate(LAYERS) for part in parts}
TOP = {"__init__", "__main__"}
"""The package's door and the command's: they may name every part."""


class Import(NamedTuple):
    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(SOURCE)}:{self.line} imports {self.module}"


def part_of(file: Path) -> str:
    """Return the part of the house a file belongs to: its directory, or its own name."""
    inside = file.relative_to(SOURCE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imports_of(file: Path) -> Iterator[Import]:
    """Yield every import of a file, those inside functions and conditions too."""
    package = ["mock_mcp", *file.relative_to(SOURCE).parent.parts]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "mock_mcp":  # a part, or a public name that lives in one
                for alias in node.names:
                    home = mock_mcp._HOMES.get(alias.name, f"mock_mcp.{alias.name}")
                    yield Import(file, node.lineno, home)
            else:
                yield Import(file, node.lineno, module)


FILES = sorted(SOURCE.rglob("*.py"))
IMPORTS = [found for file in FILES for found in imports_of(file)]


def test_every_file_belongs_to_a_part_of_the_house():
    parts = {part_of(file) for file in FILES} - TOP
    assert parts <= LAYER_OF.keys()


def test_imports_point_one_way():
    wrong = []
    for found in IMPORTS:
        names = found.module.split(".")
        mine = part_of(found.file)
        if names[0] != "mock_mcp" or len(names) < 2 or mine in TOP:
            continue
        theirs = names[1]
        if theirs == mine or theirs.startswith("__"):
            continue
        allowed = LAYER_OF[theirs] < LAYER_OF[mine] or theirs in SIBLINGS.get(mine, ())
        if not allowed:
            wrong.append(str(found))
    assert not wrong, "\n".join(wrong)


def test_function_level_and_relative_imports_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    (tmp_path / "core").mkdir()
    file = tmp_path / "core" / "broker.py"
    file.write_text("def f():\n    from ..daemon import hub\n    import socket\n")
    assert [found.module for found in imports_of(file)] == ["mock_mcp.daemon", "socket"]


def test_only_the_adapter_imports_the_mcp_sdk():
    wrong = [
        str(found)
        for found in IMPORTS
        if found.module.split(".")[0] in ("mcp", "mcp_types") and part_of(found.file) != "adapter"
    ]
    assert not wrong, "\n".join(wrong)


IMPURE = {
    "asyncio",
    "concurrent",
    "datetime",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "queue",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "uuid",
    "warnings",
}


def test_the_core_is_pure():
    wrong = [
        str(found)
        for found in IMPORTS
        if part_of(found.file) == "core" and found.module.split(".")[0] in IMPURE
    ]
    assert not wrong, "\n".join(wrong)


def test_the_core_does_no_input_or_output_by_builtins():
    called = [
        f"{file.name}:{node.lineno} calls {node.func.id}"
        for file in FILES
        if part_of(file) == "core"
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("open", "print", "input", "eval", "exec", "__import__")
    ]
    assert not called


HEAVY = {
    "aiohttp",
    "anyio",
    "asyncio",
    "httptools",
    "httpx",
    "jsonschema",
    "jsonschema_rs",
    "mcp",
    "mcp_types",
    "msgspec",
    "pydantic",
    "requests",
    "ssl",
    "urllib3",
    "websockets",
    "yaml",
}


def modules_after(*arguments: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after running something."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import mock_mcp"),
        ("-c", "import mock_mcp; dir(mock_mcp), mock_mcp.__version__"),
        ("-m", "mock_mcp", "--version"),
        ("-m", "mock_mcp", "version"),
    ],
    ids=["import", "dir", "--version", "version"],
)
def test_a_light_entry_point_loads_nothing_heavy(arguments):
    # An editable install or a `.pth` file may load modules before us; they are not ours.
    loaded = modules_after(*arguments) - modules_after("-c", "pass")
    assert "mock_mcp" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("mock_mcp.client.connect", {"mcp", "mcp_types", "pydantic", "httptools", "jsonschema"}),
        ("mock_mcp.daemon.server", {"mcp", "mcp_types", "pydantic", "jsonschema", "yaml"}),
        ("mock_mcp.control.client", {"mcp", "mcp_types", "pydantic", "websockets"}),
        ("mock_mcp.cli.respond", {"mcp", "mcp_types", "pydantic", "anyio", "httpx"}),
        ("mock_mcp.adapter.entry", {"mcp", "mcp_types", "pydantic", "asyncio"}),
    ],
)
def test_a_part_loads_only_what_it_works_with(module, forbidden):
    assert modules_after("-c", f"import {module}") & forbidden == set()


def test_every_public_name_can_be_imported():
    for name in mock_mcp.__all__:
        assert getattr(mock_mcp, name) is not None
    assert set(dir(mock_mcp)) == set(mock_mcp.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        mock_mcp.no_such_name  # noqa: B018
