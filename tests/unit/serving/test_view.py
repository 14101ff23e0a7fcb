from __future__ import annotations

import base64
import json

import pytest

from mock_mcp.errors import ContractViolation, LeaseEnded
from mock_mcp.serving.text import dump
from mock_mcp.serving.view import RESULT_CHARS, batch_view, bounded, error_text
from mock_mcp.types import Violation

SCHEMA = {"type": "object", "properties": {f"field{n}": {"type": "string"} for n in range(20)}}


def request(n, **more):
    return {"requestId": f"r{n}", "endpoint": f"/users/{n}", "method": "GET", **more}


def resolve(view):
    """Put shared values back where they were."""

    def walk(value):
        if isinstance(value, dict):
            if value.keys() == {"$shared"}:
                return view["shared"][value["$shared"]]
            return {key: walk(part) for key, part in value.items()}
        return value

    return [walk(item) for item in view["requests"]]


def test_a_batch_that_repeats_nothing_is_shown_as_it_is():
    requests = [request(1, metadata={"schema": SCHEMA}, unknownKey=[1, {"a": None}])]
    assert batch_view(requests) == {"requests": requests}


def test_fifty_requests_that_share_a_schema_carry_it_once():
    requests = [request(n, metadata={"schema": json.loads(dump(SCHEMA))}) for n in range(50)]
    view = batch_view(requests)
    assert dump(view).count('"field19"') == 1
    assert resolve(view) == requests


def test_a_schema_inside_different_wrappers_is_carried_once():
    requests = [
        request(n, metadata={"schema": {"summary": f"User {n}", "response": SCHEMA}, "n": n})
        for n in range(50)
    ]
    view = batch_view(requests)
    assert dump(view).count('"field19"') == 1
    assert resolve(view) == requests


def test_repeated_instructions_are_carried_once():
    text = "Answer with a user whose name is long enough to be worth sharing. " * 3
    requests = [request(n, metadata={"instructions": text, "n": n}) for n in range(5)]
    view = batch_view(requests)
    assert dump(view).count(text) == 1
    assert resolve(view) == requests


def test_two_schemas_get_two_names():
    other = {**SCHEMA, "title": "Other"}
    requests = [request(n, metadata={"schema": SCHEMA if n % 2 else other}) for n in range(6)]
    view = batch_view(requests)
    assert [*view["shared"]] == ["s1", "s2"]
    assert resolve(view) == requests


def test_an_endpoint_is_never_shared():
    requests = [{"requestId": f"r{n}", "endpoint": "/x" * 100, "method": "GET"} for n in range(3)]
    assert batch_view(requests) == {"requests": requests}


def test_what_is_too_long_is_cut_and_says_so():
    requests = [request(n, body={"text": f"{n}" * 50_000}, metadata={"n": n}) for n in range(3)]
    view = batch_view(requests)
    assert len(dump(view)) <= RESULT_CHARS
    assert view["requests"][0]["body"]["text"]["chars"] == 50_002
    assert view["requests"][0]["metadata"] == {"n": 0}


@pytest.mark.parametrize("size", [299, 300, 301])
def test_of_binary_data_the_beginning_and_the_size_are_shown(size: int):
    data = base64.b64encode(b"\x89PNG" + bytes(size - 4)).decode()
    part = {"name": "file", "filename": "a.png", "contentType": "image/png", "$base64": data}
    requests = [request(1, body={"$base64": data}), request(2, body={"$multipart": [part]})]
    cut = {"$cut": data[:40], "bytes": size}
    first, second = batch_view(requests)["requests"]
    assert first == {**requests[0], "body": {"$base64": cut}}
    assert second["body"] == {"$multipart": [{**part, "$base64": cut}]}
    assert part["$base64"] == data


def test_what_little_binary_data_there_is_is_shown():
    requests = [
        request(1, body={"$base64": "AAAA" * 50}),
        request(2, metadata={"$base64": "A" * 300}),
    ]
    assert batch_view(requests) == {"requests": requests}


def test_a_huge_batch_still_names_its_requests():
    requests = [request(n, body={f"k{k}": f"{n}" * 500 for k in range(4)}) for n in range(200)]
    view = batch_view(requests)
    assert len(dump(view)) <= RESULT_CHARS
    assert [item["requestId"] for item in view["requests"]] == [f"r{n}" for n in range(200)]


def test_more_requests_than_fit_are_counted():
    view = batch_view([request(n) for n in range(10_000)])
    assert len(dump(view)) <= RESULT_CHARS + 100
    assert len(view["requests"]) + view["notShown"] == 10_000


def test_bounded_keeps_the_first_and_counts_the_rest():
    assert bounded([{"a": "x" * 10}] * 5, 45) == ([{"a": "x" * 10}] * 2, 3)


def test_violations_are_listed_with_what_was_accepted():
    violation = Violation("r2", "/body/id", "type", "an integer", '"7"', "Remove the quotes.")
    text = error_text(ContractViolation("Refused.", [violation], ["r1", "r3"]))
    assert 'request r2, /body/id (type): expected an integer, got "7". Remove the quotes.' in text
    assert "r1, r3" in text
    assert "only the corrected mocks" in text


def test_many_violations_are_bounded():
    violations = [Violation(f"r{n}", "/body", "type", "a", "b", "") for n in range(500)]
    text = error_text(ContractViolation("Refused.", violations))
    assert "and 450 more" in text
    assert len(text) < 10_000


def test_other_errors_are_their_message():
    assert error_text(LeaseEnded("Your lease ended.")) == "Your lease ended."
