"""What every conversion works with: what was found, what was lost, and fields that may be wrong.

Other tools' files are not trusted to have any shape. A reader takes fields through `member`, which
refuses a value of the wrong kind with `Unusable`; one call that is unusable is listed as lost and
the others are imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, overload
from urllib.parse import SplitResult, urlsplit

from mock_mcp.convert.errors import ConversionError
from mock_mcp.recordings.bodies import Unusable
from mock_mcp.recordings.format import RecordedInteraction, Source
from mock_mcp.words import cut

__all__ = [
    "EXTENSION",
    "MAX_CALLS",
    "Conversion",
    "Format",
    "Loss",
    "ReadFile",
    "calls_of",
    "delay_of",
    "http_url",
    "member",
    "method_of",
    "source_of",
    "within",
]

T = TypeVar("T")

Format = Literal["har", "wiremock", "vcr"]

_SHOWN_CHARS = 60
_SOURCES: tuple[Source, ...] = ("ai", "example", "live", "hand")

EXTENSION = "_mockMcp"
"""Where a HAR entry or a stub's metadata says what their format has no field for."""

MAX_CALLS = 50_000
"""Calls of one file: bounds the time it takes, and what is said about it."""

ReadFile = Callable[[str], bytes]
"""Returns the content of a file that another one names; raises `Unusable`."""

_KINDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
}


@contextlib.contextmanager
def within(place: str) -> Iterator[None]:
    """Put a place before that of whatever is unusable inside."""
    try:
        yield
    except Unusable as exc:
        raise Unusable(exc.reason, place + exc.place) from None


@dataclass(frozen=True, slots=True)
class Loss:
    """What was not carried over.

    Attributes:
        file: The file it is in.
        place: JSON path of the place (``$.log.entries[3].response``).
        reason: Why.
        call: Whether the whole call is missing; else only something about it.
    """

    file: str
    place: str
    reason: str
    call: bool


@dataclass(slots=True)
class Conversion:
    """The calls of one file, each with its place in it, and what was lost.

    ``unnamed`` are the headers of answers that no list names, and so are not recorded.
    """

    file: str
    format: Format
    calls: list[tuple[str, RecordedInteraction]] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    unnamed: set[str] = field(default_factory=set)

    def lose(self, place: str, reason: str, *, call: bool = False) -> None:
        """Note something that was not carried over."""
        self.losses.append(Loss(self.file, place, reason, call))


def calls_of(found: Any, file: str, path: str, what: str) -> list[Any]:
    """Return the list of a file's calls.

    Raises:
        ConversionError: It is no list, or longer than `MAX_CALLS`.
    """
    if not isinstance(found, list):
        raise ConversionError(file, f"it must be a list: {what}", path=path)
    if len(found) > MAX_CALLS:
        reason = f"it has {len(found)} entries; {MAX_CALLS} are read from one file"
        raise ConversionError(file, reason, path=path)
    return found


@overload
def member(value: Mapping[str, Any], name: str, kind: type[T]) -> T: ...
@overload
def member(value: Mapping[str, Any], name: str, kind: type[T], default: T) -> T: ...
def member(value: Mapping[str, Any], name: str, kind: type[Any], default: Any = ...) -> Any:
    """Return a field of an object; a null counts as absent.

    Args:
        value: The object.
        name: The field.
        kind: ``str``, ``int``, ``float`` (any number), ``dict`` or ``list``.
        default: What an absent field reads as; without it the field must be there.

    Raises:
        Unusable: The field is missing, or of another kind.
    """
    found = value.get(name)
    if found is None:
        if default is ...:
            raise Unusable(f"`{name}` is missing", f".{name}")
        return default
    if kind is int and isinstance(found, float) and found.is_integer():
        return int(found)  # JSON has one type of number
    wanted = (int, float) if kind is float else kind
    if not isinstance(found, wanted) or isinstance(found, bool):
        raise Unusable(f"`{name}` must be {_KINDS[kind]}", f".{name}")
    return found


def delay_of(value: Any) -> float | None:
    """Return a delay in milliseconds when it is one that a recording can hold."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 600_000:
        return value
    return None


def source_of(extension: Mapping[str, Any], default: Source) -> Source:
    """Return where this project said an answer came from, or the default."""
    return next((source for source in _SOURCES if source == extension.get("source")), default)


def http_url(url: str) -> SplitResult:
    """Return the parts of an absolute HTTP URL.

    Raises:
        Unusable: It is another kind of URL.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise Unusable(f"{cut(url, _SHOWN_CHARS)} is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unusable(f"{cut(url, _SHOWN_CHARS)} is no absolute http URL")
    return parts


def method_of(text: str) -> str:
    """Return a method in upper case.

    Raises:
        Unusable: It is no method of a call to a server.
    """
    method = text.upper()
    if not method.isascii() or not method.replace("-", "").isalpha() or method == "CONNECT":
        raise Unusable(f"{cut(text, _SHOWN_CHARS)!r} is no method that can be recorded")
    return method
