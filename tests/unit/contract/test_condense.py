"""Views: never over budget, required first, each schema once, and enough to write an answer."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_mcp.contract.condense import Condensed, condense, condense_batch, open_schema
from mock_mcp.contract.sample import CannotSample, sample
from mock_mcp.errors import InvalidParams

SPECS = Path(__file__).resolve().parents[3].parent / "shared" / "specs"


def size(condensed: Condensed) -> int:
    text = json.dumps(condensed.to_json(), separators=(",", ":"), ensure_ascii=False)
    return len(text)


def folds(condensed: Condensed) -> list[str]:
    """Return the pointers that `open_schema` opens."""
    found: list[str] = []
    stack: list[Any] = [condensed.schema]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            if isinstance(part.get("$fold"), str):
                found.append(part["$fold"])
            stack += part.values()
        elif isinstance(part, list):
            stack += part
    return list(dict.fromkeys(found))


def text(**rules: Any) -> dict[str, Any]:
    return {"type": "string", **rules}


def record(required: str = "", /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


def refer(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def wide(count: int, prefix: str = "field", required: bool = False) -> dict[str, Any]:
    names = [f"{prefix}_{at:03d}" for at in range(count)]
    return record(" ".join(names) if required else "", **{name: text() for name in names})


# -- What an answer needs ----------------------------------------------------------------------


def only_needed(view: dict[str, Any]) -> Any:
    """Return the view without all that an answer can leave out: it can only use what is shown.

    Optional properties go, and so do all branches but the first that is shown.
    """
    defs = view.get("$defs", {})
    names_of: dict[str, set[str]] = {}

    def required(schema: dict[str, Any], depth: int = 0) -> set[str]:
        names = set(schema.get("required", ()))
        for part in schema.get("allOf", ()) if depth < 9 else ():
            names |= required(
                defs.get(part.get("$ref", "")[8:].replace("~1", "/"), part), depth + 1
            )
        for name, more in schema.get("dependentRequired", {}).items():
            names |= set(more) if name in names else set()
        return names

    def collect(schema: Any) -> None:
        if isinstance(schema, dict) and "allOf" in schema:
            for part in schema["allOf"]:
                names_of.setdefault(part.get("$ref", "")[8:].replace("~1", "/"), set()).update(
                    required(schema)
                )
        for part in schema.values() if isinstance(schema, dict) else schema:
            if isinstance(part, dict | list):
                collect(part)

    def strip(schema: Any, around: set[str]) -> Any:
        if not isinstance(schema, dict):
            return schema
        needed = around | required(schema)
        out = {key: part for key, part in schema.items() if key not in ("$more", "description")}
        for key, part in schema.items():
            if key not in out:
                continue
            if key == "properties":
                out[key] = {name: strip(part[name], set()) for name in part if name in needed}
            elif key in ("patternProperties", "dependentSchemas"):
                out[key] = {name: strip(inner, set()) for name, inner in part.items()}
            elif key == "$defs":
                out[key] = {name: strip(part[name], names_of.get(name, set())) for name in part}
            elif key == "allOf":
                out[key] = [strip(inner, needed) for inner in part]
            elif key in ("anyOf", "oneOf"):
                shown = [strip(inner, needed) for inner in part if "$fold" not in inner] or part
                out[key] = shown[:1]  # the first is what a writer takes
            elif isinstance(part, dict) and key not in ("const", "dependentRequired"):
                out[key] = strip(part, set())
        return out

    collect(view)
    return strip(view, set())


def assert_suffices(schema: Any, view: Condensed, label: str = "") -> bool:
    """An answer written from the view alone is valid; return whether one could be written."""
    bare = only_needed(view.schema)
    by_view = jsonschema_rs.Draft202012Validator(bare, validate_formats=True)
    try:
        answer = sample(bare, seed=1, is_valid=by_view.is_valid)
    except CannotSample:
        return False
    in_full = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    errors = [
        error.message
        for error in in_full.iter_errors(answer)
        # only_needed hides the other branches of a oneOf, which a reader of the view can see
        if "under more than one of the schemas listed in the 'oneOf'" not in error.message
    ]
    assert not errors, (label, answer, errors)
    return True


# -- What is shown -----------------------------------------------------------------------------


def test_a_small_schema_is_shown_whole() -> None:
    schema = record(
        "id",
        id={"type": "integer", "minimum": 1, "exclusiveMaximum": 9, "multipleOf": 2},
        code=text(pattern="^[A-Z]+$", minLength=2, maxLength=4),
        when=text(format="date-time"),
        kind={"enum": ["a", "b"]},
        one={"const": 1},
        tags={"type": "array", "items": text(), "minItems": 1, "uniqueItems": True},
        map={"type": "object", "additionalProperties": {"type": "integer"}},
    ) | {"additionalProperties": False, "minProperties": 1}
    assert condense(schema).schema == schema


def test_annotations_and_vacuous_rules_are_dropped() -> None:
    schema = {
        **record("a", a=text(deprecated=True, default="x", examples=["y"], readOnly=True)),
        "additionalProperties": True,
        "x-internal": {"$ref": "#/nowhere"},
        "$comment": "c",
    }
    assert condense(schema).schema == record("a", a=text())


def test_what_other_properties_may_be_rules_out_that_none_may_be() -> None:
    open_ = {**record("a", a=text()), "additionalProperties": True, "unevaluatedProperties": False}
    assert condense(open_).schema == record("a", a=text())
    closed_ = {**record("a", a=text()), "unevaluatedProperties": False}
    assert condense(closed_).schema == closed_


def test_prose_is_one_short_sentence_that_says_more_than_the_name() -> None:
    schema = record(
        "",
        total=text(description="Gross sum in [minor units](https://example.com/u). More."),
        created_at=text(title="The created at"),
        long=text(description="word " * 100),
    )
    shown = condense(schema).schema["properties"]
    assert shown["total"]["description"] == "Gross sum in minor units."
    assert "description" not in shown["created_at"]
    assert shown["long"]["description"].endswith(" ...")
    assert len(shown["long"]["description"]) <= 100


def test_prose_goes_first_when_the_budget_presses() -> None:
    schema = wide(20, required=True)
    for property_ in schema["properties"].values():
        property_["description"] = "Forty characters of prose for a reader."
    tight, roomy = condense(schema, budget=1200), condense(schema, budget=4000)
    assert tight.is_complete
    assert list(tight.schema["properties"]) == schema["required"]
    count = [json.dumps(view.schema).count("description") for view in (tight, roomy)]
    assert count[0] < 10
    assert count[1] == 20


def test_required_properties_come_first_and_optional_ones_are_left_out_by_name() -> None:
    schema = wide(60)
    schema["required"] = ["field_055", "field_010"]
    view = condense(schema, budget=900)
    shown = list(view.schema["properties"])
    assert set(shown[:2]) == {"field_055", "field_010"}
    assert view.schema["$more"]["$fold"] == "#"
    assert view.schema["$more"]["properties"] == 60 - len(shown)
    assert view.is_complete


def test_deep_required_content_goes_before_shallow_optional_content() -> None:
    deep = record("a", a=record("b", b=record("c", c=wide(10, "deep", required=True))))
    schema = record("z", **wide(80, "optional")["properties"], z=deep)
    view = condense(schema, budget=1200)
    assert (
        "deep_009"
        in view.schema["properties"]["z"]["properties"]["a"]["properties"]["b"]["properties"]["c"][
            "properties"
        ]
    )
    assert 0 < len(view.schema["properties"]) < 80


def test_the_deepest_required_content_is_folded_first_and_says_so() -> None:
    deepest = wide(60, "deepest", required=True)
    schema = record("id child", id=text(), child=record("inner", inner=deepest))
    view = condense(schema, budget=600)
    assert not view.is_complete
    assert view.schema["properties"]["id"] == text()
    inner = view.schema["properties"]["child"]["properties"]["inner"]
    assert inner["$fold"] == "#/properties/child/properties/inner"
    assert inner["type"] == "object"
    assert folds(view) == ["#/properties/child/properties/inner"]
    assert len(open_schema(schema, folds(view)[0]).schema["properties"]) == 60


def test_a_fold_of_required_content_names_what_is_required() -> None:
    inner = record("one two", one=wide(30, required=True), two=text())
    view = condense(record("a", a=inner, b=wide(4)), budget=250)
    assert view.schema["properties"]["a"]["required"] == ["one", "two"]


def test_recursion_is_shown_once() -> None:
    node = record("id", id=text(minLength=50), left=refer("node"), right=refer("node"))
    view = condense({**refer("node"), "$defs": {"node": node}})
    assert view.schema == {"$ref": "#/$defs/node", "$defs": {"node": node}}
    assert folds(view) == []


def test_a_schema_used_once_is_in_place_and_one_used_twice_is_shared() -> None:
    once, twice = wide(5, "once"), wide(5, "twice")
    schema = record("a b c", a=refer("once"), b=refer("twice"), c=refer("twice"))
    view = condense({**schema, "$defs": {"once": once, "twice": twice, "unused": wide(5)}}).schema
    assert view["properties"]["a"] == {key: once[key] for key in once}
    assert view["properties"]["b"] == view["properties"]["c"] == refer("twice")
    assert view["$defs"] == {"twice": twice}


def test_names_that_need_escaping() -> None:
    schema = {
        **record("a/b", **{"a/b": refer("x~1y")}, other=refer("x~1y")),
        "$defs": {"x/y": wide(5)},
    }
    view = condense(schema)
    assert view.schema["$defs"] == {"x/y": wide(5)}
    assert open_schema(schema, "#/properties/a~1b/properties/field_003").schema == text()
    assert open_schema(schema, "#/$defs/x~1y").schema == wide(5)


def test_a_huge_enum_is_cut_with_its_count() -> None:
    options = [f"currency-{at:04d}" for at in range(500)]
    schema = record("c", c=text(enum=options), d={"$ref": "#/$defs/c"})
    view = condense({**schema, "$defs": {"c": text(enum=options)}}, budget=2000)
    shown = view.schema["properties"]["c"]
    assert 10 < len(shown["enum"]) < 100
    assert shown["enum"] == options[: len(shown["enum"])]
    assert shown["$more"] == {"$fold": "#/properties/c", "enum": 500 - len(shown["enum"])}
    opened = open_schema(schema, "#/properties/c", budget=20_000).schema
    assert opened["enum"] == options


def test_many_branches_come_one_by_one() -> None:
    branches = [
        record(f"kind {at}x", kind={"const": f"k{at}"}, **{f"{at}x": wide(9)}) for at in range(30)
    ]
    view = condense({"oneOf": branches}, budget=900)
    assert view.is_complete
    assert view.schema["oneOf"][0]["properties"]["kind"] == {"const": "k0"}
    assert 1 < len(view.schema["oneOf"]) < 30
    assert view.schema["$more"]["oneOf"] == 30 - len(view.schema["oneOf"])


def test_properties_required_by_a_neighbour_in_all_of_are_required() -> None:
    schema = {"allOf": [wide(40), {"required": ["field_035"]}]}
    view = condense(schema, budget=500)
    assert "field_035" in view.schema["allOf"][0]["properties"]


def test_an_example_is_attached_if_it_fits() -> None:
    schema = wide(3, required=True)
    small, large = {"a": "x"}, {"a": "x" * 4000}
    assert condense(schema, examples=[large, small]).example == small
    assert condense(schema, examples=[large], budget=6000).example is None
    assert condense(schema, examples=[small]).to_json()["example"] == small
    assert "example" not in condense(schema).to_json()


@pytest.mark.parametrize(("schema", "shown"), [(True, {}), (False, {"not": {}}), ({}, {})])
def test_degenerate_schemas(schema: Any, shown: Any) -> None:
    assert condense(schema).to_json() == {"schema": shown}


def test_a_budget_too_small_is_refused() -> None:
    with pytest.raises(InvalidParams, match="200"):
        condense(wide(3), budget=199)


def test_only_what_is_shown_is_looked_at() -> None:
    """The cost follows the budget: a chain of 5 000 schemas is not walked."""
    seen: set[str] = set()

    class Watched(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            seen.add(name)
            return super().get(name, default)

    defs = Watched(
        {
            f"n{at}": record("next", next=refer(f"n{at + 1}"), **wide(9)["properties"])
            for at in range(5000)
        }
    )
    view = condense({**refer("n0"), "$defs": defs})
    assert size(view) <= 6000
    assert 5 < len(seen) < 200


# -- Opening -----------------------------------------------------------------------------------

SHOP = {
    "$ref": "#/$defs/order",
    "$defs": {
        "order": record(
            "id lines", id=text(), lines={"type": "array", "items": refer("line")}, by=refer("user")
        ),
        "line": record("product", product=refer("product"), note={"anyOf": [text(), wide(30)]}),
        "product": record(
            "sku", sku=text(), **wide(20, "detail")["properties"], maker=refer("user")
        ),
        "user": record(
            "name",
            name=text(),
            orders={"type": "array", "items": refer("order")},
            **wide(20)["properties"],
        ),
    },
}


@pytest.mark.parametrize("budget", [200, 300, 500, 1000, 6000])
def test_every_fold_can_be_opened_and_opening_ends(budget: int) -> None:
    """Following every fold, a reader sees every property of the schema."""
    names: set[str] = set()
    waiting, opened = [""], set()
    while waiting:
        pointer = waiting.pop()
        if pointer in opened:
            continue
        opened.add(pointer)
        view = open_schema(SHOP, pointer, budget=budget)
        assert size(view) <= budget
        assert view.schema.get("$fold") != pointer
        names |= _named(view.schema)
        waiting += folds(view)
    whole = _named(SHOP)
    assert names <= whole
    assert len(names) >= len(whole) * min(budget, 6000) // 6000, whole - names


def _named(schema: Any) -> set[str]:
    found: set[str] = set()
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            found |= set(properties)
        more = schema.get("$more")
        found |= set(more.get("names", ())) if isinstance(more, dict) else set()
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, dict | list):
            found |= _named(part)
    return found


def test_the_root_opens_as_it_was_condensed() -> None:
    assert open_schema(SHOP, "").schema == open_schema(SHOP, "#").schema == condense(SHOP).schema


def test_a_pointer_runs_through_references_and_wrappers() -> None:
    schema = {
        "allOf": [refer("a")],
        "$defs": {"a": record("", b={"anyOf": [refer("c")]}), "c": wide(4)},
    }
    assert open_schema(schema, "#/properties/b/properties/field_002").schema == text()


@pytest.mark.parametrize(
    ("pointer", "said"),
    [
        ("#/$defs/nobody", "order, line, product, user"),
        ("#/$defs/order/properties", "#/$defs/order/properties/id"),
        ("#/$defs/order/required", "names no schema"),
        ("#/$defs/order/properties/id/type", "nothing to open"),
        ("#/properties/lines/items/nowhere", "properties"),
    ],
)
def test_a_wrong_pointer_is_told_what_is_there(pointer: str, said: str) -> None:
    with pytest.raises(InvalidParams, match=re.escape(said)):
        open_schema(SHOP, pointer)


# -- Batches -----------------------------------------------------------------------------------


def test_a_batch_carries_each_schema_once() -> None:
    user, order = wide(5, "user"), wide(5, "order")
    same_user = json.loads(json.dumps(user))
    batch = condense_batch(
        [
            ("r1", user, []),
            ("r2", order, []),
            ("r3", same_user, [{"user_001": "x"}]),
            ("r4", user, []),
        ]
    )
    assert batch.requests == {"r1": "s1", "r2": "s2", "r3": "s1", "r4": "s1"}
    assert list(batch.schemas) == ["s1", "s2"]
    assert batch.schemas["s1"].example == {"user_001": "x"}
    assert batch.schemas["s2"].to_json() == {"schema": order}


# -- Properties of all views -------------------------------------------------------------------

LEAVES = (
    *(text(), text(format="date-time"), text(pattern="^[a-z]+$"), text(enum=["a", "b"]), True),
    *({"type": "integer", "minimum": 3}, {"type": ["number", "null"]}, {"const": "k"}),
    text(description="A note of some length that costs characters."),
)
NAMES = ("id", "name", "kind", "items", "a/b", "x~y", "properties", "$more?", "größe")


def tree(random: Random, depth: int, choices: Sequence[str]) -> Any:
    """Draw a schema whose references are to ``a``, ``b`` and ``c/d``."""
    kind = random.randrange(9) if depth else 0
    if kind < 2:
        return random.choice(LEAVES)
    if kind < 4:
        return refer(random.choice(("a", "b", "c~1d")))
    if kind < 5:
        return {
            "type": "array",
            "items": tree(random, depth - 1, choices),
            "minItems": random.randrange(3),
        }
    if kind < 6:
        parts = [tree(random, depth - 1, choices) for _ in range(random.randrange(1, 4))]
        return {random.choice(choices): parts}
    names = random.sample(NAMES, random.randrange(len(NAMES)))
    schema = record("", **{name: tree(random, depth - 1, choices) for name in names})
    schema["required"] = [name for name in names if random.random() < 0.5]
    if random.random() < 0.3:
        schema["additionalProperties"] = False
    return schema


def closed(seed: int, choices: Sequence[str] = ("anyOf", "allOf", "oneOf")) -> dict[str, Any]:
    random = Random(seed)
    defs = {name: tree(random, 3, choices) for name in ("a", "b", "c/d")}
    return {"allOf": [tree(random, 4, choices)], "$defs": defs}


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), budget=st.integers(200, 3000))
def test_no_view_is_over_budget_and_every_fold_opens(seed: int, budget: int) -> None:
    schema = closed(seed)
    view = condense(schema, budget=budget)
    assert size(view) <= budget
    assert condense(schema, budget=budget) == view
    for pointer in folds(view):
        assert size(open_schema(schema, pointer, budget=budget)) <= budget


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), budget=st.integers(400, 6000))
def test_a_complete_view_suffices(seed: int, budget: int) -> None:
    """Without oneOf: an answer may also match a branch that is folded away."""
    schema = closed(seed, ("anyOf", "allOf"))
    view = condense(schema, budget=budget)
    if view.is_complete:
        assert_suffices(schema, view)


# -- Published documents -----------------------------------------------------------------------


def responses(name: str, step: int) -> Iterator[tuple[str, Any]]:
    """Yield every ``step``-th JSON response of a document: label and closed schema."""
    from mock_mcp.contract.document import load_document
    from mock_mcp.contract.finder import Finder
    from mock_mcp.contract.operation import is_json
    from mock_mcp.contract.schema import close_schema

    if not (SPECS / name).is_file():
        pytest.skip(f"the published documents are not at {SPECS}")
    document = load_document(SPECS / name)
    count = 0
    for operation in Finder(document):
        for status, response in operation.responses.items():
            media = response.pick()
            if media is None or media.schema is None or not is_json(media.name):
                continue
            count += 1
            if count % step == 0:
                yield f"{operation.label} {status}", close_schema(document, media.schema)


STEPS = {"petstore-3.0.yaml": 1, "openai-3.1.json": 8, "stripe-3.0.json": 24, "github-3.0.json": 16}


@pytest.mark.parametrize("name", STEPS)
def test_published_responses_fit_and_suffice(name: str) -> None:
    """A fixed subset, for time; every response: set MOCK_MCP_TEST_ALL_SPECS."""
    step = 1 if os.environ.get("MOCK_MCP_TEST_ALL_SPECS") else STEPS[name]
    total = complete = written = 0
    for label, schema in responses(name, step):
        view = condense(schema)
        assert size(view) <= 6000, label
        assert "$fold" not in view.schema, label
        total += 1
        complete += view.is_complete
        written += view.is_complete and assert_suffices(schema, view, label)
    assert complete >= total * 0.97
    assert written >= complete * 0.99


def test_stripes_customer_fits_and_suffices() -> None:
    wanted = "GET /v1/customers/{customer} 200"
    schema = next(schema for label, schema in responses("stripe-3.0.json", 1) if label == wanted)
    view = condense(schema)
    assert len(json.dumps(schema)) > 50 * size(view)
    assert view.is_complete
    assert assert_suffices(schema, view)
    assert {"id", "object", "email", "address", "subscriptions", "metadata"} <= _named(view.schema)


def test_bounds_that_a_format_says_are_not_shown() -> None:
    plain = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
    assert condense(plain).schema == {"type": "integer", "format": "int32"}
    shown = condense({**plain, "minimum": 1}).schema
    assert shown == {"type": "integer", "format": "int32", "minimum": 1}
