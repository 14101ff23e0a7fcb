"""Sample a sequential body: several items, in an order that a reader of streams expects.

Strategy: an example of the document, if there is one. Else one item of each kind, where the
contract has alternatives: their order is told by their names, in which ``start``, ``delta`` and
``done`` are the usual words, and kinds of failure are left out. Where there is one kind of item
only, three of them, of which the last says that it is the last if anything in it can.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mock_mcp.contract._judge import resolve
from mock_mcp.contract._words import split_name
from mock_mcp.contract.agree import agree
from mock_mcp.contract.finder import Match
from mock_mcp.contract.items import DONE, Scope, item_violations
from mock_mcp.contract.sample import CannotSample, sample
from mock_mcp.contract.schema import CompiledSchema
from mock_mcp.sequential import is_event, is_event_stream, split
from mock_mcp.types import Violation
from mock_mcp.words import plain

__all__ = ["Stream"]

MAX_KINDS = 64
"""Alternatives of which an item is made."""
_MAX_UNIONS = 4
_REPEATED = 3

_FIRST = frozenset(
    (
        *("added", "begin", "created", "init", "open", "opened", "progress", "queued"),
        *("start", "started"),
    )
)
_LAST = frozenset(
    (
        *("close", "closed", "complete", "completed", "done", "end", "ended"),
        *("finish", "finished", "stop", "stopped"),
    )
)
_FAILED = frozenset(
    ("aborted", "canceled", "cancelled", "error", "expired", "failed", "failure", "incomplete")
)
_IS_LAST = re.compile(r"(?:is)?(?:done|finished|completed?|last|final|end)|eof")
_REASON = re.compile(r"(?:finish|stop|done)reason")
_BEGINS, _GOES_ON, _ENDS = range(3)
_NUMBER = re.compile(r"sequencenumber|sequence|seq")

Items = list[Any]


class _Kind(NamedTuple):
    """An item of one kind, and what is told of it by its name and the indices that it has."""

    subject: tuple[str, ...]
    phase: int
    depth: int
    item: Any


class Stream:
    """What a contract says of a sequential body.

    Args:
        media_type: The type of the body.
        compiled: Its schema.
        scope: What the schema describes.
        examples: The document's examples of the body, valid or not.
    """

    def __init__(
        self, media_type: str, compiled: CompiledSchema, scope: Scope, examples: Sequence[Any]
    ) -> None:
        self._media_type = media_type
        self._compiled = compiled
        self._scope = scope
        self._examples = examples
        self._is_events = is_event_stream(media_type)

    def violations(self, items: Items) -> Iterator[Violation]:
        """Yield what is wrong with a body that has these items."""
        return item_violations(items, self._media_type, self._compiled, self._scope, request_id="")

    def is_valid(self, items: Items) -> bool:
        """Say whether a body with these items is valid."""
        return next(self.violations(items), None) is None

    def items_of(self, example: Any) -> Items:
        """Return the items of an example: of a text or list its own, else it is the item."""
        if isinstance(example, str):
            return split(example, self._media_type)
        return example if isinstance(example, list) else [self._item(example)]

    def examples(self) -> Iterator[Items]:
        """Yield the items of each valid example."""
        for items in map(self.items_of, self._examples):
            if items and self.is_valid(items):
                yield copy.deepcopy(items)

    def shown(self) -> Iterator[Any]:
        """Yield what the schema judges of the examples: a list of items, or each."""
        for items in self.examples():
            values = items if self._scope == "event" else [self._value(item) for item in items]
            yield from [values] if self._scope == "list" else values

    def sample(self, seed: str, *, ends: bool = False) -> Items:
        """Return valid items.

        Args:
            seed: Decides every draw.
            ends: Whether ``[DONE]`` ends the stream.

        Raises:
            CannotSample: No valid item could be made.
        """
        given = list(self.examples())
        items = max(given, key=len) if given else self._made(seed)
        if given and len(items) == 1:  # each shows one kind
            items = [item for example in given for item in example]
        if ends and self._is_events and DONE not in map(self._value, items):
            items.append({"data": DONE})
        return items

    def agree(self, items: Items, request: Mapping[str, Any], match: Match) -> None:
        """Give items, in place, the values that the call has for their properties."""
        for item in items:
            judged = items if self._scope == "list" else [item]

            def is_valid(_: Any, judged: Items = judged) -> bool:
                return self.is_valid(judged)

            agree(self._value(item), request, match, is_valid)

    # -- Inside ----------------------------------------------------------------------------

    def _value(self, item: Any) -> Any:
        """Return what an item says: of an event, its data."""
        return item["data"] if self._is_events and is_event(item) else item

    def _item(self, value: Any) -> Any:
        """Return the item of a value that the schema judges."""
        is_named = isinstance(value, dict) and value.keys() == {"event", "data"}
        is_whole = is_named or self._scope == "event"
        return {"data": value} if self._is_events and not is_whole else value

    def _made(self, seed: str) -> Items:
        schema = self._compiled.schema
        if self._scope == "list":
            made: Items = self._sampled(schema, seed)
            return made
        parts = _alternatives(schema)
        if len(parts) == 1:
            return self._repeated(seed)
        definitions = schema.get("$defs", {})
        kinds = [
            kind
            for name, part in zip(_names(parts, definitions), parts, strict=True)
            if (kind := self._kind(name, {**part, "$defs": definitions}, seed)) is not None
        ]
        items = [kind.item for kind in _in_order(_levels(kinds))]
        for number, item in enumerate(items):
            self._number(item, number)
        return items or self._repeated(seed)

    def _kind(self, name: str, schema: Mapping[str, Any], seed: str) -> _Kind | None:
        """Return an item of one kind; None for a failure, and if none could be made."""
        words = [word for word in split_name(name.replace(".", "_")) if word != "in"]
        if {*words} & _FAILED:
            return None
        try:
            item = self._item(self._sampled(schema, seed))
        except CannotSample:
            return None  # the others will do
        if self._is_events and name and "event" not in item:
            item = {"event": name, **item}
        last = {*words[-1:]}
        phase = _BEGINS if last & _FIRST else _ENDS if last & _LAST else _GOES_ON
        if phase == _BEGINS:
            self._empty(item)
        value = self._value(item)
        depth = sum(map(_is_index, value)) if isinstance(value, dict) else 0
        return _Kind(tuple(words[:-1]), phase, depth, item)

    def _repeated(self, seed: str) -> Items:
        schema = self._compiled.schema
        first = self._item(self._sampled(schema, seed))
        if any(_marks(self._value(first))):
            items = [copy.deepcopy(first) for _ in range(_REPEATED)]
        else:
            more = (self._item(self._sampled(schema, f"{seed}/{n}")) for n in range(1, _REPEATED))
            items = [first, *(item for item in more if item != first)]
        for number, item in enumerate(items):
            self._without_noise(item)
            self._number(item, number)
            for part, name in list(_marks(self._value(item))):
                is_last = number == len(items) - 1
                self._try(item, part, name, *_mark(part[name], is_last=is_last))
        return items

    def _sampled(self, schema: Mapping[str, Any], seed: str) -> Any:
        return copy.deepcopy(sample(schema, seed=seed, is_valid=self._compiled.is_valid))

    def _without_noise(self, item: Any) -> None:
        """Leave out the fields of an event that matter to reconnecting clients, if it may be."""
        for name in ("id", "retry", "event") if self._scope == "event" else ():
            if name in item:
                self._try(item, item, name, _ABSENT)

    def _empty(self, item: Any) -> None:
        """Let what begins have nothing in its lists yet."""
        value = self._value(item)
        for part in value.values() if isinstance(value, dict) else ():
            for name, before in list(part.items()) if isinstance(part, dict) else ():
                if isinstance(before, list):
                    self._try(item, part, name, [])

    def _number(self, item: Any, number: int) -> None:
        """Give an item, the first of its kind, its place in the stream."""
        for index, part in _objects(self._value(item)):
            for name, before in list(part.items()):
                if type(before) is int and _is_index(name):
                    self._try(item, part, name, index)
                elif type(before) is int and _NUMBER.fullmatch(plain(name)):
                    self._try(item, part, name, number)

    def _try(self, item: Any, part: dict[str, Any], name: str, *values: Any) -> None:
        """Change a field of an item to the first of some values with which it is valid, if any."""
        before = part[name]
        for value in values:
            part[name] = value
            if value is _ABSENT:
                del part[name]
            if self.is_valid([item]):
                return
            part[name] = before


_ABSENT = object()


def _is_index(name: str) -> bool:
    return plain(name).endswith("index")


def _alternatives(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a schema for each kind of value that a closed schema has; itself if it has one."""
    definitions = schema.get("$defs", {})
    found: list[Mapping[str, Any]] = []

    def look(node: Any, around: list[Any], depth: int) -> None:
        while isinstance(node, Mapping) and node.keys() - {"$defs"} == {"$ref"}:
            node = resolve(definitions, node["$ref"])
        if not isinstance(node, Mapping) or node.get("type") == "null":
            return
        key = next((key for key in ("oneOf", "anyOf") if len(node.get(key, ())) > 1), None)
        if key is None or depth == _MAX_UNIONS:
            found.append({"allOf": [*around, node]})
            return
        rest = {name: part for name, part in node.items() if name not in (key, "$defs")}
        for part in node[key]:
            look(part, [*around, rest] if rest else around, depth + 1)

    look(schema, [], 0)
    return found[:MAX_KINDS] if len(found) > 1 else [schema]


def _names(kinds: Sequence[Mapping[str, Any]], definitions: Mapping[str, Any]) -> list[str]:
    """Return the value that tells each kind from the others, "" where there is none."""
    constants = [dict(_constants(kind, definitions)) for kind in kinds]
    keys = dict.fromkeys(key for each in constants for key in each)
    tag = max(keys, key=lambda key: len({each.get(key) for each in constants}), default="")
    names = [each.get(tag, "") for each in constants]
    return names if len({*names}) == len(names) else [""] * len(names)


def _constants(
    schema: Any, definitions: Mapping[str, Any], depth: int = 0
) -> Iterator[tuple[str, str]]:
    """Yield the properties that can only have one text."""
    if not isinstance(schema, Mapping) or depth > 2 * _MAX_UNIONS:
        return
    properties = schema.get("properties", {})
    for name, part in properties.items():
        named = part.get("$ref") if isinstance(part, Mapping) else None
        target = resolve(definitions, named) if isinstance(named, str) else part
        options = target.get("enum", [target.get("const")]) if isinstance(target, Mapping) else []
        if len(options) == 1 and isinstance(options[0], str):
            yield name, options[0]
    if isinstance(schema.get("$ref"), str):
        yield from _constants(resolve(definitions, schema["$ref"]), definitions, depth + 1)
    for part in schema.get("allOf", ()):
        yield from _constants(part, definitions, depth + 1)


def _levels(kinds: Sequence[_Kind]) -> list[list[_Kind]]:
    """Return kinds by what encloses what, the outermost first.

    ``message.start`` and ``message.stop`` are of one subject, and enclose all others if those are
    parts of it (``message.text.delta``), or come after it in the document. Of the others, those
    with more indices (``output_index``, ``content_index``) are parts of those with fewer.
    """
    subjects = {kind.subject for kind in kinds}
    outer = max(
        (kind.subject for kind in kinds if kind.phase != _GOES_ON),
        key=lambda subject: sum(other[: len(subject)] == subject for other in subjects),
        default=None,
    )
    levels: dict[int, list[_Kind]] = {}
    for kind in kinds:
        levels.setdefault(-1 if kind.subject == outer else kind.depth, []).append(kind)
    return [levels[depth] for depth in sorted(levels)]


def _in_order(levels: Sequence[Sequence[_Kind]]) -> Iterator[_Kind]:
    """Yield what begins at a level, what is inside, and the rest: first what needs no beginning."""
    if not levels:
        return
    level, *inner = levels
    begun = {kind.subject for kind in level if kind.phase == _BEGINS}
    places = {kind.subject: place for place, kind in reversed([*enumerate(level)])}
    yield from (kind for kind in level if kind.phase == _BEGINS)
    yield from _in_order(inner)
    rest = [kind for kind in level if kind.phase != _BEGINS]
    rest.sort(key=lambda kind: (kind.subject in begun, places[kind.subject], kind.phase))
    yield from rest


def _objects(value: Any, index: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects in an item, itself first, each with its index in the list around it."""
    if isinstance(value, dict):
        yield index, value
    for inner in value.values() if isinstance(value, dict) else ():
        if isinstance(inner, list):
            for place, part in enumerate(inner):
                yield from _objects(part, place)
        else:
            yield from _objects(inner)


def _marks(value: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield what says whether an item is the last: in it, or in the objects of its lists."""
    lists = value.values() if isinstance(value, dict) else ()
    parts = [value, *(part for inner in lists if isinstance(inner, list) for part in inner)]
    for part in parts:
        for name, mark in part.items() if isinstance(part, dict) else ():
            is_flag = isinstance(mark, bool) and _IS_LAST.fullmatch(plain(name))
            if is_flag or _REASON.fullmatch(plain(name)):
                yield part, name


def _mark(before: Any, *, is_last: bool) -> tuple[Any, ...]:
    """Return what a mark may be, the likeliest first."""
    if isinstance(before, bool):
        return (is_last,)
    if is_last:
        return ("stop", before)
    return (None, _ABSENT)
