"""Which recorded call answers a request: one key for each, equal when they match.

A `Matching` turns a cleaned request into a `Key`, a tuple with one comparable value per part
(method, host, path, …), so recordings are found by a dictionary look-up however many there are,
and a miss is explained by comparing two keys. A key holds what the test means, not how a library
wrote it: queries and forms without order, percent-encoding normalised, JSON structurally with
1 equal to 1.0, multipart without boundaries, the fields of ``ignore`` left out. Only a callable of
the test's own is asked per candidate.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

import msgspec

from mock_mcp.errors import ConfigurationError
from mock_mcp.recordings.format import RecordedRequest
from mock_mcp.types import ASKING_HEADERS

__all__ = ["DEFAULT_MATCH", "BeforeMatch", "Key", "Matching", "RequestMatcher"]

DEFAULT_MATCH = (
    *("method", "host", "path", "query", "body"),
    *(f"headers:{name}" for name in ASKING_HEADERS),
)
"""What makes two calls the same."""

Key = tuple[Any, ...]
"""Comparable values, one for each name in `Matching.parts`."""

RequestMatcher = Callable[[RecordedRequest, RecordedRequest], bool]
"""Takes the recorded request and the one that was made; returns whether they match."""

BeforeMatch = Callable[[RecordedRequest], RecordedRequest | None]
"""Changes a request before it is compared, recorded or made; None: it matches nothing."""

_Part = Callable[[RecordedRequest, "_Url"], Any]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_MAYBE_WHOLE = re.compile(rb"\d(?:\.0(?!\d)|[eE])")
_encode = msgspec.json.Encoder(order="sorted").encode


class _Url(NamedTuple):
    """The parts of a URL as they are compared; of the query all that is there."""

    scheme: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...]


class _Ignored(NamedTuple):
    """The fields that are not compared: patterns by place, and paths into bodies."""

    query: re.Pattern[str] | None
    headers: re.Pattern[str] | None
    body: Sequence[Sequence[re.Pattern[str]]]


class Matching:
    """Say when two requests are the same call.

    Args:
        match: What is compared: ``method``, ``scheme``, ``host`` (with a port that is not the
            scheme's), ``path``, ``query``, ``body``, ``headers:NAME`` (``*`` in the name stands
            for any characters), or a callable `RequestMatcher`.
        ignore: Fields that are not compared: ``query:NAME``, ``headers:NAME``, ``body:PATH``, or a
            bare name, which means all three. A path is names and indices joined by dots; ``*`` in
            a name stands for any characters (``body:items.*.id``, ``utm_*``).
        before: The hook that both requests pass first.

    Raises:
        ConfigurationError: A name in ``match`` or ``ignore`` means nothing.

    Attributes:
        parts: The names in ``match``, without callables.
        matchers: The callables.
        request_headers: The names of request headers that are compared, and so must be recorded.
    """

    def __init__(
        self,
        match: Sequence[str | RequestMatcher] = DEFAULT_MATCH,
        ignore: Iterable[str] = (),
        before: BeforeMatch | None = None,
    ) -> None:
        self._ignored = _ignored([ignore] if isinstance(ignore, str) else ignore)
        names = [match] if isinstance(match, str) else match
        self.parts: tuple[str, ...] = tuple(name for name in names if isinstance(name, str))
        self.matchers: tuple[RequestMatcher, ...] = tuple(
            name for name in names if not isinstance(name, str)
        )
        self.request_headers = tuple(
            _header_name(part) for part in self.parts if part.startswith("headers:")
        )
        self._before = before
        self._extract = tuple(self._part(name) for name in self.parts)

    def exact(self) -> Matching:
        """Return a matching that compares all that is recorded but the ignored fields."""
        exact = Matching((*DEFAULT_MATCH, "scheme", "headers:*"))
        exact._ignored = self._ignored
        return exact

    def prepare(self, request: RecordedRequest) -> RecordedRequest | None:
        """Return the request as it is compared; None when it matches nothing.

        Raises:
            ConfigurationError: The hook returned something else.
        """
        if self._before is None:
            return request
        prepared: Any = self._before(request)
        if prepared is None or isinstance(prepared, RecordedRequest):
            return prepared
        raise ConfigurationError(
            f"before_match returned {reprlib.repr(prepared)}. It returns the request it was given, "
            "changed or not (msgspec.structs.replace), or None."
        )

    def key(self, request: RecordedRequest) -> Key:
        """Return what a prepared request is found by."""
        url = _read_url(request.url)
        return tuple([part(request, url) for part in self._extract])

    def accepts(self, recorded: RecordedRequest, made: RecordedRequest) -> bool:
        """Return whether the callables agree to two prepared requests of one key."""
        return all(matcher(recorded, made) for matcher in self.matchers)

    # -- Parts of the key ---------------------------------------------------------------------

    def _part(self, name: str) -> _Part:
        if name.startswith("headers:"):
            pattern = re.compile(translate(_header_name(name)))
            return lambda request, _: self._headers(request, pattern)
        parts: dict[str, _Part] = {
            "method": lambda request, _: request.method,
            "scheme": lambda _, url: url.scheme,
            "host": lambda _, url: url.host,
            "path": lambda _, url: url.path,
            "query": lambda _, url: self._query(url.query),
            "body": lambda request, _: self._body(request.body),
        }
        if name not in parts:
            raise ConfigurationError(
                f"match: {name!r} is nothing to match by. Use {', '.join(parts)}, headers:NAME, or "
                "a callable."
            )
        return parts[name]

    def _query(self, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        if pairs and (ignored := self._ignored.query) is not None:
            return tuple(pair for pair in pairs if not ignored.match(pair[0]))
        return pairs

    def _headers(self, request: RecordedRequest, wanted: re.Pattern[str]) -> tuple[Any, ...]:
        if not request.headers:  # most, as few headers are recorded
            return ()
        ignored = self._ignored.headers
        return tuple(
            sorted(
                (name, tuple(value) if isinstance(value, list) else (value,))
                for raw_name, value in request.headers.items()
                if wanted.match(name := raw_name.lower())
                and not (ignored is not None and ignored.match(name))
            )
        )

    def _body(self, body: Any) -> bytes | None:
        if body is msgspec.UNSET:
            return None
        if isinstance(body, str) and body.lstrip()[:1] in ("{", "["):  # JSON sent without a type
            try:
                body = msgspec.json.decode(body)
            except (ValueError, RecursionError):
                return _encode(body)
        if isinstance(body, dict) and len(body) == 1:
            form = body.get("$form")
            if isinstance(form, dict):
                body = {"$form": {name: _sorted_values(value) for name, value in form.items()}}
        for path in self._ignored.body:
            body = _without(body, path)
        text = _encode(body)
        return _encode(_whole(body)) if _MAYBE_WHOLE.search(text) else text


def _header_name(part: str) -> str:
    return part.partition(":")[2].strip().lower()


@lru_cache(maxsize=256)  # the recorded URL is that of the call
def _read_url(url: str) -> _Url:
    parts = urlsplit(url)
    pairs = sorted(parse_qsl(parts.query, keep_blank_values=True)) if parts.query else ()
    return _Url(parts.scheme, _host(parts), _path(parts.path), tuple(pairs))


def _host(url: SplitResult) -> str:
    host = (url.hostname or "").rstrip(".")
    try:
        port = url.port
    except ValueError:
        return url.netloc.rpartition("@")[2].lower()
    return host if port in (None, _DEFAULT_PORTS.get(url.scheme)) else f"{host}:{port}"


def _path(path: str) -> str:
    """Return a path with one spelling of its percent-encoding (RFC 3986 section 6.2.2)."""
    if not path.isascii():
        path = quote(path, safe="/%:@!$&'()*+,;=~")
    return _ESCAPE.sub(_escape, path) if "%" in path else path or "/"


def _escape(found: re.Match[str]) -> str:
    character = chr(int(found[0][1:], 16))
    return character if _UNRESERVED.fullmatch(character) else found[0].upper()


def _sorted_values(value: Any) -> Any:
    if isinstance(value, list):
        return value[0] if len(value) == 1 else sorted(value, key=_encode)
    return value


def _whole(value: Any) -> Any:
    """Return a JSON value whose whole floats are integers, so that 1.0 reads as 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


# -- Ignored fields ---------------------------------------------------------------------------


def _ignored(entries: Iterable[str]) -> _Ignored:
    query: list[str] = []
    headers: list[str] = []
    body: list[str] = []
    places = {"query": [query], "headers": [headers], "header": [headers], "body": [body]}
    for entry in entries:
        place, mark, name = entry.partition(":")
        if not mark:
            place, name = "", entry
        if not name or (place and place not in places):
            raise ConfigurationError(
                f"ignore: {entry!r} names no field. Write query:NAME, headers:NAME, "
                "body:PATH.TO.FIELD, or a bare name."
            )
        prefix, dot, rest = entry.partition(".")
        if dot and prefix in places:  # as a miss names the fields that differ
            raise ConfigurationError(
                f"ignore: {entry!r} has a dot after {prefix}, where a place ends in a colon. Write "
                f"{prefix}:{rest}, or body:{entry} for a field of that path in bodies."
            )
        for names in places.get(place, [query, headers, body]):
            names.append(name.lower() if names is headers else name)
    paths = [[re.compile(translate(name)) for name in path.split(".")] for path in body]
    return _Ignored(_any_of(query), _any_of(headers), paths)


def _any_of(names: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(translate, names))) if names else None


def _without(value: Any, path: Sequence[re.Pattern[str]]) -> Any:
    """Return a value without what ``path`` names; forms and multipart count as their fields."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((form, inner),) = value.items()
            if form == "$form" and isinstance(inner, dict):
                return {form: _without(inner, path)}
            if form == "$multipart" and isinstance(inner, list):
                return {form: [part for part in inner if not _is_part(part, path)]}
        first, rest = path[0], path[1:]
        return {
            name: _without(inner, rest) if first.match(name) else inner
            for name, inner in value.items()
            if rest or not first.match(name)
        }
    if isinstance(value, list):
        first, rest = path[0], path[1:]
        return [
            _without(item, rest) if first.match(str(index)) else item
            for index, item in enumerate(value)
            if rest or not first.match(str(index))
        ]
    return value


def _is_part(part: Any, path: Sequence[re.Pattern[str]]) -> bool:
    name = part.get("name") if isinstance(part, dict) else None
    return len(path) == 1 and isinstance(name, str) and path[0].match(name) is not None
