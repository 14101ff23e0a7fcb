"""What of a conversion may be recorded: cleaned, and checked against the contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mock_mcp.contract.project import ProjectContracts
from mock_mcp.convert.accept import ContractCheck, accept
from mock_mcp.convert.values import Conversion
from mock_mcp.recordings.format import RecordedInteraction
from mock_mcp.recordings.redact import Redaction
from unit.convert.samples import API, answer, call

USER = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "integer"}, "token": {"type": "string", "maxLength": 4}},
}
OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "t", "version": "1"},
    "servers": [{"url": API}],
    "paths": {
        "/user": {
            "get": {
                "parameters": [{"name": "X-Key", "in": "header", "required": True}],
                "responses": {
                    "200": {
                        "description": "",
                        "headers": {"X-Total": {"required": True, "schema": {}}},
                        "content": {"application/json": {"schema": USER}},
                    }
                },
            }
        }
    },
}


def taken(
    root: Path, mode: str, *interactions: RecordedInteraction
) -> tuple[list[RecordedInteraction], Conversion]:
    (root / "openapi.json").write_text(json.dumps(OPENAPI))
    settings = f'[tool.mock-mcp]\nopenapi = ["openapi.json"]\ncontract = "{mode}"\n'
    (root / "pyproject.toml").write_text(settings)
    calls = [(f"$[{n}]", item) for n, item in enumerate(interactions)]
    conversion = Conversion("a.har", "har", calls)
    check = ContractCheck(ProjectContracts(root))
    return accept(conversion, Redaction(), check), conversion


HEADERS = {"content-type": "application/json", "x-total": "1", "x-noise": "1"}
GOOD = answer(call(path="/user"), {"id": 1}, headers=HEADERS, source="live")
BAD = answer(call(path="/user"), {"id": "x"}, headers=HEADERS, source="live")


def test_what_fits_says_by_which_contract(tmp_path):
    [found], conversion = taken(tmp_path, "enforce", GOOD)
    assert found.operation == "GET /user"
    assert found.contract is not None
    assert conversion.losses == []
    assert found.response.headers == {"content-type": "application/json", "x-total": "1"}
    assert conversion.unnamed == {"x-noise"}


def test_what_breaks_the_contract_is_not_imported(tmp_path):
    found, conversion = taken(tmp_path, "enforce", BAD, GOOD)
    assert [item.response.body for item in found] == [{"id": 1}]
    [loss] = conversion.losses
    assert (loss.file, loss.place, loss.call) == ("a.har", "$[0]", True)
    assert "the answer /body/id" in loss.reason


def test_in_mode_warn_it_is_imported_and_listed(tmp_path):
    [found], conversion = taken(tmp_path, "warn", BAD)
    assert found.response.body == {"id": "x"}
    assert [loss.call for loss in conversion.losses] == [False]


def test_in_mode_off_nothing_is_checked(tmp_path):
    [found], conversion = taken(tmp_path, "off", BAD)
    assert (found.contract, found.operation, conversion.losses) == (None, None, [])


@pytest.mark.parametrize("path", ["/nowhere", "/user?x=1"])
def test_calls_are_checked_too(tmp_path, path):
    found, conversion = taken(
        tmp_path, "enforce", answer(call(path=path), {"id": 1}, headers=HEADERS)
    )
    assert len(found) + len(conversion.losses) == 1
    assert bool(conversion.losses) == (path == "/nowhere")


def test_other_hosts_are_unchecked(tmp_path):
    request = call()
    elsewhere = answer(type(request)("GET", "https://other.test/"), {"any": 1})
    [found], conversion = taken(tmp_path, "enforce", elsewhere)
    assert (found.contract, conversion.losses) == (None, [])


def test_what_is_checked_is_what_will_be_replayed(tmp_path):
    body = {"id": 1, "token": "abc"}
    secret = answer(call(path="/user"), body, headers=HEADERS, source="live")
    found, conversion = taken(tmp_path, "enforce", secret)
    assert found == []
    assert "/body/token" in conversion.losses[0].reason
    assert "abc" not in conversion.losses[0].reason


def test_a_document_that_cannot_be_used_is_said(tmp_path):
    taken(tmp_path, "enforce", GOOD)
    (tmp_path / "openapi.json").write_text("{")
    conversion = Conversion("a.har", "har", [("$[0]", GOOD)])
    check = ContractCheck(ProjectContracts(tmp_path))
    assert accept(conversion, Redaction(), check) == []
    assert "cannot be checked" in conversion.losses[0].reason


def test_what_is_not_json_is_listed(tmp_path):
    found, conversion = taken(tmp_path, "enforce", answer(call(path="/a"), {"a": float("nan")}))
    assert found == []
    assert conversion.losses[0].call
