"""Show a schema to an AI that must write a valid value: as much as fits in a budget, best first.

The view is JSON Schema with three additions. ``{"$fold": pointer}`` stands for a schema that
`open_schema` opens, ``"$more"`` says what an opened schema left out, and ``$defs`` holds only what
the view uses more than once. A view is grown, not cut: it begins as one fold, and a queue of small
steps (open this fold, add this property) is worked off best first, each only if it still fits.
Required content goes before optional, shallow before deep, and prose is added with what is left, so
whatever the budget ends at, the most needed part is there. Only what is shown is ever looked at:
the cost follows the budget, not the schema. Every assertion of a shown schema is kept, so a value
written from the view is valid, unless required content had to stay folded (the view says so) or the
value happens to match a second, folded branch of a ``oneOf``.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mock_mcp.contract._judge import resolve
from mock_mcp.contract._words import split_name
from mock_mcp.contract.normalise import FORMAT_BOUNDS
from mock_mcp.errors import InvalidParams

__all__ = [
    "DEFAULT_BUDGET",
    "Condensed",
    "CondensedBatch",
    "condense",
    "condense_batch",
    "open_schema",
]

Schema = Mapping[str, Any] | bool

DEFAULT_BUDGET = 6000  # characters of compact JSON: some 1 500 to 2 000 tokens
MIN_BUDGET = 200  # below this not even a fold with its type fits
MAX_REFUSED = 200  # steps that do not fit before it stops looking for one that does
SMALLEST = 6  # characters that any step takes: with less room there is nothing to try
SMALL = 100  # a schema this short is always shown in place, shared or not
MAX_ENUM = 600  # characters of an enum shown below the root; the rest is counted
MAX_NAMES = 200  # characters of the required names a fold lists
MAX_NESTING = 60  # schemas shown inside each other; more would be hard to read and to encode
MAX_WRAPPED = 4  # levels of combinations searched for required names
MAX_HOPS = 16  # references followed between two names of a pointer
MAX_BRANCHES = 8  # of anyOf or oneOf that are shown together; more come one by one
ALTERNATIVE = 2  # levels a branch is put back if it is not the first of its anyOf or oneOf
MAX_PROSE = 100  # characters of a description
EXAMPLE_SHARE = 2  # an example may take one half of the budget
NEAR = 2  # levels of optional content that go before prose
PROSE_SHARE = 0.2  # of the budget is kept for prose while they are added

_REQUIRED, _OPTIONAL = 0, 1
_NONE: frozenset[str] = frozenset()

# Keywords copied as they are, in the order they are shown.
_PLAIN = (
    *("type", "const", "enum", "format", "pattern", "minLength", "maxLength", "contentEncoding"),
    *("contentMediaType", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("multipleOf", "minItems", "maxItems", "uniqueItems", "minContains", "maxContains"),
    *("minProperties", "maxProperties", "required", "dependentRequired"),
)
_ONE = (
    *("items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else"),
    *("unevaluatedProperties", "unevaluatedItems", "contentSchema"),
)
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "dependentSchemas")
_ASSERTIONS = frozenset((*_PLAIN, *_ONE, *_LISTS, *_MAPS, "$ref"))


@dataclass(frozen=True, slots=True)
class Condensed:
    """The view of one schema.

    ``schema`` is the view itself, ``example`` a valid example (None: none was given or fits).
    ``is_complete`` is false when even required content had to stay folded: open it before you
    write.
    """

    schema: dict[str, Any]
    example: Any = None
    is_complete: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return what the responder reads; its compact JSON is within the budget."""
        return {"schema": self.schema} | ({} if self.example is None else {"example": self.example})


@dataclass(frozen=True, slots=True)
class CondensedBatch:
    """The views of a batch: each distinct schema once, and which request uses which."""

    schemas: dict[str, Condensed] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)


def condense(
    schema: Schema, *, budget: int = DEFAULT_BUDGET, examples: Sequence[Any] = ()
) -> Condensed:
    """Return the view of a schema.

    Args:
        schema: A closed JSON Schema 2020-12: every ``$ref`` is ``#/$defs/NAME``, ``$defs`` at the
            root.
        budget: The most characters ``to_json()`` may take as compact JSON; at least 200.
        examples: Values known to be valid; the first that fits into half the budget is shown.

    Raises:
        InvalidParams: The budget is too small.
    """
    return _View(schema, budget).grow(schema, "#", examples)


def open_schema(schema: Schema, pointer: str, *, budget: int = DEFAULT_BUDGET) -> Condensed:
    """Return the view of one part of a schema: what a fold stands for.

    Args:
        schema: The closed schema the fold was made from.
        pointer: The fold's pointer: ``#/$defs/NAME``, ``#/properties/a/items``, or ``""`` for the
            root. A pointer may run through a ``$ref``.
        budget: As for `condense`.

    Raises:
        InvalidParams: The pointer names no schema (the message lists what is there), or the budget
            is too small.
    """
    path = pointer.removeprefix("#")
    target, is_schema = _follow(schema, path, pointer)
    if not is_schema:
        inside = [f"#{path}/{_escape(str(key))}" for key in _keys(target)]
        raise InvalidParams(
            f"{pointer} holds several schemas; open one of them: {', '.join(inside[:12])}"
        )
    if path.startswith("/$defs/") and path.count("/") == 2:
        target = {"$ref": f"#{path}"}
    return _View(schema, budget).grow(target, f"#{path}", ())


def condense_batch(
    requests: Sequence[tuple[str, Schema, Sequence[Any]]], *, budget: int = DEFAULT_BUDGET
) -> CondensedBatch:
    """Return the views of a batch, each distinct schema once.

    Args:
        requests: ``(request_id, closed schema, valid examples)`` in the batch's order. Schemas are
            compared by content.
        budget: The characters of each distinct view.

    Returns:
        Views under the keys ``s1``, ``s2`` … in order of first use.
    """
    batch = CondensedBatch()
    keys: dict[str, str] = {}
    by_identity: dict[int, str] = {}
    members: dict[str, tuple[Schema, list[Any]]] = {}
    for request_id, schema, examples in requests:
        content = by_identity.get(id(schema))
        if content is None:
            content = by_identity[id(schema)] = json.dumps(schema, sort_keys=True)
        key = keys.setdefault(content, f"s{len(keys) + 1}")
        batch.requests[request_id] = key
        members.setdefault(key, (schema, []))[1].extend(examples)
    for key, (schema, examples) in members.items():
        batch.schemas[key] = condense(schema, budget=budget, examples=examples)
    return batch


# -- Growing a view ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Level:
    """Where a step stands in the order: required content first, then by depth, optional last.

    ``needed`` are properties that a schema around this one requires (through ``allOf``);
    ``nesting`` counts the schemas that were opened around it.
    """

    rank: int
    depth: int
    is_late: bool = False
    needed: frozenset[str] = _NONE
    nesting: int = 0


@dataclass(frozen=True, slots=True)
class _OpenRef:
    """Show the definition ``ref`` once, for every place that refers to it."""

    level: _Level
    ref: str


@dataclass(frozen=True, slots=True)
class _OpenHere:
    """Replace the fold ``marker`` by the schema it stands for."""

    level: _Level
    schema: Mapping[str, Any]
    pointer: str
    marker: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _AddMember:
    """Add a property, or a branch of ``anyOf``/``oneOf``, to the opened schema ``owner``."""

    level: _Level
    owner: dict[str, Any]
    keyword: str
    name: str
    schema: Schema
    pointer: str


_Step = _OpenRef | _OpenHere | _AddMember
_Queued = tuple[int, int, bool, int, _Step]  # rank, depth, whether late, order of arrival, step


@dataclass(frozen=True, slots=True)
class _Note:
    """Prose that may be added to ``piece``."""

    depth: int
    piece: dict[str, Any]
    schema: Schema
    name: str


@dataclass(slots=True)
class _Draft:
    """A piece of the view and what follows when it is accepted: references, steps, prose."""

    out: dict[str, Any]
    uses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    steps: list[_Step] = field(default_factory=list)
    notes: list[_Note] = field(default_factory=list)

    def absorb(self, other: _Draft) -> dict[str, Any]:
        self.uses += other.uses
        self.steps += other.steps
        self.notes += other.notes
        return other.out


class _View:
    def __init__(self, schema: Schema, budget: int) -> None:
        if budget < MIN_BUDGET:
            raise InvalidParams(f"A view needs a budget of at least {MIN_BUDGET} characters.")
        self._defs: Mapping[str, Any] = (
            schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
        )
        self._budget = self._limit = budget
        self._used = 0
        self._queue: list[_Queued] = []
        self._pushed = 0
        self._shown: dict[str, dict[str, Any]] = {}  # ref -> its body, once shown
        self._places: dict[str, list[dict[str, Any]]] = {}  # ref -> the markers that name it
        self._notes: list[_Note] = []
        self._small: dict[str, dict[str, Any] | None] = {}
        self._root = ""

    def grow(self, schema: Schema, pointer: str, examples: Sequence[Any]) -> Condensed:
        """Return the finished view of ``schema``, which lies at ``pointer``."""
        self._root = pointer
        draft = self._draft(schema, pointer, _Level(_REQUIRED, 0))
        self._used = _size({"schema": {"$defs": {}}}) + _size(draft.out)
        self._accept(draft)
        refused = self._work(_REQUIRED)
        is_complete = not refused and all(queued[0] > _REQUIRED for queued in self._queue)
        example = self._pick_example(examples)
        if is_complete:
            self._limit = int(self._budget * (1 - PROSE_SHARE))
            refused = self._work(_OPTIONAL, depth=NEAR)
            self._limit = self._budget
            self._add_prose(depth=NEAR)
            self._queue = sorted(refused + self._queue, key=lambda entry: entry[:4])
            refused = self._work(_OPTIONAL)
        self._queue = sorted(refused + self._queue, key=lambda entry: entry[:4])
        self._fold_empty()
        self._add_prose()
        self._add_names()
        return self._finish(draft.out, example, pointer, is_complete=is_complete)

    # Steps

    def _work(self, rank: int, depth: int | None = None) -> list[_Queued]:
        """Take every step up to this rank and depth; return those that did not fit."""
        refused = []
        while self._queue:
            queued = self._queue[0]
            if queued[0] > rank or (depth is not None and queued[1] > depth):
                break
            heapq.heappop(self._queue)
            if not self._take(queued[-1]):
                refused.append(queued)
            if self._limit - self._used < SMALLEST or len(refused) > MAX_REFUSED:
                break
        return refused

    def _take(self, step: _Step) -> bool:
        if step.level.nesting > MAX_NESTING:
            return False
        if isinstance(step, _AddMember):
            return self._add_member(step)
        if isinstance(step, _OpenHere):
            draft = self._opened(step.schema, step.pointer, step.level, step.marker)
            if not self._fits(_size(draft.out) - _bare(step.marker) + self._hoisting(draft)):
                return False
            _become(step.marker, draft.out)
            self._accept(draft)
            return True
        return step.ref in self._shown or self._open_ref(step.ref, step.level)

    def _open_ref(self, ref: str, level: _Level) -> bool:
        marker = {"$ref": ref}
        target = resolve(self._defs, ref)
        self._shown[ref] = {}
        draft = self._opened(target, ref, level)
        own = sum(used == ref for used, _ in draft.uses)
        places = self._places.get(ref, [])
        price = _size(draft.out)
        if len(places) + own == 1:
            price -= _bare(places[0])
        else:
            price += _entry(ref) + sum(_size(marker) - _bare(place) for place in places)
        others = [use for use in draft.uses if use[0] != ref]
        if not self._fits(price + self._hoisting(_Draft({}, others))):
            del self._shown[ref]
            return False
        for place in places:
            _become(place, {**marker, **_prose_of(place)})
        self._shown[ref] = draft.out
        self._accept(draft)
        self._notes.append(_Note(level.depth, draft.out, target, ref.rpartition("/")[2]))
        return True

    def _add_member(self, step: _AddMember) -> bool:
        draft = self._draft(step.schema, step.pointer, step.level, step.name)
        into = step.owner.setdefault(step.keyword, {} if step.name else [])
        price = _size(draft.out) + (_size(step.name) + 2 if step.name else 1)
        price += self._hoisting(draft)
        more = step.owner["$more"]
        is_last = more[step.keyword] == 1
        if is_last:
            price -= len(f'"{step.keyword}":1,')
            if len(more) == 2:
                price -= _size({"$more": {"$fold": more["$fold"]}}) - 1
        if not self._fits(price):
            return False
        if step.name:
            into[step.name] = draft.out
        else:
            into.append(draft.out)
        more[step.keyword] -= 1
        if is_last:
            del more[step.keyword]
            if len(more) == 1:
                del step.owner["$more"]
        self._accept(draft)
        return True

    def _fits(self, price: int) -> bool:
        if self._used + price > self._limit:
            return False
        self._used += price
        return True

    def _accept(self, draft: _Draft) -> None:
        for ref, marker in draft.uses:
            self._places.setdefault(ref, []).append(marker)
        for step in draft.steps:
            self._pushed += 1
            level = step.level
            place = (level.rank, level.depth, level.is_late, self._pushed, step)
            heapq.heappush(self._queue, place)
        self._notes += draft.notes

    def _hoisting(self, draft: _Draft) -> int:
        """What it costs to move definitions to ``$defs`` that ``draft`` is the second to use."""
        second = {
            ref for ref, _ in draft.uses if ref in self._shown and len(self._places[ref]) == 1
        }
        return sum(_entry(ref) + _size({"$ref": ref}) for ref in second)

    # Drafting pieces

    def _draft(self, schema: Schema, pointer: str, level: _Level, name: str = "") -> _Draft:
        """Return the shortest honest piece: the schema itself if small, a reference, or a fold."""
        plain, path = _unwrap(schema)
        small = self._as_small(plain, 0)
        if small is not None or isinstance(plain, bool):
            draft = _Draft(small or {})
        elif isinstance(plain.get("$ref"), str) and len(plain) == 1:
            ref = plain["$ref"]
            marker = {"$ref": ref}
            if ref not in self._shown:
                marker = {"$fold": ref, **self._hint(plain, level)}
            draft = _Draft(marker, uses=[(ref, marker)], steps=[_OpenRef(level, ref)])
        else:
            pointer += path
            marker = {"$fold": pointer, **self._hint(plain, level)}
            draft = _Draft(marker, steps=[_OpenHere(level, plain, pointer, marker)])
        draft.notes.append(_Note(level.depth, draft.out, schema, name))
        return draft

    def _opened(
        self, schema: Schema, pointer: str, level: _Level, holder: dict[str, Any] | None = None
    ) -> _Draft:
        """Return a schema opened by one level: its own keywords, and its parts as drafts.

        Steps that add to it later add to ``holder``, the fold it will replace, if there is one.
        """
        plain, path = _unwrap(schema)
        if isinstance(plain, bool):
            return _Draft({} if plain else {"not": {}})
        inside = pointer + path
        draft = _Draft(_simple(plain))
        holder = draft.out if holder is None else holder
        more: dict[str, Any] = {}
        self._cut_enum(draft.out, more, is_root=pointer == self._root)
        needed = level.needed | self._needed(plain, 0)
        inner = replace(level, is_late=False, needed=_NONE, nesting=level.nesting + 1)
        here = replace(inner, needed=needed)
        below = replace(inner, depth=level.depth + 1)
        later = replace(below, rank=_OPTIONAL, is_late=True)
        other = replace(later, depth=level.depth + ALTERNATIVE)

        def show(part: Schema, path: str, level: _Level) -> dict[str, Any]:
            return draft.absorb(self._draft(part, f"{inside}/{path}", level))

        for keyword in _ONE:
            if keyword in plain:
                part = plain[keyword]
                flag = isinstance(part, bool)
                draft.out[keyword] = part if flag else show(part, keyword, below)
        if "$ref" in plain:
            draft.out["allOf"] = [show({"$ref": plain["$ref"]}, "$ref", here)]
        for keyword in _LISTS:
            is_choice = keyword in ("anyOf", "oneOf")  # one is needed; the first is the likeliest
            parts = list(_parts(plain, keyword, keyword))
            one_by_one = is_choice and len(parts) > MAX_BRANCHES
            if one_by_one:
                more[keyword] = len(parts)
            if parts:
                draft.out.setdefault(keyword, [])
            for at, (path, part) in enumerate(parts):
                its = below if keyword == "prefixItems" else other if is_choice and at else here
                if one_by_one:
                    where = f"{inside}/{path}"
                    draft.steps.append(_AddMember(its, holder, keyword, "", part, where))
                else:
                    draft.out[keyword].append(show(part, path, its))
        for keyword in ("patternProperties", "dependentSchemas"):
            for name, part in plain.get(keyword, {}).items():
                shown = show(part, f"{keyword}/{_escape(name)}", below)
                draft.out.setdefault(keyword, {})[name] = shown
        properties = plain.get("properties", {})
        if properties:
            more["properties"] = len(properties)
            draft.out["properties"] = {}
        for name, part in properties.items():
            its = below if name in needed else later
            where = f"{inside}/properties/{_escape(name)}"
            draft.steps.append(_AddMember(its, holder, "properties", name, part, where))
        if more:
            draft.out["$more"] = {"$fold": pointer, **more}
        return draft

    def _needed(self, plain: Mapping[str, Any], depth: int) -> frozenset[str]:
        """The properties required here, by this schema or by its parts."""
        names = set(plain.get("required", ()))
        parts = [*plain.get("allOf", ())]
        parts += [branch for key in ("anyOf", "oneOf") for branch in plain.get(key, ())[:1]]
        if isinstance(plain.get("$ref"), str):
            parts.append(resolve(self._defs, plain["$ref"]))
        for part in parts if depth < MAX_WRAPPED else ():
            inner = _essence(part)
            if isinstance(inner, Mapping):
                names |= self._needed(inner, depth + 1)
        rules = plain.get("dependentRequired", {})
        for name in [name for name in rules if name in names]:
            names |= set(rules[name])
        return frozenset(names)

    def _cut_enum(self, out: dict[str, Any], more: dict[str, Any], *, is_root: bool) -> None:
        limit = self._budget // 2 if is_root else MAX_ENUM
        options = out.get("enum")
        if not isinstance(options, list) or _size(options) <= limit:
            return
        shown: list[Any] = []
        size = 2
        for option in options:
            size += _size(option) + 1
            if size > limit:
                break
            shown.append(option)
        out["enum"] = shown
        if not shown:
            del out["enum"]
        more["enum"] = len(options) - len(shown)

    def _hint(self, plain: Mapping[str, Any], level: _Level) -> dict[str, Any]:
        """Say in a fold what a reader must know of it: its type and, if needed, required names."""
        for _ in range(8):
            if "type" in plain or not isinstance(plain.get("$ref"), str):
                break
            target = _essence(resolve(self._defs, plain["$ref"]))
            if isinstance(target, bool):
                return {}
            plain = target
        hint = {key: plain[key] for key in ("type",) if key in plain}
        required = plain.get("required")
        if required and level.rank == _REQUIRED and _size(required) <= MAX_NAMES:
            hint["required"] = required
        return hint

    def _as_small(self, schema: Schema, depth: int) -> dict[str, Any] | None:
        """Return a schema whole, references resolved, if that is short; else None."""
        plain = _essence(schema)
        if isinstance(plain, bool):
            return {} if plain else {"not": {}}
        if depth > 4 or len(plain.get("properties", ())) > 4 or len(plain.get("enum", ())) > 20:
            return None
        ref = plain.get("$ref")
        if isinstance(ref, str):
            if len(plain) > 1:
                return None
            if ref not in self._small:
                self._small[ref] = None  # while it is open: recursion is not small
                self._small[ref] = self._as_small(resolve(self._defs, ref), depth + 1)
            found = self._small[ref]
            return json.loads(_compact(found)) if found is not None else None
        out = _simple(plain)
        parts: list[Any] = []
        for keyword in (*_ONE, *_LISTS, *_MAPS):
            part = plain.get(keyword)
            if part is None:
                continue
            if keyword in _ONE:
                out[keyword] = part if isinstance(part, bool) else self._as_small(part, depth + 1)
                parts.append(out[keyword])
            elif keyword in _LISTS:
                out[keyword] = [self._as_small(item, depth + 1) for item in part]
                parts += out[keyword]
            else:
                out[keyword] = {key: self._as_small(item, depth + 1) for key, item in part.items()}
                parts += out[keyword].values()
        if None in parts:
            return None
        return out if _size(out) <= SMALL else None

    # Extras

    def _pick_example(self, examples: Sequence[Any]) -> Any:
        for example in examples:
            size = _size(example) + len(',"example":')
            if example is not None and size <= self._budget // EXAMPLE_SHARE and self._fits(size):
                return example
        return None

    def _add_prose(self, depth: int | None = None) -> None:
        waiting = []
        for note in sorted(self._notes, key=lambda note: note.depth):
            if depth is not None and note.depth > depth:
                waiting.append(note)
                continue
            text = _sentence(note.schema, note.name)
            if text and "description" not in note.piece and self._fits(_size(text) + 15):
                note.piece["description"] = text
        self._notes = waiting

    def _fold_empty(self) -> None:
        """Close what was opened when none of its properties fitted: a fold says as much."""
        for *_, step in self._queue:
            if isinstance(step, _AddMember) and step.owner.get(step.keyword) in ({}, []):
                owner = step.owner
                before = _size(owner)
                kept: dict[str, Any] = {"type": owner["type"]} if "type" in owner else {}
                kept |= _prose_of(owner)
                if len(owner) - len(kept) > 2 + ("required" in owner):
                    continue  # it asserts more
                needed, pointer = owner.get("required"), owner["$more"]["$fold"]
                owner.clear()
                owner.update({"$fold": pointer, **kept})
                if needed and _size(needed) <= MAX_NAMES:
                    owner["required"] = needed
                self._used += _size(owner) - before

    def _add_names(self) -> None:
        """Name the properties that had to be left out, as far as they fit."""
        for *_, step in self._queue:
            if isinstance(step, _AddMember) and step.name and "$more" in step.owner:
                more = step.owner["$more"]
                names = more.get("names", [])
                if self._fits(_size(step.name) + (1 if names else len(',"names":[]'))):
                    more["names"] = [*names, step.name]

    def _finish(
        self, root: dict[str, Any], example: Any, pointer: str, *, is_complete: bool
    ) -> Condensed:
        """Put each definition in place, or into ``$defs`` when it is used more than once."""
        shared: dict[str, Any] = {}
        for ref, body in self._shown.items():
            places = self._places[ref]
            if len(places) == 1:
                _become(places[0], {**body, **_prose_of(places[0])})
            else:
                shared[_unescape(ref.removeprefix("#/$defs/"))] = body
        view = {**root, "$defs": shared} if shared else root
        result = Condensed(view, example, is_complete)
        if _size(result.to_json()) <= self._budget:
            return result
        # Only a root that is folded whole can get here: its hint is longer than the budget.
        return Condensed({"$fold": pointer}, None, is_complete=False)


# -- Reading schemas --------------------------------------------------------------------------

_LINK = re.compile(r"\[([^\[\]]*)\]\([^()]*\)")


def _unwrap(schema: Schema) -> tuple[Schema, str]:
    """Return what a schema asserts and the path to it.

    Annotations and vacuous keywords are left out; a combination of one part is that part.
    """
    path = ""
    while isinstance(schema, Mapping):
        kept = {key: part for key, part in schema.items() if key in _ASSERTIONS}
        if kept.get("additionalProperties") in (True, {}):
            kept.pop("unevaluatedProperties", None)  # none is left
        for keyword in ("additionalProperties", "unevaluatedProperties", "unevaluatedItems"):
            if kept.get(keyword) is True or kept.get(keyword) == {}:
                del kept[keyword]
        wrapper = next(
            (key for key in ("allOf", "anyOf", "oneOf") if len(kept.get(key, ())) == 1), None
        )
        if wrapper is None or len(kept) > 1:
            return kept, path
        path += f"/{wrapper}/0"
        schema = kept[wrapper][0]
    return schema, path


def _simple(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords that hold no schemas, without bounds that the format says already."""
    low, high = FORMAT_BOUNDS.get(plain.get("format", ""), (None, None))
    said = {"minimum": low, "maximum": high}
    return {
        key: plain[key]
        for key in _PLAIN
        if key in plain and (key not in said or plain[key] != said[key])
    }


def _essence(schema: Schema) -> Schema:
    return _unwrap(schema)[0]


def _parts(plain: Mapping[str, Any], keyword: str, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield the parts of a combination and their paths; an anyOf inside an anyOf is one anyOf."""
    for at, part in enumerate(plain.get(keyword, ())):
        inner, inside = _unwrap(part)
        if keyword == "anyOf" and isinstance(inner, Mapping) and inner.keys() == {"anyOf"}:
            yield from _parts(inner, keyword, f"{path}/{at}{inside}/{keyword}")
        else:
            yield f"{path}/{at}", part


def _sentence(schema: Schema, name: str) -> str:
    """Return the first sentence of a description, short; empty if it only repeats the name."""
    if isinstance(schema, bool):
        return ""
    text = schema.get("description") or schema.get("title")
    if not isinstance(text, str):
        return ""
    text = _LINK.sub(r"\1", " ".join(text[:600].split()))
    end = text.find(". ")
    text = text[: end + 1] if end > 0 else text
    if len(text) > MAX_PROSE:
        text = text[: MAX_PROSE - 4].rpartition(" ")[0] + " ..."
    said = set(split_name(text)) - {"the", "a", "an", "of", "this", "for", "object", "s", "is"}
    return "" if said <= set(split_name(name)) else text


def _prose_of(piece: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": piece["description"]} if "description" in piece else {}


def _bare(piece: Mapping[str, Any]) -> int:
    """The size of a piece without its prose, which stays when the piece becomes another."""
    return _size({key: part for key, part in piece.items() if key != "description"})


def _become(piece: dict[str, Any], other: Mapping[str, Any]) -> None:
    content = {**other, **_prose_of(piece)}
    piece.clear()
    piece.update(content)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _size(value: Any) -> int:
    return len(_compact(value))


def _entry(ref: str) -> int:
    """The characters of a key, its colon and its comma in ``$defs``."""
    return _size(ref.removeprefix("#/$defs/")) + 2


# -- Pointers ---------------------------------------------------------------------------------


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _unescape(name: str) -> str:
    return name.replace("~1", "/").replace("~0", "~")


def _keys(value: Any) -> list[Any]:
    return list(range(len(value))) if isinstance(value, list) else list(value)


def _follow(root: Schema, path: str, pointer: str) -> tuple[Any, bool]:
    """Return what ``path`` leads to, and whether that is a schema and not a map or list of them."""
    defs = root.get("$defs", {}) if isinstance(root, Mapping) else {}
    here: Any = root
    is_schema = True
    for name in map(_unescape, path.split("/")[1:]):
        if is_schema:
            seen = 0
            while isinstance(here, Mapping) and name not in here and seen < MAX_HOPS:
                seen += 1  # a pointer may run through references and wrappers of one part
                plain = _essence(here)
                ref = plain.get("$ref") if isinstance(plain, Mapping) else None
                here = resolve(defs, ref) if isinstance(ref, str) else plain
        keys = _keys(here) if isinstance(here, Mapping | list) else []
        key: Any = int(name) if isinstance(here, list) and name.isdecimal() else name
        if key not in keys or (is_schema and key not in (*_ONE, *_LISTS, *_MAPS, "$defs")):
            known = [key for key in keys if not is_schema or key in (*_ONE, *_LISTS, *_MAPS)]
            listed = ", ".join(map(str, known[:12])) or "nothing to open"
            raise InvalidParams(f"{pointer} names no schema: at {name!r} there is {listed}")
        here = here[key]
        is_schema = key in _ONE if is_schema else True
    return here, is_schema
