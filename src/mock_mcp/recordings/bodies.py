"""Headers and bodies between the wire and a recording, in both directions.

What a recording says and what goes over the wire are translated by `mock_mcp.exchange`, as in a
test. So an exported answer is byte for byte what a replay gives, and one that is imported, or comes
from the real API, is refused here if a replay could not send it.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from mock_mcp.errors import LimitExceeded
from mock_mcp.exchange import HttpRequest, HttpResponse, UnusableMock, decode_body
from mock_mcp.media_types import base_type, is_json
from mock_mcp.recordings.format import Headers, RecordedRequest, RecordedResponse
from mock_mcp.sequential import is_sequential
from mock_mcp.wire.json import check_depth

__all__ = [
    "MAX_DEPTH",
    "MAX_UNPACKED_BYTES",
    "Budget",
    "Unusable",
    "from_base64",
    "header",
    "header_map",
    "recorded_request",
    "recorded_response",
    "wire_request",
    "wire_response",
    "with_content_type",
]

MAX_DEPTH = 200
"""Nesting of a body; what cleans, matches and writes it walks down by recursion."""

MAX_UNPACKED_BYTES = 64 * 1024 * 1024
"""Bytes that the compressed bodies of one file, or one answer, may unpack to, all together."""

_NOT_CARRIED = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "te", "upgrade"),
        *("transfer-encoding", "trailer", "content-encoding", "content-length"),
    )
)
"""Headers of one connection or of how the bytes travelled; a replay frames its answer itself."""

_NO_BODY = frozenset((204, 205, 304))

_GZIP = b"\x1f\x8b"
_GZIP_MEMBERS = 1000
"""Each costs a copy of what follows it."""

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
"""Not `str.splitlines`, which also splits at what is a byte of a UTF-8 character in latin-1."""

_BROTLI = ("brotli", "brotlicffi")
_ZSTD = ("compression.zstd", "backports.zstd", "zstandard")

_STEP_BYTES = 64
"""Bytes unpacked at a time: few unpack to megabytes, and the limit is looked at in between."""


class Unusable(Exception):
    """One call, or one value of it, cannot be carried over; ``place`` is where below the call."""

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = place


class Budget:
    """The bytes that compressed bodies may still unpack to."""

    def __init__(self, limit: int = MAX_UNPACKED_BYTES) -> None:
        self._limit = self._left = limit

    def unpack(self, content: bytes, coding: str | None) -> bytes:
        """Return a body without its content coding.

        Raises:
            Unusable: The coding is not known here, the data is damaged, or there is too much.
        """
        for name in reversed([part.strip().lower() for part in (coding or "").split(",")]):
            if name in ("", "identity"):
                continue
            if name in ("gzip", "x-gzip"):
                if content[:2] == _GZIP:  # else it was kept unpacked
                    content = self._gunzip(content)
            elif name == "deflate":
                zlib_head = len(content) > 1 and content[0] & 15 == 8
                raw = not zlib_head or int.from_bytes(content[:2], "big") % 31 != 0
                content, _ = self._inflate(content, -zlib.MAX_WBITS if raw else zlib.MAX_WBITS)
            elif name == "br" and (brotli := _installed(*_BROTLI)) is not None:
                content = self._unbrotli(brotli, content)
            elif name == "zstd" and (zstd := _installed(*_ZSTD)) is not None:
                content = self._unzstd(zstd, content)
            else:
                raise Unusable(f"its body is compressed as {name!r}, which is not unpacked here")
        return content

    def _gunzip(self, content: bytes) -> bytes:
        """Unpack every member of a gzip body (RFC 1952 section 2.2)."""
        unpacked: list[bytes] = []
        while content[:2] == _GZIP:
            if len(unpacked) == _GZIP_MEMBERS:
                raise Unusable(f"its gzip body has more than {_GZIP_MEMBERS} members")
            member, content = self._inflate(content, 16 + zlib.MAX_WBITS)
            unpacked.append(member)
        return b"".join(unpacked)

    def _inflate(self, content: bytes, wbits: int) -> tuple[bytes, bytes]:
        """Return what was packed, and what follows it."""
        unpacker = zlib.decompressobj(wbits)
        try:
            unpacked = unpacker.decompress(content, self._left + 1)
        except zlib.error as exc:
            raise Unusable(f"its compressed body is damaged ({exc})") from None
        if len(unpacked) > self._left:
            raise self._too_large()
        if not unpacker.eof:
            raise Unusable("its compressed body is damaged (it ends early)")
        self._left -= len(unpacked)
        return unpacked, unpacker.unused_data

    def _unbrotli(self, brotli: Any, content: bytes) -> bytes:
        unpacker = brotli.Decompressor()
        unpacked = bytearray()
        try:
            for start in range(0, len(content), _STEP_BYTES):
                unpacked += unpacker.process(content[start : start + _STEP_BYTES])
                if len(unpacked) > self._left:
                    raise self._too_large()
        except brotli.error as exc:
            raise Unusable(f"its compressed body is damaged ({exc})") from None
        if not unpacker.is_finished():
            raise Unusable("its compressed body is damaged (it ends early)")
        self._left -= len(unpacked)
        return bytes(unpacked)

    def _unzstd(self, zstd: Any, content: bytes) -> bytes:
        """Unpack every frame of a Zstandard body (RFC 8878 section 3.1)."""
        unpacker = _zstd_frame(zstd)
        unpacked = bytearray()
        try:
            for start in range(0, len(content), _STEP_BYTES):
                piece = content[start : start + _STEP_BYTES]
                while piece:
                    if unpacker.eof:
                        unpacker = _zstd_frame(zstd)
                    unpacked += unpacker.decompress(piece)
                    piece = unpacker.unused_data if unpacker.eof else b""
                if len(unpacked) > self._left:
                    raise self._too_large()
        except zstd.ZstdError as exc:
            raise Unusable(f"its compressed body is damaged ({exc})") from None
        if not unpacker.eof:
            raise Unusable("its compressed body is damaged (it ends early)")
        self._left -= len(unpacked)
        return bytes(unpacked)

    def _too_large(self) -> Unusable:
        return Unusable(f"compressed bodies unpack to more than {self._limit} bytes, all together")


def _installed(*names: str) -> Any | None:
    """Return the first of these modules that there is; HTTP libraries use them likewise."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _zstd_frame(zstd: Any) -> Any:
    """Return what unpacks one frame of Zstandard."""
    unpacker = zstd.ZstdDecompressor()
    return unpacker.decompressobj() if hasattr(unpacker, "decompressobj") else unpacker


def from_base64(text: str) -> bytes:
    """Return the bytes of a base64 text, which may be folded.

    Raises:
        Unusable: It is not base64.
    """
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Unusable("it is not base64") from None


def header(headers: Mapping[str, str | list[str]], name: str) -> str | None:
    """Return the first value of a header by its lower-case name."""
    value = headers.get(name)
    if isinstance(value, list):
        return value[0] if value else None
    return value


def header_map(pairs: Iterable[tuple[str, str]], *, keep_length: bool = False) -> Headers:
    """Return headers as recordings hold them.

    Args:
        pairs: Names and values in order. A value with line breaks is several, as browsers write
            repeated headers; HTTP/2's pseudo headers are left out.
        keep_length: Whether a content-length says something: the answer to a HEAD.
    """
    found: dict[str, list[str]] = {}
    for raw_name, text in pairs:
        name = raw_name.strip().lower()
        if name.startswith(":") or (name in _NOT_CARRIED and name != "content-length"):
            continue
        if name == "content-length" and not keep_length:
            continue
        found.setdefault(name, []).extend(line.strip() for line in _LINE_BREAK.split(text))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def recorded_request(
    method: str, url: str, headers: Headers, content: bytes | str, content_type: str | None = None
) -> RecordedRequest:
    """Return a request as it is recorded.

    Args:
        method: In upper case.
        url: Absolute.
        headers: As of `header_map`.
        content: The body; text where the file holds text.
        content_type: What the body is when the headers do not say.

    Raises:
        Unusable: The body nests too deep.
    """
    content_type = header(headers, "content-type") or content_type
    body = _value(content, content_type) if content else msgspec.UNSET
    return RecordedRequest(method, url, headers, body)


def recorded_response(
    request: RecordedRequest,
    status: int,
    headers: Headers,
    content: bytes | str,
    *,
    content_type: str | None = None,
    delay_ms: float | None = None,
) -> tuple[RecordedResponse, str | None]:
    """Return an answer as it is recorded, once it is known that a replay can send it.

    Args:
        request: What it answers.
        status: The status.
        headers: As of `header_map`.
        content: The body, unpacked; text where the file holds text.
        content_type: What the body is when the headers do not say.
        delay_ms: How long it takes.

    Returns:
        The answer, and what had to be changed about it, if anything.

    Raises:
        Unusable: A replay cannot send it.
    """
    if not 200 <= status <= 599:
        raise Unusable(f"status {status} cannot be replayed, only 200 to 599 can")
    change = None
    body: Any = msgspec.UNSET
    if content and request.method != "HEAD" and status not in _NO_BODY:
        declared = header(headers, "content-type")
        body = _value(content, declared or content_type, exact=True)
        if declared is None and not _is_plain_json(content, content_type, body):
            content_type = content_type or _guess(body)
            headers = {**headers, "content-type": content_type}
            change = f"it had no content type; {content_type} was added"
        elif is_json(declared) and isinstance(body, str) and not _is_text_of(content, body):
            raise Unusable("its content type says JSON, and its body is not JSON")
        elif is_json(declared) and isinstance(body, dict) and set(body) == {"$base64"}:
            raise Unusable("its content type says JSON, and its body is binary")
        elif _is_other_multipart(declared):
            change = "the parts of a multipart body that is no form keep only name and type"
    recorded = RecordedResponse(status, headers, body, delay_ms)
    wire_response(request, recorded)
    return recorded, change


def wire_request(request: RecordedRequest) -> HttpRequest:
    """Return the request that a recording describes, framed as a client would.

    Raises:
        Unusable: It cannot be written: a header or the body is not valid.
    """
    if request.body is msgspec.UNSET:
        return HttpRequest(request.method, request.url, tuple(_pairs(request.headers)))
    plain = "text/plain" if isinstance(request.body, str) else None
    framed = _mock(HttpRequest("POST", "", ()), request.body, 200, request.headers, plain)
    has_type = "content-type" in request.headers
    pairs = tuple(
        (name, value)
        for name, value in framed.headers
        if name != "content-length" and (has_type or name != "content-type")
    )
    if _is_multipart(framed.header("content-type")):  # only the framing knows the boundary
        kept = [pair for pair in pairs if pair[0] != "content-type"]
        pairs = (*kept, ("content-type", _with_boundary(framed)))
    return HttpRequest(request.method, request.url, pairs, framed.body)


def wire_response(request: RecordedRequest, response: RecordedResponse) -> HttpResponse:
    """Return the answer that a replay gives.

    Raises:
        Unusable: A replay cannot send it.
    """
    bare = HttpRequest(request.method, request.url, ())
    if response.body is msgspec.UNSET:
        framed = _mock(
            bare, "", response.status, {**response.headers, "content-type": "text/plain"}
        )
        pairs = [pair for pair in framed.headers if pair[0] != "content-type"]
        typed = [p for p in _pairs(response.headers) if p[0] == "content-type"]
        return HttpResponse(response.status, (*pairs, *typed), b"")
    framed = _mock(bare, response.body, response.status, response.headers)
    if _is_multipart(framed.header("content-type")):
        kept = [pair for pair in framed.headers if pair[0] != "content-type"]
        boundary = ("content-type", _with_boundary(framed))
        return HttpResponse(framed.status, (*kept, boundary), framed.body)
    return framed


def with_content_type(response: RecordedResponse, extension: Mapping[str, Any]) -> RecordedResponse:
    """Return an answer with the content type that was recorded, where only the framing added it.

    Args:
        response: As `recorded_response` read it.
        extension: What this project wrote beside the answer; ``contentType`` is there when the
            recorded one (null: none) is not the one of the wire.
    """
    if "contentType" not in extension:
        return response
    headers = {name: value for name, value in response.headers.items() if name != "content-type"}
    if isinstance(recorded := extension["contentType"], str):
        headers["content-type"] = recorded
    changed = msgspec.structs.replace(response, headers=headers)
    wire_response(RecordedRequest("GET", ""), changed)
    return changed


# -- Content types ----------------------------------------------------------------------------


def _is_multipart(content_type: str | None) -> bool:
    return base_type(content_type).startswith("multipart/")


def _is_other_multipart(content_type: str | None) -> bool:
    return _is_multipart(content_type) and base_type(content_type) != "multipart/form-data"


def _with_boundary(framed: HttpResponse) -> str:
    """Return a multipart content type with the boundary that its body has."""
    declared = framed.header("content-type") or ""
    if "boundary=" in declared.lower():
        return declared
    boundary = framed.body[2 : framed.body.find(b"\r\n")].decode("ascii", "replace")
    return f"{declared}; boundary={boundary}"


# -- Values -----------------------------------------------------------------------------------


def _value(content: bytes | str, content_type: str | None, *, exact: bool = False) -> Any:
    """Return a body in the forms of DESIGN section 6."""
    data = content.encode() if isinstance(content, str) else content
    may_be_json = is_json(content_type) or is_sequential(content_type)
    if may_be_json or data.lstrip()[:1] in (b"{", b"["):  # cleaned as JSON in any case
        try:
            check_depth(data, MAX_DEPTH)
        except LimitExceeded:
            raise Unusable(f"its body nests deeper than {MAX_DEPTH} levels") from None
    if isinstance(content, str) and not _is_structured(content_type):
        if "\0" in content:
            return {"$base64": base64.b64encode(data).decode()}
        return content
    return decode_body(data, content_type, exact=exact)


def _is_structured(content_type: str | None) -> bool:
    kind = base_type(content_type)
    is_form = kind == "application/x-www-form-urlencoded"
    return is_form or is_json(kind) or _is_multipart(kind) or is_sequential(kind)


def _is_text_of(content: bytes | str, body: str) -> bool:
    """Return whether a body that is text under a JSON type is a JSON string."""
    try:
        return bool(msgspec.json.decode(content) == body)
    except (msgspec.DecodeError, RecursionError):
        return False


def _is_plain_json(content: bytes | str, content_type: str | None, body: Any) -> bool:
    """Return whether a body that no header describes is sent as JSON by a replay anyway."""
    if not is_json(content_type):
        return False
    if isinstance(body, str):
        return _is_text_of(content, body)
    return not (isinstance(body, dict) and len(body) == 1 and next(iter(body)).startswith("$"))


def _guess(body: Any) -> str:
    if isinstance(body, str):
        return "text/plain; charset=utf-8"
    return "application/octet-stream"


def _pairs(headers: Headers) -> Iterable[tuple[str, str]]:
    for name, values in headers.items():
        for value in values if isinstance(values, list) else [values]:
            yield name, value


def _mock(
    request: HttpRequest,
    body: Any,
    status: int,
    headers: Headers,
    media_type: str | None = None,
) -> HttpResponse:
    try:
        return HttpResponse.from_mock(
            request, body, status=status, headers=headers, media_type=media_type
        )
    except UnusableMock as exc:
        raise Unusable(exc.message) from None
