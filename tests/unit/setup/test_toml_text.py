"""A TOML file is extended, and nothing else in it changes."""

from __future__ import annotations

import tomllib

import pytest

from mock_mcp.setup.toml_text import CannotEdit, add_key, add_table, remove_table, write_value

PATH = ("mcp_servers", "mock-mcp")
BLOCK = '[mcp_servers.mock-mcp]\ncommand = "uvx"\nargs = ["a", "b"]\n'
VALUES = {"command": "uvx", "args": ("a", "b")}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", BLOCK),
        ("# top\n", f"# top\n\n{BLOCK}"),
        ("a = nan # why\n\n", f"a = nan # why\n\n{BLOCK}"),
        ("[mcp_servers.x]\ncommand='y'", f"[mcp_servers.x]\ncommand='y'\n\n{BLOCK.rstrip()}"),
        ("a=1\r\n", "a=1\r\n\r\n" + BLOCK.replace("\n", "\r\n")),
    ],
)
def test_a_table_stands_at_the_end(before, after):
    assert add_table(before, PATH, VALUES) == after
    assert tomllib.loads(after)["mcp_servers"]["mock-mcp"] == {**VALUES, "args": ["a", "b"]}


@pytest.mark.parametrize("before", ["mcp_servers = { x = {} }\n", "mcp_servers = 1\n"])
def test_a_table_that_cannot_stand_there_is_refused(before):
    with pytest.raises(CannotEdit):
        add_table(before, PATH, VALUES)


def test_a_key_stands_under_its_header():
    before = 'x = """\n[tool.mock-mcp]\n"""\n[ tool . "mock-mcp" ] # ours\nmode = "once"\n'
    after = add_key(before, ("tool", "mock-mcp"), "openapi", ["a", "b"])
    added = 'openapi = [\n    "a",\n    "b",\n]\n'
    assert after == before.replace("# ours\n", "# ours\n" + added)


def test_a_key_stands_under_a_header_that_ends_the_file():
    after = add_key("[tool.mock-mcp]", ("tool", "mock-mcp"), "openapi", ["a"])
    assert after == '[tool.mock-mcp]\nopenapi = ["a"]'


@pytest.mark.parametrize("before", ["[tool]\nmock-mcp = {}\n", "tool.mock-mcp.mode = 'once'\n"])
def test_a_table_without_a_header_gets_no_key(before):
    with pytest.raises(CannotEdit, match="header"):
        add_key(before, ("tool", "mock-mcp"), "openapi", ["a"])


def test_a_table_is_removed_with_those_below_and_nobody_elses_comment():
    before = (
        "a = 1\n[mcp_servers.mock-mcp]\ncommand = 'x'\n[mcp_servers.mock-mcp.env]\nA = '1'\n\n"
        "# of x\n[mcp_servers.x]\n"
    )
    assert remove_table(before, PATH) == "a = 1\n# of x\n[mcp_servers.x]\n"


def test_a_table_that_is_a_value_is_not_removed():
    with pytest.raises(CannotEdit):
        remove_table("[mcp_servers]\nmock-mcp = { command = 'x' }\ny = {}\n", PATH)


@pytest.mark.parametrize("text", ['ü"\\\n\t\x7f', "C:\\uvx.exe", ""])
def test_any_text_is_written_as_one(text):
    assert tomllib.loads(f"x = {write_value(text)}") == {"x": text}
