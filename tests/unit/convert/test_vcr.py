"""VCR cassettes; cassette.yaml and cassette.json were recorded by vcrpy 9 with requests."""

from __future__ import annotations

import base64
import gzip
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mock_mcp.convert.accept import accept
from mock_mcp.convert.errors import ConversionError
from mock_mcp.convert.read import read_conversion
from mock_mcp.convert.vcr import from_vcr
from mock_mcp.recordings.bodies import Budget, Unusable
from mock_mcp.recordings.format import RecordedInteraction
from mock_mcp.recordings.redact import Redaction

HERE = Path(__file__).parent
JSON = {"Content-Type": ["application/json"]}


def imported(path: Path) -> list[RecordedInteraction]:
    conversion = read_conversion(path)
    assert conversion.format == "vcr"
    assert conversion.losses == []
    return accept(conversion, Redaction())


def exchange(body: Any, headers: Any = None, request: Any = None, **response: Any) -> Any:
    return {
        "request": {"method": "GET", "uri": "https://api.test/a", "body": None, "headers": {}}
        | (request or {}),
        "response": {
            "status": {"code": 200, "message": "OK"},
            "headers": JSON if headers is None else headers,
            "body": {"string": body},
        }
        | response,
    }


def one(interaction: Any) -> RecordedInteraction:
    conversion = from_vcr({"version": 1, "interactions": [interaction]}, "c.yaml")
    assert conversion.losses == []
    return conversion.calls[0][1]


def lost(interaction: Any) -> tuple[str, str]:
    conversion = from_vcr({"version": 1, "interactions": [interaction]}, "c.yaml")
    assert conversion.calls == []
    [loss] = conversion.losses
    assert (loss.file, loss.call) == ("c.yaml", True)
    return loss.place, loss.reason


def test_a_yaml_cassette_of_vcrpy():
    pytest.importorskip("yaml", reason="needs the extra yaml")
    calls = imported(HERE / "cassette.yaml")
    asked = [f"{c.request.method} {c.request.url}" for c in calls]
    assert asked == [
        "GET https://api.test/json?api_key=REDACTED",
        "GET https://api.test/gzip",
        "GET https://api.test/png",
        "POST https://api.test/json",
        "PUT https://api.test/json",
        "GET https://api.test/cookies",
        "GET https://api.test/redirect",
        "GET https://api.test/json",
        "POST https://api.test/json",
        "POST https://api.test/json",
    ]
    assert {call.source for call in calls} == {"live"}
    told = [call.response for call in calls]
    assert told[0].body == {"a": [1, 2], "access_token": "REDACTED"}
    assert told[0].headers == {"content-type": "application/json"}
    assert told[1].body == {"z": "ü"}
    assert told[2].body == {"$base64": "iVBORw0KGgoA/w=="}
    assert told[5].headers["set-cookie"] == ["a=REDACTED; Path=/", "b=REDACTED; HttpOnly"]
    assert (told[6].status, told[6].headers) == (302, {"location": "/json"})
    bodies = [call.request.body for call in calls]
    assert bodies[0] is msgspec.UNSET
    assert bodies[3]["$multipart"] == [
        {"name": "t", "data": "x"},
        {"name": "f", "filename": "a.bin", "$base64": "AP8="},
    ]
    assert calls[3].request.headers == {"content-type": "multipart/form-data"}
    assert bodies[4] == {"$base64": "AP8="}
    assert bodies[8] == {"$form": {"a": "1", "password": "REDACTED"}}
    assert bodies[9] == {"é": 1}


def test_a_json_cassette_of_vcrpy():
    calls = imported(HERE / "cassette.json")
    assert [call.response.status for call in calls] == [200, 200, 302, 200, 200, 200]
    assert calls[4].request.body == {"$form": {"a": "1", "password": "REDACTED"}}


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(b'{"a": 1}'), "gzip"),
        (gzip.compress(b'{"a": 1}'), "X-GZIP"),
        (zlib.compress(b'{"a": 1}'), "deflate"),
        (zlib.compress(b'{"a": 1}')[2:-4], "deflate"),
        (gzip.compress(zlib.compress(b'{"a": 1}')), "deflate, gzip"),
        (b'{"a": 1}', "gzip"),
        ('{"a": 1}', "br"),
        (b'{"a": 1}', "identity"),
    ],
    ids=["gzip", "x-gzip", "zlib", "raw", "both", "unpacked", "text", "identity"],
)
def test_compressed_answers_are_unpacked(body, coding):
    response = one(exchange(body, {**JSON, "Content-Encoding": [coding]})).response
    assert (response.body, response.headers) == ({"a": 1}, {"content-type": "application/json"})


@pytest.mark.parametrize(
    ("body", "coding", "why"),
    [
        (b"\x1f\x8b\x08 no", "gzip", "damaged"),
        (gzip.compress(b"x" * 100)[:-9], "gzip", "ends early"),
        (b"\x1f\x9d", "compress", "'compress'"),
    ],
    ids=["damaged", "cut", "unknown"],
)
def test_what_cannot_be_unpacked_is_listed(body, coding, why):
    place, reason = lost(exchange(body, {"Content-Encoding": coding}))
    assert place == "$.interactions[0].response"
    assert why in reason


def test_all_compressed_bodies_share_one_budget():
    bomb = gzip.compress(bytes(600))
    budget = Budget(1000)
    assert budget.unpack(bomb, "gzip") == bytes(600)
    with pytest.raises(Unusable, match="more than 1000 bytes"):
        budget.unpack(bomb, "gzip")


def test_betamax_and_ruby_cassettes():
    call = {
        "request": {
            "method": "post",
            "uri": "https://api.test/a",
            "body": {"encoding": "UTF-8", "string": "a=1"},
            "headers": {"Content-Type": ["application/x-www-form-urlencoded"]},
        },
        "response": {
            "status": {"code": 201, "message": "Created"},
            "headers": JSON,
            "body": {"encoding": "utf-8", "base64_string": base64.b64encode(b'{"b": 2}').decode()},
        },
    }
    conversion = from_vcr({"http_interactions": [call], "recorded_with": "betamax/0.9"}, "c.json")
    [(place, found)] = conversion.calls
    assert place == "$.http_interactions[0]"
    assert found.request.method == "POST"
    assert found.request.body == {"$form": {"a": "1"}}
    assert (found.response.status, found.response.body) == (201, {"b": 2})


def test_answers_of_httpx_in_vcrpy_4():
    call = exchange("")
    call["response"] = {"status_code": 200, "headers": JSON, "content": "[1]"}
    assert one(call).response.body == [1]


FORM = {"content-type": ["application/x-www-form-urlencoded"]}


@pytest.mark.parametrize(
    ("value", "headers", "body", "guessed"),
    [
        ({"a": 1, "b": [None, "c"]}, {}, {"a": 1, "b": [None, "c"]}, False),
        ([{"a": "b"}], {}, [{"a": "b"}], False),
        ({"a": "b c"}, {}, {"a": "b c"}, True),
        ({"a": "b c"}, JSON, {"a": "b c"}, False),
        ({"a": "b c"}, FORM, {"$form": {"a": "b c"}}, False),
        ([["a", "b"], ["a", "c"]], FORM, {"$form": {"a": ["b", "c"]}}, False),
        ({}, {}, {}, True),
    ],
)
def test_what_vcrpy_keeps_of_aiohttps_requests(value, headers, body, guessed):
    request = {"method": "POST", "headers": headers, "body": value}
    conversion = from_vcr({"interactions": [exchange("{}", request=request)]}, "c.yaml")
    assert conversion.calls[0][1].request.body == body
    places = [(loss.place, loss.call) for loss in conversion.losses]
    assert places == ([("$.interactions[0].request.body", False)] if guessed else [])


@pytest.mark.parametrize(
    ("value", "headers"),
    [({"a": b"\xff"}, {}), ({"a": "b"}, {"content-type": "multipart/form-data"})],
)
def test_a_body_nobody_knows_how_to_send_is_listed(value, headers):
    request = {"method": "POST", "headers": headers, "body": value}
    assert lost(exchange("{}", request=request))[0] == "$.interactions[0].request.body"


def test_an_answer_without_content_type_gets_one():
    conversion = from_vcr({"interactions": [exchange("hello", {})]}, "c.yaml")
    [(_, found)] = conversion.calls
    assert found.response.headers == {"content-type": "text/plain; charset=utf-8"}
    [loss] = conversion.losses
    assert (loss.place, loss.call) == ("$.interactions[0].response", False)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"request": None}, ".request"),
        ({"response": []}, ".response"),
        ({"request": {"method": "GET"}}, ".request.uri"),
        ({"request": {"method": "GET", "uri": "/relative"}}, ".request"),
        ({"request": {"method": "GET", "uri": "http://[::1"}}, ".request"),
        ({"request": {"method": "G\r\nX", "uri": "https://a.test"}}, ".request"),
        ({"response": {"status": {"code": "yes"}}}, ".response.status.code"),
        ({"response": {"status": {"code": 101}}}, ".response"),
        ({"response": {"status": {"code": 200}, "headers": []}}, ".response.headers"),
        ({"response": {"status": {"code": 200}, "headers": {"a": {}}}}, ".response.headers.a"),
        ({"response": {"status": {"code": 200}, "body": 7}}, ".response.body"),
        (
            {
                "response": {
                    "status": {"code": 200},
                    "headers": JSON,
                    "body": {"string": "{broken"},
                }
            },
            ".response",
        ),
    ],
)
def test_what_is_wrong_is_listed_with_its_place(change, place):
    assert lost(exchange("{}") | change)[0] == f"$.interactions[0]{place}"


def test_one_bad_call_does_not_take_the_others_with_it():
    conversion = from_vcr({"interactions": [exchange("{}"), 7, exchange("[]")]}, "c.yaml")
    assert [place for place, _ in conversion.calls] == ["$.interactions[0]", "$.interactions[2]"]
    assert [loss.place for loss in conversion.losses] == ["$.interactions[1]"]


@pytest.mark.parametrize("tree", [{"interactions": {}}, {"interactions": None}, [], None])
def test_what_is_no_cassette_is_refused(tree):
    with pytest.raises(ConversionError) as caught:
        from_vcr(tree, "c.yaml")
    assert (caught.value.file, caught.value.path) == ("c.yaml", "$.interactions")
