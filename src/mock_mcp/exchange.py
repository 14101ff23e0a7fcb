"""One HTTP exchange, whatever library makes it: the request, the response, and who answers.

`interceptors` turns the call of an HTTP library into an `HttpRequest`, asks the active `Exchange`,
and turns its `HttpResponse` into what that library returns. Bodies are bytes here; `body_value` and
`HttpResponse.from_mock` translate them from and to the forms of DESIGN section 6.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import enum
import re
import zlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

from mock_mcp.errors import ConfigurationError, LimitExceeded, MockMcpError
from mock_mcp.limits import LIVE_BODY_BYTES
from mock_mcp.media_types import base_type, is_json
from mock_mcp.sequential import is_sequential, join, listed, split

__all__ = [
    "Decision",
    "Exchange",
    "FailureKind",
    "Headers",
    "HostRules",
    "HttpRequest",
    "HttpResponse",
    "MocksNothing",
    "NetworkBlocked",
    "Origin",
    "Send",
    "SendAsync",
    "TransportFailure",
    "UnusableMock",
    "bypass",
    "check_size",
    "decode_body",
    "is_bypassed",
]

Headers = tuple[tuple[str, str], ...]
"""Header fields in order, names as they were written; several fields may share a name."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


# -- Errors -----------------------------------------------------------------------------------


class NetworkBlocked(MockMcpError):
    """Something in a mocked test tried to leave the process.

    It is no ``OSError`` on purpose: code that falls back or retries when the network is down must
    not swallow it.
    """

    code = "network-blocked"


class UnusableMock(MockMcpError):
    """A mock cannot be turned into an HTTP response; the message says which part and why."""

    code = "unusable-mock"


class FailureKind(enum.StrEnum):
    """How an exchange fails below HTTP."""

    REFUSED = "refused"
    UNRESOLVED = "unresolved"
    CONNECT_TIMEOUT = "connect_timeout"
    READ_TIMEOUT = "read_timeout"
    RESET = "reset"


_FAILURES = {
    FailureKind.REFUSED: "Connection refused",
    FailureKind.UNRESOLVED: "Name or service not known",
    FailureKind.CONNECT_TIMEOUT: "Connection timed out",
    FailureKind.READ_TIMEOUT: "The read operation timed out",
    FailureKind.RESET: "Connection reset by peer",
}


class TransportFailure(MockMcpError):
    """An exchange raises this to make the HTTP library fail with its own error, at once.

    Args:
        kind: What goes wrong.
        message: The text of the library's error; a usual one for the kind when None.
    """

    code = "transport-failure"

    def __init__(self, kind: FailureKind | str, message: str | None = None) -> None:
        self.kind = FailureKind(kind)
        super().__init__(message or _FAILURES[self.kind])


# -- Which hosts ------------------------------------------------------------------------------


class Decision(enum.Enum):
    """What happens to a call: an exchange answers it, it goes its way, or it is not allowed."""

    MOCK = "mock"
    PASS = "pass"  # noqa: S105 - no password
    REFUSE = "refuse"


class Origin(NamedTuple):
    """Where a call goes: ``scheme`` is "" and ``port`` 0 where they are not known."""

    scheme: str
    host: str
    port: int

    @classmethod
    def make(cls, scheme: str, host: str, port: int | None) -> Self:
        """Return an origin in ASCII lower case, with the scheme's port when none is given."""
        return cls(scheme, _ascii(host.lower().strip("[]")), port or _DEFAULT_PORTS.get(scheme, 0))

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the origin of an absolute URL."""
        parts = urlsplit(url)
        return cls.make(parts.scheme, parts.hostname or "", parts.port)

    def url(self, target: str) -> str:
        """Return the absolute URL of a request target (path and query)."""
        return f"{self.scheme}://{self.authority}{target}"

    def __str__(self) -> str:
        return self.authority

    @property
    def authority(self) -> str:
        """Host and port as a URL and a Host header write them, a port that is implied left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        implied = self.port == _DEFAULT_PORTS.get(self.scheme, 0)
        return host if implied else f"{host}:{self.port}"


class HostRules:
    """Decide by host which calls are mocked, which pass, and which are refused.

    A pattern is a host (``api.example.com``), a host and port (``localhost:8000``), all subdomains
    of a host (``*.example.com``), or ``*``. ``passthrough`` is asked first.

    Args:
        hosts: Hosts to mock; None means all but loopback. With a list, other hosts are refused.
        passthrough: Hosts whose calls, HTTP or not, go their way.
        loopback: Whether loopback that is not mocked may be reached.

    Raises:
        ConfigurationError: A pattern is not a host.
    """

    __slots__ = ("_hosts", "_loopback", "_passthrough")

    def __init__(
        self,
        hosts: Iterable[str] | None = None,
        *,
        passthrough: Iterable[str] = (),
        loopback: bool = True,
    ) -> None:
        self._hosts = None if hosts is None else _patterns(hosts, "hosts")
        self._passthrough = _patterns(passthrough, "passthrough")
        self._loopback = loopback

    def passes(self, origin: Origin) -> bool:
        """Return whether ``passthrough`` names ``origin``."""
        return _matches(self._passthrough, origin)

    def decide(self, origin: Origin) -> Decision:
        """Return what happens to a call to ``origin``."""
        if self._passthrough and self.passes(origin):
            return Decision.PASS
        if self._hosts is not None and _matches(self._hosts, origin):
            return Decision.MOCK
        if _is_loopback(origin.host):
            return Decision.PASS if self._loopback else Decision.REFUSE
        return Decision.MOCK if self._hosts is None else Decision.REFUSE


_Pattern = tuple[str, int | None]
_LOOPBACK = re.compile(r"(?:::ffff:)?127(?:\.[0-9]{1,3}){3}|::1?|0\.0\.0\.0|(?:.+\.)?localhost\.?|")
_PATTERN = re.compile(r"(?P<host>\*|(?:\*\.)?[^\s/:*\[\]@]+|\[[0-9a-f:.%]+\])(?::(?P<port>\d+))?")


def _is_loopback(host: str) -> bool:
    """Tell whether a host name or address (in lower case) is this machine's loopback."""
    return _LOOPBACK.fullmatch(host) is not None


def _patterns(texts: Iterable[str], setting: str) -> Sequence[_Pattern]:
    if isinstance(texts, str):
        texts = [texts]
    return [_pattern(text, setting) for text in texts]


def _pattern(text: str, setting: str) -> _Pattern:
    bracketed = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
    found = _PATTERN.fullmatch(bracketed.lower())
    if found is None:
        raise ConfigurationError(
            f"{setting}: {text!r} is not a host. Write 'api.example.com', '*.example.com', "
            "'localhost:8000' or '*', without scheme and path."
        )
    host, port = found["host"].strip("[]").rstrip("."), found["port"]
    return _ascii(host), int(port) if port else None


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host  # no look-up will find it either


def _matches(patterns: Sequence[_Pattern], origin: Origin) -> bool:
    host = origin.host.rstrip(".")
    for wanted, port in patterns:
        if port is not None and origin.port not in (port, 0):
            continue
        if wanted in (host, "*") or (wanted[0] == "*" and host.endswith(wanted[1:])):
            return True
    return False


# -- The request ------------------------------------------------------------------------------


class HttpRequest(msgspec.Struct, frozen=True):
    """A request as it would leave the process.

    ``url`` is absolute, without fragment and user info; ``body`` is what the library would send,
    chunks joined.
    """

    method: str
    url: str
    headers: Headers
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return a header's value, several joined by ", "; None when it is absent."""
        return _header(self.headers, name)

    def header_map(self) -> dict[str, str | list[str]]:
        """Return the headers by lower-case name; a name that comes twice has a list."""
        found: dict[str, str | list[str]] = {}
        for name, value in self.headers:
            key = name.lower()
            before = found.get(key)
            if before is None:
                found[key] = value
            else:
                found[key] = [*(before if isinstance(before, list) else [before]), value]
        return found

    def body_value(self) -> Any:
        """Return the body as `decode_body` does."""
        return decode_body(self.body, self.header("content-type"))


# -- The response -----------------------------------------------------------------------------

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\r\n\0]")
_FRAMING = frozenset(("content-length", "transfer-encoding", "trailer", "content-encoding"))
_NO_BODY = frozenset((204, 205, 304))
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class HttpResponse(msgspec.Struct, frozen=True):
    """A complete response: ``body`` is what the wire would carry, still content-encoded.

    Header values are Latin-1 text, as clients read them. ``delay_s`` is how long the library waits
    for it; longer than its read timeout is a timeout.
    """

    status: int
    headers: Headers
    body: bytes
    delay_s: float = 0.0

    @property
    def reason(self) -> str:
        """The reason phrase of the status."""
        return _PHRASES.get(self.status, "")

    def header(self, name: str) -> str | None:
        """Return a header's value, several joined by ", "; None when it is absent."""
        return _header(self.headers, name)

    @classmethod
    def from_mock(
        cls,
        request: HttpRequest,
        data: Any,
        *,
        status: int | None = None,
        headers: Mapping[str, str | Sequence[str]] | None = None,
        media_type: str | None = None,
        delay_s: float = 0.0,
    ) -> Self:
        """Return the response that a mock describes, framed as a server would.

        A ``content-encoding`` of gzip or deflate is applied if the request accepts it and the data
        is not already so encoded; any other is left out, for the data is not encoded. The length
        is computed; an answer to HEAD, 204, 205 and 304 has no body.

        Args:
            request: What it answers.
            data: The body in the forms of DESIGN section 6; with a JSON media type it is a JSON
                value, whatever it looks like. Bytes are sent as they are; ``msgspec.UNSET`` is no
                body at all.
            status: From 200 to 599; 200 when None.
            headers: A name has one value or several.
            media_type: The contract's, when the headers name none; else ``application/json``.
            delay_s: How long the library waits for the answer.

        Raises:
            UnusableMock: The status, a header or the data cannot be sent.
        """
        status = 200 if status is None else status
        if not 200 <= status <= 599:
            raise UnusableMock(f"A mock's status must be from 200 to 599, not {status}.")
        given = list(_given_headers(headers)) if headers else []
        body, content_type = _encode(data, _header(given, "content-type"), media_type)
        kept = [(name, value) for name, value in given if name.lower() not in _FRAMING]
        if body and _header(kept, "content-type") != content_type:  # absent, or had no boundary
            kept = [field for field in kept if field[0].lower() != "content-type"]
            kept.append(("content-type", content_type))
        coding = _header(given, "content-encoding")
        encoded = None if coding is None else _apply_encoding(body, coding, request)
        if encoded is not None:
            body, name = encoded
            kept.append(("content-encoding", name))
        if request.method == "HEAD":
            length = _header(given, "content-length") if not body else None
            kept.append(("content-length", length or str(len(body))))
            body = b""
        elif status in _NO_BODY:
            body = b""
            if status == 205:
                kept.append(("content-length", "0"))
        else:
            kept.append(("content-length", str(len(body))))
        return cls(status, tuple(kept), body, delay_s)


def _given_headers(headers: Mapping[str, str | Sequence[str]]) -> Iterable[tuple[str, str]]:
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            text = str(value)
            if not _TOKEN.fullmatch(name) or _BAD_VALUE.search(text):
                raise UnusableMock(
                    f"The mock's header {name!r}: {text!r} cannot be sent; names are tokens, "
                    "values have no line breaks."
                )
            try:
                text.encode("latin-1")
            except UnicodeEncodeError:
                text = text.encode("utf-8", "replace").decode("latin-1")
            yield name, text


def _apply_encoding(body: bytes, coding: str, request: HttpRequest) -> tuple[bytes, str] | None:
    """Return the encoded body and its coding; None when the body stays as it is."""
    coding = coding.strip().lower()
    if coding in ("gzip", "x-gzip") and body[:2] == b"\x1f\x8b":
        return body, coding
    accepted = request.header("accept-encoding") or ""
    codings = [part.partition(";")[0].strip().lower() for part in accepted.split(",")]
    if not body or (coding not in codings and "*" not in codings):
        return None
    if coding in ("gzip", "x-gzip"):
        return _compress(body, 16 + zlib.MAX_WBITS), coding
    if coding == "deflate":
        return _compress(body, zlib.MAX_WBITS), coding
    return None


def _compress(body: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(body) + packer.flush()


# -- Bodies (DESIGN section 6) ----------------------------------------------------------------

_FORM = "application/x-www-form-urlencoded"
_PARAMETER = re.compile(r';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')


def _header(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    wanted = name.lower()
    found = None
    for key, value in headers:
        if key.lower() == wanted:
            found = value if found is None else f"{found}, {value}"
    return found


def _parameters(value: str) -> dict[str, str]:
    """Return the parameters of a header value such as a content type."""
    return {
        key.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
        for key, quoted, plain in _PARAMETER.findall(value)
    }


def _charset(content_type: str) -> str:
    name = _parameters(content_type).get("charset", "utf-8")
    try:
        "".encode(name)
    except LookupError:
        return "utf-8"
    return name


def decode_body(body: bytes, content_type: str | None, *, exact: bool = False) -> Any:
    """Return a body in the forms of DESIGN section 6; None when it is empty.

    A body that is not what its content type says falls back to text, then to ``$base64``.

    Args:
        body: The bytes.
        content_type: What they are.
        exact: Whether the items of a sequential body must give back these very bytes. Otherwise
            they are what the body means.
    """
    if not body:
        return None
    content_type = content_type or ""
    kind = base_type(content_type)
    if is_json(kind):
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return _text_or_base64(body, content_type)
    if kind == _FORM:
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True)
        except ValueError:
            return _text_or_base64(body, content_type)
        return {"$form": _grouped(pairs)}
    if kind.startswith("multipart/"):
        boundary = _parameters(content_type).get("boundary")
        parts = _split_multipart(body, boundary) if boundary else None
        if parts is not None:
            return {"$multipart": parts}
    text = _text_or_base64(body, content_type)
    if exact or not isinstance(text, str) or not is_sequential(kind):
        return listed(text, kind)
    return split(text, kind) or text


def _text_or_base64(body: bytes, content_type: str) -> str | dict[str, str]:
    try:
        text = body.decode(_charset(content_type))
    except ValueError:
        text = "\0"
    if "\0" in text:
        return {"$base64": base64.b64encode(body).decode()}
    return text


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _split_multipart(body: bytes, boundary: str) -> list[dict[str, Any]] | None:
    """Return the parts of a multipart body (RFC 2046, 7578); None when it is malformed.

    Lines may end as Python's email package, and so Google's API client, writes them: in LF alone.
    """
    delimiter = b"--" + boundary.encode("latin-1", "replace")
    for end in (b"\r\n", b"\n"):
        pieces = (end + body).split(end + delimiter)
        if len(pieces) > 1 and pieces[-1].startswith(b"--"):
            break
    else:
        return None
    parts = []
    for piece in pieces[1:-1]:
        head, blank, content = piece.partition(end + end)
        if not blank:
            return None
        parts.append(_part(head.decode("utf-8", "replace").split(end.decode()), content))
    return parts


def _part(lines: Iterable[str], content: bytes) -> dict[str, Any]:
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    disposition = _parameters(fields.get("content-disposition", ""))
    part: dict[str, Any] = {"name": disposition.get("name", "")}
    if "filename*" in disposition:
        part["filename"] = unquote(disposition["filename*"].rpartition("'")[2])
    elif "filename" in disposition:
        part["filename"] = disposition["filename"]
    content_type = fields.get("content-type", "")
    if content_type:
        part["contentType"] = content_type
    if is_json(content_type):
        return part | {"data": decode_body(content, content_type)}
    text = _text_or_base64(content, content_type)
    return part | (text if isinstance(text, dict) else {"data": text})


def _encode(data: Any, content_type: str | None, media_type: str | None) -> tuple[bytes, str]:
    """Return the bytes of a mock's data, and the content type they have."""
    declared = content_type or media_type
    if data is msgspec.UNSET:
        return b"", declared or "application/json"
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data), declared or "application/octet-stream"
    is_wrapper = isinstance(data, dict) and len(data) == 1 and not is_json(declared)
    wrapper = next(iter(data)) if is_wrapper else None
    if wrapper == "$base64":
        return _unbase64(data), declared or "application/octet-stream"
    if wrapper == "$form" and isinstance(data["$form"], dict):
        form = {
            name: [_field(item) for item in (value if isinstance(value, list) else [value])]
            for name, value in data["$form"].items()
        }
        return urlencode(form, doseq=True).encode(), declared or _FORM
    if wrapper == "$multipart" and isinstance(data["$multipart"], list):
        return _join_multipart(data["$multipart"], declared)
    kind = declared or "application/json"
    if isinstance(data, str) and not is_json(kind):
        return _encode_text(data, kind), kind
    if data is None and not is_json(kind):
        return b"", kind
    if isinstance(data, list) and is_sequential(kind):
        return _written(lambda: join(data, kind).encode()), kind
    return _encode_json(data), kind


def _encode_json(data: Any) -> bytes:
    return _written(lambda: msgspec.json.encode(data))


def _written(write: Callable[[], bytes]) -> bytes:
    try:
        return write()
    except (TypeError, ValueError, RecursionError) as exc:
        raise UnusableMock(f"The mock's data cannot be written as JSON: {exc}.") from exc


def _encode_text(text: str, content_type: str) -> bytes:
    try:
        return text.encode(_charset(content_type))
    except UnicodeEncodeError as exc:
        raise UnusableMock(
            f"The mock's text cannot be written as {content_type!r}: {exc}."
        ) from exc


def _unbase64(data: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(data["$base64"], validate=True)
    except (binascii.Error, TypeError, ValueError) as exc:
        raise UnusableMock(f"The mock's $base64 is not base64: {exc}.") from exc


def _field(value: Any) -> str:
    return value if isinstance(value, str) else _encode_json(value).decode()


def _join_multipart(parts: Sequence[Any], content_type: str | None) -> tuple[bytes, str]:
    content_type = content_type or "multipart/form-data"
    written = [_write_part(part) for part in parts]
    boundary = _parameters(content_type).get("boundary")
    if boundary is None:
        boundary = "mock-mcp-boundary"
        while any(boundary.encode() in part for part in written):
            boundary += "-"
        content_type = f"{content_type}; boundary={boundary}"
    line = b"--" + boundary.encode()
    body = b"".join(line + b"\r\n" + part + b"\r\n" for part in written)
    return body + line + b"--\r\n", content_type


def _write_part(part: Any) -> bytes:
    if not isinstance(part, dict):
        raise UnusableMock(f"A part of $multipart must be an object, not {part!r}.")
    disposition = f'form-data; name="{_quoted(part.get("name", ""))}"'
    if "filename" in part:
        disposition += f'; filename="{_quoted(part["filename"])}"'
    head = f"Content-Disposition: {disposition}\r\n"
    if part.get("contentType"):
        head += f"Content-Type: {_quoted(part['contentType'])}\r\n"
    source = part if "$base64" in part else part.get("data", "")
    if isinstance(source, dict) and "$base64" in source:
        content = _unbase64(source)
    elif isinstance(source, str):
        content = _encode_text(source, part.get("contentType") or "text/plain")
    else:
        content = _encode_json(source)
    return head.encode() + b"\r\n" + content


def _quoted(value: Any) -> str:
    return str(value).replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


# -- Who answers ------------------------------------------------------------------------------

_bypassed: ContextVar[bool] = ContextVar("mock_mcp_bypassed", default=False)


@contextlib.contextmanager
def bypass() -> Iterator[None]:
    """Let every call of this context (thread or task) through, to the network too."""
    token = _bypassed.set(True)
    try:
        yield
    finally:
        _bypassed.reset(token)


def is_bypassed() -> bool:
    """Tell whether the calling context is inside `bypass`."""
    return _bypassed.get()


Send = Callable[[], HttpResponse]
"""Really makes a call, by the means of the library that was about to; raises that library's errors.

The response is the wire's, in one piece: complete, still content-encoded.
"""

SendAsync = Callable[[], Coroutine[Any, Any, HttpResponse]]


def check_size(request: HttpRequest, size_bytes: int) -> None:
    """Refuse a real answer, or what has come of it, that is too large for a test.

    Raises:
        LimitExceeded: It is.
    """
    if size_bytes > LIVE_BODY_BYTES:
        raise LimitExceeded(
            f"The real answer to {request.method} {request.url.partition('?')[0]} is larger than "
            f"{LIVE_BODY_BYTES} bytes (LIVE_BODY_BYTES), or never ends; it cannot be recorded. "
            "Ask for less of it, answer by hand (add_response), or let the host through "
            "(passthrough)."
        )


class Exchange(Protocol):
    """Answers the calls of one installation (`mock_mcp.interceptors.install`).

    Methods are called from any thread, several at once, with no lock held.
    """

    def decide(self, origin: Origin) -> Decision:
        """Return what happens to a call; quick, and without side effects.

        It is also asked about connections that are not HTTP, with scheme "" and an address or name
        as the host; there only ``PASS`` lets them through.
        """
        ...

    def handle(self, request: HttpRequest, send: Send | None = None) -> HttpResponse:
        """Return the answer; may block the thread.

        Args:
            request: What is asked.
            send: Asks the real server; None where the interceptor cannot.

        Raises:
            TransportFailure: The library shall fail with its own error of that kind.
            Exception: Anything else reaches the code under test unchanged.
        """
        ...

    async def handle_async(
        self, request: HttpRequest, send: SendAsync | None = None
    ) -> HttpResponse:
        """Return the answer, on a running asyncio loop; raises as `handle` does."""
        ...

    def blocked(self, error: NetworkBlocked) -> None:
        """Take note of a refusal, just before it is raised (the code under test may hide it)."""
        ...


class MocksNothing:
    """An `Exchange` that answers no call: each goes its way, or is refused.

    Args:
        decide: Returns ``PASS`` or ``REFUSE`` for each.
    """

    def __init__(self, decide: Callable[[Origin], Decision]) -> None:
        self._decide = decide

    def decide(self, origin: Origin) -> Decision:
        """Return what was given."""
        return self._decide(origin)

    def handle(self, request: HttpRequest, send: Send | None = None) -> HttpResponse:
        """Never called, for nothing is mocked."""
        raise AssertionError("nothing is mocked here")

    async def handle_async(
        self, request: HttpRequest, send: SendAsync | None = None
    ) -> HttpResponse:
        """Never called, for nothing is mocked."""
        raise AssertionError("nothing is mocked here")

    def blocked(self, error: NetworkBlocked) -> None:
        """Leave it to the code under test, which has it and may expect it."""
