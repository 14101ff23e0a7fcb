"""The documents say what the code has: every public name, option, tool, key and error code."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import re
import tomllib
import types
from pathlib import Path

import pytest

import mock_mcp
from mock_mcp import pytest_plugin
from mock_mcp.cli import COMMANDS, build_parser
from mock_mcp.errors import MockMcpError
from mock_mcp.interceptors.versions import NOT_INTERCEPTED, TESTED
from mock_mcp.pytest_plugin import settings
from mock_mcp.recordings.format import decode_recording, encode_interaction, encode_recording
from mock_mcp.scope import MODES, SOURCES, Scope, ScopeSettings
from mock_mcp.setup import doctor
from mock_mcp.setup.clients import CLIENTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
ERRORS = (ROOT / "docs/errors.md").read_text("utf-8")
RECORDINGS = (ROOT / "docs/recordings.md").read_text("utf-8")
INTERCEPTION = (ROOT / "docs/interception.md").read_text("utf-8")
SETUP = (ROOT / "docs/setup.md").read_text("utf-8")
PYTEST = (ROOT / "docs/pytest.md").read_text("utf-8")
CLIENT = (ROOT / "docs/client.md").read_text("utf-8")
COMMANDS_DOCUMENT = (ROOT / "docs/commands.md").read_text("utf-8")
ASSISTANT = (ROOT / "docs/assistant.md").read_text("utf-8")
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
NARROW = ("assistant", "client", "commands", "contract", "pytest")
"""Documents whose lines are as long as the README's."""
RAISING = ("browser", "contract", "exchange", "recordings", "responders", "scope", "wire")
"""Parts whose modules have errors of their own."""


def error_classes() -> list[type[MockMcpError]]:
    for module in pkgutil.walk_packages(mock_mcp.__path__, "mock_mcp."):
        if module.name.endswith("errors") or module.name.split(".")[1] in RAISING:
            importlib.import_module(module.name)
    found: list[type[MockMcpError]] = []
    pending = [MockMcpError]
    while pending:
        cls = pending.pop()
        pending += cls.__subclasses__()
        if cls.__module__.startswith("mock_mcp.") and not cls.__name__.startswith("_"):
            found.append(cls)
    return sorted(found, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("name", mock_mcp.__all__)
def test_every_public_name_is_importable_and_documented(name):
    assert getattr(mock_mcp, name) is not None
    assert f"`{name}" in CLIENT


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_documented(command):
    lines = COMMANDS_DOCUMENT.splitlines()
    rows = [line for line in lines if line.startswith("| `mock-mcp ")]
    (row,) = [row for row in rows if re.search(rf"`mock-mcp {command}[` ]", row.split("|")[1])]
    for option in options_of(command) - {"--help", "--project-root"}:
        assert f"`{option}" in row, f"{command} {option}"


def test_which_commands_take_a_project_is_documented():
    text = COMMANDS_DOCUMENT
    sentence = re.search(r"`--project-root DIR` names the project for (.*?);", text, re.DOTALL)[1]
    taking = {command for command in COMMANDS if "--project-root" in options_of(command)}
    assert set(re.findall(r"`(\S+)`", sentence)) == taking


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", *(f"docs/{d}.md" for d in NARROW)])
def test_prose_is_wrapped_at_100(name):
    prose = re.sub(r"```.*?```", "", (ROOT / name).read_text("utf-8"), flags=re.DOTALL)
    long = [line for line in prose.splitlines() if len(line) > 100 and not line.startswith("|")]
    assert long == []


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{p.name}" for p in DOCUMENTS)])
def test_every_link_leads_somewhere(name):
    text = (ROOT / name).read_text("utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        file = (ROOT / name).parent / target if target else ROOT / name
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def options_of(command: str) -> set[str]:
    shown = [each for each in subparser(command)._actions if each.help != argparse.SUPPRESS]
    return {name for each in shown for name in each.option_strings if name.startswith("--")}


def subparser(command: str) -> argparse.ArgumentParser:
    parser = build_parser((command,))
    actions = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return actions[0].choices[command]


def test_every_mcp_tool_and_prompt_is_documented():
    tools = pytest.importorskip("mock_mcp.adapter.tools", reason="needs the extra adapter")
    assert len(tools.TOOLS) >= 9
    for name in tools.TOOLS:
        assert f"`{name}" in ASSISTANT, name
    assert "`serve_mocks" in ASSISTANT


def test_every_environment_variable_is_documented():
    used = set()
    for path in (ROOT / "src").rglob("*.py"):
        used |= set(re.findall(r'"(MOCK_MCP[A-Z_]*)"', path.read_text("utf-8")))
    assert used >= {"MOCK_MCP", "MOCK_MCP_CACHE_DIR", "MOCK_MCP_LOG"}
    for name in used:
        assert f"`{name}`" in COMMANDS_DOCUMENT, name
    assert rows(README, "Variable") == used


def test_the_readme_names_every_command():
    section = README.partition("## Commands")[2].partition("##")[0]
    named = set(re.findall(r"`([a-z-]+)`", section))
    assert named == set(COMMANDS) - {"help", "version"}


@pytest.mark.parametrize("cls", error_classes(), ids=lambda cls: cls.__name__)
def test_every_error_is_documented_with_its_code(cls):
    row = f"| `{cls.__name__}` | `{cls.code}` |{f' {cls.rpc_code}' if cls.rpc_code else ''} |"
    assert row.rstrip() in ERRORS


def test_error_codes_are_unique():
    codes = [cls.code for cls in error_classes()]
    assert len(codes) == len(set(codes))


def rows(text: str, head: str) -> set[str]:
    """Return what the first cells of the table with a header name, in backticks."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    lines = [table.splitlines() for table in tables]
    (found,) = [table for table in lines if table[0].startswith(f"| {head} |")]
    cells = [line.split("|")[1] for line in found[2:]]
    return {name for cell in cells for name in re.findall(r"`([\w-]+)", cell)}


def test_the_options_of_the_plugin_are_those_of_their_document():
    parser = pytest.Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(parser)
    config = types.SimpleNamespace(known_args_namespace=None)
    pytest_plugin.pytest_load_initial_conftests(config, parser)
    options = {name for group in parser._groups for o in group.options for name in o.names()}
    assert rows(PYTEST, "Option") == options


def test_the_keywords_of_the_marker_are_those_of_their_document():
    assert rows(PYTEST, "Keyword") == set(settings.MARKER_KEYS)
    named = re.findall(r"(\w+)=", pytest_plugin._MARKER)
    assert set(named) == set(settings.MARKER_KEYS)


def test_the_keys_of_the_project_are_those_of_their_document():
    table = PYTEST.partition("\n| Keyword | Project")[2].partition("\n\n")[0].splitlines()[2:]
    marked = {
        name
        for line in table
        if "✓" in line.split("|")[2]
        for name in re.findall(r"`(\w+)", line.split("|")[1])
    }
    assert marked == {*settings.KEYS, "openapi", "contract"}


def test_the_members_of_the_fixture_are_those_of_their_document():
    machinery = {"decide", "handle", "handle_async", "blocked", "verify", "finish"}
    machinery |= {"passes", "handle_page", "page_failed", "publish", "shares"}
    methods = {name for name in vars(Scope) if not name.startswith("_")} - machinery
    assert rows(PYTEST, "Member") == methods | {"calls", "instructions"}
    arguments = inspect.signature(Scope.add_response).parameters
    given = re.search(r"`add_response\(([^)]*)\)`", PYTEST)[1]
    assert given.replace("*, ", "").split(", ") == list(arguments)[1:]


def test_the_settings_of_intercept_are_those_of_its_document():
    assert rows(RECORDINGS, "Setting") == set(ScopeSettings.__struct_fields__)


def test_every_mode_and_source_is_documented():
    assert rows(RECORDINGS, "Mode") == set(MODES)
    for source in SOURCES:
        assert f"`{source}`" in PYTEST


def test_the_recording_in_the_document_is_one():
    example = RECORDINGS.partition("```json\n")[2].partition("```")[0].encode()
    recording = decode_recording(example, "the example")
    texts = [encode_interaction(each) for each in recording.interactions]
    assert encode_recording(recording.test, texts) == example


def test_the_versions_of_libraries_are_those_of_their_document():
    table = INTERCEPTION.partition("## What is intercepted")[2].partition("\n\nOne suite")[0]
    for name, (oldest, newest) in TESTED.items():
        row = next(
            line
            for line in table.splitlines()
            if re.match(rf"\| [^|]*\b{name}\b", line) and oldest in line.split("|")[2]
        )
        assert re.search(rf"\b{re.escape(newest)}\b", row.split("|")[2])
    for name in NOT_INTERCEPTED:
        assert f"{name}" in INTERCEPTION, name


def test_what_the_doctor_checks_is_documented():
    names = set(re.findall(r'Check\(\s*"(\w+)"', inspect.getsource(doctor)))
    assert len(names) == 9
    assert rows(SETUP, "Name") == names


def test_every_client_is_documented():
    for client in CLIENTS.values():
        (row,) = re.findall(rf"\| {client.label} \| `{client.id}` \|(.*?)\| `", SETUP)
        assert row.strip("` ") == (client.project or "")


def test_every_exit_code_is_documented():
    for code in ("0 done", "1 error", "2 wrong usage", "3 not running"):
        assert code in COMMANDS_DOCUMENT


def test_the_ci_script_runs_the_readmes_test_command():
    commands = re.findall(r"```sh\n(python3 -m venv .*)\n```", README)
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci/run").read_text("utf-8")


def test_the_version_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == mock_mcp.__version__


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+-]+", line) for line in pins)
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in pins}
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(name for extra in extras for name in extra)]
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)[0]
        if name != "mock-mcp":
            assert re.sub(r"[-_.]+", "-", name).lower() in pinned, requirement
