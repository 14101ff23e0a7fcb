"""Read a file of another tool, whatever it is, within bounds.

The file is somebody else's: it may be damaged, enormous, or made to do harm. Everything is bounded
before it is built (bytes, values, nesting, what aliases and compressed bodies expand to), YAML is
read as data only, and a file that another one names is read only from the directory where the tool
keeps such files.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mock_mcp.contract.parse import TreeBuilder, build_tree
from mock_mcp.convert.errors import ConversionError
from mock_mcp.convert.har import from_har
from mock_mcp.convert.values import Conversion, Format
from mock_mcp.convert.vcr import WRAPPING, from_vcr
from mock_mcp.convert.wiremock_import import BASE_URL, from_wiremock, in_answering_order
from mock_mcp.errors import InvalidMessage, LimitExceeded
from mock_mcp.recordings.bodies import Unusable
from mock_mcp.wire.json import decode

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_VALUES",
    "format_of",
    "read_conversion",
    "read_conversions",
    "read_tree",
]

MIB = 1024 * 1024

MAX_FILE_BYTES = 32 * MIB
"""A larger file is refused: it holds more than tests need, and its tree takes ten times as much."""

MAX_VALUES = 5_000_000
"""Brackets and commas of a JSON file outside its texts: bounds the memory of its tree."""

MAX_YAML_VALUES = 1_000_000
"""Values of a YAML file with every alias expanded; an interaction has about fifty."""

MAX_DEPTH = 200
"""Nesting of a JSON file."""

_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_OFFSET = re.compile(r" ?\(byte (\d+)\)")
_BINARY = "tag:yaml.org,2002:binary"
_PYTHON = "tag:yaml.org,2002:python/"
_TEXT_TAGS = frozenset((_BINARY, f"{_PYTHON}str", f"{_PYTHON}unicode"))
_TUPLE = f"{_PYTHON}tuple"
_FILE = f"{_PYTHON}object/new:_io.BytesIO"
_ITERATOR = f"{_PYTHON}object/apply:builtins.iter"
_OTHER_TAGS = frozenset((_TUPLE, _FILE, _ITERATOR))
"""What vcrpy writes for tuples, and for request bodies that were a file or an iterator."""


def read_conversions(paths: Iterable[Path], base_url: str = BASE_URL) -> list[Conversion]:
    """Return the calls of several files, in their order.

    Of files with one WireMock stub each, the usual layout of its ``mappings`` folder, the stubs
    come in the order in which they answer.

    Args:
        paths: The files.
        base_url: As of `read_conversion`.

    Raises:
        ConversionError, MissingExtra: As `read_conversion`.
    """
    found: list[Conversion] = []
    lone: list[tuple[int, Path, Any]] = []
    for slot, path in enumerate(paths):
        tree = read_tree(path)
        if format_of(tree) == "wiremock" and "mappings" not in tree:
            lone.append((slot, path, tree))
            found.append(Conversion(str(path), "wiremock"))
        else:
            found.append(_conversion(tree, path, base_url))
    order = in_answering_order([tree for _, _, tree in lone])
    for (slot, _, _), index in zip(lone, order, strict=True):
        _, path, tree = lone[index]
        found[slot] = _conversion(tree, path, base_url)
    return found


def read_conversion(path: Path, base_url: str = BASE_URL) -> Conversion:
    """Return the calls of a HAR, a VCR cassette or WireMock stubs.

    Args:
        path: The file; what it is is seen from its content.
        base_url: Scheme, host and port of calls of WireMock stubs that name none.

    Raises:
        ConversionError: It cannot be read, exceeds a limit, or is none of these.
        MissingExtra: It is YAML and PyYAML is not installed.
    """
    return _conversion(read_tree(path), path, base_url)


def _conversion(tree: Any, path: Path, base_url: str) -> Conversion:
    file = str(path)
    kind = format_of(tree)
    if kind == "har":
        return from_har(tree, file, _Beside(path.parent))
    if kind == "wiremock":
        folder = path.parent / "__files"
        if not folder.is_dir():
            folder = path.parent.parent / "__files"
        return from_wiremock(tree, file, _Beside(folder), base_url)
    if kind == "vcr":
        return from_vcr(tree, file)
    reason = "it is neither a HAR, nor a VCR cassette, nor WireMock stubs"
    if isinstance(tree, dict) and "test" in tree and "interactions" in tree:
        reason = "it is a recording already"
    raise ConversionError(path, reason, path="$")


def format_of(tree: Any) -> Format | None:
    """Return what a file is, by its outermost fields; None when it is none of the formats."""
    if not isinstance(tree, dict):
        return None
    if "log" in tree:
        return "har"
    if "http_interactions" in tree or ("interactions" in tree and "test" not in tree):
        return "vcr"
    if "mappings" in tree or ("request" in tree and "response" in tree):
        return "wiremock"
    return None


def read_tree(path: Path) -> Any:
    """Read a JSON or YAML file; binary values of YAML are bytes.

    Raises:
        ConversionError: It cannot be read, is malformed or exceeds a limit; with the line.
        MissingExtra: It is YAML and PyYAML is not installed.
    """
    content = _read(path, MAX_FILE_BYTES)
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content[:2] == b"PK":
        raise ConversionError(path, "it is a zip archive: unpack it, and import the .har in it")
    if path.suffix.lower() in (".yaml", ".yml"):
        return build_tree(path, content, _CassetteBuilder(path, MAX_YAML_VALUES))
    try:
        return _parse_json(path, content)
    except ConversionError:
        if content.lstrip()[:1] in (b"{", b"["):
            raise
    return build_tree(path, content, _CassetteBuilder(path, MAX_YAML_VALUES))


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as exc:
        if isinstance(exc, OSError) and path.is_dir():
            raise ConversionError(path, "it is a directory: name the files in it") from None
        reason = getattr(exc, "strerror", None) or exc
        raise ConversionError(path, f"it cannot be read ({reason})") from None
    if len(content) > limit:
        raise ConversionError(
            path,
            f"it goes on after byte {limit}, the most that is read ({limit // MIB} MiB). Export "
            "fewer calls, or cut it into several files.",
            line=content.count(b"\n") + 1,
        )
    return content


def _parse_json(path: Path, content: bytes) -> Any:
    if _has_too_many(content):
        raise ConversionError(path, f"it holds more than {MAX_VALUES} values", path="$")
    try:
        return decode(content, MAX_DEPTH)
    except LimitExceeded:
        raise ConversionError(path, f"it nests deeper than {MAX_DEPTH} levels", path="$") from None
    except InvalidMessage as exc:
        found = _OFFSET.search(exc.message)
        line = content.count(b"\n", 0, int(found[1]) if found else len(content)) + 1
        raise ConversionError(path, _OFFSET.sub("", exc.message), line=line) from None


def _has_too_many(content: bytes) -> bool:
    """Return whether a JSON text holds too many values; looks inside no text of them."""
    if _marks(content) <= MAX_VALUES:
        return False
    texts = (content.count(b'"') - content.count(b'\\"')) // 2
    return texts > MAX_VALUES // 2 or _marks(_TEXT.sub(b"", content)) > MAX_VALUES


def _marks(content: bytes) -> int:
    return content.count(b",") + content.count(b"{") + content.count(b"[")


class _CassetteBuilder(TreeBuilder):
    """Read YAML as vcrpy writes it: a plain value is text or null, a binary one is bytes.

    Only a request body that is kept as the value it was made of has numbers and booleans.
    """

    def check_tag(self, event: Any) -> None:
        if event.tag in _OTHER_TAGS or (event.tag in _TEXT_TAGS and hasattr(event, "value")):
            return
        super().check_tag(event)

    def scalar(self, event: Any) -> Any:
        if event.tag == _BINARY:
            try:
                return base64.b64decode("".join(event.value.split()), validate=True)
            except (binascii.Error, ValueError):
                raise self.error("a binary value is not base64", event.start_mark) from None
        value = super().scalar(event)
        return value if value is None or self._is_in_body() else event.value

    def _is_in_body(self) -> bool:
        """Say whether a value is part of ``interactions[n].request.body``."""
        keys = [each.key for each in self._stack[2:5]]
        return len(keys) == 3 and keys[:2] == ["request", "body"] and keys[2] not in WRAPPING

    def collection(self, value: Any, event: Any) -> Any:
        """Return the content of a file or an iterator."""
        if event.tag not in (_FILE, _ITERATOR):
            return value
        name = "state" if event.tag == _FILE else "args"
        found = value.get(name) if isinstance(value, dict) else None
        if isinstance(found, list) and found:
            pieces = found[0] if event.tag == _ITERATOR else [found[0] or b""]
            if isinstance(pieces, list) and all(isinstance(each, bytes | str) for each in pieces):
                return b"".join(p.encode() if isinstance(p, str) else p for p in pieces)
        raise self.error("a body of Python's has no content", event.start_mark)

    def error(self, reason: str, mark: Any) -> ConversionError:
        return ConversionError(self.path, reason, line=None if mark is None else mark.line + 1)


class _Beside:
    """Read files from one directory, and from nowhere else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = MAX_FILE_BYTES * 2

    def __call__(self, name: str) -> bytes:
        try:
            root = self._folder.resolve()
            path = (root / name).resolve()
            if not path.is_relative_to(root) or not path.is_file():
                raise Unusable(
                    f"its body is in the file {name[:100]!r}, which is not in {self._folder}"
                )
            content = _read(path, min(MAX_FILE_BYTES, self._left))
        except (ConversionError, OSError, ValueError, RuntimeError) as exc:
            reason = exc.reason if isinstance(exc, ConversionError) else str(exc)
            raise Unusable(
                f"its body in the file {name[:100]!r} cannot be read: {reason}"
            ) from None
        self._left -= len(content)
        return content
