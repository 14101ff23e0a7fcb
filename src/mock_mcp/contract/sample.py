"""Make a valid value for a schema, without an AI: an example that holds, else a generated one.

A document's examples read best, so they come first, but many are wrong, so each is checked. What
has no valid example is generated: at every place ``$ref`` and ``allOf`` are merged into one plain
schema, ``anyOf``/``oneOf``/``if`` are choices tried in order of preference and taken back when they
lead nowhere, and leaves get their value from format, pattern and field name (`_words`). An
allowance of values is divided among the children of each place, so the result reads complete near
the top, stays small below, and ends where a schema recurses. Every value is judged by the caller's
validator; a refused one is made again by the next of a fixed list of strategies. All draws come
from the seed and all limits count steps, not seconds: the same call gives the same value anywhere.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from mock_mcp.contract import _words
from mock_mcp.contract._judge import Judge, json_type, pattern_matches, resolve, same
from mock_mcp.contract._patterns import UnsupportedPattern, compile_pattern
from mock_mcp.contract._words import Dice, Persona, split_name
from mock_mcp.contract.normalise import FORMAT_BOUNDS
from mock_mcp.errors import MockMcpError

__all__ = ["CannotSample", "sample"]

Schema = Mapping[str, Any] | bool
_Merged = dict[str, Any]

MAX_STEPS = 30_000  # places visited in all attempts, each at most a third: 2 seconds at worst
MAX_DEPTH = 40  # of nesting; recursion that is required never ends before it
MAX_ITEMS = 1_000  # a schema that asks for more items is not sampled
MAX_CHARS = 100_000  # nor one that asks for a longer string
MAX_EXAMPLE = 500  # characters of an example inside a value; longer ones are keys and dumps
MAX_NAMES = 5_000  # places visited to learn the least size of one schema
FAMILIAR = 24  # values a nullable object near the top may cost beyond its allowance
JUDGE_RATE = 10  # steps of the judge that count as one of these
REDRAWS = 8  # draws for one place that must differ (uniqueItems, not)


class CannotSample(MockMcpError):
    """No valid value was found for the schema; the message says where and why."""

    code = "cannot-sample"


@dataclass(frozen=True, slots=True)
class _Strategy:
    """How one attempt goes about it: ``allowance`` is how many values it aims at."""

    allowance: int
    examples: bool = False
    rotate: int = 0


_STRATEGIES = (
    _Strategy(240, examples=True),
    _Strategy(240),
    _Strategy(0),
    _Strategy(240, rotate=1),
    _Strategy(0, rotate=1),
    _Strategy(60),
    _Strategy(1500),
    *(_Strategy(allowance, rotate=turn) for turn in (2, 3, 4) for allowance in (60, 0)),
)


def sample(
    schema: Schema,
    *,
    seed: int | str,
    examples: Sequence[Any] = (),
    is_valid: Callable[[Any], bool],
) -> Any:
    """Return a valid value for a schema: the first valid example, else a generated value.

    Args:
        schema: A closed JSON Schema 2020-12: every ``$ref`` is ``#/$defs/NAME``, ``$defs`` at the
            root. ``example`` (OpenAPI) is read like ``examples``.
        seed: Decides every draw; equal arguments give equal values in every process.
        examples: Values to try first, in order: the examples of the media type.
        is_valid: The judge of a whole value. It decides; nothing it refuses is returned.

    Returns:
        A JSON value that shares no part with the schema or the examples.

    Raises:
        CannotSample: No example is valid and no attempt made a valid value.
    """
    for example in (*examples, *_own_examples(schema)):
        if is_valid(example):
            return copy.deepcopy(example)
    reason = ""
    refused = 0
    steps = MAX_STEPS
    for attempt, strategy in enumerate(_STRATEGIES):
        maker = _Attempt(schema, Dice(f"{seed}/{attempt}"), strategy, min(steps, MAX_STEPS // 3))
        try:
            value = maker.run()
        except _NoValue as error:
            reason = reason or str(error)
            continue
        except RecursionError:  # thousands of references that lead to each other
            reason = reason or "the schema is nested too deep"
            break
        finally:
            steps -= maker.steps
        if is_valid(value):
            return value
        refused += 1
    if refused:
        reason = f"{refused} generated values were refused by validation" + (
            f"; also: {reason}" if reason else ""
        )
    raise CannotSample(
        f"No valid value was found for this schema after {attempt + 1} attempts: {reason}. "
        "Add a valid example to the document, or provide this answer by hand."
    )


class _NoValue(Exception):
    """This choice has no value; another one may."""


class _OutOfSteps(_NoValue):
    """The whole attempt has used up its steps: trying another choice is pointless."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """The place a value is made for.

    ``words`` is the field's name, ``parent`` the name of the object around it, ``allowance`` how
    many values may be spent here, ``first`` whether no array above is past its first item (then
    the document's own examples are used).
    """

    path: str
    words: tuple[str, ...]
    parent: tuple[str, ...]
    persona: Persona
    allowance: int
    depth: int = 0
    first: bool = True

    def fail(self, why: str) -> _NoValue:
        path = self.path if len(self.path) < 80 else f"{self.path[:60]}/..."
        return _NoValue(f"at {path or 'the root'}: {why}")


# Objects that describe their parent rather than a record of their own.
_ASPECTS = frozenset(
    {"address", "billing", "contact", "details", "name", "profile", "shipping", "location", "info"}
)
_TIME_FORMATS = ("date-time", "date", "unix-time", "unixtime")
_TIME_WORDS = frozenset({"at", "date", "time", "timestamp", "created", "updated"})
# What a text with a pattern may be, in the order it is tried.
_LIKELY_FORMATS = ("uuid", "date", "date-time", "email", "uri")
_LIKELY_NAMES = (
    *("slug", "login", "sha", "sha256", "currency", "country", "locale", "phone", "version"),
)
_OBJECT_KEYS = ("properties", "required", "additionalProperties", "patternProperties")
_BY_KEYWORD = (
    ("object", (*_OBJECT_KEYS, "minProperties", "maxProperties", "propertyNames")),
    ("object", ("dependentRequired", "dependentSchemas")),
    ("array", ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains")),
    ("string", ("pattern", "minLength", "maxLength", "format")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)
_LISTED = {"string": "$patterns", "array": "$contains"}
# What a schema that names no type may be, when what its keywords speak of is impossible.
_TYPES = ("string", "object", "integer", "array", "boolean", "number", "null")


class _Attempt:
    """One attempt to make one value."""

    def __init__(self, schema: Schema, dice: Dice, strategy: _Strategy, limit: int) -> None:
        self._schema = schema
        self._defs: Mapping[str, Any] = (
            schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
        )
        self._dice = dice
        self._strategy = strategy
        self._judge = Judge(self._defs)
        self._sizes = _Sizes(self._defs)
        self._limit = limit
        self.steps = 0

    def run(self) -> Any:
        persona = Persona(self._dice)
        return self._make(self._schema, _Spot("", (), (), persona, self._strategy.allowance))

    # -- Choosing -----------------------------------------------------------------------------

    def _make(self, schema: Schema, spot: _Spot) -> Any:
        return self._choose(self._merge({}, schema, spot), spot)

    def _merge(self, base: _Merged, schema: Schema, spot: _Spot) -> _Merged:
        """Return ``base`` and everything ``schema`` says unconditionally, as one plain schema."""
        self.steps += 1
        if self.steps + self._judge.steps // JUDGE_RATE > self._limit:
            raise _OutOfSteps(f"the schema takes more than {self._limit} steps")
        if spot.depth > MAX_DEPTH:
            raise spot.fail(f"required content is nested more than {MAX_DEPTH} levels deep")
        for part in _conjuncts(schema, self._defs, set()):
            merged = _both(base, part)
            if merged is None:
                raise spot.fail("two parts of the schema contradict each other")
            base = merged
        return base

    def _choose(self, merged: _Merged, spot: _Spot) -> Any:
        choices: list[tuple[str, list[Schema]]] = merged.get("$choices", [])
        if not choices:
            return self._plain(merged, spot)
        kind, branches = choices[0]
        rest = {**merged, "$choices": choices[1:]}
        deeper = replace(spot, depth=spot.depth + 1)
        problem: _NoValue | None = None
        for branch in self._ranked(kind, branches, spot):
            try:
                value = self._choose(
                    self._merge(rest, branch, deeper), self._as_id(deeper, branch, branches)
                )
            except _OutOfSteps:
                raise
            except _NoValue as error:
                problem = problem or error
                continue
            if kind != "oneOf" or sum(self._judge.accepts(value, b) for b in branches) == 1:
                return value
            problem = problem or spot.fail("the value matches more than one branch of oneOf")
        raise problem or spot.fail("there is no branch to choose")

    def _ranked(self, kind: str, branches: list[Schema], spot: _Spot) -> list[Schema]:
        """Order branches by preference: affordable, not null, plain (below the root), declared."""
        if kind == "if":
            order = list(branches)
        else:
            allowance = max(spot.allowance, 1)

            def cost(branch: Schema) -> tuple[float, bool, bool]:
                least = self._sizes.least(branch)
                types = self._sizes.types(branch)
                is_plain = not types & {"object", "array"}
                return (
                    least if least > allowance else 0,
                    types == {"null"},
                    bool(spot.path) and not is_plain,
                )

            order = sorted(branches, key=cost)
        turn = self._strategy.rotate % len(order) if order else 0
        return order[turn:] + order[:turn]

    def _as_id(self, spot: _Spot, branch: Schema, branches: list[Schema]) -> _Spot:
        """A string that may stand for an object is that object's id."""
        is_text = self._sizes.types(branch) == {"string"}
        if spot.words and is_text and any("object" in self._sizes.types(b) for b in branches):
            return replace(spot, words=(*spot.words, "id"))
        return spot

    def _plain(self, merged: _Merged, spot: _Spot) -> Any:
        """Make a value for a schema without choices, and check what it must not be."""
        problem: _NoValue | None = None
        for turn in range(REDRAWS):
            try:
                value = self._value(merged, spot if turn < 2 else replace(spot, words=("key",)))
            except _OutOfSteps:
                raise
            except _NoValue as error:
                problem = error
                break
            if not self._is_excluded(value, merged):
                return value
        is_untyped = "type" not in merged and "enum" not in merged
        for kind in _TYPES if is_untyped and self._strategy.rotate > 1 else ():
            try:
                value = self._of_type(kind, merged, spot)
            except _OutOfSteps:
                raise
            except _NoValue:
                continue
            if not self._is_excluded(value, merged):
                return value
        raise problem or spot.fail("every value drawn is excluded by not")

    def _is_excluded(self, value: Any, merged: _Merged) -> bool:
        return any(self._judge.accepts(value, part) for part in merged.get("$not", ()))

    def _value(self, merged: _Merged, spot: _Spot) -> Any:
        if "enum" in merged:
            rules = {key: part for key, part in merged.items() if key != "enum"}
            said = [item for item in merged["enum"] if item is not None]
            start = self._dice.below(len(said))
            for item in (*said[start:], *said[:start], *([None] * (None in merged["enum"]))):
                if self._fits(item, rules):
                    return copy.deepcopy(item)
            raise spot.fail("no value of the enum fits its other rules")
        is_time = _TIME_WORDS & set(spot.words) or merged.get("format") in _TIME_FORMATS
        if self._strategy.examples and spot.first and not is_time:  # times must fit each other
            for example in merged.get("$examples", ()):
                is_telling = example not in (None, "", [], {}) and len(str(example)) < MAX_EXAMPLE
                if is_telling and self._fits(example, merged):
                    return copy.deepcopy(example)
        problem: _NoValue | None = None
        for kind in self._types(merged, spot):
            try:
                return self._of_type(kind, merged, spot)
            except _OutOfSteps:
                raise
            except _NoValue as error:
                problem = problem or error
        raise problem or spot.fail("no type is left")

    def _fits(self, value: Any, merged: _Merged) -> bool:
        plain = {key: part for key, part in merged.items() if key[0] != "$"}
        rules = (plain, *merged.get("$contains", ()))
        return all(self._judge.accepts(value, rule) for rule in rules) and all(
            pattern_matches(pattern, value)
            for pattern in merged.get("$patterns", ())
            if isinstance(value, str)
        )

    def _types(self, merged: _Merged, spot: _Spot) -> list[str]:
        """The types to try, in order: null last, unless nothing else is affordable."""
        types = list(merged.get("type") or ())
        if not types:
            for kind, keywords in _BY_KEYWORD:
                if any(keyword in merged for keyword in keywords) or (_LISTED.get(kind) in merged):
                    types.append(kind)
            types = types[:1] or ["string"]
        affordable = max(spot.allowance, FAMILIAR if spot.depth <= 4 else 1)
        is_null_better = bool(spot.path) and (
            self._sizes.least({**merged, "type": types[:1]}) > affordable
        )
        types.sort(key=lambda kind: (kind == "null") != is_null_better)
        turn = self._strategy.rotate % len(types)
        return types[turn:] + types[:turn]

    def _of_type(self, kind: str, merged: _Merged, spot: _Spot) -> Any:
        if kind == "object":
            return self._object(merged, spot)
        if kind == "array":
            return self._array(merged, spot)
        if kind == "string":
            return self._string(merged, spot)
        if kind in ("integer", "number"):
            return self._number(merged, spot, integral=kind == "integer")
        return None if kind == "null" else _words.says_yes(spot.words, self._dice)

    # -- Objects ------------------------------------------------------------------------------

    def _object(self, merged: _Merged, spot: _Spot) -> dict[str, Any]:
        own = split_name(str(merged.get("$name", ""))) or spot.words
        is_aspect = bool(spot.words) and spot.words[-1] in _ASPECTS
        persona = spot.persona if is_aspect or not spot.path else Persona(self._dice)
        around = replace(spot, parent=own, persona=persona, depth=spot.depth + 1)
        properties: Mapping[str, Any] = merged.get("properties", {})
        required = dict.fromkeys(merged.get("required", ()))
        highest = merged.get("maxProperties", math.inf)

        value: dict[str, Any] = {}
        left = spot.allowance
        optional = [name for name in properties if name not in required]
        names = [*required, *optional[: 2 * max(spot.allowance, 0)]]
        parts = {name: self._member(merged, name) for name in names}
        simple = [name for name in names if self._sizes.is_simple(parts[name])]
        nested = [name for name in names if not self._sizes.is_simple(parts[name])]
        for count, name in enumerate(simple):
            if name in required or (left - count > 0 and len(value) < highest):
                self._put(value, name, parts[name], around, name in required)
        left -= len(simple)
        for at, name in enumerate(nested):
            share = max(left, 0) // (len(nested) - at)
            least = self._sizes.least(parts[name])
            if name in required or (0 < least <= share and len(value) < highest):
                before = self.steps
                self._put(
                    value, name, parts[name], replace(around, allowance=share), name in required
                )
                left -= self.steps - before
        self._keep_dependencies(merged, value, around)
        self._add_more(merged, value, around)
        if len(value) > highest:
            raise spot.fail(f"more than maxProperties {highest} are required")
        ordered = {name: value[name] for name in properties if name in value}
        result = ordered | value
        _count_items(result, self._judge, properties)
        return result

    def _put(
        self, value: dict[str, Any], name: str, part: Schema, around: _Spot, is_required: bool
    ) -> None:
        spot = replace(around, path=f"{around.path}/{name}", words=split_name(name))
        try:
            value[name] = self._make(part, spot)
        except _OutOfSteps:
            raise
        except _NoValue:
            if is_required:
                raise

    def _member(self, merged: _Merged, name: str) -> Schema:
        """Return the schema of one property: all that ``merged`` says about this name."""
        parts = [part for key, part in _patterned(merged) if pattern_matches(key, name)]
        if name in merged.get("properties", {}):
            parts.insert(0, merged["properties"][name])
        else:
            parts += (_seen_by(part, name) for part in merged.get("$extras", ()))
        if not self._judge.accepts(name, merged.get("propertyNames", True)):
            return False
        parts = [part for part in parts if part is not True] or [True]
        return parts[0] if len(parts) == 1 else {"allOf": parts}

    def _keep_dependencies(self, merged: _Merged, value: dict[str, Any], around: _Spot) -> None:
        """Add what present properties ask for (``dependentRequired``)."""
        rules = merged.get("dependentRequired", {})
        waiting = [name for name in rules if name in value]
        while waiting:
            for needed in rules[waiting.pop()]:
                if needed not in value:
                    self._put(value, needed, self._member(merged, needed), around, True)
                    if needed in rules:
                        waiting.append(needed)

    def _add_more(self, merged: _Merged, value: dict[str, Any], around: _Spot) -> None:
        """Add properties nobody named: ``minProperties``, and what reads like a map."""
        lowest = merged.get("minProperties", 0)
        extra = merged.get("additionalProperties")
        patterns = _patterned(merged)
        is_map = not merged.get("properties") and (isinstance(extra, Mapping) or patterns)
        wanted = max(lowest, 2 if is_map and around.allowance > 1 else 0)
        wanted = min(wanted, merged.get("maxProperties", wanted))
        if wanted > MAX_ITEMS:
            raise around.fail(f"at least {wanted} properties are required")
        for name in merged.get("properties", {}):
            if len(value) < lowest and name not in value:
                self._put(value, name, self._member(merged, name), around, False)
        share = replace(around, allowance=max(around.allowance // max(wanted, 1), 0))
        for turn in range(wanted * REDRAWS):
            if len(value) >= wanted:
                return
            entry = replace(share, persona=Persona(self._dice))
            pattern = patterns[turn // wanted % len(patterns)][0] if patterns else None
            name = self._new_name(merged, pattern, around)
            if name in value:
                name = f"{name}_{entry.persona.noun}"
            if name not in value:
                self._put(value, name, self._member(merged, name), entry, False)
        if len(value) < lowest:
            raise around.fail(f"found no names for minProperties {lowest}")

    def _new_name(self, merged: _Merged, pattern: str | None, around: _Spot) -> str:
        rule = merged.get("propertyNames")
        if rule is None and pattern and not isinstance(merged.get("additionalProperties"), dict):
            rule = {"pattern": pattern}
        persona = Persona(self._dice)
        if rule is None:
            return f"{persona.adjective}_{persona.noun}"
        name = self._make(
            {"allOf": [{"type": "string"}, rule]}, replace(around, words=("key",), persona=persona)
        )
        return str(name)

    # -- Arrays -------------------------------------------------------------------------------

    def _array(self, merged: _Merged, spot: _Spot) -> list[Any]:
        prefix: Sequence[Schema] = merged.get("prefixItems", ())
        items: Schema = merged.get("items", True)
        tally = _Tally(merged.get("$contains", ()), self._judge)
        lowest = merged.get("minItems", 0)
        if max(lowest, tally.lacking) > MAX_ITEMS:
            raise spot.fail(f"at least {max(lowest, tally.lacking)} items are required")
        highest = merged.get("maxItems", math.inf)
        if items is False:
            highest = min(highest, len(prefix))
        needed = len(prefix) + tally.lacking if tally.lacking else 0
        count = max(self._item_count(items, len(prefix), spot), lowest, needed)
        count = int(min(count, highest))
        value: list[Any] = []
        for at in range(count):
            place = replace(
                spot,
                path=f"{spot.path}/{at}",
                depth=spot.depth + 1,
                allowance=spot.allowance // max(count, 1),
                first=spot.first and at == 0,
            )
            part = prefix[at] if at < len(prefix) else items
            parts = tally.parts(part, count - at, is_free=at >= len(prefix))
            try:
                item = self._first_item(parts, place, value if merged.get("uniqueItems") else [])
            except _OutOfSteps:
                raise
            except _NoValue:
                if at < lowest or tally.lacking:
                    raise
                break
            is_repeated = at >= lowest and any(same(item, other) for other in value)
            if len(parts) > 1 or not (is_repeated and self._sizes.is_simple(part)):
                value.append(item)
                tally.count(item)
        if len(value) < lowest:
            raise spot.fail(f"minItems {lowest} items are not possible")
        if tally.lacking:
            raise spot.fail("no place is left for an item that contains asks for")
        return value

    def _first_item(self, parts: Sequence[Schema], place: _Spot, taken: list[Any]) -> Any:
        """Make an item for the first of the schemas that has one."""
        for part in parts[:-1]:
            try:
                return self._item(part, place, taken)
            except _OutOfSteps:
                raise
            except _NoValue:
                continue
        return self._item(parts[-1], place, taken)

    def _item_count(self, items: Schema, prefix: int, spot: _Spot) -> int:
        """How many items read well here: few, and none where they cost too much."""
        if not self._strategy.allowance:
            return 0
        least = self._sizes.least(items)
        wanted = 2 if spot.depth < 5 or self._sizes.is_simple(items) else 1
        affordable = int(spot.allowance // least) if least < math.inf else 0
        is_the_answer = spot.path.count("/") < 2 and least <= 2000
        return max(prefix, min(wanted, max(affordable, 1 if is_the_answer else 0)))

    def _item(self, part: Schema, place: _Spot, taken: list[Any]) -> Any:
        for _ in range(REDRAWS * 4):
            value = self._make(part, replace(place, persona=Persona(self._dice)))
            if not any(same(value, other) for other in taken):
                return value
            place = replace(place, first=False)
        raise place.fail("found no further item for uniqueItems")

    # -- Strings and numbers ------------------------------------------------------------------

    def _string(self, merged: _Merged, spot: _Spot) -> str:
        lowest, highest = merged.get("minLength", 0), merged.get("maxLength", MAX_CHARS)
        if lowest > MAX_CHARS or lowest > highest:
            raise spot.fail(f"no text is at least {lowest} and at most {highest} characters long")
        shape = str(merged.get("format", "")) or (
            "byte" if merged.get("contentEncoding") == "base64" else ""
        )
        named = _words.of_format(shape, spot.persona, spot.words) if shape else None
        text = named or _words.text(spot.persona, spot.words, spot.parent)
        patterns: list[str] = merged.get("$patterns", [])
        if patterns:
            return self._patterned_text(text, patterns, lowest, highest, spot)
        if len(text) > highest:
            short = {"email": "a@example.com", "uri": "https://example.com/"}.get(shape, text)
            text = short if len(short) <= highest else text[:highest].strip(" -_.,") or "a"
        while len(text) < lowest:
            text = (text + " " + _words.text(spot.persona, (), ()))[: max(lowest, len(text) + 1)]
            text = text[:-1] + "s" if text.endswith(" ") else text
        return text[:highest]

    def _patterned_text(
        self, text: str, patterns: list[str], lowest: int, highest: int, spot: _Spot
    ) -> str:
        """A plausible text that happens to match, else one made from the first pattern."""
        persona = spot.persona
        plausible = [
            text,
            *(_words.of_format(shape, persona, spot.words) or "" for shape in _LIKELY_FORMATS),
            *(_words.text(persona, (name,), ()) for name in _LIKELY_NAMES),
            *(persona.noun, persona.noun.upper(), persona.noun.title(), str(persona.number)),
            *(f"#{_words.text(persona, ('color',), ())}", "USD", "A1"),
        ]

        def is_fine(candidate: str) -> bool:
            return lowest <= len(candidate) <= highest and all(
                pattern_matches(pattern, candidate) for pattern in patterns
            )

        for candidate in plausible:
            if is_fine(candidate):
                return candidate
        try:
            parsed = [compile_pattern(pattern) for pattern in patterns]
            for extra in (8, 4, 1, 0, 16, 32, lowest, 2, 64) * 3:
                for broad in (False, True):
                    made = [
                        pattern.generate(self._dice.below, extra=extra, broad=broad)
                        for pattern in parsed
                    ]
                    first = made[0]
                    open_end = [] if first[-1:].isalnum() else [first + persona.noun]
                    padded = first + persona.noun * (1 + lowest // len(persona.noun))
                    joined = ("".join(made), "".join(reversed(made)))
                    for candidate in (*open_end, first, *joined, padded[:highest]):
                        if is_fine(candidate):
                            return candidate
        except UnsupportedPattern as error:
            raise spot.fail(
                f"the pattern {patterns[0][:80]!r} cannot be generated: {error}"
            ) from None
        raise spot.fail(f"no text was found for the pattern {patterns[0][:80]!r}")

    def _number(self, merged: _Merged, spot: _Spot, *, integral: bool) -> float:
        shape = str(merged.get("format", ""))
        likely: float = _words.integer(spot.persona, spot.words, shape)
        if not integral and shape not in ("int32", "int64", "unix-time", "unixtime"):
            likely = _words.number(spot.persona, spot.words)
        step = _fraction(merged.get("multipleOf")) or Fraction(0)
        if integral:  # the integers among the multiples of p/q are the multiples of p
            step = Fraction(step.numerator or 1)
        value = _Range.of(merged, step).bend(Fraction(str(likely)), self._dice)
        if value is None:
            raise spot.fail("no number lies between its bounds")
        return int(value) if value.denominator == 1 else float(value)


# -- Merging schemas --------------------------------------------------------------------------

_COUNTED = ("contains", "minContains", "maxContains")
_IGNORED = frozenset(
    {"$ref", "allOf", "$defs", "anyOf", "oneOf", "if", "then", "else", "not", "pattern", "const"}
    | frozenset(_COUNTED)
    | {"example", "examples", "default", "title", "description", "$schema", "$id", "$comment"}
)


def _conjuncts(schema: Schema, defs: Mapping[str, Any], seen: set[str]) -> Iterator[_Merged]:
    """Yield the plain schemas that all must hold: through ``$ref`` and ``allOf``, each once."""
    if isinstance(schema, bool):
        if not schema:
            yield {"enum": []}
        return
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref not in seen:
        seen.add(ref)
        yield from _conjuncts(resolve(defs, ref), defs, seen)
        yield {"$name": ref.rpartition("/")[2]}
    for part in schema.get("allOf", ()):
        yield from _conjuncts(part, defs, seen)
    plain = {key: part for key, part in schema.items() if key not in _IGNORED}
    if isinstance(plain.get("type"), str):
        plain["type"] = [plain["type"]]
    if "const" in schema:
        plain["enum"] = [
            item for item in schema.get("enum", [schema["const"]]) if same(item, schema["const"])
        ]
    if "pattern" in schema:
        plain["$patterns"] = [schema["pattern"]]
    if "contains" in schema:
        plain["$contains"] = [{key: schema[key] for key in _COUNTED if key in schema}]
    if "not" in schema:
        plain["$not"] = [schema["not"]]
    if "additionalProperties" in schema:
        plain["$extras"] = [plain]
    choices = [(kind, list(schema[kind])) for kind in ("oneOf", "anyOf") if kind in schema]
    if "if" in schema:
        holds = {"allOf": [schema["if"], schema.get("then", True)]}
        fails = {"allOf": [{"not": schema["if"]}, schema.get("else", True)]}
        choices.append(("if", [holds, fails]))
    for name, part in schema.get("dependentSchemas", {}).items():
        absent = {"not": {"type": "object", "required": [name]}}
        choices.append(("if", [absent, part]))
    if choices:
        plain["$choices"] = choices
    examples = [*_listed(schema.get("examples"))]
    examples += [schema[key] for key in ("example", "default") if key in schema]
    if examples:
        plain["$examples"] = examples
    yield plain


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _both(left: _Merged, right: _Merged) -> _Merged | None:
    """Return the schema of what matches both; None when that is plainly nothing."""
    merged = {**left, **right}
    for key in left.keys() & right.keys():
        if key in ("$patterns", "$not", "$choices", "$examples", "$extras", "$contains"):
            merged[key] = [*left[key], *right[key]]
        elif key == "type":
            merged[key] = _common_types(left[key], right[key])
            if not merged[key]:
                return None
        elif key == "enum":
            merged[key] = [a for a in left[key] if any(same(a, b) for b in right[key])]
        elif key == "required":
            merged[key] = [*dict.fromkeys((*left[key], *right[key]))]
        elif key in ("minimum", "exclusiveMinimum") or key.startswith("min"):
            merged[key] = max(left[key], right[key])
        elif key in ("maximum", "exclusiveMaximum") or key.startswith("max"):
            merged[key] = min(left[key], right[key])
        elif key in ("items", "propertyNames"):
            merged[key] = _all_of(left[key], right[key])
        elif key == "patternProperties":
            merged[key] = dict(left[key])
            for name, part in right[key].items():
                merged[key][name] = _all_of(left[key].get(name, True), part)
        elif key == "dependentRequired":
            merged[key] = {
                name: [*left[key].get(name, ()), *right[key].get(name, ())]
                for name in dict.fromkeys((*left[key], *right[key]))
            }
        elif key == "multipleOf":
            merged[key] = _common_step(left[key], right[key])
        elif key == "uniqueItems":
            merged[key] = left[key] or right[key]
    _merge_members(merged, left, right)
    _merge_prefixes(merged, left, right)
    return merged


def _merge_members(merged: _Merged, left: _Merged, right: _Merged) -> None:
    """Merge properties; a name one side does not list must obey its additionalProperties."""
    if "properties" in left or "properties" in right:
        ours, theirs = left.get("properties", {}), right.get("properties", {})
        merged["properties"] = {
            name: _all_of(_seen_by(left, name), _seen_by(right, name))
            for name in dict.fromkeys((*ours, *theirs))
        }
    if "additionalProperties" in left and "additionalProperties" in right:
        merged["additionalProperties"] = _all_of(
            left["additionalProperties"], right["additionalProperties"]
        )


def _merge_prefixes(merged: _Merged, left: _Merged, right: _Merged) -> None:
    """Merge prefixItems; a place beyond the shorter list must obey the items of its side."""
    if "prefixItems" in left or "prefixItems" in right:
        ours, theirs = left.get("prefixItems", ()), right.get("prefixItems", ())
        merged["prefixItems"] = [
            _all_of(a, b)
            for a, b in zip(
                [*ours, *[left.get("items", True)] * (len(theirs) - len(ours))],
                [*theirs, *[right.get("items", True)] * (len(ours) - len(theirs))],
                strict=True,
            )
        ]


def _seen_by(schema: _Merged, name: str) -> Schema:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    if name in properties:
        return properties[name]
    if any(pattern_matches(key, name) for key in schema.get("patternProperties", {})):
        return True
    extra: Schema = schema.get("additionalProperties", True)
    return extra


def _all_of(left: Schema, right: Schema) -> Schema:
    if left is right or right is True:
        return left
    return right if left is True else {"allOf": [left, right]}


def _common_types(left: list[str], right: list[str]) -> list[str]:
    common = [kind for kind in left if kind in right or (kind == "integer" and "number" in right)]
    return common + ["integer"] * (
        "integer" in right and "number" in left and "integer" not in left
    )


def _common_step(left: float, right: float) -> float:
    a, b = Fraction(str(left)), Fraction(str(right))
    common = Fraction(math.lcm(a.numerator, b.numerator), math.gcd(a.denominator, b.denominator))
    return int(common) if common.denominator == 1 else float(common)


def _patterned(merged: _Merged) -> list[tuple[str, Schema]]:
    return list(merged.get("patternProperties", {}).items())


def _own_examples(schema: Schema) -> list[Any]:
    """The examples, default and const the root itself states, in the order they are tried."""
    if isinstance(schema, bool):
        return []
    found = _listed(schema.get("examples"))
    for key in ("example", "const", "default"):
        if schema.get(key) is not None:
            found = [*found, schema[key]]
    ref = schema.get("$ref")
    if isinstance(ref, str):
        target = resolve(schema.get("$defs", {}), ref)
        if isinstance(target, Mapping) and "$ref" not in target:
            found = [*found, *_own_examples({k: v for k, v in target.items() if k != "$defs"})]
    return found


def _count_items(value: dict[str, Any], judge: Judge, properties: Mapping[str, Schema]) -> None:
    """Make a total beside a single list tell the truth, where the schema lets it."""
    lists = [item for item in value.values() if isinstance(item, list)]
    if len(lists) == 1:
        for name in ("total_count", "totalCount", "total", "count"):
            if json_type(value.get(name)) == "integer" and judge.accepts(
                len(lists[0]), properties.get(name, True)
            ):
                value[name] = len(lists[0])


# -- Items that contains asks for -------------------------------------------------------------


class _Tally:
    """How many items of a list that is being made match each ``contains`` of its schema."""

    def __init__(self, rules: Sequence[_Merged], judge: Judge) -> None:
        self._rules = rules
        self._judge = judge
        self._hits = [0] * len(rules)

    def count(self, item: Any) -> None:
        """Count an item that the list has got."""
        for at, rule in enumerate(self._rules):
            self._hits[at] += self._judge.accepts(item, rule["contains"])

    @property
    def lacking(self) -> int:
        """How many items are missing, if none of them matches two rules."""
        return sum(self._lacking(at) for at in range(len(self._rules)))

    def _lacking(self, at: int) -> int:
        needed: int = self._rules[at].get("minContains", 1)
        return max(needed - self._hits[at], 0)

    def parts(self, part: Schema, places: int, *, is_free: bool) -> list[Schema]:
        """Return what the next item may be, in the order to try; the last is what it must be.

        Args:
            part: What the list says of this item.
            places: How many items the list can still get, this one included.
            is_free: Whether no tuple decides what this item is.
        """
        for rule, hits in zip(self._rules, self._hits, strict=True):
            if hits >= rule.get("maxContains", math.inf):
                part = _all_of(part, {"not": rule["contains"]})
        wanted = [rule["contains"] for at, rule in enumerate(self._rules) if self._lacking(at)]
        found = [_all_of(part, each) for each in wanted]
        if self.lacking > places and len(wanted) > 1:
            found.insert(0, {"allOf": [part, *wanted]})
        return [*found, part] if is_free or self.lacking >= places else [part]


# -- Numbers ----------------------------------------------------------------------------------


def _fraction(value: Any) -> Fraction | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return Fraction(str(value))


@dataclass(frozen=True, slots=True)
class _Range:
    """The numbers a schema allows; a bound of None is open-ended, a step of 0 is none."""

    low: Fraction | None
    high: Fraction | None
    without: tuple[Fraction | None, Fraction | None]
    step: Fraction

    @classmethod
    def of(cls, schema: _Merged, step: Fraction) -> _Range:
        """Read the bounds of a schema; the tighter of two wins, those of a format do not count."""
        above, below = (_fraction(schema.get(f"exclusive{end}")) for end in ("Minimum", "Maximum"))
        ends = FORMAT_BOUNDS.get(schema.get("format", ""), ())
        least, most = (
            None if schema.get(end) in ends else _fraction(schema.get(end))
            for end in ("minimum", "maximum")
        )
        lows = [bound for bound in (least, above) if bound is not None]
        highs = [bound for bound in (most, below) if bound is not None]
        return cls(max(lows, default=None), min(highs, default=None), (above, below), step)

    def __contains__(self, value: Fraction) -> bool:
        above = self.low is None or value >= self.low
        below = self.high is None or value <= self.high
        return above and below and value not in self.without

    def bend(self, likely: Fraction, dice: Dice) -> Fraction | None:
        """Return ``likely`` if it is inside, else a number that is; None when there is none."""
        if self.step:
            likely = round(likely / self.step) * self.step
        if likely in self:
            return likely
        if self.step:
            return self._multiple(dice)
        if self.low is not None and self.high is not None:
            middle = (self.low + self.high) / 2
            tries = (Fraction(round(middle * 100), 100), middle, self.low)
        else:
            low = self.low if self.low is not None else (self.high or Fraction(0)) - 2
            tries = (low + 1, low + Fraction(3, 2), low)
        return next((value for value in tries if value in self), None)

    def _multiple(self, dice: Dice) -> Fraction | None:
        first = math.ceil(self.low / self.step) if self.low is not None else None
        last = math.floor(self.high / self.step) if self.high is not None else None
        first = first if first is not None else (last or 0) - 100
        last = last if last is not None else first + 100
        first += first * self.step not in self
        last -= last * self.step not in self
        return dice.between(first, last) * self.step if first <= last else None


# -- How small a value can be -----------------------------------------------------------------


class _Sizes:
    """The least number of values a schema needs: choices are priced before they are made.

    A schema still being measured counts as endless, which makes recursion lose against any branch
    that ends. Finite results are kept.
    """

    def __init__(self, defs: Mapping[str, Any]) -> None:
        self._defs = defs
        self._known: dict[str, float] = {}
        self._open: set[str] = set()
        self._left = 0

    def least(self, schema: Schema) -> float:
        """Return the least number of values of a valid value; infinity when it never ends."""
        self._left = MAX_NAMES
        return self._least(schema)

    def is_simple(self, schema: Schema) -> bool:
        """Return whether a value of the schema is one leaf."""
        return not self.types(schema) & {"object", "array"}

    def types(self, schema: Schema, depth: int = 0) -> set[str]:
        """Return the types the schema names, its own or its branches'; empty when it names none."""
        if isinstance(schema, bool) or depth > 8:
            return set()
        own = schema.get("type")
        if own:
            return {own} if isinstance(own, str) else set(own)
        found = {kind for kind, keys in _BY_KEYWORD if any(key in schema for key in keys)}
        if isinstance(schema.get("$ref"), str):
            found |= self.types(resolve(self._defs, schema["$ref"]), depth + 1)
        for keyword in ("allOf", "anyOf", "oneOf"):
            for part in schema.get(keyword, ()):
                found |= self.types(part, depth + 1)
        return found

    def _least(self, schema: Schema) -> float:
        self._left -= 1
        if self._left < 0:
            return math.inf
        if isinstance(schema, bool):
            return 1 if schema else math.inf
        if "const" in schema or "enum" in schema:
            return 1
        types = schema.get("type", ())
        if "null" in ([types] if isinstance(types, str) else types):
            return 1
        total: float = 1
        if isinstance(schema.get("$ref"), str):
            total = self._least_of_ref(schema["$ref"])
        for part in schema.get("allOf", ()):
            total += self._least(part)
        for keyword in ("anyOf", "oneOf"):
            if schema.get(keyword):
                total += min(self._least(part) for part in schema[keyword])
        properties = schema.get("properties", {})
        for name in schema.get("required", ()):
            total += self._least(properties.get(name, True))
        if schema.get("minItems", 0) > 0:
            total += schema["minItems"] * self._least(schema.get("items", True))
        return total

    def _least_of_ref(self, ref: str) -> float:
        if ref in self._known:
            return self._known[ref]
        if ref in self._open:
            return math.inf
        self._open.add(ref)
        size = self._least(resolve(self._defs, ref))
        self._open.discard(ref)
        if size < math.inf:
            self._known[ref] = size
        return size
