from __future__ import annotations

import zlib
from typing import Any

import pytest

from mock_mcp.errors import ConfigurationError
from mock_mcp.exchange import (
    Decision,
    HostRules,
    HttpRequest,
    HttpResponse,
    Origin,
    UnusableMock,
)

FORM = "application/x-www-form-urlencoded"
LATIN_1 = "text/plain; charset=latin-1"
GET = HttpRequest("GET", "http://a.test/", (("Accept-Encoding", "gzip, deflate"),))


def posted(body: bytes, content_type: str | None) -> Any:
    headers = () if content_type is None else (("Content-Type", content_type),)
    return HttpRequest("POST", "http://a.test/", headers, body).body_value()


# -- Hosts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "host", "port", "mocked"),
    [
        ("api.example.com", "api.example.com", 443, True),
        ("API.Example.com", "api.EXAMPLE.com", 443, True),
        ("api.example.com", "api.example.com.", 443, True),
        ("api.example.com", "xapi.example.com", 443, False),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "badexample.com", 443, False),
        ("api.example.com:8443", "api.example.com", 8443, True),
        ("api.example.com:8443", "api.example.com", 443, False),
        ("api.example.com:443", "api.example.com", None, True),
        ("*:8443", "anything", 8443, True),
        ("localhost", "localhost", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("::1", "::1", 80, True),
        ("bücher.example", "xn--bcher-kva.example", 443, True),
        ("xn--bcher-kva.example", "bücher.example", 443, True),
        ("*", "127.0.0.1", 80, True),
    ],
)
def test_patterns(pattern: str, host: str, port: int | None, mocked: bool) -> None:
    decision = HostRules([pattern]).decide(Origin.make("https", host, port))
    assert (decision is Decision.MOCK) is mocked


@pytest.mark.parametrize(
    "host",
    ["localhost", "a.localhost", "127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::ffff:127.0.0.1"],
)
def test_loopback_passes_unless_told_otherwise(host: str) -> None:
    origin = Origin.make("http", host, 8000)
    assert HostRules().decide(origin) is Decision.PASS
    assert HostRules(["api.test"]).decide(origin) is Decision.PASS
    assert HostRules(loopback=False).decide(origin) is Decision.REFUSE


@pytest.mark.parametrize("host", ["127.evil.test", "localhost.evil.test", "127.0.0.1.nip.test"])
def test_what_only_looks_like_loopback_is_mocked(host: str) -> None:
    assert HostRules().decide(Origin.make("http", host, 80)) is Decision.MOCK


def test_passthrough_comes_first() -> None:
    rules = HostRules(["*.test"], passthrough=["real.test"])
    decided = [
        rules.decide(Origin.make("http", host, 80)) for host in ("real.test", "a.test", "a.org")
    ]
    assert decided == [Decision.PASS, Decision.MOCK, Decision.REFUSE]


@pytest.mark.parametrize(
    "pattern", ["https://api.example.com", "api.example.com/v1", "", "a b", "api.*.com", "u@host"]
)
def test_a_pattern_that_is_no_host_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match=r"hosts: .* is not a host"):
        HostRules([pattern])


# -- Requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type", "value"),
    [
        (b"", "application/json", None),
        (b'{"a": 1}', "application/json; charset=utf-8", {"a": 1}),
        (b"[1]", "application/vnd.api+json", [1]),
        (b"null", "application/json", None),
        (b"{oops", "application/json", "{oops"),
        (b"NaN", "application/json", "NaN"),
        (b"a=1&b=2&b=3&c=", FORM, {"$form": {"a": "1", "b": ["2", "3"], "c": ""}}),
        (b"caf\xe9", "text/plain; charset=latin-1", "café"),
        (b"caf\xe9", "text/plain", {"$base64": "Y2Fm6Q=="}),
        (b"hi", "text/plain; charset=nonsense", "hi"),
        (b"hi", None, "hi"),
        (b"\0\1", "application/octet-stream", {"$base64": "AAE="}),
        (b"no parts", "multipart/form-data; boundary=x", "no parts"),
        (b"no boundary", "multipart/form-data", "no boundary"),
    ],
)  # fmt: skip
def test_body_value(body: bytes, content_type: str | None, value: Any) -> None:
    assert posted(body, content_type) == value


def test_multipart_body() -> None:
    parts = [
        b'Content-Disposition: form-data; name="a"\r\n\r\nplain',
        b'Content-Disposition: form-data; name="j"\r\nContent-Type: text/json\r\n\r\n{"x":1}',
        b'Content-Type: a/b\r\nContent-Disposition: x; name="f"; filename="\\""\r\n\r\n\r\n\0',
        b"Content-Disposition: form-data; name=u; filename*=utf-8''na%C3%AFve.txt\r\n\r\n",
    ]
    body = (
        b"preamble\r\n" + b"".join(b"--b b\r\n" + part + b"\r\n" for part in parts) + b"--b b--\r\n"
    )
    assert posted(body, 'multipart/form-data; charset=utf-8; boundary="b b"') == {
        "$multipart": [
            {"name": "a", "data": "plain"},
            {"name": "j", "contentType": "text/json", "data": {"x": 1}},
            {
                "name": "f",
                "filename": '"',
                "contentType": "a/b",
                "$base64": "DQoA",
            },
            {"name": "u", "filename": "naïve.txt", "data": ""},
        ]
    }


def test_multipart_whose_lines_end_as_the_email_package_writes_them() -> None:
    body = (
        b'--==1==\nContent-Type: application/json\nMIME-Version: 1.0\n\n{"a": 1}\n'
        b"--==1==\nContent-Type: a/b\n\none\r\n\ntwo\n--==1==--\n"
    )
    assert posted(body, 'multipart/related; boundary="==1=="') == {
        "$multipart": [
            {"name": "", "contentType": "application/json", "data": {"a": 1}},
            {"name": "", "contentType": "a/b", "data": "one\r\n\ntwo"},
        ]
    }


def test_header_map_joins_nothing() -> None:
    request = HttpRequest("GET", "http://a.test/", (("A", "1"), ("b", "2"), ("a", "3")))
    assert request.header_map() == {"a": ["1", "3"], "b": "2"}
    assert request.header("A") == "1, 3"


# -- Responses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "mock", "body", "content_type"),
    [
        ({"a": "é"}, {}, '{"a":"é"}'.encode(), "application/json"),
        (None, {}, b"null", "application/json"),
        ("text", {}, b'"text"', "application/json"),
        ("text", {"media_type": "text/html"}, b"text", "text/html"),
        ("é", {"headers": {"content-type": LATIN_1}}, b"\xe9", LATIN_1),
        ([1], {"media_type": "application/problem+json"}, b"[1]", "application/problem+json"),
        ({"$base64": "AAE="}, {}, b"\0\1", "application/octet-stream"),
        ({"$base64": "AAE="}, {"media_type": "image/png"}, b"\0\1", "image/png"),
        ({"$form": {"a": [1, True], "b": "x y"}}, {}, b"a=1&a=true&b=x+y", FORM),
        ({"$form": 1}, {}, b'{"$form":1}', "application/json"),
        ({"$base64": "AAE="}, {"media_type": "a/b+json"}, b'{"$base64":"AAE="}', "a/b+json"),
        ({"a": 1}, {"media_type": "text/plain"}, b'{"a":1}', "text/plain"),
    ],
)  # fmt: skip
def test_bodies(data: Any, mock: dict[str, Any], body: bytes, content_type: str) -> None:
    response = HttpResponse.from_mock(GET, data, **mock)
    assert response.body == body
    assert response.header("content-type") == content_type
    assert response.header("content-length") == str(len(body))


def test_no_content_without_a_content_type() -> None:
    assert HttpResponse.from_mock(GET, None, status=204).header("content-length") is None
    assert HttpResponse.from_mock(GET, None, media_type="text/plain").headers == (
        ("content-length", "0"),
    )


def test_multipart_is_read_back_as_it_was_written() -> None:
    parts = {
        "$multipart": [
            {"name": "a", "data": "1"},
            {"name": "f", "filename": "x.bin", "contentType": "image/png", "$base64": "AP8="},
            {"name": "mock-mcp-boundary", "data": "--mock-mcp-boundary"},
        ]
    }
    response = HttpResponse.from_mock(GET, parts)
    assert posted(response.body, response.header("content-type")) == parts


def test_framing_headers_of_a_mock_are_replaced() -> None:
    headers = {"Content-Length": "999", "Transfer-Encoding": "chunked", "X-A": "1"}
    response = HttpResponse.from_mock(GET, [], headers=headers)
    assert response.headers == (
        ("X-A", "1"),
        ("content-type", "application/json"),
        ("content-length", "2"),
    )


def test_bytes_that_are_gzip_already_are_not_encoded_again() -> None:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b"{}") + packer.flush()
    import base64

    response = HttpResponse.from_mock(
        GET,
        {"$base64": base64.b64encode(packed).decode()},
        headers={"Content-Encoding": "gzip", "Content-Type": "text/csv"},
    )
    assert response.body == packed
    assert response.header("content-encoding") == "gzip"


def test_head_keeps_a_length_that_only_the_mock_knows() -> None:
    head = HttpRequest("HEAD", "http://a.test/big", ())
    response = HttpResponse.from_mock(
        head, None, headers={"Content-Length": "5000000", "Content-Type": "image/png"}
    )
    assert (response.header("content-length"), response.body) == ("5000000", b"")


@pytest.mark.parametrize(
    ("data", "mock", "word"),
    [
        ({}, {"status": 101}, "status"),
        ({}, {"status": 600}, "status"),
        ({}, {"headers": {"X-A": "1\r\nX-B: 2"}}, "line breaks"),
        ({}, {"headers": {"bad name": "1"}}, "tokens"),
        ({"$base64": "%"}, {}, "base64"),
        ({"$base64": 7}, {}, "base64"),
        ({"$multipart": ["x"]}, {}, "object"),
        (object(), {}, "JSON"),
        ("€", {"media_type": "text/plain; charset=latin-1"}, "latin-1"),
    ],
)
def test_a_mock_that_cannot_be_sent(data: Any, mock: dict[str, Any], word: str) -> None:
    with pytest.raises(UnusableMock, match=word):
        HttpResponse.from_mock(GET, data, **mock)


def test_a_multipart_type_without_a_boundary_gets_one() -> None:
    parts = {"$multipart": [{"name": "a", "data": "1"}]}
    headers = {"Content-Type": "multipart/form-data"}
    response = HttpResponse.from_mock(GET, parts, headers=headers)
    content_type = response.header("content-type")
    assert content_type is not None
    boundary = content_type.partition("boundary=")[2]
    assert boundary
    assert response.body.startswith(b"--" + boundary.encode())
