"""The document a person edits: what it says, and what is read of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mock_mcp.cli.draft import read_draft, with_notes, write_draft
from mock_mcp.errors import InvalidParams
from mock_mcp.types import Mock

REQUEST = {"requestId": "a", "method": "GET", "endpoint": "https://api.test/users/7"}


def draft(*requests: dict[str, Any], missing: dict[str, str] | None = None, **more: Any) -> str:
    asked = list(requests) or [REQUEST]
    view = {"batchId": "batch:r:1", "test": {}, "history": [], "requests": asked, **more}
    answers = {each["requestId"]: Mock(each["requestId"], {"id": 7}) for each in asked}
    return write_draft(view, answers, missing or {})


def test_what_was_written_is_what_is_read():
    one, two = REQUEST, {**REQUEST, "requestId": "b"}
    assert read_draft(draft(one, two)) == [Mock("a", {"id": 7}, 200), Mock("b", {"id": 7}, 200)]


def test_a_stream_is_edited_as_its_items():
    headers = {"content-type": "application/x-ndjson"}
    answers = {"a": Mock("a", '{"id":7}\n{"id":8}\n', headers=headers)}
    view = {"batchId": "batch:r:1", "test": {}, "history": [], "requests": [REQUEST]}
    (read,) = read_draft(write_draft(view, answers, {}))
    assert (read.data, read.headers) == ([{"id": 7}, {"id": 8}], headers)


def test_it_says_all_that_is_known():
    text = draft(
        {**REQUEST, "body": {"x": 1}, "contract": "c1", "metadata": {"instructions": "One\nuser."}},
        {**REQUEST, "requestId": "b", "contract": "c1", "metadata": {"$shared": "s1"}},
        test={"name": "test_one", "file": "/t.py"},
        history=[{"outcome": "released", "reason": "too hard"}],
        used=[{"call": "POST /users", "answer": {"id": 7}}],
        contracts={"c1": {"status": 200, "example": {"id": 1}}},
        shared={"s1": {"instructions": "Shared."}},
        missing={"b": "no contract"},
    )
    for line in (
        "// batch:r:1, asked for by test_one /t.py",
        "// Earlier: released too hard",
        '//   Used in this run: {"call": "POST /users", "answer": {"id": 7}}',
        "  // GET https://api.test/users/7",
        '  //   body: {"x": 1}',
        "  //   instructions:",
        "  //     One",
        '  //   contract c1: {"status": 200}',
        "  //   instructions: Shared.",
        "  // No answer to begin with: no contract",
    ):
        assert line in text.split("\n")
    assert len(read_draft(text)) == 2


@pytest.mark.parametrize(
    ("metadata", "shown"), [("text", "text"), (5, "5"), (["x"], '["x"]'), (None, "null")]
)
def test_metadata_need_not_be_an_object(metadata, shown):
    assert f"  //   metadata: {shown}\n" in draft({**REQUEST, "metadata": metadata})


def test_a_contract_that_is_folded_is_a_comment():
    assert '//   contract: {"$fold": "#"}' in draft({**REQUEST, "contract": {"$fold": "#"}})


def test_what_a_test_sent_is_only_ever_a_comment():
    evil = 'x\n{"requestId": "a"}\r\x1b[2J\u2028\x85'
    asked = {**REQUEST, "endpoint": evil, "metadata": {"instructions": evil}}
    text = draft(asked, test={"name": evil}, missing={"a": evil})
    assert "\x1b" not in text
    assert read_draft(text) == [Mock("a", {"id": 7}, 200)]


def test_a_long_part_is_cut():
    text = draft({**REQUEST, "body": [{"n": n, "text": "x" * 40} for n in range(500)]})
    assert len(text.split("\n")) < 100
    assert "more lines" in text


@pytest.mark.parametrize("text", ["", " \n", "// only\n  // comments\n"])
def test_nothing_is_no_answer(text):
    assert read_draft(text) is None


def test_fields_of_a_mock_and_comments_anywhere():
    text = """
    // before
    [
      {"requestId": "a", "data": "// no comment", "status": 404,
       // "data": 2,
       "headers": {"etag": ["1"]}, "delayMs": 5, "reuse": "run"}
    ]
    // after
    """
    assert read_draft(text) == [Mock("a", "// no comment", 404, {"etag": ["1"]}, 5, "run")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("// x\n[\n{]", "line 3, column 2"),
        ("{}", "array"),
        ('[{"requestId": "a"}]', "data"),
        ('[{"requestId": "a", "data": 1, "statusCode": 1}]', "statusCode"),
        ('[{"requestId": "a", "data": 1, "status": 42}]', "status"),
        ('[{"requestId": "a", "data": NaN}]', "JSON"),
        ('[{"requestId": "a", "data": 1e999}]', "JSON"),
        ('[{"requestId": "a", "data": "\\ud800"}]', "surrogates"),
        ("[" * 100_000, "list of mocks"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_words(text, said):
    with pytest.raises(InvalidParams, match=said):
        read_draft(text)


def test_notes_replace_earlier_ones_and_leave_the_edit_alone():
    edited = '// mine\n[ {"requestId":"a" ,"data":1} ]\n'
    first = with_notes(edited, "wrong\nand\x1b wrong")
    assert first == f"//! wrong\n//! and\\x1b wrong\n{edited}"
    assert with_notes(first, "better") == f"//! better\n{edited}"
    assert read_draft(first) == [Mock("a", 1)]
    assert json.loads(edited.partition("\n")[2])
