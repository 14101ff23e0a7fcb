"""WireMock stub mappings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from mock_mcp.convert.errors import ConversionError
from mock_mcp.convert.read import read_conversion, read_conversions
from mock_mcp.convert.values import Conversion
from mock_mcp.convert.wiremock_export import to_wiremock
from mock_mcp.convert.wiremock_import import from_wiremock
from mock_mcp.recordings.format import RecordedInteraction
from unit.convert.samples import EVERYTHING, answer, call, recording

TEXT = {"type": "string"}
TEXTS = {"oneOf": [TEXT, {"type": "array", "items": TEXT}]}
BASE64 = {"type": "string", "pattern": "^[A-Za-z0-9+/]*={0,2}$"}


def pattern(name: str, schema: Any) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: schema}}


PATTERN = {
    "oneOf": [
        pattern("equalTo", TEXT),
        pattern("binaryEqualTo", BASE64),
        pattern("matches", TEXT),
        pattern("equalToJson", {"type": ["object", "string"]}),
        pattern("hasExactly", {"type": "array", "items": {"$ref": "#/$defs/pattern"}}),
    ]
}
PATTERNS = {"type": "object", "additionalProperties": {"$ref": "#/$defs/pattern"}}
BODY_PATTERNS = {"type": "array", "items": {"$ref": "#/$defs/pattern"}}
STUBS = {  # what the published schema says of the fields that are written here
    "$defs": {"pattern": PATTERN},
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "meta": {"required": ["total"], "properties": {"total": {"type": "integer"}}},
        "mappings": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "name": TEXT,
                    "scenarioName": TEXT,
                    "requiredScenarioState": TEXT,
                    "newScenarioState": TEXT,
                    "metadata": {"type": "object"},
                    "request": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "method": {"type": "string", "pattern": "^[A-Z]+$"},
                            "url": TEXT,
                            "urlPath": TEXT,
                            "queryParameters": PATTERNS,
                            "formParameters": PATTERNS,
                            "bodyPatterns": BODY_PATTERNS,
                            "multipartPatterns": {
                                "type": "array",
                                "items": {
                                    "additionalProperties": False,
                                    "properties": {
                                        "name": TEXT,
                                        "fileName": TEXT,
                                        "matchingType": {"enum": ["ALL", "ANY"]},
                                        "headers": PATTERNS,
                                        "bodyPatterns": BODY_PATTERNS,
                                    },
                                },
                            },
                        },
                    },
                    "response": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "status": {"type": "integer"},
                            "headers": {"type": "object", "additionalProperties": TEXTS},
                            "body": TEXT,
                            "jsonBody": {"type": ["object", "array"]},
                            "base64Body": BASE64,
                            "fixedDelayMilliseconds": {"type": "integer"},
                            "fault": {"enum": ["CONNECTION_RESET_BY_PEER"]},
                        },
                    },
                },
            },
        },
    },
}


ABSENT = {"absent": True}
MULTIPART = {"content_type": "multipart/form-data"}

# -- Out --------------------------------------------------------------------------------------


def exported(*interactions: RecordedInteraction) -> list[dict[str, Any]]:
    tree, conversion = to_wiremock([("a.json", recording(*interactions))])
    assert conversion.losses == []
    return json.loads(json.dumps(tree))["mappings"]


def test_stubs_follow_the_published_schema():
    tree, _ = to_wiremock([("a.json", recording(*EVERYTHING.values()))])
    jsonschema_rs.validate(STUBS, json.loads(json.dumps(tree)))
    assert tree["meta"] == {"total": len(EVERYTHING)}


def test_a_stub_matches_what_replay_matches():
    with_query, without = exported(EVERYTHING["json"], EVERYTHING["html"])
    assert with_query["request"] == {
        "method": "GET",
        "urlPath": "/users",
        "queryParameters": {"page": {"equalTo": "2"}, "sort": {"equalTo": "name"}},
    }
    assert with_query["response"] == {
        "status": 200,
        "headers": {"content-type": "application/json"},
        "jsonBody": {"users": [{"id": 1, "name": "Zoë"}]},
    }
    assert without["request"] == {"method": "GET", "url": "/page"}
    assert without["response"]["body"] == "<p>ü</p>"


def test_a_redacted_value_matches_anything():
    query, form = exported(EVERYTHING["secrets"], EVERYTHING["post-form"])
    assert query["request"]["queryParameters"]["api_key"] == {"matches": ".*"}
    assert query["request"]["bodyPatterns"] == [{"equalToJson": {"token": "${json-unit.ignore}"}}]
    assert form["request"]["formParameters"] == {
        "user": {"equalTo": "ann"},
        "roles": {"hasExactly": [{"equalTo": "a"}, {"equalTo": "b"}]},
        "password": {"matches": ".*"},
    }


def test_equal_calls_become_a_scenario():
    other = EVERYTHING["json"]
    stubs = exported(EVERYTHING["again-1"], other, EVERYTHING["again-2"], EVERYTHING["again-3"])
    assert "scenarioName" not in stubs.pop(1)
    assert len({stub["scenarioName"] for stub in stubs}) == 1
    assert [stub["requiredScenarioState"] for stub in stubs] == ["Started", "Call 2", "Call 3"]
    assert [stub.get("newScenarioState") for stub in stubs] == ["Call 2", "Call 3", None]


def test_calls_with_other_bodies_are_no_scenario():
    one, two = (
        answer(call("POST", "/a", {"n": n}, content_type="application/json"), {}) for n in (1, 2)
    )
    assert not any("scenarioName" in stub for stub in exported(one, two))


def test_a_stub_does_not_match_the_calls_of_others_with_its_path():
    """WireMock (3.13 was asked) lets calls with more parameters than a stub names through."""
    paths = ("/a", "/a?x=1", "/a?x=1&y=2", "/a?x=1&x=3")
    none, one, two, several = (
        stub["request"] for stub in exported(*(answer(call(path=path), {}) for path in paths))
    )
    x1 = {"hasExactly": [{"equalTo": "1"}]}
    x13 = {"hasExactly": [{"equalTo": "1"}, {"equalTo": "3"}]}
    assert none == {"method": "GET", "url": "/a"}
    assert one["queryParameters"] == {"x": x1, "y": ABSENT}
    assert two["queryParameters"] == {"x": x1, "y": {"equalTo": "2"}}
    assert several["queryParameters"] == {"x": x13, "y": ABSENT}


def test_a_stub_without_a_body_does_not_match_a_call_with_one():
    form = {"content_type": "application/x-www-form-urlencoded"}
    bodies = (
        call("POST", "/a"),
        call("POST", "/a", {"n": 1}, content_type="application/json"),
        call("POST", "/a", "", content_type="text/plain"),
        call("POST", "/a", {"$form": {"x": "1"}}, **form),
        call("POST", "/a", {"$form": {"x": "1", "y": "2"}}, **form),
        call("POST", "/b"),
    )
    none, json_, empty, x, xy, alone = (
        stub["request"] for stub in exported(*(answer(body, {}) for body in bodies))
    )
    assert none["bodyPatterns"] == empty["bodyPatterns"] == [ABSENT]
    assert json_["bodyPatterns"] == [{"equalToJson": {"n": 1}}]
    assert x["formParameters"] == {"x": {"equalTo": "1"}, "y": ABSENT}
    assert xy["formParameters"] == {"x": {"equalTo": "1"}, "y": {"equalTo": "2"}}
    assert alone == {"method": "POST", "url": "/b"}


@pytest.mark.parametrize(
    ("interaction", "place", "whole"),
    [
        (answer(call("M-SEARCH"), {}), ".request.method", True),
        (answer(call(path="/?"), {}, delay_ms=0.5), ".response.delayMs", False),
        (answer(call(path="/?&"), {}), ".request.url", True),
        (answer(call("POST", "/", {"$multipart": []}, **MULTIPART), {}), ".request.body", True),
    ],
)
def test_what_stubs_cannot_hold_is_listed(interaction, place, whole):
    _, conversion = to_wiremock([("a.json", recording(interaction))])
    assert [(loss.place, loss.call) for loss in conversion.losses] == [
        (f"$.interactions[0]{place}", whole)
    ]


# -- In ---------------------------------------------------------------------------------------


EMPTY = {"jsonBody": {}}
TEMPLATES = {"transformers": ["response-template"]}
GET = {"method": "GET", "url": "/a"}


def stub(request: Any = None, response: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "request": {"method": "GET", "url": "/a"} if request is None else request,
        "response": {"status": 200, "jsonBody": {}} if response is None else response,
    } | more


def read(*stubs: Any, **options: Any) -> Conversion:
    return from_wiremock({"mappings": list(stubs)}, "s.json", **options)


def one(*stubs: Any, **options: Any) -> RecordedInteraction:
    conversion = read(*stubs, **options)
    assert conversion.losses == []
    [(_, found)] = conversion.calls
    return found


def test_a_lone_stub_and_its_defaults():
    conversion = from_wiremock(stub(), "s.json")
    [(place, found)] = conversion.calls
    assert (place, found.source) == ("$", "hand")
    assert found.request.url == "http://localhost:8080/a"
    assert one(stub(response={"body": ""})).response.status == 200


@pytest.mark.parametrize(
    ("request_", "url"),
    [
        ({"url": "/a?b=1"}, "https://x.test/v1/a?b=1"),
        (
            {"urlPath": "/a", "queryParameters": {"b": {"equalTo": "1 2"}}},
            "https://x.test/v1/a?b=1+2",
        ),
        (
            {
                "urlPath": "/a",
                "queryParameters": {"b": {"hasExactly": [{"equalTo": "1"}, {"equalTo": "2"}]}},
            },
            "https://x.test/v1/a?b=1&b=2",
        ),
        (
            {"urlPathTemplate": "/a/{id}", "pathParameters": {"id": {"equalTo": "7/8"}}},
            "https://x.test/v1/a/7%2F8",
        ),
        ({"url": "/a", "host": "h.test", "scheme": "http", "port": 81}, "http://h.test:81/a"),
        ({"url": "/a", "host": {"equalTo": "h.test"}}, "https://h.test/a"),
        ({"urlPattern": r"^/a\.b\?c=1$"}, "https://x.test/v1/a.b?c=1"),
        ({"urlPathPattern": "/a"}, "https://x.test/v1/a"),
        (
            {"urlPath": "/a", "queryParameters": {"api_key": {"matches": ".*"}}},
            "https://x.test/v1/a?api_key=REDACTED",
        ),
        (
            {
                "urlPath": "/a",
                "queryParameters": {"b": {"equalTo": "1"}, "c": ABSENT},
            },
            "https://x.test/v1/a?b=1",
        ),
    ],
)
def test_where_a_call_goes(request_, url):
    found = one(stub({"method": "GET"} | request_), base_url="https://x.test/v1/")
    assert found.request.url == url


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({"bodyPatterns": [{"equalToJson": {"a": 1}}]}, {"a": 1}),
        ({"bodyPatterns": [{"equalToJson": "[1]"}]}, [1]),
        ({"bodyPatterns": [{"equalTo": "x"}]}, "x"),
        (
            {"bodyPatterns": [{"equalTo": "a=1&b=2&b=%C3%BC"}]},
            {"$form": {"a": "1", "b": ["2", "ü"]}},
        ),
        ({"bodyPatterns": [{"equalTo": '{"a": [1]}'}]}, {"a": [1]}),
        ({"bodyPatterns": [{"equalTo": "{no json"}]}, "{no json"),
        ({"bodyPatterns": [{"equalTo": "x = 1"}]}, "x = 1"),
        (
            {
                "bodyPatterns": [{"equalTo": "a=1"}],
                "headers": {"Content-Type": {"equalTo": "text/plain"}},
            },
            "a=1",
        ),
        ({"bodyPatterns": [{"matches": "a-b"}]}, "a-b"),
        (
            {"bodyPatterns": [{"equalToJson": {"password": "${json-unit.ignore}"}}]},
            {"password": "REDACTED"},
        ),
        ({"bodyPatterns": [{"binaryEqualTo": "AP8="}]}, {"$base64": "AP8="}),
        ({"bodyPatterns": [{"equalToXml": "<a/>"}]}, "<a/>"),
        ({"bodyPatterns": [ABSENT]}, msgspec.UNSET),
        ({"formParameters": {"a": {"equalTo": "1"}, "b": ABSENT}}, {"$form": {"a": "1"}}),
        (
            {"multipartPatterns": [{"name": "a", "bodyPatterns": [{"equalTo": "1"}]}]},
            {"$multipart": [{"name": "a", "data": "1"}]},
        ),
    ],
)
def test_bodies_that_patterns_admit(fields, body):
    assert one(stub({"method": "POST", "url": "/a"} | fields)).request.body == body


def test_what_wiremock_records_is_imported_and_its_leniency_listed():
    pattern = {"equalToJson": '{"a":1}', "ignoreArrayOrder": True, "ignoreExtraElements": True}
    conversion = read(stub({"method": "POST", "url": "/a", "bodyPatterns": [pattern]}))
    assert conversion.calls[0][1].request.body == {"a": 1}
    places = {(loss.place.rpartition(".")[2], loss.call) for loss in conversion.losses}
    assert places == {("ignoreArrayOrder", False), ("ignoreExtraElements", False)}


@pytest.mark.parametrize(
    ("response", "body"),
    [
        ({"jsonBody": [1]}, [1]),
        ({"jsonBody": None}, None),
        ({"body": '{"a":1}', "headers": {"Content-Type": "application/json"}}, {"a": 1}),
        ({"body": "x", "headers": {"Content-Type": "text/plain"}}, "x"),
        ({"base64Body": "AP8=", "headers": {"Content-Type": "image/png"}}, {"$base64": "AP8="}),
        ({"status": 204}, msgspec.UNSET),
    ],
)
def test_bodies_of_answers(response, body):
    assert one(stub(response=response)).response.body == body


def test_headers_and_delays_of_answers():
    response = {
        "headers": {"Set-Cookie": ["a=1", "b=2"], "ETag": "x", "Transfer-Encoding": "chunked"},
        "jsonBody": {},
        "fixedDelayMilliseconds": 20,
    }
    found = one(stub(response=response)).response
    assert found.headers == {"set-cookie": ["a=1", "b=2"], "etag": "x"}
    assert found.delay_ms == 20
    fixed = {"delayDistribution": {"type": "fixed", "milliseconds": 5}, "jsonBody": {}}
    assert one(stub(response=fixed)).response.delay_ms == 5


def test_bodies_in_files(tmp_path):
    (tmp_path / "outside.json").write_text("1")
    files, mappings = tmp_path / "wm/__files", tmp_path / "wm/mappings"
    files.mkdir(parents=True)
    mappings.mkdir()
    (files / "sub").mkdir()
    (files / "sub/a.json").write_text('{"f": 1}')
    (files / "link.json").symlink_to(tmp_path / "outside.json")
    names = ["sub/a.json", "../../outside.json", "link.json", "gone", "sub"]
    headers = {"Content-Type": "application/json"}
    stubs = [
        stub({"method": "GET", "url": f"/{n}"}, {"bodyFileName": name, "headers": headers})
        for n, name in enumerate(names)
    ]
    (mappings / "s.json").write_text(json.dumps({"mappings": stubs}))
    conversion = read_conversion(mappings / "s.json")
    assert [found.response.body for _, found in conversion.calls] == [{"f": 1}]
    assert {loss.place.rpartition(".")[2] for loss in conversion.losses} == {"bodyFileName"}
    assert len(conversion.losses) == 4


def test_stubs_come_in_the_order_they_answer():
    def named(name: str, **more: Any) -> dict[str, Any]:
        url = "/same" if "scenarioName" in more else f"/{name}"
        return stub({"method": "GET", "url": url}, {"jsonBody": {"n": name}}, **more)

    conversion = read(
        named("last", priority=9),
        named("third", scenarioName="s", requiredScenarioState="2", newScenarioState="3"),
        named("plain"),
        named("second", scenarioName="s", requiredScenarioState="Started", newScenarioState="2"),
        named("unreachable", scenarioName="s", requiredScenarioState="x"),
        named("first", priority=1),
    )
    assert conversion.losses == []
    names = [found.response.body["n"] for _, found in conversion.calls]
    assert names == ["first", "second", "plain", "third", "unreachable", "last"]


def test_lone_stubs_of_several_files_come_in_the_order_they_answer(tmp_path):
    states = {"c": ("Started", "2"), "a": ("2", "3"), "b": ("3", "4")}
    for name, (old, new) in states.items():
        state = {"requiredScenarioState": old, "newScenarioState": new, "scenarioName": "s"}
        fields = stub(response={"jsonBody": name}, **state)
        (tmp_path / f"{name}.json").write_text(json.dumps(fields))
    conversions = read_conversions(sorted(tmp_path.iterdir()))
    assert [found.response.body for each in conversions for _, found in each.calls] == [*"cab"]
    assert [Path(each.file).stem for each in conversions] == [*"cab"]


def test_a_scenario_in_a_circle_ends():
    stubs = [
        stub(scenarioName="s", requiredScenarioState=a, newScenarioState=b)
        for a, b in [("Started", "on"), ("on", "Started")]
    ]
    assert len(read(*stubs).calls) == 2


def test_a_stub_that_never_answers_is_listed():
    conversion = read(stub(), stub(response={"jsonBody": {"never": 1}}))
    assert len(conversion.calls) == 1
    [loss] = conversion.losses
    assert (loss.place, loss.call) == ("$.mappings[1]", True)
    assert "$.mappings[0] answers the same call" in loss.reason


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        (7, ""),
        ({}, ".request"),
        (stub({"url": "/a"}), ".request.method"),
        (stub({"method": "ANY", "url": "/a"}), ".request.method"),
        (stub({"method": {"oneOf": ["GET", "PUT"]}, "url": "/a"}), ".request.method"),
        (stub({"method": "GET"}), ".request"),
        (stub({"method": "GET", "url": 7}), ".request.url"),
        (stub({"method": "GET", "urlPattern": "/a.*"}), ".request.urlPattern"),
        (stub({"method": "GET", "urlPathTemplate": "/a/{id}"}), ".request.urlPathTemplate"),
        (stub(GET | {"cookies": {}}), ".request.cookies"),
        (stub(GET | {"customMatcher": {}}), ".request.customMatcher"),
        (
            stub({"method": "GET", "urlPath": "/a", "queryParameters": {"b": {"contains": "c"}}}),
            ".request.queryParameters.b",
        ),
        (
            stub(GET | {"bodyPatterns": [{"matchesJsonPath": "$.a"}]}),
            ".request.bodyPatterns[0]",
        ),
        (
            stub(GET | {"bodyPatterns": [{"equalTo": "a"}, {}]}),
            ".request.bodyPatterns",
        ),
        (
            stub(GET | {"bodyPatterns": [{"equalToJson": "{"}]}),
            ".request.bodyPatterns[0].equalToJson",
        ),
        (
            stub(GET | {"bodyPatterns": [{"equalToJson": "[" * 900}]}),
            ".request.bodyPatterns[0].equalToJson",
        ),
        (
            stub(GET | {"bodyPatterns": [{"equalToJson": {"a": ["${json-unit.any-string}"]}}]}),
            ".request.bodyPatterns[0].equalToJson.a[0]",
        ),
        (
            stub(GET | {"bodyPatterns": [{"equalToJson": {"id": "${json-unit.ignore}"}}]}),
            ".request.bodyPatterns[0].equalToJson.id",
        ),
        (
            stub({"method": "GET", "urlPath": "/a", "queryParameters": {"b": {"matches": ".*"}}}),
            ".request.queryParameters.b",
        ),
        (
            stub(GET | {"multipartPatterns": [1]}),
            ".request.multipartPatterns[0]",
        ),
        (stub(response={"proxyBaseUrl": "https://x.test"}), ".response.proxyBaseUrl"),
        (stub(response={"fault": "RANDOM_DATA_THEN_CLOSE"}), ".response.fault"),
        (stub(response={"base64Body": "%"}), ".response.base64Body"),
        (stub(response={"body": "{{now}}"} | TEMPLATES), ".response.transformers"),
        (stub(response={"headers": {"A": "{{now}}"}} | TEMPLATES), ".response.transformers"),
        (stub(response={"bodyFileName": "x"}), ".response.bodyFileName"),
        (stub(response={"status": "200"}), ".response.status"),
        (stub(response={"status": 100}), ".response"),
        (stub(response={"headers": {"a": 1}}), ".response.headers.a"),
        (stub(metadata={"mock-mcp": 7}), ".mock-mcp"),
    ],
)
def test_a_stub_that_is_no_one_call_is_listed(fields, place):
    conversion = read(fields)
    assert conversion.calls == []
    assert [(loss.file, loss.place, loss.call) for loss in conversion.losses] == [
        ("s.json", f"$.mappings[0]{place}", True)
    ]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        (
            stub(GET | {"headers": {"X": {"equalTo": "1"}}}),
            ".request.headers.X",
        ),
        (
            stub(GET | {"headers": {"X": ABSENT}}),
            ".request.headers.X",
        ),
        (
            stub(response={"jsonBody": {}, "transformers": ["my-own", "response-template"]}),
            ".response.transformers",
        ),
        (
            stub(response={"jsonBody": {}, "chunkedDribbleDelay": {}}),
            ".response.chunkedDribbleDelay",
        ),
        (
            stub(response=EMPTY | {"delayDistribution": {"type": "uniform"}}),
            ".response.delayDistribution",
        ),
        (stub(response=EMPTY | {"statusMessage": "Fine"}), ".response.statusMessage"),
        (stub(response={"fault": "EMPTY_RESPONSE"}), ".response.fault"),
        (stub(response={"body": "x"}), ".response"),
        (stub(response={"jsonBody": {"a": "{{now}}"}}), ".response"),
        (
            stub(GET | {"headers": {"Content-Type": {"equalTo": "A/b", "caseInsensitive": True}}}),
            ".request.headers.Content-Type.caseInsensitive",
        ),
        (stub(postServeActions=[{}]), ""),
    ],
)
def test_what_is_lost_of_a_stub_is_listed(fields, place):
    conversion = read(fields)
    assert len(conversion.calls) == 1
    assert [(loss.place, loss.call) for loss in conversion.losses] == [
        (f"$.mappings[0]{place}", False)
    ]


@pytest.mark.parametrize("metadata", [{"source": 7}, {"requestHeaders": 7}, {"origin": [1]}])
def test_metadata_is_not_trusted(metadata):
    found = one(stub(metadata={"mock-mcp": metadata}))
    assert (found.source, found.request.url) == ("hand", "http://localhost:8080/a")


@pytest.mark.parametrize(("tree", "path"), [([], "$"), ({"mappings": {}}, "$.mappings")])
def test_what_holds_no_stubs_is_refused(tree, path):
    with pytest.raises(ConversionError) as caught:
        from_wiremock(tree, "s.json")
    assert (caught.value.file, caught.value.path) == ("s.json", path)
