"""Samples that agree with the call they answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.expected import sample_mock
from mock_mcp.contract.gate import Contracts
from mock_mcp.contract.sample import CannotSample

STRING = {"type": "string"}
PET = {
    "type": "object",
    "required": ["id", "ownerId", "name", "status", "weight", "tame", "tags"],
    "properties": {
        "id": {"type": "integer", "maximum": 1000},
        "ownerId": STRING,
        "name": {**STRING, "maxLength": 20},
        "status": {"enum": ["sold", "available"]},
        "weight": {"type": "number", "example": 2.5},
        "tame": {"type": "boolean"},
        "tags": {"type": "array", "items": STRING},
    },
    "example": {
        "id": 1,
        "ownerId": "x",
        "name": "Rex",
        "status": "available",
        "weight": 2.5,
        "tame": True,
        "tags": [],
    },
}
PETS = {"type": "array", "items": PET, "minItems": 2}
PAGE = {"type": "object", "required": ["items"], "properties": {"items": PETS, "limit": STRING}}
ISSUE = {
    "type": "object",
    "required": ["id", "number"],
    "properties": {"id": {"type": "integer"}, "number": {"type": "integer"}},
}


@pytest.fixture
def contracts(tmp_path: Path) -> Contracts:
    def operation(schema: dict[str, Any]) -> dict[str, Any]:
        return {"responses": {"200": {"content": {"application/json": {"schema": schema}}}}}

    paths = {
        "/pets/{petId}": {"get": operation(PET), "put": operation(PET)},
        "/owners/{owner_id}/pets": {"get": operation(PETS), "post": operation(PET)},
        "/pages/{owner-id}": {"get": operation(PAGE)},
        "/issues/{issue_number}": {"get": operation(ISSUE)},
        "/v1/issue_boxes/{box}": {"get": operation(ISSUE)},
        "/companies/{company}": {"get": operation(ISSUE)},
        "/companies/{company}/issues/{name}": {"get": operation(ISSUE)},
    }
    (tmp_path / "api.json").write_text(json.dumps({"openapi": "3.0.0", "paths": paths}))
    return Contracts([DocumentSource(tmp_path / "api.json", "https://api.test")])


def answer(contracts: Contracts, method: str, path: str, body: Any = None) -> Any:
    request = {"requestId": "a", "endpoint": f"https://api.test{path}", "method": method}
    if body is not None:
        request["body"] = body
    mock = sample_mock(contracts, request, seed=1)
    assert contracts.check_mock(request, mock).violations == ()
    return mock.data


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/pets/7", {"id": 7}),
        ("/pets/7?weight=3&tame=false&name=Ann", {"weight": 3.0, "tame": False, "name": "Ann"}),
        ("/pets/7?id=8", {"id": 7}),
        ("/pets/7?ownerId=7&status=sold", {"ownerId": "7", "status": "sold"}),
        ("/pets/seven?weight=heavy&tame=1&tags=a", {"id": 1, "weight": 2.5, "tags": []}),
        ("/pets/7000?status=lost", {"id": 1, "status": "available"}),
    ],
)
def test_an_object_has_the_values_of_the_url(
    contracts: Contracts, path: str, expected: dict[str, Any]
) -> None:
    data = answer(contracts, "GET", path)
    assert expected.items() <= data.items()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": "Ann", "tags": ["a"], "unknown": 1}, {"name": "Ann", "tags": ["a"]}),
        ({"name": "far longer than twenty", "id": "9"}, {"name": "Rex", "id": 7}),
        ({"$form": {"name": "Ann", "weight": "4", "tame": "false"}}, {"name": "Ann", "weight": 4}),
        ({"owner_id": "ann", "tame": 0}, {"ownerId": "ann", "tame": True}),
        ([1], {"name": "Rex", "id": 7}),
    ],
)
def test_an_object_has_the_values_that_were_sent(
    contracts: Contracts, body: Any, expected: dict[str, Any]
) -> None:
    data = answer(contracts, "PUT", "/pets/7", body)
    assert expected.items() <= data.items()
    assert data.keys() == PET["example"].keys()


def test_items_have_the_values_of_the_url(contracts: Contracts) -> None:
    pets = answer(contracts, "GET", "/owners/ann/pets?status=sold&limit=2")
    assert {(pet["ownerId"], pet["status"]) for pet in pets} == {("ann", "sold")}
    page = answer(contracts, "GET", "/pages/ann?limit=2")
    assert {pet["ownerId"] for pet in page["items"]} == {"ann"}


def test_what_the_path_ends_in_is_no_others_id(contracts: Contracts) -> None:
    issue = answer(contracts, "GET", "/issues/1347")
    assert issue["number"] == 1347
    assert issue["id"] != 1347


@pytest.mark.parametrize(
    ("path", "is_its_id"),
    [
        ("/v1/issue_boxes/1347", True),
        ("/companies/1347", True),
        ("/companies/acme", False),
        ("/companies/1347/issues/1347", False),
    ],
)
def test_what_a_path_ends_in_is_the_id_of_what_it_names(
    contracts: Contracts, path: str, is_its_id: bool
) -> None:
    assert (answer(contracts, "GET", path)["id"] == 1347) is is_its_id


def test_a_new_object_has_an_id_of_its_own(contracts: Contracts) -> None:
    pet = answer(contracts, "POST", "/owners/12/pets", {"name": "Ann"})
    assert (pet["id"], pet["name"], pet["ownerId"]) == (1, "Ann", "12")


def test_the_document_s_example_stays_as_it_is(contracts: Contracts) -> None:
    assert answer(contracts, "GET", "/pets/7")["id"] == 7
    assert answer(contracts, "GET", "/pets/none")["id"] == 1


def test_without_a_contract_there_is_no_sample_and_the_reader_is_told_what_to_do() -> None:
    request = {"requestId": "a", "endpoint": "https://api.test/pets?token=s3cret", "method": "GET"}
    with pytest.raises(CannotSample, match=r"Name one in pyproject\.toml") as caught:
        sample_mock(Contracts([]), request, seed=1)
    assert "s3cret" not in caught.value.message
