"""HAR archives, as browsers, Playwright and proxies write them."""

from __future__ import annotations

import base64
import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from mock_mcp.convert.accept import accept
from mock_mcp.convert.errors import ConversionError
from mock_mcp.convert.har import from_har, to_har
from mock_mcp.convert.read import read_conversion
from mock_mcp.recordings.format import RecordedInteraction
from mock_mcp.recordings.redact import Redaction
from unit.convert.samples import EVERYTHING, FAILURES, answer, call, recording

NAMED = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "value"],
        "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
    },
}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
MESSAGE = {
    "required": ["httpVersion", "cookies", "headers", "headersSize", "bodySize"],
    "properties": {"headers": NAMED, "cookies": NAMED, "bodySize": {"type": "integer"}},
}
HAR = {  # what HAR 1.2 requires
    "type": "object",
    "required": ["log"],
    "properties": {
        "log": {
            "required": ["version", "creator", "entries"],
            "properties": {
                "version": {"const": "1.2"},
                "creator": {"required": ["name", "version"]},
                "pages": {"items": {"required": ["startedDateTime", "id", "title", "pageTimings"]}},
                "entries": {
                    "items": {
                        "required": [
                            *("startedDateTime", "time", "request", "response", "cache", "timings")
                        ],
                        "properties": {
                            "startedDateTime": TIME,
                            "time": {"type": "number", "minimum": 0},
                            "timings": {"required": ["send", "wait", "receive"]},
                            "request": {
                                "allOf": [MESSAGE],
                                "required": ["method", "url", "queryString"],
                                "properties": {
                                    "queryString": NAMED,
                                    "postData": {"required": ["mimeType", "params", "text"]},
                                },
                            },
                            "response": {
                                "allOf": [MESSAGE],
                                "required": ["status", "statusText", "content", "redirectURL"],
                                "properties": {"content": {"required": ["size", "mimeType"]}},
                            },
                        },
                    }
                },
            },
        }
    },
}


def entry(
    content: Any = None, status: int = 200, request: Any = None, headers: Any = None, **more: Any
) -> dict[str, Any]:
    headers = {"content-type": "application/json"} if headers is None else headers
    return {
        "startedDateTime": "2026-01-01T00:00:00.000Z",
        "time": 312.4,
        "request": {"method": "GET", "url": "https://api.test/a", "headers": []} | (request or {}),
        "response": {
            "status": status,
            "headers": [{"name": name, "value": value} for name, value in headers.items()],
            "content": {"size": 2, "mimeType": "application/json", "text": "{}"}
            if content is None
            else content,
        }
        | more,
    }


LENGTH = {"name": "Content-Length", "value": "9"}
PREFLIGHT = {"name": "Access-Control-Request-Method", "value": "PUT"}


def archive(*entries: Any) -> dict[str, Any]:
    return {"log": {"version": "1.2", "entries": list(entries)}}


def one(fields: Any) -> RecordedInteraction:
    conversion = from_har(archive(fields), "a.har")
    assert conversion.losses == []
    return conversion.calls[0][1]


def lost(fields: Any) -> tuple[str, str]:
    conversion = from_har(archive(fields), "a.har")
    assert conversion.calls == []
    [loss] = conversion.losses
    assert (loss.file, loss.call) == ("a.har", True)
    return loss.place.removeprefix("$.log.entries[0]"), loss.reason


# -- Out --------------------------------------------------------------------------------------


def exported(*interactions: RecordedInteraction) -> list[dict[str, Any]]:
    tree, conversion = to_har([("a.json", recording(*interactions))])
    assert conversion.losses == []
    return json.loads(json.dumps(tree))["log"]["entries"]


def test_an_archive_has_what_har_requires():
    tree, _ = to_har([("a.json", recording(*EVERYTHING.values(), *FAILURES.values()))])
    assert len(tree["log"]["entries"]) == len(EVERYTHING) + len(FAILURES)
    jsonschema_rs.validate(HAR, json.loads(json.dumps(tree)))


def test_each_recording_is_a_page():
    tree, _ = to_har(
        [(f"{name}.json", recording(EVERYTHING["json"], test=name)) for name in ("one", "two")]
    )
    log = tree["log"]
    assert [(page["id"], page["title"]) for page in log["pages"]] == [
        ("page_1", "one"),
        ("page_2", "two"),
    ]
    assert [item["pageref"] for item in log["entries"]] == ["page_1", "page_2"]


def test_calls_begin_one_after_the_other():
    entries = exported(EVERYTHING["slow"], EVERYTHING["json"])
    assert [item["startedDateTime"] for item in entries] == [
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:01.501Z",
    ]
    assert (entries[0]["time"], entries[0]["timings"]["wait"]) == (1500, 1500)


def test_an_answer_is_what_a_replay_sends():
    [item] = exported(EVERYTHING["no-content-type"])
    assert item["response"]["headers"] == [
        {"name": "content-type", "value": "application/json"},
        {"name": "content-length", "value": "7"},
    ]
    assert item["response"]["content"] == {
        "size": 7,
        "mimeType": "application/json",
        "text": '{"a":1}',
    }
    assert item["response"]["statusText"] == "OK"


def test_cookies_and_redirects_are_shown():
    cookies, redirect = exported(EVERYTHING["set-cookie"], EVERYTHING["redirect"])
    assert cookies["response"]["cookies"] == [
        {"name": "a", "value": "1", "path": "/", "httpOnly": True, "secure": False},
        {"name": "b", "value": "2", "httpOnly": False, "secure": False},
    ]
    names = [header["name"] for header in cookies["response"]["headers"]]
    assert names.count("set-cookie") == 2
    assert redirect["response"]["redirectURL"] == "https://api.test/to"


def test_what_was_posted_is_shown():
    form, parts, binary = exported(
        EVERYTHING["post-form"], EVERYTHING["post-multipart"], EVERYTHING["post-binary"]
    )
    assert {"name": "roles", "value": "b"} in form["request"]["postData"]["params"]
    assert "boundary=" in parts["request"]["postData"]["mimeType"]
    assert binary["request"]["postData"] == {
        "mimeType": "application/octet-stream",
        "params": [],
        "text": "AP8A",
        "encoding": "base64",
    }


def test_a_failure_is_an_entry_without_a_status():
    [item] = exported(FAILURES["refused"])
    assert (item["response"]["status"], item["response"]["_error"]) == (0, "refused")


# -- In ---------------------------------------------------------------------------------------


def test_real_traffic_is_live_and_its_time_is_no_delay():
    found = one(entry())
    assert (found.source, found.response.delay_ms) == ("live", None)
    assert found.response.body == {}


def test_secrets_and_noise_are_not_recorded():
    fields = entry(
        {"text": '{"access_token": "s3cret", "n": 1}'},
        headers={
            "Content-Type": "application/json",
            "X-Request-Id": "1",
            "Set-Cookie": "sid=s3cret; Path=/\nb=s3cret",
            "content-encoding": "gzip",
        },
        request={
            "method": "POST",
            "url": "https://me:pw@api.test/a?token=s3cret#top",
            "headers": [
                {"name": ":authority", "value": "api.test"},
                {"name": "Authorization", "value": "Bearer s3cret"},
                {"name": "Content-Type", "value": "application/json"},
            ],
            "postData": {"mimeType": "application/json", "text": '{"password": "s3cret"}'},
        },
    )
    [cleaned] = accept(from_har(archive(fields), "a.har"), Redaction())
    assert "s3cret" not in repr(cleaned)
    assert cleaned.request.url == "https://REDACTED@api.test/a?token=REDACTED"
    assert cleaned.request.headers == {"content-type": "application/json"}
    assert cleaned.response.headers == {
        "content-type": "application/json",
        "set-cookie": ["sid=REDACTED; Path=/", "b=REDACTED"],
    }


def test_bodies_in_base64():
    content = {"mimeType": "image/png", "text": "iVBORw0KGgoA/w==", "encoding": "base64"}
    found = one(entry(content, headers={"content-type": "image/png"}))
    assert found.response.body == {"$base64": "iVBORw0KGgoA/w=="}
    text = base64.b64encode(b"[1]").decode()
    assert one(entry({"text": text, "encoding": "base64"})).response.body == [1]


def test_text_is_text_whatever_charset_its_bytes_had():
    found = one(entry({"text": "ü"}, headers={"content-type": "text/html; charset=iso-8859-1"}))
    assert found.response.body == "ü"


def test_text_that_its_charset_has_not_is_listed():
    headers = {"content-type": "text/html; charset=iso-8859-1"}
    place, reason = lost(entry({"text": "€"}, headers=headers))
    assert place == ".response"
    assert "cannot be written" in reason


@pytest.mark.parametrize(
    ("posted", "body"),
    [
        (
            {
                "mimeType": "application/x-www-form-urlencoded",
                "params": [{"name": "a", "value": "1 &"}, {"name": "a", "value": "2"}],
            },
            {"$form": {"a": ["1 &", "2"]}},
        ),
        (
            {
                "mimeType": "multipart/form-data; boundary=x",
                "params": [
                    {"name": "t", "value": "1"},
                    {"name": "f", "fileName": "f.txt", "contentType": "text/plain", "value": "hi"},
                ],
            },
            {
                "$multipart": [
                    {"name": "t", "data": "1"},
                    {"name": "f", "filename": "f.txt", "contentType": "text/plain", "data": "hi"},
                ]
            },
        ),
        ({"mimeType": "application/json", "text": '{"a": 1}'}, {"a": 1}),
        ({"mimeType": "text/plain", "text": "x"}, "x"),
        ({"mimeType": "x/y", "text": "AP8=", "encoding": "base64"}, {"$base64": "AP8="}),
    ],
    ids=["form", "multipart", "json", "text", "binary"],
)
def test_what_was_posted(posted, body):
    assert one(entry(request={"method": "POST", "postData": posted})).request.body == body


def test_bodies_beside_the_archive(tmp_path):
    (tmp_path / "secret.json").write_text('{"secret": 1}')
    folder = tmp_path / "har"
    folder.mkdir()
    (folder / "abc.json").write_text('{"b": 1}')
    names = ["abc.json", "gone.json", "../secret.json", str(tmp_path / "secret.json"), "\0", "."]
    entries = [entry({"mimeType": "application/json", "_file": name}) for name in names]
    (folder / "a.har").write_text(json.dumps(archive(*entries)))
    conversion = read_conversion(folder / "a.har")
    assert [found.response.body for _, found in conversion.calls] == [{"b": 1}]
    assert len(conversion.losses) == 5


def test_what_playwright_attaches(tmp_path):
    """It leaves an empty text beside the file, and writes as UTF-8 what Chromium has decoded."""
    (tmp_path / "a.dat").write_bytes(b"a=1")
    (tmp_path / "b.txt").write_bytes("ü".encode())
    (tmp_path / "c.txt").write_bytes("ü".encode("latin-1"))
    latin = "text/plain; charset=iso-8859-1"
    form = {"mimeType": "application/x-www-form-urlencoded", "text": "", "_file": "a.dat"}
    entries = [
        entry({"mimeType": latin, "_file": name}, headers={"content-type": latin}, request=posted)
        for name, posted in (("b.txt", {"method": "POST", "postData": form}), ("c.txt", {}))
    ]
    (tmp_path / "a.har").write_text(json.dumps(archive(*entries)))
    (_, one_call), (_, other) = read_conversion(tmp_path / "a.har").calls
    assert one_call.request.body == {"$form": {"a": "1"}}
    assert one_call.response.body == other.response.body == "ü"


def test_the_answer_to_a_head_keeps_its_length():
    fields = entry({"size": 0}, request={"method": "HEAD"}, headers={"Content-Length": "12"})
    found = one(fields)
    assert found.response.headers == {"content-length": "12"}
    assert found.response.body is msgspec.UNSET


def test_a_whole_status_is_one_however_it_is_written():
    assert repr(one(entry(status=201.0)).response.status) == "201"
    assert "must be" in lost(entry(status=201.5))[1]


@pytest.mark.parametrize("status", [204, 302, 304])
def test_answers_without_body(status):
    found = one(entry({"size": 5, "mimeType": "text/html"}, status, headers={}))
    assert found.response.body is msgspec.UNSET


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("net::ERR_CONNECTION_REFUSED", "refused"),
        ("net::ERR_NAME_NOT_RESOLVED", "unresolved"),
        ("net::ERR_CONNECTION_TIMED_OUT", "connect_timeout"),
        ("net::ERR_TIMED_OUT", "read_timeout"),
        ("net::ERR_EMPTY_RESPONSE", "reset"),
        ("NS_ERROR_UNKNOWN_HOST", "unresolved"),
    ],
)
def test_calls_that_failed_to_connect(said, kind):
    assert one(entry(status=0, _error=said)).error.kind == kind
    assert one(entry(status=-1, _failureText=said)).error.kind == kind


@pytest.mark.parametrize(
    ("fields", "place", "why"),
    [
        ("x", "", "must be an object"),
        ({}, ".request", "missing"),
        (entry(status=0), ".response", "cancelled"),
        (entry(status=0, _error="net::ERR_ABORTED"), ".response", "ERR_ABORTED"),
        (entry(status=101), ".response", "101"),
        (entry({"size": 10, "mimeType": "text/html"}), ".response", "was not saved"),
        (entry({"text": "{", "size": 1}), ".response", "not JSON"),
        (entry({"text": "%", "encoding": "base64"}), ".response", "not base64"),
        (entry({"text": 7}), ".response.text", "must be text"),
        (entry({"text": "[" * 300 + "]" * 300}), ".response", "nests deeper"),
        (entry(request={"url": "data:text/plain,x"}), ".request", "no absolute http URL"),
        (entry(request={"url": "wss://api.test/"}), ".request", "no absolute http URL"),
        (entry(request={"url": "http://a:b/"}), ".request", "no URL"),
        (entry(request={"method": "CONNECT"}), ".request", "no method"),
        (entry(request={"method": "OPTIONS", "headers": [PREFLIGHT]}), ".request", "preflight"),
        (entry(request={"headers": {}}), ".request.headers", "must be a list"),
        (entry(request={"headers": [1]}), ".request.headers", "must be an object"),
        (entry(request={"bodySize": 9}), ".request", "was not saved"),
        (entry(request={"headers": [LENGTH]}), ".request", "(9 bytes) was not saved"),
        (entry({"size": -1, "mimeType": "text/html"}), ".response", "was not saved"),
        (entry(headers={"bad name": "x"}), ".response", "cannot be sent"),
        (entry() | {"_webSocketMessages": []}, "", "WebSocket"),
        (entry() | {"_mockMcp": []}, "._mockMcp", "must be an object"),
    ],
)
def test_what_cannot_be_carried_over_is_listed(fields, place, why):
    found_place, reason = lost(fields)
    assert found_place == place
    assert why in reason


@pytest.mark.parametrize(
    "extension",
    [
        {"source": "root", "delayMs": "x", "contentType": 7},
        {"source": ["ai"], "delayMs": -1, "error": {"kind": "refused"}},
        {"delayMs": 1e300},
        {"delayMs": True},
    ],
)
def test_an_extension_is_not_trusted(extension):
    found = one(entry() | {"_mockMcp": extension})
    assert (found.source, found.error, found.response.delay_ms) == ("live", None, None)


def test_an_answer_of_a_multipart_that_is_no_form_says_what_it_loses():
    body = "--x\r\nContent-ID: <1>\r\nContent-Type: text/plain\r\n\r\nhi\r\n--x--\r\n"
    headers = {"content-type": "multipart/mixed; boundary=x"}
    conversion = from_har(archive(entry({"text": body}, headers=headers)), "a.har")
    assert [(loss.place, loss.call) for loss in conversion.losses] == [
        ("$.log.entries[0].response", False)
    ]


@pytest.mark.parametrize("error", [{"kind": {}}, {"kind": ["reset"]}, {"kind": "other"}, {}])
def test_a_failure_in_an_extension_is_not_trusted(error):
    assert "cancelled" in lost(entry(status=0) | {"_mockMcp": {"error": error}})[1]


def test_a_form_that_is_no_text_is_exported_as_binary():
    form = "application/x-www-form-urlencoded"
    [item] = exported(answer(call("POST", "/a", {"$base64": "AP8="}, content_type=form), {}))
    assert item["request"]["postData"]["text"] == "AP8="


@pytest.mark.parametrize("tree", [{}, {"log": []}, {"log": {"entries": {}}}, None, []])
def test_what_is_no_archive_is_refused(tree):
    with pytest.raises(ConversionError) as caught:
        from_har(tree, "a.har")
    assert (caught.value.file, caught.value.path) == ("a.har", "$.log.entries")


def test_a_call_that_cannot_be_exported_does_not_take_the_others_with_it():
    bad = answer(call(), {}, headers={"bad name": "x"})
    tree, conversion = to_har([("a.json", recording(bad, EVERYTHING["json"]))])
    assert len(tree["log"]["entries"]) == 1
    assert [loss.place for loss in conversion.losses] == ["$.interactions[0]"]
