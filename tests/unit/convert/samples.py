"""One recording with everything that a recording can hold."""

from __future__ import annotations

from typing import Any

import msgspec

from mock_mcp.recordings.format import (
    FORMAT_VERSION,
    RecordedFailure,
    RecordedInteraction,
    RecordedRequest,
    RecordedResponse,
    Recording,
)

API = "https://api.test"
UNSET = msgspec.UNSET
JSON = {"content-type": "application/json"}


def call(
    method: str = "GET", path: str = "/", body: Any = UNSET, **headers: str
) -> RecordedRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RecordedRequest(method, API + path, named, body)


def answer(
    request: RecordedRequest,
    body: Any = UNSET,
    status: int = 200,
    headers: Any = None,
    *,
    delay_ms: float | None = None,
    source: Any = "ai",
) -> RecordedInteraction:
    response = RecordedResponse(status, JSON if headers is None else headers, body, delay_ms)
    return RecordedInteraction(request, source, response)


def failed(request: RecordedRequest, kind: str, message: str | None = None) -> RecordedInteraction:
    return RecordedInteraction(request, "hand", error=RecordedFailure(kind, message))


EVERYTHING = {
    "json": answer(call(path="/users?page=2&sort=name"), {"users": [{"id": 1, "name": "Zoë"}]}),
    "json-list": answer(call(path="/list"), [1, 2.5, None, True, "x"]),
    "json-text": answer(call(path="/text"), "just text"),
    "json-null": answer(call(path="/null"), None),
    "no-content-type": answer(call(path="/bare"), {"a": 1}, headers={}),
    "problem": answer(
        call(path="/missing"), {"title": "?"}, 404, {"content-type": "application/problem+json"}
    ),
    "html": answer(call(path="/page"), "<p>ü</p>", headers={"content-type": "text/html"}),
    "latin-1": answer(
        call(path="/old"), "ü", headers={"content-type": "text/plain; charset=iso-8859-1"}
    ),
    "binary": answer(
        call(path="/logo"), {"$base64": "iVBORw0KGgoA/w=="}, headers={"content-type": "image/png"}
    ),
    "form-answer": answer(
        call(path="/token"),
        {"$form": {"a": "1", "b": ["x", "y z"]}},
        headers={"content-type": "application/x-www-form-urlencoded"},
    ),
    "multipart-answer": answer(
        call(path="/parts"),
        {
            "$multipart": [
                {"name": "a", "data": "1"},
                {
                    "name": "f",
                    "filename": "f.bin",
                    "contentType": "application/octet-stream",
                    "$base64": "AP8=",
                },
            ]
        },
        headers={"content-type": "multipart/form-data"},
    ),
    "created": answer(
        call("POST", "/orders", {"items": [1, 2], "note": "ä"}, content_type="application/json"),
        {"id": 7},
        201,
        {"content-type": "application/json", "location": "/orders/7"},
    ),
    "post-list": answer(
        call("POST", "/bulk", [1, {"a": "b"}], content_type="application/json"), {}
    ),
    "post-text": answer(call("POST", "/say", "hello\nyou", content_type="text/plain"), {}),
    "post-untyped": answer(call("POST", "/untyped", "a=b"), {}),
    "post-form": answer(
        call(
            "POST",
            "/login",
            {"$form": {"user": "ann", "roles": ["a", "b"], "password": "REDACTED"}},
            content_type="application/x-www-form-urlencoded",
        ),
        {},
    ),
    "post-multipart": answer(
        call(
            "POST",
            "/upload",
            {
                "$multipart": [
                    {"name": "title", "data": "A title"},
                    {"name": "meta", "contentType": "application/json", "data": {"a": [1]}},
                    {
                        "name": "file",
                        "filename": "a.bin",
                        "contentType": "image/png",
                        "$base64": "AP8=",
                    },
                ]
            },
            content_type="multipart/form-data",
        ),
        {},
    ),
    "post-binary": answer(
        call("PUT", "/raw", {"$base64": "AP8A"}, content_type="application/octet-stream"), {}
    ),
    "secrets": answer(
        call(
            "POST",
            "/k?api_key=REDACTED&x=1",
            {"token": "REDACTED"},
            content_type="application/json",
        ),
        {},
    ),
    "set-cookie": answer(
        call(path="/cookies"),
        {},
        headers={**JSON, "set-cookie": ["a=1; Path=/; HttpOnly", "b=2; Expires=Wed, 21 Oct 2026"]},
    ),
    "redirect": answer(call(path="/from"), UNSET, 302, {"location": "https://api.test/to"}),
    "gone": answer(call("DELETE", "/users/1"), UNSET, 204, {}),
    "head": answer(call("HEAD", "/big"), UNSET, 200, {**JSON, "content-length": "1234"}),
    "not-modified": answer(call(path="/etag"), UNSET, 304, {"etag": '"x"'}),
    "slow": answer(call(path="/slow"), {}, delay_ms=1500),
    "again-1": answer(call(path="/poll"), {"state": "waiting"}, source="example"),
    "again-2": answer(call(path="/poll"), {"state": "waiting"}),
    "again-3": answer(call(path="/poll"), {"state": "done"}, source="live"),
    "reset": failed(call(path="/broken"), "reset", "Connection reset by peer"),
}

FAILURES = {
    kind: failed(call(path=f"/{kind}"), kind)
    for kind in ("refused", "unresolved", "connect_timeout", "read_timeout")
}


def recording(*interactions: RecordedInteraction, test: str = "test_a.py::test_b") -> Recording:
    return Recording(FORMAT_VERSION, test, interactions)
