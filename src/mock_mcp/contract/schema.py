"""Compile closed schemas, one at a time and on first use.

Compiled validators cost megabytes for the largest schemas, so a bounded cache keeps those used
last. What a validator library refuses in a schema (an invalid regular expression, mostly) is
dropped keyword by keyword and noted as a defect of the document: the rest still checks.
"""

from __future__ import annotations

import hashlib
import operator
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from mock_mcp.contract import pointer as pointers
from mock_mcp.contract.coerce import Form, forms_of, kinds_of
from mock_mcp.contract.document import Document, Place
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.contract.normalise import Closed, Direction, close, strip_annotations
from mock_mcp.words import cut

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator, ValidationError

__all__ = ["CompiledSchema", "SchemaCache", "close_schema", "compile_schema"]

MAX_COMPILED = 32
"""Validators kept by one cache; the largest published schemas compile to about 5 MB each."""

BACKTRACK_LIMIT = 100_000
"""Steps a pattern with look-around may take on one string: about 2 ms. Plain ones are linear."""

MAX_VALUE_DEPTH = 200
"""Nesting of a value that is validated: the validator recurses on the C stack of its thread."""

MAX_LOOKED_AT = 50
"""Items of a list whose violations are looked for, when there are any among them."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\r\n]*={0,2}[\r\n]*")

_COUNTING = frozenset(("contains", "minContains", "minItems"))
_SCALARS = frozenset((str, int, float, bool, type(None)))
_MAX_DROPS = 100
_REASON_CHARS = 300


def close_schema(
    document: Document,
    target: Place | str | dict[str, Any] | bool,
    *,
    direction: Direction = "response",
) -> dict[str, Any]:
    """Return a schema of ``document``, and all it refers to, as one JSON Schema 2020-12.

    Args:
        document: Where references are resolved and lenient readings noted.
        target: The place of the schema, a JSON pointer into the document, or a schema object
            whose references are read against the document's root.
        direction: ``response`` does not require write-only properties, ``request`` does not
            require read-only ones.

    Returns:
        A dict whose every ``$ref`` is ``#/$defs/NAME``.

    Raises:
        ContractDocumentError: The pointer or a ``$ref`` leads nowhere, or the nesting is too deep.
    """
    return _close(document, target, direction).schema


def _close(
    document: Document, target: Place | str | dict[str, Any] | bool, direction: Direction
) -> Closed:
    if isinstance(target, (dict, bool)):
        return close(document, document.place, target, direction)
    place = target if isinstance(target, Place) else Place(document.place.file, target)
    try:
        node = pointers.follow(place.file.tree, place.pointer)
    except (LookupError, ValueError):
        raise ContractDocumentError(place.file.name, place.pointer, "nothing is there") from None
    return close(document, place, node, direction)


class CompiledSchema:
    """A closed schema and its validator.

    Attributes:
        schema: The closed 2020-12 schema, without the keywords the validator refused.
        ignored: What of its source is not checked because it is not valid, as sentences.
    """

    def __init__(
        self,
        schema: dict[str, Any],
        validator: Draft202012Validator,
        ignored: Sequence[str] = (),
    ) -> None:
        self.schema = schema
        self.ignored = tuple(ignored)
        self._validator = validator

    def is_valid(self, value: Any) -> bool:
        """Say whether a JSON value satisfies the schema; one nested too deep does not."""
        return not is_too_deep(value) and self._validator.is_valid(value)

    def errors(self, value: Any) -> list[ValidationError]:
        """Return the violations of the schema; empty when ``value`` is valid.

        All of them, except in long lists: when the first `MAX_LOOKED_AT` items show violations,
        the items behind them are not looked at. Each error copies the value it is about, and
        thousands of alike wrong items would take minutes to say the same.

        Raises:
            ValueError: The value is nested deeper than `MAX_VALUE_DEPTH`.
        """
        if is_too_deep(value):
            raise ValueError(f"nested deeper than {MAX_VALUE_DEPTH} levels")
        if self._validator.is_valid(value):
            return []
        head = _heads_of_lists(value)
        if head is not value:
            errors = [e for e in self._validator.iter_errors(head) if e.kind.name not in _COUNTING]
            if errors:
                return errors
        return list(self._validator.iter_errors(value))

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """What the parts of the schema that may judge the value itself want it to be."""
        return forms_of(self.schema)

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The types that the schema mentions for the value itself."""
        return kinds_of(self.forms)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what the schema asserts; descriptions, examples and key order do not count."""
        return fingerprint(strip_annotations(self.schema))


def is_too_deep(value: Any) -> bool:
    """Say whether a JSON value is nested deeper than `MAX_VALUE_DEPTH`."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_VALUE_DEPTH):
        if not level:
            return False
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if type(child) not in _SCALARS and isinstance(child, (dict, list))
        ]
    return bool(level)


def _heads_of_lists(value: Any) -> Any:
    """Return ``value`` with its lists cut to `MAX_LOOKED_AT` items; itself when none is longer."""
    if isinstance(value, list):
        items = [_heads_of_lists(item) for item in value[:MAX_LOOKED_AT]]
        same = len(items) == len(value) and all(map(operator.is_, items, value))
        return value if same else items
    if isinstance(value, dict):
        members = {key: _heads_of_lists(item) for key, item in value.items()}
        same = all(map(operator.is_, members.values(), value.values()))
        return value if same else members
    return value


def fingerprint(value: Any) -> str:
    """Return the SHA-256, in hexadecimal, of a JSON value; key order does not count."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def compile_schema(
    document: Document, place: Place, schema: dict[str, Any], ignored: Sequence[str] = ()
) -> CompiledSchema:
    """Compile a closed schema; keywords that cannot be compiled are dropped and noted.

    Args:
        document: Where dropped keywords are noted.
        place: Where the schema stands, for those notes.
        schema: A closed schema. Dropping changes it.
        ignored: What was ignored when it was closed.

    Raises:
        ContractDocumentError: The schema cannot be compiled even so.
    """
    import jsonschema_rs

    dropped = list(ignored)
    for _ in range(_MAX_DROPS):
        try:
            validator = jsonschema_rs.Draft202012Validator(
                schema,
                validate_formats=True,
                formats={"byte": _is_base64},
                ignore_unknown_formats=True,
                offline=True,  # the default fetches remote references
                mask="value",  # messages are not used; do not copy the value into them
                pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT),
            )
        except jsonschema_rs.ValidationError as error:
            path = error.instance_path
            if not path or not _drop(schema, path):
                raise _uncompilable(place, error.message) from None
            where = pointers.extend("", *path)
            dropped.append(f"{where} is not valid: ignored")
            document.note(place, f"{where} of its closed schema is not valid", "ignored")
        except ValueError as error:
            raise _uncompilable(place, str(error)) from None
        else:
            return CompiledSchema(schema, validator, dropped)
    raise _uncompilable(place, f"more than {_MAX_DROPS} keywords are not valid")


def _is_base64(text: str) -> bool:
    """Say whether a text is base64, in either alphabet; line breaks and padding are optional."""
    digits = len(text) - sum(map(text.count, "\r\n="))
    return digits % 4 != 1 and _BASE64.fullmatch(text) is not None


def _uncompilable(place: Place, reason: str) -> ContractDocumentError:
    said = f"the schema cannot be compiled: {cut(reason, _REASON_CHARS)}"
    return ContractDocumentError(place.file.name, place.pointer, said)


def _drop(schema: Any, path: list[str | int]) -> bool:
    """Delete what ``path`` names; inside ``patternProperties`` that is the invalid pattern."""
    try:
        for token in path[:-1]:
            schema = schema[token]
        del schema[path[-1]]
    except (LookupError, TypeError):
        return False
    return True


class SchemaCache:
    """The compiled schemas used last, by place and direction.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int = MAX_COMPILED) -> None:
        self._size = size
        self._kept: OrderedDict[tuple[Place, Direction], CompiledSchema] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, document: Document, place: Place, direction: Direction) -> CompiledSchema:
        """Return the compiled schema at ``place``, compiling it on first use.

        Raises:
            ContractDocumentError: It cannot be closed or compiled.
        """
        key = (place, direction)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        closed = _close(document, place, direction)
        compiled = compile_schema(document, place, *closed)
        with self._lock:
            self._kept[key] = compiled
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return compiled
