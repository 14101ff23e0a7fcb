"""Samples: valid for every construct, like data, the same everywhere, and bounded."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_mcp.contract.sample import CannotSample, sample
from mock_mcp.errors import MockMcpError

SPECS = Path(__file__).resolve().parents[3].parent / "shared" / "specs"


def checker(schema: Any) -> Any:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid


def make(schema: Any, seed: int | str = 1, examples: tuple[Any, ...] = ()) -> Any:
    return sample(schema, seed=seed, examples=examples, is_valid=checker(schema))


def text(**rules: Any) -> dict[str, Any]:
    return {"type": "string", **rules}


def record(required: str = "", /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


NODE = record("id", id={"type": "integer"}, next={"$ref": "#/$defs/node"})
FORMATS = (
    "date-time date time duration email uri uri-reference uri-template uuid ipv4 ipv6 hostname "
    "json-pointer relative-json-pointer regex idn-email iri"
)

CASES: dict[str, Any] = {
    "anything": True,
    "empty": {},
    "type array": {"type": ["null", "integer"], "minimum": 5},
    "enum": {"enum": ["a", 2, None]},
    "enum narrowed by type": {"type": "integer", "enum": ["a", 2, None]},
    "const object": {"const": {"a": [1, {"b": None}]}},
    **{f"format {name}": text(format=name) for name in FORMATS.split()},
    "unknown format": text(format="color"),
    "pattern": text(pattern=r"^[A-Z]{3}-\d{4}$"),
    "pattern with lookahead": text(pattern=r"^(?=.*\d)[a-z\d]{12}$"),
    "pattern and lengths": text(pattern="^[a-z]+$", minLength=30, maxLength=32),
    "dependent names of two parts": {
        **record("a", a=True),
        "allOf": [{"dependentRequired": {"a": ["b"]}}, {"dependentRequired": {"a": ["c"]}}],
    },
    "prefix beyond another prefix": {
        "type": "array",
        "minItems": 2,
        "allOf": [
            {"prefixItems": [text()], "items": {"type": "integer"}},
            {"prefixItems": [{"minLength": 1}, {"minimum": 7}]},
        ],
    },
    "prefix of one part, items of another": {
        "type": "array",
        "minItems": 3,
        "allOf": [
            {"prefixItems": [{"minimum": 7}, {"minimum": 9}]},
            {"items": {"type": "integer"}},
        ],
    },
    "contains after a prefix": {
        "type": "array",
        "prefixItems": [text()],
        "contains": {"type": "integer"},
    },
    "contains within a prefix": {
        "type": "array",
        "prefixItems": [text(), {"minimum": 3}],
        "items": False,
        "contains": {"type": "integer"},
    },
    "contains of two parts": {
        "allOf": [
            {"type": "array", "contains": text()},
            {"contains": {"type": "integer"}, "minContains": 2},
        ],
    },
    "contains of two parts in one item": {
        "maxItems": 1,
        "allOf": [{"contains": {"minimum": 7, "type": "integer"}}, {"contains": {"multipleOf": 5}}],
    },
    "contains of two parts in a tuple": {
        "prefixItems": [text(), {"type": "integer"}],
        "items": False,
        "allOf": [{"contains": {"type": "integer"}}, {"contains": text()}],
    },
    "a prefix that is all that contains allows": {
        "type": "array",
        "prefixItems": [{"const": 1}],
        "minItems": 3,
        "contains": {"type": "integer"},
        "maxContains": 1,
    },
    "contains that no list has": {"contains": False},
    "dependent schema that allows nothing": {"dependentSchemas": {"a": True, "b": False}},
    "not a text": {"not": text()},
    "names that another part allows": {
        "minProperties": 2,
        "allOf": [
            {"patternProperties": {"^a_": True}, "additionalProperties": {"type": "integer"}},
            {"patternProperties": {"^b_": {"minimum": 7}}},
        ],
    },
    "names of a pattern that another part forbids": {
        "type": "object",
        "minProperties": 1,
        "allOf": [
            {"patternProperties": {"^a_": {"minLength": 1}}},
            {"patternProperties": {"^b_": {"type": "integer"}}, "additionalProperties": False},
        ],
    },
    "two patterns": {"allOf": [text(pattern="^sk_"), text(pattern="[0-9]{3}$")]},
    "short": text(maxLength=3),
    "long": text(minLength=400),
    "exact length": text(minLength=7, maxLength=7),
    "short e-mail": text(format="email", maxLength=15),
    "base64": text(contentEncoding="base64"),
    "integer bounds": {"type": "integer", "exclusiveMinimum": 7, "maximum": 8},
    "integer multiples of a fraction": {"type": "integer", "multipleOf": 2.5, "minimum": 1},
    "decimal multiples": {"type": "number", "multipleOf": 0.01, "minimum": 1, "maximum": 1.02},
    "narrow number": {"type": "number", "exclusiveMinimum": 0.001, "exclusiveMaximum": 0.002},
    "negative": {"type": "number", "maximum": -10.5},
    "array sizes": {"type": "array", "items": text(), "minItems": 7, "maxItems": 9},
    "unique items": {
        "type": "array",
        "items": {"enum": [1, 2, 3]},
        "uniqueItems": True,
        "minItems": 3,
    },
    "unique booleans": {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True},
    "tuple": {
        "type": "array",
        "prefixItems": [text(), {"type": "integer"}],
        "items": False,
        "minItems": 2,
    },
    "contains": {"type": "array", "items": text(), "contains": {"const": "x"}, "minContains": 2},
    "required undeclared": {"type": "object", "required": ["id", "when"]},
    "map": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 3},
    "map by name": {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z]{2}_[A-Z]{2}$"},
        "minProperties": 2,
    },
    "pattern properties": {
        "type": "object",
        "patternProperties": {"^x-": {"type": "integer"}},
        "additionalProperties": False,
        "minProperties": 2,
    },
    "max properties": {**record("a", a=text(), b=text(), c=text()), "maxProperties": 1},
    "dependent required": {
        **record("a", a=text(), b=text(), c=text()),
        "dependentRequired": {"a": ["b"], "b": ["c"]},
    },
    "dependent schemas": {**record("a", a=text()), "dependentSchemas": {"a": {"required": ["b"]}}},
    "all of": {"allOf": [record("a", a=text()), record("b", b=text()), {"minProperties": 2}]},
    "all of meets additionalProperties": {
        "allOf": [
            {**record("a", a=text(), b={"type": "integer"}), "additionalProperties": False},
            record("", b=text(), c=text()),
        ]
    },
    "one of, exclusive": {"oneOf": [record("a", a=text()), record("b", b=text())]},
    "one of, subset": {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 5}]},
    "any of, null first": {"anyOf": [{"type": "null"}, text()]},
    "any of, dead branch": {"type": "string", "anyOf": [{"type": "integer"}, {"minLength": 3}]},
    "nested choices": {"anyOf": [{"oneOf": [{"type": "null"}]}, {"anyOf": [{"const": 3}]}]},
    "if then": {
        **record("kind", kind={"enum": ["card"]}, number=text(), iban=text()),
        "if": {"properties": {"kind": {"const": "card"}}},
        "then": {"required": ["number"]},
        "else": {"required": ["iban"]},
    },
    "not": {"type": "string", "enum": ["a", "b"], "not": {"const": "a"}},
    "unevaluated": {**record("a", a=text()), "unevaluatedProperties": False},
    "optional recursion": {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    "recursion ends in null": {
        "$ref": "#/$defs/node",
        "$defs": {"node": {**NODE, "required": ["id", "next"], "type": ["object", "null"]}},
    },
    "recursion ends in an array": {
        "$ref": "#/$defs/tree",
        "$defs": {
            "tree": record("nodes", nodes={"type": "array", "items": {"$ref": "#/$defs/tree"}})
        },
    },
    "recursion ends in a branch": {
        "$ref": "#/$defs/expr",
        "$defs": {
            "expr": {"oneOf": [record("left", left={"$ref": "#/$defs/expr"}), {"type": "integer"}]}
        },
    },
    "ref beside siblings": {"$ref": "#/$defs/a~1b", "maxLength": 4, "$defs": {"a/b": text()}},
    "ref to itself": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, text()]}},
    },
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [1, "other"])
def test_every_construct_is_sampled_validly(name: str, seed: int | str) -> None:
    schema = CASES[name]
    value = make(schema, seed)
    assert checker(schema)(value)


PERSON = record(
    "id name email created_at updated_at",
    id={"type": "integer"},
    name=text(),
    email=text(format="email"),
    created_at=text(format="date-time"),
    updated_at=text(format="date-time"),
    expires_at={"type": "integer"},
    created={"type": "integer", "format": "unix-time"},
    avatar_url=text(format="uri"),
    phone=text(),
    address=record("city", city=text(), country=text(), postal_code=text()),
    currency=text(),
    sha=text(),
    is_admin={"type": "boolean"},
    login_count={"type": "integer"},
)


def test_it_reads_like_data() -> None:
    value = make(record("user", user=PERSON))["user"]
    assert set(value) == set(PERSON["properties"]), "shallow optional properties are included"
    first, last = value["name"].split()
    assert value["email"] == f"{first}.{last}@example.com".lower()
    assert value["avatar_url"].startswith("https://example.com/")
    assert value["phone"].startswith("+1202555")
    assert value["currency"] in ("usd", "eur", "gbp")
    assert len(value["sha"]) == 40
    assert value["address"]["country"].isupper()
    assert 0 <= value["login_count"] <= 120


@given(seed=st.integers())
def test_times_are_in_order(seed: int) -> None:
    value = make(PERSON, seed)
    created, updated = (datetime.fromisoformat(value[key]) for key in ("created_at", "updated_at"))
    assert created < updated
    assert created.timestamp() == value["created"] < value["expires_at"]


def test_a_total_counts_its_list() -> None:
    schema = record("", total_count={"type": "integer"}, items={"type": "array", "items": PERSON})
    value = make(schema)
    assert value["total_count"] == len(value["items"]) > 0
    assert len({item["id"] for item in value["items"]}) == len(value["items"])


def test_a_valid_example_comes_first_and_an_invalid_one_is_passed_over() -> None:
    schema = record("id", id={"type": "integer"})
    good = {"id": 7, "extra": ["x"]}
    value = make(schema, examples=({"id": "seven"}, good, {"id": 8}))
    assert value == good
    assert value is not good
    assert value["extra"] is not good["extra"]


@pytest.mark.parametrize("keyword", ["example", "default", "const"])
def test_the_roots_own_example_is_used(keyword: str) -> None:
    assert make({"type": "object", keyword: {"a": 1}}) == {"a": 1}
    assert make({"$ref": "#/$defs/x", "$defs": {"x": {keyword: {"a": 2}}}}) == {"a": 2}


def test_examples_inside_are_used_where_they_hold() -> None:
    schema = record("a b", a=text(examples=["octocat"]), b={"type": "integer", "examples": ["one"]})
    value = make(schema)
    assert value["a"] == "octocat"
    assert isinstance(value["b"], int)


def test_the_root_prefers_the_first_branch_and_the_inside_plain_ones() -> None:
    full, gone = (
        record("id", id=text(), name=text()),
        record("deleted", deleted={"type": "boolean"}),
    )
    assert "id" in make({"anyOf": [full, gone]})
    value = make(record("owner", owner={"anyOf": [full, text()]}))
    assert value["owner"].startswith("owner_"), "a string beside an object is its id"


def test_the_same_seed_gives_the_same_value_in_every_process() -> None:
    code = (
        "import json,sys; from mock_mcp.contract.sample import sample;"
        "print(json.dumps(sample(json.loads(sys.argv[1]), seed=5, is_valid=lambda value: True)))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, json.dumps(PERSON)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    here = sample(PERSON, seed=5, is_valid=lambda value: True)
    assert [json.loads(output) for output in outputs] == [here]
    assert here != make(PERSON, 6)


def test_a_seed_pins_the_value_across_python_versions() -> None:
    """Recorded once; a change here changes the samples in every user's recordings."""
    schema = record("id", id={"type": "integer"}, name=text(), created_at=text(format="date-time"))
    assert make({"$ref": "#/$defs/user", "$defs": {"user": schema}}, 42) == PINNED


PINNED = {"id": 5816975, "name": "Farid Ueda", "created_at": "2024-02-08T08:45:04Z"}


def test_it_says_why_there_is_none() -> None:
    schema = record("a", a={"allOf": [text(), {"type": "integer"}]})
    with pytest.raises(CannotSample, match="/a: two parts of the schema contradict") as caught:
        make(schema)
    assert isinstance(caught.value, MockMcpError)
    assert caught.value.code == "cannot-sample"


def test_what_the_validator_refuses_is_never_returned() -> None:
    seen: list[Any] = []

    def refuse(value: Any) -> bool:
        seen.append(value)
        return False

    with pytest.raises(CannotSample, match="refused by validation"):
        sample(record("a", a=text()), seed=1, examples=[{"a": "x"}], is_valid=refuse)
    assert len(seen) > 5, "it tries again, in other ways"


ENDLESS: dict[str, Any] = {
    "never": False,
    "required recursion": {
        "$ref": "#/$defs/node",
        "$defs": {"node": {**NODE, "required": ["next"]}},
    },
    "required list recursion": {
        "$ref": "#/$defs/n",
        "$defs": {"n": {"type": "array", "minItems": 3, "items": {"$ref": "#/$defs/n"}}},
    },
    "branches that all recurse": {
        "$ref": "#/$defs/n",
        "$defs": {
            "n": {"anyOf": [record(key, **{key: {"$ref": "#/$defs/n"}}) for key in "abcdef"]}
        },
    },
    "a million items": {"type": "array", "minItems": 1_000_000, "items": text()},
    "a list beyond memory": {"type": "array", "contains": text(), "minContains": 10**18},
    "a gigabyte": text(minLength=10**9),
    "no text for the pattern": text(pattern="^[a-z]{9}$", maxLength=3),
    "an evil pattern": text(pattern="^((a+)+)+!$", maxLength=1),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_the_impossible_ends(name: str) -> None:
    with pytest.raises(CannotSample):
        sample(ENDLESS[name], seed=1, is_valid=lambda value: True)


def test_a_recursive_schema_stays_small() -> None:
    link = {"anyOf": [text(), {"$ref": "#/$defs/thing"}, {"type": "null"}]}
    names = [f"part{at}" for at in range(12)]
    thing = record(
        "id", id=text(), **{name: {"$ref": "#/$defs/thing"} for name in names}, link=link
    )
    value = make({"$ref": "#/$defs/thing", "$defs": {"thing": thing}})
    assert "part11" in value
    assert len(json.dumps(value)) < 30_000


# -- Published documents -----------------------------------------------------------------------


def responses(name: str, step: int) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Yield every ``step``-th JSON response of a document: label, closed schema, examples."""
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
                schema = close_schema(document, media.schema)
                yield f"{operation.label} {status}", schema, response.examples


STEPS = {"petstore-3.0.yaml": 1, "openai-3.1.json": 8, "stripe-3.0.json": 16, "github-3.0.json": 16}


@pytest.mark.parametrize("name", STEPS)
def test_published_responses_are_sampled(name: str) -> None:
    """A fixed subset, for time; every response: set MOCK_MCP_TEST_ALL_SPECS."""
    step = 1 if os.environ.get("MOCK_MCP_TEST_ALL_SPECS") else STEPS[name]
    total, failed, largest = 0, [], 0
    for label, schema, examples in responses(name, step):
        is_valid = checker(schema)
        for known in ((), examples):
            total += 1
            try:
                value = sample(schema, seed=1, examples=known, is_valid=is_valid)
            except CannotSample as error:
                failed.append((label, str(error)))
                continue
            assert is_valid(value), label
            if value not in examples:
                largest = max(largest, len(json.dumps(value)))
    assert total >= 28
    assert len(failed) <= total // 100, failed
    assert largest < 60_000


def test_the_bounds_of_a_format_do_not_draw_a_number_away_from_its_own() -> None:
    schema = {"type": "integer", "format": "int64", "minimum": 10**15, "maximum": 2**63 - 1}
    assert sample(schema, seed=1, is_valid=lambda _: True) < 2 * 10**15
