"""What `mock-mcp init` makes of each client's files, and that it is undone exactly."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.contract.config import load_project_config
from mock_mcp.errors import ConfigurationError, MissingExtra
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.setup import documents, launcher
from mock_mcp.setup.clients import CLIENTS, System, detect, target
from mock_mcp.setup.errors import SetupError
from mock_mcp.setup.launcher import REQUIREMENT
from mock_mcp.setup.plan import Plan, Planner

PETSTORE = Path(launcher.__file__).parents[1] / "demo" / "petstore.json"
PROJECT = [name for name, client in CLIENTS.items() if client.project]
UVX = ["--from", REQUIREMENT, "mock-mcp", "adapter"]
ROOTED = [*UVX, "--project-root", "${workspaceFolder}"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text("# mine\n[project]\nname = 'p'\n")
    return root


@pytest.fixture
def system(home: Path) -> System:
    return System(home, "linux", {"PATH": ""})


@pytest.fixture
def planner(system: System, root: Path, tmp_path: Path) -> Planner:
    return Planner(system, root, CacheDirectory(tmp_path / "cache"))


def snapshot(directory: Path) -> dict[str, bytes | None]:
    """Return every file with its content and every directory below one."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


def set_up(planner: Planner, *names: str, asked: Any = "uvx") -> Plan:
    plan = planner.add(names, asked)
    planner.carry_out(plan)
    return plan


def undo(planner: Planner, *names: str) -> Plan:
    plan = planner.remove(names)
    planner.carry_out(plan, removing=True)
    return plan


def entry_of(name: str, path: Path) -> Any:
    text = path.read_text("utf-8-sig")
    data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    return data[CLIENTS[name].key]["mock-mcp"]


# -- The documented form of each client -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path", "whole"),
    [
        ("claude-code", ".mcp.json", {"mcpServers": {"mock-mcp": {"command": "uvx", "args": UVX}}}),
        (
            "cursor",
            ".cursor/mcp.json",
            {"mcpServers": {"mock-mcp": {"command": "uvx", "args": ROOTED}}},
        ),
        (
            "vscode",
            ".vscode/mcp.json",
            {"servers": {"mock-mcp": {"type": "stdio", "command": "uvx", "args": ROOTED}}},
        ),
    ],
)
def test_a_project_file_has_the_form_of_its_client(planner, root, name, path, whole):
    set_up(planner, name)
    assert json.loads((root / path).read_text()) == whole


def test_codex_reads_toml(planner, root):
    set_up(planner, "codex")
    assert (root / ".codex/config.toml").read_text() == (
        '[mcp_servers.mock-mcp]\ncommand = "uvx"\n'
        f'args = ["--from", "{REQUIREMENT}", "mock-mcp", "adapter"]\nstartup_timeout_sec = 60\n'
    )


@pytest.mark.parametrize(
    ("name", "platform", "environ", "path"),
    [
        ("claude-code", "linux", {}, "~/.claude.json"),
        ("claude-code", "linux", {"CLAUDE_CONFIG_DIR": "/c"}, "/c/.claude.json"),
        ("cursor", "darwin", {}, "~/.cursor/mcp.json"),
        ("vscode", "linux", {}, "~/.config/Code/User/mcp.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "/x"}, "/x/Code/User/mcp.json"),
        ("vscode", "darwin", {}, "~/Library/Application Support/Code/User/mcp.json"),
        ("vscode", "win32", {"APPDATA": "/a"}, "/a/Code/User/mcp.json"),
        ("codex", "linux", {}, "~/.codex/config.toml"),
        ("codex", "linux", {"CODEX_HOME": "/x"}, "/x/config.toml"),
        (
            "claude-desktop",
            "darwin",
            {},
            "~/Library/Application Support/Claude/claude_desktop_config.json",
        ),
        ("claude-desktop", "win32", {"APPDATA": "/a"}, "/a/Claude/claude_desktop_config.json"),
        ("claude-desktop", "linux", {}, "~/.config/Claude/claude_desktop_config.json"),
        ("windsurf", "linux", {}, "~/.codeium/windsurf/mcp_config.json"),
    ],
)
def test_the_file_of_all_projects_is_where_the_client_looks(home, name, platform, environ, path):
    found = target(CLIENTS[name], System(home, platform, environ), None)
    assert found.path == Path(path.replace("~", str(home)))


@pytest.mark.parametrize("name", CLIENTS)
def test_a_file_of_all_projects_names_its_programs_by_full_paths(name, home, tmp_path, monkeypatch):
    uvx = tmp_path / "bin" / "uvx"
    uvx.parent.mkdir()
    uvx.touch(0o755)
    system = System(home, "linux", {"PATH": str(uvx.parent)})
    planner = Planner(system, None, CacheDirectory(tmp_path / "cache"))
    set_up(planner, name)
    path = CLIENTS[name].everywhere(system)
    assert entry_of(name, path)["command"] == str(uvx)
    assert entry_of(name, path)["args"] == UVX
    undo(planner, name)
    assert snapshot(home) == {}


@pytest.mark.parametrize("name", ["claude-desktop", "windsurf"])
def test_a_client_without_project_files_is_said_to_have_none(planner, root, home, name):
    with pytest.raises(ConfigurationError, match=f"--global --client {name}"):
        planner.add([name], "uvx")
    (root / ".mcp.json").write_text("{}")
    CLIENTS[name].everywhere(System(home, "linux", {})).parent.mkdir(parents=True)
    assert any(f"--client {name}" in note for note in planner.add([], "uvx").notes)


# -- Which clients ----------------------------------------------------------------------------


def test_nothing_in_use_is_an_error_that_names_the_clients(planner):
    with pytest.raises(ConfigurationError, match="claude-code, cursor, vscode, codex"):
        planner.add([], "uvx")


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("project/.mcp.json", "claude-code"),
        ("project/CLAUDE.md", "claude-code"),
        ("project/.cursor", "cursor"),
        ("project/.vscode", "vscode"),
        ("project/.codex", "codex"),
        ("home/.claude.json", "claude-code"),
        ("home/.claude", "claude-code"),
        ("home/.codex", "codex"),
        ("home/.config/Claude", "claude-desktop"),
        ("home/.config/Code/User", "vscode"),
        ("home/.codeium/windsurf", "windsurf"),
    ],
)
def test_a_client_in_use_is_found_by_what_it_leaves(tmp_path, root, system, place, found):
    (tmp_path / place).mkdir(parents=True)
    assert [client.id for client in detect(system, root)] == [found]


def test_a_client_is_found_by_its_program(home, root, tmp_path):
    (tmp_path / "cursor").touch(0o755)
    found = detect(System(home, "linux", {"PATH": str(tmp_path)}), root)
    assert [client.id for client in found] == ["cursor"]


# -- Files that are there ---------------------------------------------------------------------

JSON_FILES = {
    "missing": None,
    "empty": b"",
    "blank": b"\n\n",
    "object": b"{}",
    "spaced": b"{ }\n",
    "empty table": b'{"KEY": {}}\n',
    "other server": b'{\n  "KEY": {\n    "x": {"command": "y"}\n  },\n  "z": [1, 2]\n}\n',
    "no last newline": b'{\n    "KEY": {\n        "x": {}\n    }\n}',
    "windows": b'{\r\n\t"z": 1,\r\n\t"KEY": {\r\n\t\t"x": {}\r\n\t}\r\n}\r\n',
    "byte order mark": b'\xef\xbb\xbf{"z": "\xc3\xbc"}\n',
    "comments": b'// a\n{\n  // b\n  "KEY": {\n    "x": {}, // c\n    /* d */\n  }, // e\n}\n//\n',
    "commented out": b'{\n  "KEY": {\n    // "mock-mcp": {},\n  }\n}\n',
}
TOML_FILES = {
    "missing": None,
    "empty": b"",
    "comment": b"# a\n",
    "other server": b'# a\nm = "m" # b\n\n[mcp_servers.x]\ncommand = "y"\n\n[profiles.z]\na = 1\n',
    "no last newline": b"[mcp_servers.x]\ncommand = 'y'",
    "windows": b"a = 1\r\n[mcp_servers.x]\r\ncommand = 'y'\r\n",
    "byte order mark": b'\xef\xbb\xbfa = "\xc3\xbc"\n',
}
CASES = [
    pytest.param(name, content, id=f"{name}-{case}")
    for name in PROJECT
    for case, content in (JSON_FILES if CLIENTS[name].form == "json" else TOML_FILES).items()
]


def put(root: Path, name: str, content: bytes | None) -> Path:
    path = root / CLIENTS[name].project
    if content is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.replace(b"KEY", CLIENTS[name].key.encode()))
    return path


@pytest.mark.parametrize(("name", "content"), CASES)
def test_a_file_is_extended_once_and_restored_to_the_byte(planner, root, name, content):
    path = put(root, name, content)
    shutil.copy(PETSTORE, root / "openapi.json")
    before = snapshot(root)
    set_up(planner, name)
    after = snapshot(root)
    text = path.read_bytes()
    assert b"mock-mcp" in text
    if content:
        assert text.startswith(b"\xef\xbb\xbf") == content.startswith(b"\xef\xbb\xbf")
        assert (b"\r\n" in text) == (b"\r\n" in content)
        if content.strip():
            assert text.endswith(b"\n") == content.endswith(b"\n")
        assert not [
            line
            for line in (before[str(path.relative_to(root))] or b"").splitlines()
            if line.strip() and line.strip(b" {},}") not in text
        ]
    assert not set_up(planner, name).changes
    assert snapshot(root) == after
    undo(planner)
    assert snapshot(root) == before
    assert not planner.remove([]).changes


BROKEN = {
    "json": [
        (b'{"KEY": {', "a name in double quotes"),
        (b"[]", "must be an object"),
        (b'{"KEY": []}', "must be an object"),
        (b'{"KEY": {"mock-mcp": 1}}', "must be an object"),
        (b'{"KEY": {"mock-mcp": {"command": "npx", "args": ["mock-mcp"]}}}', "something else"),
        (b"\xff\xfe{\x00}\x00", "is not UTF-8"),
    ],
    "toml": [
        (b"[mcp_servers", "is no TOML"),
        (b"mcp_servers = []", "must be an object"),
        (b"mcp_servers = {}\n", "nothing was changed"),
        (b"[mcp_servers.mock-mcp]\nurl = 'http://x'\n", "something else"),
        (b"\xff", "is not UTF-8"),
    ],
}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [(name, *case) for name in PROJECT for case in BROKEN[CLIENTS[name].form]],
)
def test_a_broken_file_is_reported_and_no_file_touched(planner, root, name, content, reason):
    path = put(root, name, content)
    shutil.copy(PETSTORE, root / "openapi.json")
    before = snapshot(root)
    others = [other for other in PROJECT if other != name]
    with pytest.raises(SetupError, match=reason) as caught:
        planner.add([*others, name], "uvx")
    assert caught.value.file == str(path)
    assert snapshot(root) == before


def test_an_edited_file_loses_the_entry_alone(planner, root):
    path = put(root, "vscode", JSON_FILES["comments"])
    set_up(planner, "vscode")
    edited = path.read_text().replace('"x": {}', '"x": {"command": "new"}')
    path.write_text(edited)
    undo(planner)
    assert path.read_text() == JSON_FILES["comments"].decode().replace("KEY", "servers").replace(
        '"x": {}', '"x": {"command": "new"}'
    )


def test_a_configuration_that_was_checked_out_loses_the_entry_alone(
    planner, root, system, tmp_path
):
    put(root, "codex", TOML_FILES["other server"])
    set_up(planner, "codex", "cursor")
    elsewhere = Planner(system, root, CacheDirectory(tmp_path / "other"))
    undo(elsewhere)
    assert tomllib.loads((root / ".codex/config.toml").read_text())["mcp_servers"].keys() == {"x"}
    assert json.loads((root / ".cursor/mcp.json").read_text()) == {"mcpServers": {}}


def test_an_entry_of_another_server_is_left_when_removing(planner, root):
    path = put(root, "cursor", b'{"KEY": {"mock-mcp": {"command": "npx"}}}')
    before = path.read_bytes()
    plan = undo(planner)
    assert path.read_bytes() == before
    assert "it stays" in plan.notes[0]


# -- The command ------------------------------------------------------------------------------


def test_an_entry_that_works_is_left_as_it_is(planner, root):
    mine = {"command": "uvx", "args": [*UVX, "--contract-budget", "9000"], "env": {"A": "1"}}
    put(root, "claude-code", json.dumps({"mcpServers": {"mock-mcp": mine}}).encode())
    assert not planner.add(["claude-code"], None).changes


@pytest.mark.parametrize("name", PROJECT)
def test_an_entry_of_an_older_version_is_replaced_and_undone_to_the_first_file(planner, root, name):
    path = put(root, name, b"" if name == "codex" else b'{"z": 1}')
    before = snapshot(root)
    set_up(planner, name)
    changed = path.read_text().replace(REQUIREMENT, "mock-mcp[adapter]~=0.0.1")
    path.write_text(changed)
    assert len(set_up(planner, name).changes) == 1
    assert REQUIREMENT in path.read_text()
    set_up(planner, name, asked="python")
    assert "-P" in entry_of(name, path)["args"]
    path.write_bytes(before[str(path.relative_to(root))])
    set_up(planner, name)
    set_up(planner, name, asked="python")
    undo(planner)
    assert snapshot(root) == before


def test_the_interpreter_of_the_project_is_named_from_the_clients_variable(
    planner, root, monkeypatch
):
    python = root / ".venv" / "bin" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    plan = set_up(planner, *PROJECT, asked="python")
    commands = {name: entry_of(name, root / CLIENTS[name].project)["command"] for name in PROJECT}
    assert commands == {
        "claude-code": "${CLAUDE_PROJECT_DIR:-.}/.venv/bin/python",
        "cursor": "${workspaceFolder}/.venv/bin/python",
        "vscode": "${workspaceFolder}/.venv/bin/python",
        "codex": str(python),
    }
    assert next(note for note in plan.notes if "do not commit" in note).startswith("Codex")


def test_uvx_is_chosen_where_it_can_find_this_version(tmp_path, monkeypatch):
    (tmp_path / "uvx").touch(0o755)
    monkeypatch.setattr(launcher, "_is_from_index", lambda: True)
    assert launcher.choose_launcher(None, str(tmp_path)) == "uvx"
    assert launcher.choose_launcher(None, str(tmp_path / "none")) == "python"
    monkeypatch.setattr(launcher, "_is_from_index", lambda: False)
    assert launcher.choose_launcher(None, str(tmp_path)) == "python"


def test_an_interpreter_without_the_extra_is_not_written(planner, root, monkeypatch):
    monkeypatch.setattr(launcher.importlib.util, "find_spec", lambda name: None)
    before = snapshot(root)
    with pytest.raises(MissingExtra, match=r"mock-mcp\[adapter\].*--launcher uvx"):
        planner.add(["cursor"], None)
    assert snapshot(root) == before


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("npx", ["mock-mcp", "adapter"]),
        ("uvx", ["mock-mcp-other", "adapter"]),
        ("uvx", ["--from", "mock-mcp-other", "mock-mcp", "adapter"]),
        ("python", ["-m", "mock_mcp"]),
        ("pythonista", ["-m", "mock_mcp", "adapter"]),
        ("python", "-m mock_mcp adapter"),
        (None, []),
    ],
)
def test_other_commands_are_not_taken_for_ours(program, arguments):
    assert launcher.command_of(program, arguments) is None


# -- The contract -----------------------------------------------------------------------------


def test_documents_are_found_and_registered_nearest_first(planner, root):
    shutil.copy(PETSTORE, root / "z.json")
    for place in ("node_modules/x", ".git", ".venv/lib", "my-env", "__mocks__"):
        (root / place).mkdir(parents=True)
        shutil.copy(PETSTORE, root / place / "openapi.json")
    (root / "my-env" / "pyvenv.cfg").touch()
    other = json.loads(PETSTORE.read_text())
    other["info"]["title"] = "Another"
    (root / "api").mkdir()
    (root / "api" / "a.yaml").write_text(json.dumps(other, indent=1))
    shutil.copy(PETSTORE, root / "api" / "same.json")
    (root / "package.json").write_text('{"openapi": "no version"}')
    (root / "config.json").write_text('{"tools": {"openapi": "3.1"}}')
    set_up(planner, "cursor")
    assert (root / "pyproject.toml").read_text() == (
        "# mine\n[project]\nname = 'p'\n\n[tool.mock-mcp]\nopenapi = [\n"
        '    "z.json",\n    "api/a.yaml",\n]\n'
    )
    assert len(load_project_config(root).documents) == 2


def test_the_search_for_documents_ends(planner, root, monkeypatch):
    for name in ("a", "b", "c"):
        document = json.loads(PETSTORE.read_text())
        document["info"]["title"] = name
        (root / f"{name}.json").write_text(json.dumps(document))
    size = (root / "a.json").stat().st_size
    monkeypatch.setattr(documents, "MAX_READ_BYTES", size + 1)
    assert documents.find_documents(root).documents == ("a.json", "b.json")
    monkeypatch.setattr(documents, "MAX_FILES", 1)
    assert documents.find_documents(root).documents == ("a.json",)


def test_a_document_that_cannot_be_used_is_named_and_left_out(planner, root):
    (root / "bad.json").write_text('{"openapi": "3.0.0", "paths": {')
    plan = set_up(planner, "cursor")
    assert [note for note in plan.notes if note.startswith("not registered") and "bad.json" in note]
    assert "mock-mcp" not in (root / "pyproject.toml").read_text()


def test_settings_that_name_documents_are_left_alone(planner, root):
    shutil.copy(PETSTORE, root / "openapi.json")
    settings = "[tool.mock-mcp]\nopenapi = []\n"
    (root / "pyproject.toml").write_text(settings)
    set_up(planner, "cursor")
    assert (root / "pyproject.toml").read_text() == settings


def test_settings_without_documents_get_them(planner, root):
    shutil.copy(PETSTORE, root / "openapi.json")
    (root / "pyproject.toml").write_text("[tool.mock-mcp]\nmode = 'once'\n[tool.x]\n")
    set_up(planner, "cursor")
    assert (root / "pyproject.toml").read_text() == (
        "[tool.mock-mcp]\nopenapi = [\"openapi.json\"]\nmode = 'once'\n[tool.x]\n"
    )
    undo(planner)
    assert (root / "pyproject.toml").read_text() == ("[tool.mock-mcp]\nmode = 'once'\n[tool.x]\n")


def test_settings_that_were_edited_since_stay(planner, root):
    shutil.copy(PETSTORE, root / "openapi.json")
    set_up(planner, "cursor")
    path = root / "pyproject.toml"
    path.write_text(path.read_text() + 'contract = "warn"\n[tool.x]\n')
    undo(planner)
    assert 'contract = "warn"' in path.read_text()


@pytest.mark.parametrize("content", ["[tool", "[tool]\nmock-mcp = 1\n", "[tool]\nmock-mcp = {}\n"])
def test_a_pyproject_that_cannot_be_extended_is_refused(planner, root, content):
    shutil.copy(PETSTORE, root / "openapi.json")
    (root / "pyproject.toml").write_text(content)
    before = snapshot(root)
    with pytest.raises(SetupError, match=r"pyproject\.toml"):
        planner.add(["cursor"], "uvx")
    assert snapshot(root) == before


def test_a_project_without_a_pyproject_gets_one_for_its_document(planner, root):
    (root / "pyproject.toml").unlink()
    shutil.copy(PETSTORE, root / "openapi.json")
    set_up(planner, "cursor")
    assert load_project_config(root).documents
    undo(planner)
    assert snapshot(root).keys() == {"openapi.json"}
