"""One member of a JSON file is changed, and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_mcp.setup.jsonc import Malformed, parse, remove_member, set_member

PATH = ("servers", "mock-mcp")
ENTRY = {"command": "uvx", "args": ["a", "b"]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "{}\n",
            (
                '{\n  "servers": {\n    "mock-mcp": {\n      "command": "uvx",\n'
                '      "args": ["a", "b"]\n    }\n  }\n}\n'
            ),
        ),
        (
            '{"servers": {"x": {}}, "z": 1}',
            '{"servers": {"x": {}, "mock-mcp": {"command": "uvx", "args": ["a", "b"]}}, "z": 1}',
        ),
        (  # four spaces, a comment behind the last member
            '{\n    "servers": {\n        "x": {} // mine\n    }\n}\n',
            (
                '{\n    "servers": {\n        "x": {}, // mine\n        "mock-mcp": {\n'
                '            "command": "uvx",\n            "args": ["a", "b"]\n        }\n'
                "    }\n}\n"
            ),
        ),
        (  # tabs, a trailing comma, comments of both kinds
            '// top\n{\n\t/* these */ "servers": {\n\t\t"x": {}, /* y */ // z\n\t\t// end\n\t},\n}',
            (
                '// top\n{\n\t/* these */ "servers": {\n\t\t"x": {}, /* y */ // z\n'
                '\t\t"mock-mcp": {\n'
                '\t\t\t"command": "uvx",\n\t\t\t"args": ["a", "b"]\n\t\t},\n\t\t// end\n\t},\n}'
            ),
        ),
        (  # Windows line ends, an empty object with a comment in it
            '{\r\n  "servers": { // none\r\n  }\r\n}',
            (
                '{\r\n  "servers": { // none\r\n    "mock-mcp": {\r\n      "command": "uvx",\r\n'
                '      "args": ["a", "b"]\r\n    }\r\n  }\r\n}'
            ),
        ),
        (  # what looks like an end or a comment inside a text
            '{\n  "a": "} // \\" /*",\n  "servers": {"x": "]"}\n}\n',
            (
                '{\n  "a": "} // \\" /*",\n'
                '  "servers": {"x": "]", "mock-mcp": {"command": "uvx", "args": ["a", "b"]}}\n}\n'
            ),
        ),
        (
            "// only a comment\n",
            (
                '// only a comment\n{\n  "servers": {\n    "mock-mcp": {\n      "command": "uvx",\n'
                '      "args": ["a", "b"]\n    }\n  }\n}\n'
            ),
        ),
    ],
)
def test_a_member_is_added_in_the_style_of_the_file(before, after):
    assert set_member(before, PATH, ENTRY) == after


def test_a_value_is_replaced_where_it_stands():
    before = '{\n  "servers": {"mock-mcp": {"command": "old", /* why */ "env": {}}}\n}'
    after = set_member(before, (*PATH, "command"), "new")
    assert after == before.replace('"old"', '"new"')


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '{\n  "servers": {\n    "x": 1,\n    "mock-mcp": {\n    }\n  }\n}\n',
            '{\n  "servers": {\n    "x": 1\n  }\n}\n',
        ),
        (
            '{\n  "servers": {\n    "mock-mcp": {}, // ours\n    "x": 1\n  }\n}\n',
            '{\n  "servers": {\n    "x": 1\n  }\n}\n',
        ),
        (
            '{\n  "servers": {\n    "x": 1, // x\n    "mock-mcp": {},\n  }\n}\n',
            '{\n  "servers": {\n    "x": 1, // x\n  }\n}\n',
        ),
        ('{"servers": {"x": 1, "mock-mcp": {}}}', '{"servers": {"x": 1}}'),
        ('{"servers": {"x": 1}}', '{"servers": {"x": 1}}'),
        ('{"other": {}}', '{"other": {}}'),
    ],
)
def test_a_member_is_removed_and_the_rest_stays(before, after):
    assert remove_member(before, PATH) == after


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('{"servers": {}', 1, "a comma or '}'"),
        ('{\n  "a": 1\n  "b": 2\n}', 3, "a comma or '}'"),
        ('{\n  "a" 1}', 2, "a colon"),
        ("{'a': 1}", 1, "double quotes"),
        ('{"a": tru}', 1, "a JSON value"),
        ('{"a": "x\ny"}', 1, "does not end on its line"),
        ('{"a": "\\q"}', 1, "escape"),
        ("{} {}", 1, "something follows"),
        ("{,}", 1, "a name in double quotes"),
        ('{"a": 01}', 1, "a comma or"),
        ("[" * 300, 1, "nested deeper"),
        ("[]", 1, "is an array"),
        ('{"servers": []}', 1, "$.servers is an array"),
        ('\n{"servers": null}', 2, "$.servers is no object"),
    ],
)
def test_what_is_malformed_is_named_with_its_line(text, line, reason):
    with pytest.raises(Malformed) as caught:
        set_member(text, PATH, ENTRY)
    assert reason in caught.value.reason
    assert caught.value.line == line


def test_a_name_that_stands_twice_is_not_removed_to_uncover_the_other():
    with pytest.raises(Malformed, match="edit it by hand"):
        remove_member('{"servers": {"mock-mcp": 1, "mock-mcp": 2}}', PATH)


names = st.text(max_size=5) | st.sampled_from(["servers", "mock-mcp", "//", "/*", '"'])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)
servers = st.dictionaries(names.filter(lambda name: name != "mock-mcp"), values, max_size=3)


others = st.dictionaries(names.filter(lambda name: name != "servers"), values, max_size=3)
layouts = st.fixed_dictionaries(
    {"indent": st.sampled_from([None, 1, 2, 4, "\t"]), "ensure_ascii": st.booleans()}
)


@given(before=others, servers=servers, after=others, layout=layouts, crlf=st.booleans())
def test_any_file_gets_the_member_and_keeps_its_bytes(before, servers, after, layout, crlf):
    data = {**before, "servers": servers, **after}
    text = json.dumps(data, **layout).replace("\n", "\r\n" if crlf else "\n")
    added = set_member(text, PATH, ENTRY)
    data["servers"] = {**servers, "mock-mcp": ENTRY}
    assert json.loads(added) == parse(added).data == data
    kept = iter(added)
    assert all(char in kept for char in text if not char.isspace())
    removed = remove_member(added, PATH)
    assert json.loads(removed) == {**data, "servers": servers}
    if servers:
        assert removed == text
