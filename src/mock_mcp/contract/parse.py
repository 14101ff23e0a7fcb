"""Contract files as JSON trees: dicts with string keys, lists, strings, numbers, booleans, None.

JSON is decoded straight from the file: that takes about half the time of ``json.loads``, and no
stored form was faster to read. YAML is built from the parser's events instead of a loader: the
builder keeps its own stack (depth is bounded), knows only JSON's types (no timestamps, no
``on``/``yes``, no octal; keys are text), refuses tags and counts what aliases expand to. It keeps
how a number is spelled (``1.10``, ``+49``), for where a schema means text by it. The result is
stored as JSON under the hash of the file, because parsing YAML takes a hundred times longer than
reading that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mock_mcp.contract import pointer as pointers
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.errors import MissingExtra, MockMcpError

__all__ = [
    "MAX_DEPTH",
    "MAX_DOCUMENT_BYTES",
    "MAX_NODES",
    "Parsed",
    "TreeBuilder",
    "as_text",
    "build_tree",
    "parse_file",
    "repeated_keys",
]

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""A file larger than this is refused: the largest published descriptions are about 13 MB."""

MAX_DEPTH = 200
"""Nesting of a YAML document, and of one schema of any document: the largest real ones reach 40."""

MAX_NODES = 10_000_000
"""Values of a YAML document with every alias expanded: bounds anchor bombs."""

MAX_REPEATED = 200
"""Repeated keys of a YAML document that are noted."""

MAX_SPELLED = 10_000
"""Numbers and booleans of a YAML document whose spelling is kept."""

_BOM = b"\xef\xbb\xbf"
_NONE: frozenset[str] = frozenset()
_CACHE_VERSION = 2
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,300})")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]{1,300}\.[0-9]{0,300}|\.[0-9]{1,300}|[0-9]{1,300}(?=[eE]))(?:[eE][-+]?[0-9]{1,3})?"
)
_TAG_PREFIX = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(
    (
        *("!", "?"),
        *(_TAG_PREFIX + name for name in ("str", "int", "float", "bool", "null", "map", "seq")),
    )
)


class Parsed(NamedTuple):
    """A parsed file.

    Attributes:
        tree: Its JSON tree.
        sha256: Hash of its bytes, hexadecimal.
        repeated: Pointers of YAML keys that stand twice in their mapping, where the last counts.
            For JSON see `repeated_keys`.
        spelled: YAML numbers and booleans, by pointer, as they are written, where JSON writes them
            otherwise. What stands there by an alias is not among them.
    """

    tree: Any
    sha256: str
    repeated: list[str]
    spelled: dict[str, str]


class _Yaml(msgspec.Struct):
    """What is made of a YAML file, and stored."""

    tree: Any
    repeated: list[str]
    spelled: dict[str, str]


def parse_file(path: Path, cache_dir: Path | None = None) -> Parsed:
    """Read a JSON or YAML file.

    Args:
        path: The file, links resolved. A name that ends in ``.json`` is JSON; any other is JSON
            when it begins with "{" and parses as such, else YAML.
        cache_dir: A private directory for parsed YAML; None parses anew each time.

    Raises:
        ContractDocumentError: The file cannot be read, is malformed or exceeds a limit.
        MissingExtra: The file is YAML and PyYAML is not installed.
    """
    content = _read(path)
    if len(content) > MAX_DOCUMENT_BYTES:
        raise ContractDocumentError(path, "", f"is larger than {MAX_DOCUMENT_BYTES} bytes")
    digest = hashlib.sha256(content).hexdigest()
    content = content.removeprefix(_BOM)
    if path.suffix.lower() == ".json":
        return Parsed(_parse_json(path, content), digest, [], {})
    if content.lstrip()[:1] == b"{":
        try:
            return Parsed(_parse_json(path, content), digest, [], {})
        except ContractDocumentError:  # a YAML flow mapping begins the same way
            cache_dir = None
    yaml = _parse_yaml_cached(path, content, digest, cache_dir)
    return Parsed(yaml.tree, digest, yaml.repeated, yaml.spelled)


def repeated_keys(path: Path) -> list[str]:
    """Return the pointers of keys that stand twice in an object of a JSON file; the last counts.

    It costs more than parsing the file, so only who checks a document asks for it. What is not
    JSON has none.

    Raises:
        ContractDocumentError: The file cannot be read.
    """
    found: dict[int, tuple[dict[str, Any], list[str]]] = {}

    def take(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        taken = dict(pairs)
        if len(taken) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            found[id(taken)] = taken, [key for key, count in counts.items() if count > 1]
        return taken

    try:
        tree = json.loads(_read(path).removeprefix(_BOM), object_pairs_hook=take)
    except (ValueError, RecursionError):
        return []
    repeated: list[str] = []
    todo = [("", tree)] if found else []
    while todo:
        pointer, node = todo.pop()
        if isinstance(node, dict):
            _, keys = found.get(id(node), (None, ()))
            repeated += (pointers.extend(pointer, key) for key in keys)
            todo += ((pointers.extend(pointer, key), child) for key, child in node.items())
        elif isinstance(node, list):
            todo += ((pointers.extend(pointer, i), child) for i, child in enumerate(node))
    return sorted(repeated)


def _read(path: Path) -> bytes:
    try:
        return _read_regular(path)
    except OSError as error:
        raise ContractDocumentError(
            path, "", f"cannot be read: {error.strerror or error}"
        ) from None


def _read_regular(path: Path) -> bytes:
    """Return a regular file's bytes, of one too large the first; no pipe or device is waited for.

    Room for all that may be read is only asked for where that is needed: it costs milliseconds.
    """
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"):  # as far as the system has them
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_DOCUMENT_BYTES + 1 if status.st_size > MAX_DOCUMENT_BYTES else -1)
    finally:
        os.close(descriptor)


def _parse_json(path: Path, content: bytes) -> Any:
    try:
        tree = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        offset = re.search(r" \(byte (\d+)\)", str(error))
        what = str(error).removeprefix("JSON is malformed: ")
        if offset is not None:
            what = f"{what.replace(offset[0], '')}, in {_line_and_column(content, int(offset[1]))}"
        raise ContractDocumentError(path, "", f"is not valid JSON: {what}") from None
    except RecursionError:
        raise _too_deep(path) from None
    return tree


def _line_and_column(content: bytes, offset: int) -> str:
    line, start = content.count(b"\n", 0, offset) + 1, content.rfind(b"\n", 0, offset) + 1
    return f"line {line}, column {len(content[start:offset].decode(errors='replace')) + 1}"


def _too_deep(path: Path) -> ContractDocumentError:
    return ContractDocumentError(path, "", f"is nested more than {MAX_DEPTH} levels deep")


def _parse_yaml_cached(path: Path, content: bytes, digest: str, cache_dir: Path | None) -> _Yaml:
    if cache_dir is None:
        return _parse_yaml(path, content)
    stored = cache_dir / f"{digest}.v{_CACHE_VERSION}.json"
    with contextlib.suppress(OSError, msgspec.DecodeError, RecursionError):
        return msgspec.json.decode(stored.read_bytes(), type=_Yaml)
    yaml = _parse_yaml(path, content)
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        cache_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_atomically(stored, msgspec.json.encode(yaml))
    return yaml


def _write_atomically(target: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".tmp-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _parse_yaml(path: Path, content: bytes) -> _Yaml:
    builder = TreeBuilder(path)
    return _Yaml(build_tree(path, content, builder), builder.repeated, builder.spelled)


def build_tree(path: Path, content: bytes, builder: TreeBuilder) -> Any:
    """Read a YAML text with a builder.

    Args:
        path: How a missing extra names the file.
        content: The text's bytes.
        builder: Decides what is allowed, and which errors are raised.

    Raises:
        MissingExtra: PyYAML is not installed.
        MockMcpError: What the builder's `TreeBuilder.error` returns.
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtra(
            f"{path} is YAML, and PyYAML is not installed: pip install 'mock-mcp[yaml]'"
        ) from None
    loader = getattr(yaml, "CLoader", yaml.Loader)
    try:
        # parse() yields events only: nothing is constructed, so no loader is unsafe here.
        for event in yaml.parse(content, Loader=loader):
            builder.feed(event)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = f"is not valid YAML: {_one_line(error)}"
        if isinstance(error, yaml.reader.ReaderError):  # it counts from the start of the file
            reason += f" ({_line_and_column(content, error.position)})"
        raise builder.error(reason, getattr(error, "problem_mark", None)) from None
    return builder.finish()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).replace(' in "<byte string>",', " in").split())


class TreeBuilder:
    """Build a JSON tree from YAML events, counting what it would be with aliases expanded.

    A subclass may allow tags, read tagged values otherwise, and say errors in its own class.

    Args:
        path: How errors name the file.
        max_nodes: Values with every alias expanded.
    """

    def __init__(self, path: Path, max_nodes: int = MAX_NODES) -> None:
        self.path = path
        self.repeated: list[str] = []
        self.spelled: dict[str, str] = {}
        self._max_nodes = max_nodes
        self._root: list[Any] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}

    def feed(self, event: Any) -> None:
        """Take the next event of the parser."""
        match type(event).__name__:
            case "DocumentStartEvent" if self._root:
                raise self._error(event, "a second YAML document begins here; one is expected")
            case "ScalarEvent":
                self.check_tag(event)
                if self._stack and self._stack[-1].wants_key():
                    self._add(event.value, 1, event)
                    return
                value = self.scalar(event)
                if isinstance(value, (int, float)) and as_text(value) != event.value:
                    self._note_spelling(event.value)
                self._add(value, 1, event)
            case "MappingStartEvent" | "SequenceStartEvent" as name:
                self.check_tag(event)
                if self._stack and self._stack[-1].wants_key():
                    raise self._error(event, "a mapping key must be plain text")
                if len(self._stack) >= MAX_DEPTH:
                    raise self._error(event, f"is nested more than {MAX_DEPTH} levels deep")
                self._stack.append(_Open({} if name == "MappingStartEvent" else [], event))
            case "MappingEndEvent" | "SequenceEndEvent":
                closed = self._stack.pop()
                self._add(self.collection(closed.value, closed.event), closed.size, closed.event)
            case "AliasEvent":
                if event.anchor not in self._anchors:
                    raise self._error(event, f"alias *{event.anchor} has no finished anchor")
                value, size = self._anchors[event.anchor]
                if self._stack and self._stack[-1].wants_key() and not isinstance(value, str):
                    raise self._error(event, "a mapping key must be plain text")
                self._put(value, size, event)

    def finish(self) -> Any:
        """Return the tree of the only YAML document in the file."""
        if not self._root:
            raise self.error("holds no YAML document", None)
        return self._root[0]

    def check_tag(self, event: Any) -> None:
        """Refuse an event whose tag is not allowed."""
        if event.tag is not None and event.tag not in _PLAIN_TAGS:
            raise self._error(event, f"the YAML tag {event.tag!r} is not allowed")

    def scalar(self, event: Any) -> Any:
        """Return the value of a scalar that is no key."""
        return _scalar(event)

    def collection(self, value: Any, event: Any) -> Any:
        """Return what a mapping or sequence is, once it is complete; ``event`` began it."""
        return value

    def error(self, reason: str, mark: Any) -> MockMcpError:
        """Return the error for a place in the file; the reason continues the file's name.

        Args:
            reason: What is wrong.
            mark: The parser's mark of where it is, with ``line`` and ``column``; None if unknown.
        """
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        return ContractDocumentError(self.path, "", place + reason)

    def _add(self, value: Any, size: int, event: Any) -> None:
        if event.anchor:
            self._anchors[event.anchor] = (value, size)
        self._put(value, size, event)

    def _put(self, value: Any, size: int, event: Any) -> None:
        if not self._stack:
            self._root.append(value)
            return
        top = self._stack[-1]
        top.size += size
        if top.size > self._max_nodes:
            raise self._error(event, f"holds more than {self._max_nodes} values, aliases expanded")
        if top.is_repeated() and len(self.repeated) < MAX_REPEATED:
            self.repeated.append(self._pointer())
        if not top.put(value):
            raise self._error(event, "'<<' takes a mapping or a list of mappings")

    def _pointer(self) -> str:
        """Return the pointer of the value that comes next."""
        return pointers.extend("", *(each.token() for each in self._stack))

    def _note_spelling(self, text: str) -> None:
        if len(self.spelled) < MAX_SPELLED:
            self.spelled[self._pointer()] = text

    def _error(self, event: Any, reason: str) -> MockMcpError:
        return self.error(reason, event.start_mark)


class _Open:
    """A mapping or sequence whose end has not been seen."""

    __slots__ = ("event", "key", "merged", "size", "value")

    def __init__(self, value: Any, event: Any) -> None:
        self.value = value
        self.event = event
        self.size = 1
        self.key: str | None = None
        self.merged: frozenset[str] = _NONE  # keys that came by "<<": their mapping may override

    def token(self) -> str | int:
        """Return the pointer token of what is being read."""
        return len(self.value) if isinstance(self.value, list) else self.key or ""

    def is_repeated(self) -> bool:
        """Say whether the item that comes next replaces another of the same key."""
        if self.key is None or self.key not in self.value:
            return False
        return self.key not in self.merged

    def wants_key(self) -> bool:
        return isinstance(self.value, dict) and self.key is None

    def put(self, item: Any) -> bool:
        """Add an item; False when a merge key is given something else than mappings."""
        if isinstance(self.value, list):
            self.value.append(item)
        elif self.key is None:
            self.key = item
        elif self.key == "<<":
            self.key = None
            sources = item if isinstance(item, list) else [item]
            for source in sources:
                if not isinstance(source, dict):
                    return False
                self.merged |= source.keys() - self.value.keys()
                for key, value in source.items():
                    self.value.setdefault(key, value)
        else:
            self.value[self.key] = item
            if self.merged:
                self.merged -= {self.key}
            self.key = None
        return True


def as_text(value: float | bool) -> str:
    """Return a number or a boolean as JSON writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _scalar(event: Any) -> Any:
    text: str = event.value
    tag = event.tag
    if tag == _TAG_PREFIX + "str" or tag == "!" or (tag is None and not event.implicit[0]):
        return text
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text
