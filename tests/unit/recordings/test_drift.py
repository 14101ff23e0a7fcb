"""One recorded call, judged by a contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.contract.gate import Contracts
from mock_mcp.recordings.drift import Fit, judge
from mock_mcp.recordings.format import (
    RecordedFailure,
    RecordedInteraction,
    RecordedRequest,
    RecordedResponse,
)
from mock_mcp.types import Mock

USER = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "pin": {"type": "integer"},
        "key": {"oneOf": [{"type": "integer"}, {"type": "null"}]},
    },
    "additionalProperties": False,
}
QUERY = {"name": "token", "in": "query", "schema": {"type": "integer"}}
HEADER = {"name": "x-tenant", "in": "header", "required": True, "schema": {"type": "integer"}}
BODY = {"application/json": {"schema": USER}, "text/plain": {"schema": {"type": "string"}}}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Users", "version": "1"},
    "servers": [{"url": "https://api.test"}],
    "paths": {
        "/users": {
            "post": {
                "parameters": [QUERY, HEADER],
                "requestBody": {"required": True, "content": BODY},
                "responses": {
                    "201": {
                        "description": "",
                        "content": {"application/json": {"schema": USER}},
                    },
                    "202": {"description": ""},
                },
            }
        }
    },
}


@pytest.fixture
def contracts(tmp_path: Path) -> Contracts:
    file = tmp_path / "users.json"
    file.write_text(json.dumps(DOCUMENT))
    return Contracts((DocumentSource(file),), root=tmp_path)


def recorded(
    body: Any = {"name": "Ada"},  # noqa: B006 - not changed
    *,
    answer: Any = {"name": "Ada"},  # noqa: B006 - not changed
    url: str = "https://api.test/users",
    headers: dict[str, Any] | None = None,
    **fields: Any,
) -> RecordedInteraction:
    return RecordedInteraction(
        RecordedRequest("POST", url, headers or {}, body),
        "ai",
        RecordedResponse(201, {"content-type": "application/json"}, answer),
        **fields,
    )


def pointers(fit: Fit) -> tuple[list[str], list[str]]:
    return [v.pointer for v in fit.request], [v.pointer for v in fit.response]


def test_a_call_that_fits(contracts):
    assert judge(recorded(), contracts) == Fit("fits", operation="POST /users")


def test_the_call_and_the_answer_are_both_judged(contracts):
    fit = judge(recorded({"nam": "Ada"}, answer={"name": 1}), contracts)
    assert fit.outcome == "drifted"
    assert pointers(fit) == (["/body/nam", "/body/name"], ["/body/name"])


def test_a_path_that_is_gone_is_a_call_that_breaks_the_contract(contracts):
    fit = judge(recorded(url="https://api.test/people", operation="POST /people"), contracts)
    assert (fit.outcome, pointers(fit)) == ("drifted", (["/path"], []))


def test_another_host_is_not_checked(contracts):
    fit = judge(recorded(url="https://other.test/users"), contracts)
    assert fit.outcome == "unchecked"
    assert fit.reason


def test_a_call_whose_schema_is_in_the_test_is_not_checked(contracts):
    assert judge(recorded(url="/user", contract="0123"), contracts).outcome == "unchecked"


def test_an_answer_that_no_schema_can_judge_is_said(tmp_path):
    answers = {"201": {"content": {"application/json": {"schema": {"$ref": "#/gone"}}}}}
    paths = {"/users": {"post": {"responses": answers}}}
    servers = [{"url": "https://api.test"}]
    document = {"openapi": "3.1.0", "servers": servers, "paths": paths}
    (tmp_path / "api.json").write_text(json.dumps(document))
    contracts = Contracts([DocumentSource(tmp_path / "api.json")])
    with pytest.raises(ContractDocumentError, match="gone"):
        judge(recorded(), contracts)


def test_a_recorded_failure_is_judged_by_its_call_alone(contracts):
    failed = RecordedFailure("refused")
    good = msgspec.structs.replace(recorded(), response=None, error=failed)
    assert judge(good, contracts).outcome == "fits"
    bad = msgspec.structs.replace(recorded({}), response=None, error=failed)
    assert pointers(judge(bad, contracts)) == (["/body/name"], [])


@pytest.mark.parametrize(
    "interaction",
    [
        recorded({"name": "Ada", "pin": "REDACTED"}),
        recorded({"name": "Ada", "key": "REDACTED"}),
        recorded(url="https://api.test/users?token=REDACTED"),
        recorded(headers={"x-tenant": "REDACTED"}),
        recorded("any text", headers={"content-type": "text/plain"}),
    ],
    ids=["body", "alternatives", "query", "header", "content type"],
)
def test_what_was_not_written_down_is_not_held_against_a_call(contracts, interaction):
    assert judge(interaction, contracts).outcome == "fits"


@pytest.mark.parametrize(
    ("interaction", "pointer"),
    [
        (recorded({"pin": "REDACTED"}), "/body/name"),
        (recorded(url="https://api.test/users?token=x"), "/query/token"),
        (recorded(headers={"x-tenant": "x"}), "/headers/x-tenant"),
    ],
    ids=["body", "query", "header"],
)
def test_what_was_written_down_is(contracts, interaction, pointer):
    assert pointer in pointers(judge(interaction, contracts))[0]


def test_the_mode_of_the_test_counts(contracts):
    wrong = recorded(answer={})
    assert judge(wrong, contracts, mode="off").outcome == "unchecked"
    assert judge(wrong, contracts, mode="warn").outcome == "drifted"
    verdict = contracts.check_mock(
        {"requestId": "r", "endpoint": wrong.request.url, "method": "POST"},
        Mock("r", {}, 201, {"content-type": "application/json"}),
    )
    let_pass = msgspec.structs.replace(
        wrong, contract=verdict.contract_hash, operation=verdict.operation
    )
    assert judge(let_pass, contracts, mode="warn").outcome == "fits"
    assert judge(let_pass, contracts).outcome == "drifted"


def test_the_documents_of_the_test_come_first(contracts, tmp_path):
    document = json.loads(json.dumps(DOCUMENT).replace("/users", "/people"))
    (tmp_path / "people.json").write_text(json.dumps(document))
    people = recorded(url="https://api.test/people")
    assert judge(people, contracts).outcome == "drifted"
    documents = [{"path": str(tmp_path / "people.json")}]
    assert judge(people, contracts, documents=documents).outcome == "fits"
