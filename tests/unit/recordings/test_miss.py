"""A miss explains itself: cause, nearest call, differences, repair; no secrets, bounded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from mock_mcp.errors import MockMcpError
from mock_mcp.recordings.format import RecordedRequest
from mock_mcp.recordings.match import Matching
from mock_mcp.recordings.miss import (
    RecordingMiss,
    explain_miss,
    repair_command,
    repair_of_block,
    source_of,
)
from unit.recordings.calls import Test, answered, call

U = "https://api.test/users"
REPAIR = repair_command("ai", "tests/test_shop.py::test_buy[a b]")


def missed(test: Test, made: RecordedRequest, **options: Any) -> RecordingMiss:
    run = test.open(**options)
    assert run.find(made) is None
    return explain_miss(run, made, REPAIR)


def test_the_repair_is_one_command_to_paste() -> None:
    assert REPAIR == (
        "MOCK_MCP=1 pytest --mock-mode=new_episodes 'tests/test_shop.py::test_buy[a b]'"
    )
    assert repair_command("example", "test_a.py") == (
        "pytest --mock-source=example --mock-mode=new_episodes test_a.py"
    )
    assert repair_of_block("ai", "buy").startswith("MOCK_MCP=1, with mode='new_episodes'")


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        (["live", "live"], "live"),
        (["ai", "example"], "chosen"),
        (["hand"], "chosen"),
        ([], "chosen"),
    ],
)
def test_the_repair_asks_where_the_recording_came_from(sources: list[Any], found: str) -> None:
    recorded = [msgspec.structs.replace(answered(call(U)), source=source) for source in sources]
    assert source_of(recorded, "chosen") == found


def test_no_recording(test: Test) -> None:
    miss = missed(test, call(U))
    assert miss.cause == "no-recording"
    assert miss.message.endswith(f"To obtain the answer: {REPAIR}")
    assert str(test.path) in str(miss)
    assert REPAIR in str(miss)
    assert isinstance(miss, MockMcpError)


def test_a_renamed_test_is_told_where_its_recording_is(test: Test) -> None:
    test.file.write_text("def test_buy(): ...")
    test.record(answered(call(U)))
    test.path.rename(test.path.with_name("test_pay.json"))
    content = test.path.with_name("test_pay.json").read_bytes()
    test.path.with_name("test_pay.json").write_bytes(content.replace(b"test_buy", b"test_pay"))
    miss = missed(test, call(U))
    assert miss.cause == "no-recording"
    assert "It is recorded for test_shop.py::test_pay, which is gone" in miss.message
    assert "test_pay.json test_buy.json" in miss.message
    assert miss.message.endswith(f"To obtain the answer: {REPAIR}")
    assert miss.code == "recording-miss"


def test_used_up(test: Test) -> None:
    test.record(answered(call(U)))
    run = test.open()
    assert run.find(call(U)) is not None
    assert run.find(call(U)) is None
    miss = explain_miss(run, call(U), REPAIR)
    assert miss.cause == "used-up"
    assert "recorded once; this is call number 2" in str(miss)


def form(value: str) -> RecordedRequest:
    return call(U, body={"$form": {"a": value}})


CHANGES = [
    (call(f"{U}?page=1"), call(f"{U}?page=2"), [("query.page", '"1"', '"2"')]),
    (call(f"{U}?a=1&a=2"), call(f"{U}?a=3"), [("query.a", '["1", "2"]', '"3"')]),
    (call(f"{U}?a="), call(U), [("query.a", '""', "nothing")]),
    (call(U), call(U, "DELETE"), [("method", '"GET"', '"DELETE"')]),
    (call(f"{U}/1"), call(f"{U}/2"), [("path", '"/users/1"', '"/users/2"')]),
    (call(U, body={"a": [1, 2]}), call(U, body={"a": [1, 3]}), [("body.a.1", "2", "3")]),
    (form("1"), form("2"), [("body.a", '"1"', '"2"')]),
    (call(U, body=[1]), call(U), [("body", "[1]", "nothing")]),
    (call(U, body={"n": True}), call(U, body={"n": 1}), [("body.n", "true", "1")]),
]


@pytest.mark.parametrize(("recorded", "made", "differences"), CHANGES)
def test_a_changed_request_names_every_field(
    test: Test, recorded: RecordedRequest, made: RecordedRequest, differences: Any
) -> None:
    test.record(answered(call("https://other.test/x")), answered(recorded))
    miss = missed(test, made)
    assert miss.cause == "request-changed"
    assert [tuple(difference) for difference in miss.differences] == differences
    assert miss.nearest is not None
    assert "number 2 of 2, unused" in miss.nearest
    for field, before, now in differences:
        assert f"{field}: recorded {before}, now {now}" in str(miss)


@pytest.mark.parametrize(
    ("recorded", "made"),
    [
        (call(f"{U}?ts=1&page=1"), call(f"{U}?ts=2&page=1")),
        (call(U, body={"id": "1", "a": [{"at": 1}]}), call(U, body={"id": "2", "a": [{"at": 2}]})),
        (form("1"), form("2")),
    ],
)
def test_values_that_differ_are_named_as_ignore_takes_them(
    test: Test, recorded: RecordedRequest, made: RecordedRequest
) -> None:
    test.record(answered(recorded))
    line = next(line for line in str(missed(test, made)).splitlines() if "ignore = " in line)
    ignore = json.loads(line.partition("ignore = ")[2].partition(" in ")[0])
    assert test.open(matching=Matching(ignore=ignore)).find(made) is not None


@pytest.mark.parametrize(
    "made",
    [call(U, "DELETE"), call(f"{U}/1"), call(f"{U}?page=1"), call(U, body=[1]), call(U, body=1)],
)
def test_another_call_is_not_taken_for_values_that_change(
    test: Test, made: RecordedRequest
) -> None:
    test.record(answered(call(U)))
    assert "ignore" not in str(missed(test, made))


@pytest.mark.parametrize("made", ["https://mail.test/send", "https://api.test/users/2"])
def test_another_call_was_not_recorded(test: Test, made: str) -> None:
    test.record(answered(call("https://api.test/users/1")))
    miss = missed(test, call(made, "POST"))
    assert miss.cause == "not-recorded"
    assert miss.nearest is not None


def test_the_nearest_call_is_the_one_that_shares_most(test: Test) -> None:
    body = {"name": "Ann", "age": 1, "city": "Ulm"}
    test.record(
        answered(call(U, "POST", {"name": "Bob", "age": 2, "city": "Ulm"})),
        answered(call(U, "POST", {**body, "age": 2})),
        answered(call(f"{U}/9", "POST", body)),
    )
    miss = missed(test, call(U, "POST", body))
    assert [difference.field for difference in miss.differences] == ["body.age"]


def test_only_what_is_compared_is_a_difference(test: Test) -> None:
    options = {"matching": Matching(("method", "path", "headers:accept"), ignore=["ts"])}
    test.record(answered(call(f"{U}?ts=1", accept="a")), **options)
    miss = missed(test, call(f"{U}?ts=2", accept="b"), **options)
    assert [tuple(d) for d in miss.differences] == [("headers.accept", '["a"]', '["b"]')]


def test_a_callable_that_refuses_is_named(test: Test) -> None:
    def never(recorded: RecordedRequest, made: RecordedRequest) -> bool:
        return False

    test.record(answered(call(U)))
    miss = missed(test, call(U), matching=Matching(("path", never)))
    assert "never" in miss.differences[0].now


def test_a_hook_that_leaves_the_request_out_is_named(test: Test) -> None:
    test.record(answered(call(U)))
    miss = missed(test, call(U), matching=Matching(before=lambda _: None))
    assert miss.cause == "not-recorded"
    assert "before_match" in str(miss)


def test_secrets_are_not_shown(test: Test) -> None:
    test.record(answered(call(f"{U}?token=S3CRET", body={"password": "S3CRET", "a": 1})))
    miss = missed(test, call(f"{U}?token=S3CRET", body={"password": "S3CRET", "a": 2}))
    assert "S3CRET" not in str(miss)
    assert "S3CRET" not in str(miss.data)


def test_a_large_difference_is_cut(test: Test) -> None:
    test.record(answered(call(U, body={str(n): "x" * 5000 for n in range(100)})))
    miss = missed(test, call(f"{U}?q={'y' * 5000}", body={str(n): "z" * 5000 for n in range(100)}))
    assert len(str(miss)) < 5000
    assert "more" in str(miss)


@pytest.mark.parametrize("parts", [5, 5000])
def test_of_long_values_the_difference_is_shown(test: Test, parts: int) -> None:
    same = "<part/>" * parts
    test.record(answered(call(U, body=f"{same}<Tag>one</Tag>{same}")))
    miss = missed(test, call(U, body=f"{same}<Tag>other</Tag>{same}"))
    [(field, before, now)] = miss.differences
    assert field == "body"
    assert "<Tag>one</Tag>" in before
    assert "<Tag>other</Tag>" in now
    assert max(len(before), len(now)) <= 100


def test_a_request_body_beside_the_file_is_compared(test: Test) -> None:
    test.record(answered(call(U, body={"text": "x" * 70_000, "n": 1})))
    miss = missed(test, call(U, body={"text": "x" * 70_000, "n": 2}))
    assert [tuple(d) for d in miss.differences] == [("body.n", "1", "2")]


def test_a_broken_contract_uses_the_same_words(test: Test) -> None:
    miss = RecordingMiss(
        call(U), test.path, "contract-changed", REPAIR, details=["/body/id: expected a string"]
    )
    assert str(miss).startswith(f"The recorded answer to GET {U} no longer fits the contract\n")
    assert "The contract changed" in str(miss)
    assert "/body/id: expected a string" in str(miss)
    assert miss.data["cause"] == "contract-changed"
