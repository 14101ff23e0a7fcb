"""What an assistant is told of contracts: condensed, each once, and never in the way of a claim."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.errors import ConfigurationError, InvalidParams
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project, display_path
from mock_mcp.serving.contracts import MAX_BUDGET, BatchContracts, ContractReader, unread
from mock_mcp.serving.text import dump
from mock_mcp.serving.view import RESULT_CHARS, batch_view
from mock_mcp.types import DaemonInfo

PET = {
    "type": "object",
    "required": ["id", "kind"],
    "properties": {
        "id": {"type": "integer"},
        "kind": {"enum": ["cat", "dog"]},
        "owner": {"$ref": "#/components/schemas/Owner"},
    },
}
OWNER = {"type": "object", "properties": {f"line{n}": {"type": "string"} for n in range(30)}}
ERROR = {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}}


def answer(schema: Any, *examples: Any) -> dict[str, Any]:
    named = {f"e{n}": {"value": example} for n, example in enumerate(examples)}
    return {
        "description": "",
        "content": {"application/json": {"schema": schema, "examples": named}},
    }


PET_SCHEMA = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
PET_REF = {"$ref": "#/components/schemas/Pet"}
DOCUMENT = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "1"},
    "servers": [{"url": "https://pets.test"}],
    "paths": {
        "/pets/{id}": {
            "parameters": [
                {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
            ],
            "get": {
                "summary": "One\n pet",
                "responses": {
                    "200": answer(PET_REF, {"id": "7"}, {"id": 7, "kind": "cat"}),
                    "404": answer(ERROR),
                },
            },
            "put": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": PET_REF}},
                },
                "responses": {"201": answer(PET_REF)},
            },
            "post": {
                "responses": {
                    "200": {
                        "description": "",
                        "content": {
                            **answer(PET_REF)["content"],
                            "text/event-stream": {
                                "schema": PET_REF,
                                "example": 'data: {"id":7,"kind":"cat"}\n\n',
                            },
                        },
                    }
                }
            },
            "delete": {"responses": {"204": {"description": "gone"}}},
            "patch": {"responses": {"200": {"description": "", "content": {"text/plain": {}}}}},
        },
        "/broken": {"get": {"responses": {"200": answer({"$ref": "#/nowhere"})}}},
    },
    "components": {"schemas": {"Pet": PET, "Owner": OWNER}},
}


def request(n: int = 1, endpoint: str = "/pets/1", method: str = "GET", **more: Any) -> Any:
    return {"requestId": f"r{n}", "endpoint": endpoint, "method": method, **more}


class Petshop:
    """A project with a contract, and what an adapter reads of it."""

    def __init__(self, path: Path, *, budget: int | None = None, name: str = "p") -> None:
        self.root = path / name
        self.root.mkdir(exist_ok=True)
        self.write(DOCUMENT)
        self.configure('openapi = ["api.json"]')
        project = Project.resolve(self.root)
        self.info = DaemonInfo(project.id, display_path(project.root), "", "t", 1, "", "0")
        self.reader = ContractReader(CacheDirectory(path / "c"), None, budget=budget)

    def write(self, document: Any) -> None:
        self.root.joinpath("api.json").write_text(
            document if isinstance(document, str) else json.dumps(document)
        )

    def configure(self, settings: str) -> None:
        self.root.joinpath("pyproject.toml").write_text(f"[tool.mock-mcp]\n{settings}\n")

    def view(self, *requests: Any) -> dict[str, Any]:
        return batch_view(requests, self.reader.read(self.info, requests))

    def one(self, asked: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return one request as it is shown, and its contract."""
        view = self.view(asked)
        (shown,) = view["requests"]
        return shown, view.get("contracts", {}).get(shown.get("contract"), {})

    def open(self, asked: Any, pointer: str, status: int | None = None) -> Any:
        return self.reader.open(self.info, asked, pointer, status)[1].schema


@pytest.fixture
def project(tmp_path: Path) -> Petshop:
    return Petshop(tmp_path)


def test_a_request_names_its_contract(project):
    shown, contract = project.one(request(metadata={"instructions": "A cat."}))
    assert shown == {**request(metadata={"instructions": "A cat."}), "contract": "c1"}
    assert contract["operation"] == "GET /pets/{id}"
    assert contract["summary"] == "One pet"
    assert contract["status"] == 200
    assert contract["statuses"] == ["200", "404"]
    assert contract["mediaType"] == "application/json"
    assert contract["schema"]["required"] == ["id", "kind"]
    assert contract["example"] == {"id": 7, "kind": "cat"}, "the first example is not valid"


def test_fifty_requests_of_one_operation_read_it_once(project):
    view = project.view(*(request(n, f"/pets/{n}") for n in range(50)))
    assert {shown["contract"] for shown in view["requests"]} == {"c1"}
    assert [*view["contracts"]] == ["c1"]


def test_two_operations_with_one_schema_read_it_once(project):
    view = project.view(request(1), request(2, method="PUT", body={"id": 1, "kind": "cat"}))
    first, second = view["contracts"].values()
    assert (first["status"], second["status"]) == (200, 201)
    assert second["schema"] == {"$contract": "c1"}
    assert "properties" in first["schema"]


def test_an_answer_without_a_body_is_said_to_have_none(project):
    assert project.one(request(method="DELETE"))[1] == {
        "operation": "DELETE /pets/{id}",
        "status": 204,
        "statuses": ["204"],
        "body": "none: give null",
    }
    _, head = project.one(request(method="HEAD"))
    assert head["body"] == "none: give null"
    assert "schema" not in head
    _, text = project.one(request(method="PATCH"))
    assert text["mediaType"] == "text/plain"
    assert "not checked" in text["body"]


def test_a_stream_is_described_as_its_items(project):
    calls = (request(1, method="POST"), request(2, method="POST", body={"stream": True}))
    view = project.view(*calls)
    plain, stream = (view["contracts"][shown["contract"]] for shown in view["requests"])
    assert (plain["mediaType"], stream["mediaType"]) == ("application/json", "text/event-stream")
    assert "body" not in plain
    assert "a list of its events" in stream["body"]
    assert plain["example"] == {"id": 7, "kind": "cat"}
    assert stream["schema"] == {"$contract": "c1"}


def test_a_lone_schema_of_a_stream_is_described_too(project):
    asked = request(metadata={"schema": PET_SCHEMA}, headers={"accept": "application/jsonl"})
    shown, contract = project.one(asked)
    assert shown["metadata"]["schema"] == {"$contract": "c1"}
    assert contract["body"].startswith("a list of its items, with the header content-type:")
    assert contract["schema"] == PET_SCHEMA


def test_a_request_without_a_contract_says_why(project):
    shown, _ = project.one(request(endpoint="https://other.test/x"))
    assert "https://other.test is none of the servers" in shown["unchecked"]
    assert "contract" not in shown
    assert "requestViolations" not in shown


def test_what_a_test_sends_is_not_taken_for_what_is_said_of_it(project):
    said = {"contract": "c9", "contractMode": "off", "unchecked": 5, "requestViolations": "none"}
    assert project.one(request(**said))[0] == {**request(), "contract": "c1"}


@pytest.mark.parametrize("metadata", ["text", 5, ["x"], True])
def test_metadata_need_not_be_an_object(project, metadata):
    shown, _ = project.one(request(metadata=metadata))
    assert shown == {**request(metadata=metadata), "contract": "c1"}


def test_requests_that_break_their_contract_are_reported(project):
    shown, _ = project.one(request(endpoint="/pets/one"))
    (violation,) = shown["requestViolations"]
    assert violation["pointer"] == "/path/id"
    assert violation["keyword"] == "type"
    assert "requestId" not in violation
    shown, _ = project.one(request(endpoint="/pet/1"))
    assert shown["requestViolations"][0]["pointer"] == "/path"
    assert "/pets/{id}" in shown["unchecked"]
    shown, _ = project.one(request(method="PUT", body={"id": 1, "kind": "cow"}))
    assert shown["requestViolations"][0]["pointer"] == "/body/kind"


def test_many_violations_of_requests_are_bounded(project):
    bodies = {"id": "x", "kind": "cow", "owner": {f"line{n}": n for n in range(30)}}
    view = project.view(*(request(n, "/pets/x", "PUT", body=bodies) for n in range(50)))
    listed = [each["requestViolations"] for each in view["requests"] if "$shared" not in each]
    listed = [view["shared"][v["$shared"]] if "$shared" in v else v for v in listed]
    assert all(len(violations) <= 6 for violations in listed)
    assert listed[0][-1] == {"more": 28}
    assert len(dump(view)) <= RESULT_CHARS


def test_the_modes_are_shown_and_off_reports_nothing(project):
    warned, off = {"mode": "warn", "documents": []}, {"mode": "off"}
    shown, contract = project.one(request(endpoint="/pets/x", contract=warned))
    assert shown["contractMode"] == "warn"
    assert shown["requestViolations"]
    assert shown["contract"] == "c1"
    shown, contract = project.one(request(endpoint="/pets/x", contract=off))
    assert shown["contractMode"] == "off"
    assert "requestViolations" not in shown
    assert contract["operation"] == "GET /pets/{id}"
    project.configure('openapi = ["api.json"]\ncontract = "warn"')
    assert project.one(request())[0]["contractMode"] == "warn"


def test_documents_the_test_brought_are_read_but_not_shown(project):
    project.configure("")
    brought = {"documents": [{"path": str(project.root / "api.json")}]}
    shown, contract = project.one(request(contract=brought))
    assert shown == {**request(), "contract": "c1"}
    assert contract["operation"] == "GET /pets/{id}"


@pytest.mark.parametrize("document", ['{"openapi": ', '{"openapi": "3.0.3"}', "[]"])
def test_a_broken_document_does_not_break_a_claim(project, document):
    project.write(document)
    shown, _ = project.one(request())
    assert "api.json" in shown["unchecked"]


def test_a_missing_document_and_broken_settings_do_not_either(project):
    project.root.joinpath("api.json").unlink()
    assert "api.json" in project.one(request())[0]["unchecked"]
    project.configure("openapi = 7")
    assert "tool.mock-mcp.openapi" in project.one(request())[0]["unchecked"]
    with pytest.raises(ConfigurationError):
        project.open(request(), "")


def test_a_broken_schema_leaves_the_other_requests_alone(project):
    view = project.view(request(1, "/broken"), request(2))
    broken, good = view["requests"]
    assert "nowhere" in broken["unchecked"]
    assert good["contract"] in view["contracts"]


def test_a_document_that_changed_is_read_again(project):
    project.one(request())
    schema = {**PET, "required": ["id", "kind", "name"]}
    project.write({**DOCUMENT, "components": {"schemas": {"Pet": schema, "Owner": OWNER}}})
    _, contract = project.one(request())
    assert contract["schema"]["required"] == ["id", "kind", "name"]


# -- Schemas in the metadata --------------------------------------------------------------------

LONG = {
    "type": "object",
    "required": ["a"],
    "properties": {"a": {"type": "string"}}
    | {f"b{n}": {"type": "string", "description": "Prose. " * 20} for n in range(80)},
}


def test_a_short_schema_in_the_metadata_stays_word_for_word(project):
    metadata = {"schema": {"summary": "A pet", "response": PET["properties"]["kind"]}, "n": 1}
    view = project.view(request(metadata=metadata))
    assert view == {"requests": [{**request(metadata=metadata), "contract": "metadata.schema"}]}


def test_a_long_one_gives_its_place_to_its_condensed_view(project):
    given = request(metadata={"schema": LONG, "instructions": "x"})
    view = project.view(given)
    (shown,) = view["requests"]
    assert shown["metadata"] == {"schema": {"$contract": "c1"}, "instructions": "x"}
    assert shown["contract"] == "c1"
    assert view["contracts"]["c1"]["schema"]["required"] == ["a"]
    assert len(dump(view["contracts"]["c1"]["schema"])) <= 6000 < len(dump(LONG))
    assert given["metadata"]["schema"] is LONG, "the request itself is untouched"


def test_a_long_one_in_its_wrapper_keeps_the_wrapper(project):
    wrapped = {"summary": "A pet", "response": LONG}
    shown, _ = project.one(request(metadata={"schema": wrapped}))
    assert shown["metadata"]["schema"] == {"summary": "A pet", "response": {"$contract": "c1"}}


def test_many_schemas_in_the_metadata_share_the_room(project):
    schemas = [{**LONG, "title": f"{n}", "required": ["a", f"b{n}"]} for n in range(60)]
    requests = [request(n, metadata={"schema": schema}) for n, schema in enumerate(schemas)]
    view = project.view(*requests)
    assert len(dump(view)) <= RESULT_CHARS
    assert len(view["requests"]) == 60
    assert len(dump(view["contracts"])) <= MAX_BUDGET + 100
    assert len(view["contracts"]) == 60
    for n, shown in enumerate(view["requests"]):
        assert view["contracts"][shown["contract"]]["schema"]["required"] == ["a", f"b{n}"]


def test_hundreds_of_distinct_contracts_still_fit(project):
    schemas = [{"type": "object", "required": [f"field{n}" * 9] * 30} for n in range(300)]
    requests = [request(n, metadata={"schema": schema}) for n, schema in enumerate(schemas)]
    view = project.view(*requests)
    assert len(dump(view)) <= RESULT_CHARS
    for shown in view["requests"]:
        assert shown["contract"] in [*view["contracts"], {"$fold": "#"}, "metadata.schema"]


def test_requests_come_before_contracts_when_not_all_fits(project):
    requests = [
        request(n, f"/pets/{n}{'0' * 60}", metadata={"schema": {**LONG, "title": f"{n}"}})
        for n in range(350)
    ]
    view = project.view(*requests)
    assert len(dump(view)) <= RESULT_CHARS
    assert [shown["requestId"] for shown in view["requests"]] == [f"r{n}" for n in range(350)]
    assert view["requests"][0]["contract"] in view["contracts"]
    assert view["requests"][-1]["contract"] == {"$fold": "#"}


def test_metadata_that_holds_no_schema_says_so(project):
    project.configure("")
    shown, _ = project.one(request(metadata={"schema": {"response": "a user"}}))
    assert "metadata.schema holds no schema" in shown["unchecked"]
    assert shown["metadata"] == {"schema": {"response": "a user"}}


# -- Opening ------------------------------------------------------------------------------------


def test_folds_are_opened(tmp_path):
    project = Petshop(tmp_path, budget=400)
    _, contract = project.one(request())
    owner = contract["schema"]["properties"]["owner"]
    fold = owner["$more"]["$fold"]
    assert "line29" not in owner["properties"]
    opened = project.open(request(), fold)["properties"]
    assert opened["line0"] == {"type": "string"}
    assert project.open(request(), "")["required"] == ["id", "kind"]
    assert project.open(request(), "/properties/id") == {"type": "integer"}


def test_another_status_is_opened(project):
    assert project.open(request(), "", 404)["required"] == ["message"]
    with pytest.raises(InvalidParams, match="declares no 500; declared: 200, 404"):
        project.open(request(), "", 500)
    own = request(metadata={"schema": PET["properties"]["kind"]})
    assert project.open(own, "", 201) == {"enum": ["cat", "dog"]}
    with pytest.raises(InvalidParams, match="successful"):
        project.open(own, "", 404)


@pytest.mark.parametrize(
    ("asked", "pointer", "message"),
    [
        (request(), "/properties/nope", "'nope' there is id, kind, owner"),
        (request(), "properties", "is not a JSON pointer"),
        (request(), "#owner", "is not a JSON pointer"),
        (request(endpoint="https://other.test/"), "", "has no contract: .*other.test"),
        (request(method="DELETE"), "", "DELETE /pets/{id} declares none for a body with status"),
        (request(method="PATCH"), "", "of type text/plain with status 200"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_words(project, asked, pointer, message):
    with pytest.raises(InvalidParams, match=message):
        project.open(asked, pointer)


# -- Projects -----------------------------------------------------------------------------------


def test_a_root_that_cannot_be_spelled_has_no_contract_and_says_so(tmp_path):
    if sys.platform in ("win32", "darwin"):
        pytest.skip("names there are Unicode")
    project = Petshop(tmp_path, name=os.fsdecode(b"caf\xe9"))
    shown, _ = project.one(request())
    assert "cannot spell" in shown["unchecked"]
    own = ContractReader(CacheDirectory(tmp_path / "c"), Project.resolve(project.root))
    view = batch_view([request()], own.read(project.info, [request()]))
    assert view["contracts"]["c1"]["operation"] == "GET /pets/{id}"


@pytest.mark.parametrize("budget", [0, 199, MAX_BUDGET + 1])
def test_a_budget_out_of_range_is_refused(tmp_path, budget):
    with pytest.raises(ConfigurationError, match="from 200 to"):
        ContractReader(CacheDirectory(tmp_path), None, budget=budget)


@pytest.mark.parametrize("budget", [200, 1000, 6000])
def test_the_budget_holds(tmp_path, budget):
    _, contract = Petshop(tmp_path, budget=budget).one(request())
    view = {key: contract[key] for key in ("schema", "example") if key in contract}
    assert len(dump(view)) <= budget


def test_a_batch_that_was_not_read_says_why():
    view = batch_view([request(1), request(2)], unread([request(1), request(2)], "too  slow"))
    assert [shown["unchecked"] for shown in view["requests"]] == ["too slow"] * 2
    assert batch_view([request()], BatchContracts())["requests"] == [request()]
