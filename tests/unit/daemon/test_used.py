"""The values a run has used: what is kept of a call, and how little."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from mock_mcp.daemon.used import UsedByRun
from mock_mcp.limits import Limits
from mock_mcp.types import Mock, MockRequest, UsedValues


def asked(method: str = "GET", endpoint: str = "/users/7", **more: Any) -> MockRequest:
    fields = {"requestId": "a", "endpoint": endpoint, "method": method, **more}
    return MockRequest("a", endpoint, method, msgspec.Raw(json.dumps(fields).encode()))


def used_of(request: MockRequest, mock: Mock, **limits: int) -> list[UsedValues]:
    used = UsedByRun(Limits(**limits))
    used.note("r", [request], [mock])
    return used.of("r")


def test_what_was_created_is_known_to_the_next_call():
    request = asked("POST", "/users", body={"name": "Ann", "role": "admin", "tags": ["x"]})
    assert used_of(request, Mock("a", {"id": 7, "name": "Ann", "bio": "long"}, 201)) == [
        UsedValues(
            "POST", "/users", {"name": "Ann", "role": "admin"}, 201, {"id": 7, "name": "Ann"}
        )
    ]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"id": 1, "owner": {"login": "ann", "site": "x"}}, {"id": 1, "owner.login": "ann"}),
        ([{"id": n} for n in range(9)], {"[0].id": 0, "[1].id": 1, "[2].id": 2}),
        ({"userId": 1, "node_id": "n", "orderIDs": 3}, {"userId": 1, "node_id": "n"}),
        ({"items": [{"sku": "s"}]}, {"items[0].sku": "s"}),
        ({"paid": True, "total": 3, "width": 2, "valid": 1}, {}),
        ({"id": "x" * 81, "name": ""}, {}),
        ({"id_token": "secret", "api_key": "secret", "session_id": "secret"}, {}),
        ({"a": {"b": {"c": {"d": {"id": 1}}}}}, {}),
        ("text", {}),
        (None, {}),
    ],
)
def test_only_what_identifies_something_is_kept_of_an_answer(data, found):
    known = used_of(asked(), Mock("a", data))
    assert [each.answer for each in known] == ([found] if found else [])


def test_secrets_and_forms_of_a_sent_body():
    form = {"$form": {"email": "a@b.c", "password": "secret"}}
    (known,) = used_of(asked("POST", body=form), Mock("a", None))
    assert known.sent == {"email": "a@b.c"}


def test_a_large_body_is_not_looked_at():
    request = asked("POST", body={"id": 1, "blob": "x" * 20_000})
    assert used_of(request, Mock("a", None)) == []


def test_text_in_the_place_of_a_name_is_not_looked_at():
    text = "x" * 80 + "_id"  # what is sought in a name takes the square of its length
    (known,) = used_of(asked("POST", body={text: 1, "n": 2}), Mock("a", {text: 1, "id": 7}))
    assert (known.sent, known.answer) == ({"n": 2}, {"id": 7})


def test_values_of_one_call_are_bounded():
    body = {f"n{n:02}": n for n in range(50)}
    data = {f"a{n:02}_id": n for n in range(500)}
    (known,) = used_of(asked("POST", body=body), Mock("a", data), used_values=5)
    assert [*known.sent] == ["n00", "n01", "n02", "n03", "n04"]
    assert len(known.answer) == 5


def test_the_latest_calls_are_kept_and_the_last_answer_counts():
    used = UsedByRun(Limits(used_answers=2))
    for endpoint, number in (("/1", 1), ("/2", 2), ("/1", 3), ("/3", 4)):
        used.note("r", [asked(endpoint=endpoint)], [Mock("a", {"id": number})])
    assert [(each.endpoint, each.answer) for each in used.of("r")] == [
        ("/1", {"id": 3}),
        ("/3", {"id": 4}),
    ]


def test_what_was_created_by_equal_calls_is_all_kept():
    used = UsedByRun(Limits())
    for number in (1, 2, 2):
        used.note("r", [asked("POST", "/users")], [Mock("a", {"id": number})])
    assert [each.answer for each in used.of("r")] == [{"id": 1}, {"id": 2}]


def test_it_ends_with_the_run_and_is_of_no_other():
    used = UsedByRun(Limits())
    used.note("r", [asked()], [Mock("a", {"id": 7})])
    assert used.of("other") == []
    used.forget("r")
    assert used.of("r") == []
