"""Secrets stay out of what is written, and do not keep a call from being found."""

# ruff: noqa: E501 - cases are tables

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_mcp.recordings.format import RecordedRequest
from mock_mcp.recordings.match import Matching
from mock_mcp.recordings.redact import SECRETS, Redaction
from unit.recordings.calls import answered, call

U = "https://api.test/users"


@pytest.mark.parametrize(
    ("url", "cleaned"),
    [
        (f"{U}?api_key=S3CRET&page=2", f"{U}?api_key=REDACTED&page=2"),
        (f"{U}?page=2&access%5Ftoken=S3CRET", f"{U}?page=2&access%5Ftoken=REDACTED"),
        (f"{U}?apiKey=S3CRET", f"{U}?apiKey=REDACTED"),
        (f"{U}?token=&max_tokens=5", f"{U}?token=&max_tokens=5"),
        ("https://me:S3CRET@api.test/a@b", "https://REDACTED@api.test/a@b"),
        ("https://me:S3CR@ET@api.test/", "https://REDACTED@api.test/"),
        (f"{U}#access_token=S3CRET", U),
        (f"{U}?X-Amz-Signature=S3CRET&x=1", f"{U}?X-Amz-Signature=REDACTED&x=1"),
        (f"{U}?Expires=9&Signature=S3CRET%3D", f"{U}?Expires=9&Signature=REDACTED"),
        (f"{U}?q=what?token", f"{U}?q=what?token"),
    ],
)
def test_urls(url: str, cleaned: str) -> None:
    assert Redaction().request(call(url)).url == cleaned


@pytest.mark.parametrize(
    ("body", "cleaned"),
    [
        ({"password": "S3CRET", "name": "Ann"}, {"password": "REDACTED", "name": "Ann"}),
        ({"a": [{"clientSecret": "S3CRET"}]}, {"a": [{"clientSecret": "REDACTED"}]}),
        ({"token": {"value": "S3CRET", "on": True}}, {"token": {"value": "REDACTED", "on": True}}),
        ({"password": 1234, "pwd": None}, {"password": "REDACTED", "pwd": None}),
        ({"tokens": 3, "token": ""}, {"tokens": 3, "token": ""}),
        ({"$form": {"refresh_token": "S3CRET"}}, {"$form": {"refresh_token": "REDACTED"}}),
        ({"$form": {"token": ["S3", "CRET"]}}, {"$form": {"token": ["REDACTED", "REDACTED"]}}),
        (
            {"$multipart": [{"name": "api_key", "$base64": "UzM="}, {"name": "a", "data": "1"}]},
            {"$multipart": [{"name": "api_key", "data": "REDACTED"}, {"name": "a", "data": "1"}]},
        ),
        ('{"password": "S3CRET"}', '{"password":"REDACTED"}'),
        ('{"name":  "Ann"}', '{"name":  "Ann"}'),
        ("user=ann&password=S3CRET", "user=ann&password=REDACTED"),
        (
            {"callback": "https://x.test/?token=S3CRET"},
            {"callback": "https://x.test/?token=REDACTED"},
        ),
        (msgspec.UNSET, msgspec.UNSET),
        (None, None),
        ("{", "{"),
        ({"signature": "c2ln"}, {"signature": "c2ln"}),
        (
            '<?xml version="1.0"?>\n<A><Id>7</Id><SecretAccessKey>S3CRET</SecretAccessKey></A>',
            '<?xml version="1.0"?>\n<A><Id>7</Id><SecretAccessKey>REDACTED</SecretAccessKey></A>',
        ),
        (
            '<a><t:Password x="1">S3C\nRET</t:Password><token> </token><pwd/></a>',
            '<a><t:Password x="1">REDACTED</t:Password><token> </token><pwd/></a>',
        ),
        (
            '<a href="/?token=S3CRET">x</a><token><b>1</b></token>',
            '<a href="/?token=REDACTED">x</a><token><b>1</b></token>',
        ),
    ],
)
def test_bodies(body: Any, cleaned: Any) -> None:
    assert Redaction().request(call(body=body)).body == cleaned


def test_a_body_without_secrets_is_not_copied() -> None:
    body = {"a": [{"b": 1}]}
    assert Redaction().request(call(body=body)).body is body


LINES = "application/x-ndjson"
EVENTS = "text/event-stream"


@pytest.mark.parametrize(
    ("kind", "body", "cleaned"),
    [
        (LINES, [{"token": "S3CRET"}, {"a": 1}], [{"token": "REDACTED"}, {"a": 1}]),
        (LINES, ['{"token": "S3CRET"}', '{"a": 1}'], [{"token": "REDACTED"}, '{"a": 1}']),
        (LINES, '{"token": "S3CRET"}\r\n{"a": 1}', '{"token":"REDACTED"}\n{"a":1}\n'),
        (LINES, '{"a": 1}\r\n', '{"a": 1}\r\n'),
        (EVENTS, [{"event": "x", "data": {"token": "S3CRET"}}], [{"event": "x", "data": {"token": "REDACTED"}}]),
        (EVENTS, [{"data": '{"token": "S3CRET"}'}], [{"data": '{"token":"REDACTED"}'}]),
        (EVENTS, [': ping\ndata: {"token": "S3CRET"}', ": ping"], [{"data": {"token": "REDACTED"}}, ": ping"]),
        (EVENTS, ['data: {"token": "S3CRET"}\r\n\r\n'], [{"data": {"token": "REDACTED"}}]),
        (EVENTS, 'data: {"token": "S3CRET"}\r\n\r\n', 'data: {"token":"REDACTED"}\n\n'),
        (EVENTS, [{"data": "user=ann&token=S3CRET"}], [{"data": "user=ann&token=REDACTED"}]),
    ],
)  # fmt: skip
def test_bodies_of_items(kind: str, body: Any, cleaned: Any) -> None:
    assert Redaction().request(call(body=body, content_type=kind)).body == cleaned


def test_of_a_request_only_listed_headers_are_recorded() -> None:
    request = call(
        Authorization="Bearer S3CRET",
        Cookie="a=S3CRET; b=S3CRET",
        Content_Type='multipart/form-data; boundary="x y"; charset=utf-8',
        User_Agent="x",
    )
    assert Redaction().request(request).headers == {
        "content-type": "multipart/form-data; charset=utf-8"
    }
    more = Redaction(request_headers=["Authorization", "cookie", "user-*"]).request(request)
    assert more.headers == {
        "content-type": "multipart/form-data; charset=utf-8",
        "authorization": "REDACTED",
        "cookie": "a=REDACTED; b=REDACTED",
        "user-agent": "x",
    }


LIVE_HEADERS = {
    "Content-Type": "application/json",
    "Set-Cookie": ["sid=S3CRET; Path=/; HttpOnly", "b=2"],
    "Location": "https://x.test/cb?code=1&token=S3CRET",
    "Date": "today",
    "X-Request-Id": "1",
}


def test_live_answers_are_cleaned_and_lose_their_noise() -> None:
    item = answered(call(), {"access_token": "S3CRET"}, source="live", headers=LIVE_HEADERS)
    response = Redaction().interaction(item).response
    assert response is not None
    assert response.body == {"access_token": "REDACTED"}
    assert response.headers == {
        "content-type": "application/json",
        "set-cookie": ["sid=REDACTED; Path=/; HttpOnly", "b=REDACTED"],
        "location": "https://x.test/cb?code=1&token=REDACTED",
    }


@pytest.mark.parametrize("source", ["ai", "example", "hand"])
def test_answers_written_for_the_test_replay_as_they_were(source: str) -> None:
    body = {"access_token": "tok_1"}
    item = answered(call(f"{U}?token=S3CRET"), body, source=source, headers=LIVE_HEADERS)
    cleaned = Redaction().interaction(item)
    assert cleaned.request.url == f"{U}?token=REDACTED"
    assert cleaned.response is not None
    assert cleaned.response.body == body
    assert cleaned.response.headers == {name.lower(): v for name, v in LIVE_HEADERS.items()}


def test_names_are_added_and_kept_and_all_is_switched_off() -> None:
    request = call(f"{U}?tenant=acme&token=t")
    assert Redaction(names=["Tenant"]).request(request).url == f"{U}?tenant=REDACTED&token=REDACTED"
    assert Redaction(keep=["token"]).request(request).url == f"{U}?tenant=acme&token=t"
    assert Redaction(enabled=False).request(request).url == f"{U}?tenant=acme&token=t"


names = st.sampled_from([*SECRETS, "page", "name", "max_tokens"])
words = st.text('aZ1 ?&=%/@:#{}[]"ü-', max_size=12)
values: Any = st.recursive(
    words | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | words, inner, max_size=3),
    max_leaves=8,
)
forms = st.dictionaries(names, words | st.lists(words, max_size=2), max_size=3)
bodies = (
    st.just(msgspec.UNSET)
    | values
    | st.builds(lambda form: {"$form": form}, forms)
    | st.lists(st.fixed_dictionaries({"name": names, "data": words})).map(
        lambda parts: {"$multipart": parts}
    )
    | values.map(lambda value: msgspec.json.encode(value).decode())
)
urls = st.builds(
    lambda user, pairs, end: f"https://{user}api.test/x?{'&'.join(pairs)}{end}",
    st.sampled_from(["", "me:pw@", "a@b@"]),
    st.lists(st.builds("{}={}".format, names | words, words), max_size=3),
    st.sampled_from(["", "#x", "#token=1"]),
)
requests = st.builds(
    RecordedRequest,
    st.sampled_from(["get", "POST"]),
    urls,
    st.dictionaries(names.map(str.title), words),
    bodies,
)


@settings(deadline=None)
@given(requests)
def test_cleaning_twice_changes_nothing(request: RecordedRequest) -> None:
    redaction = Redaction(request_headers=["*"])
    once = redaction.request(request)
    assert redaction.request(once) == once


@settings(deadline=None)
@given(st.sampled_from(SECRETS), st.integers(0, 6))
def test_a_secret_is_never_written_and_never_decides(name: str, where: int) -> None:
    def request(secret: str) -> RecordedRequest:
        body: Any = [
            msgspec.UNSET,
            {"deep": [{name: secret}]},
            {"$form": {name: secret}},
            {"$multipart": [{"name": name, "data": secret}]},
            msgspec.json.encode({name.upper(): secret}).decode(),
            f"a=1&{name}={secret}",
            {"next": f"https://x.test/?a=1&{name}={secret}"},
        ][where]
        url = f"https://{secret}@api.test/x?{name}={secret}"
        return RecordedRequest("POST", url, {name: secret}, body)

    redaction = Redaction(request_headers=["*"])
    first, second = (redaction.request(request(secret)) for secret in ("S3CRET1", "S3CRET2"))
    assert b"S3CRET" not in msgspec.json.encode(first)
    assert Matching().key(first) == Matching().key(second)
