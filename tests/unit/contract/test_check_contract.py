"""``mock-mcp check-contract``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.cli import check_contract


def main(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    check_contract.configure(parser)
    return check_contract.run(parser.parse_args(arguments))


def answer(schema: Any, **more: Any) -> dict[str, Any]:
    return {"200": {"content": {"application/json": {"schema": schema, **more}}}}


@pytest.fixture
def api(tmp_path: Path) -> Path:
    paths = {
        "/a": {"get": {"responses": answer({"type": "string"}, example="a")}},
        "/b": {"get": {"responses": answer({"type": "string"}, example=5)}},
        "/c": {"get": {"responses": {"204": {"description": "none"}}}},
        "/d": {"get": {"responses": answer({"type": "string", "minLength": "2"})}},
        "/e": {"get": {"responses": answer({"$ref": "#/nowhere"})}},
        "/f": {"get": {"responses": {"200": {"$ref": "https://x.test/api.json#/r"}}}},
    }
    path = tmp_path / "api.json"
    path.write_text(json.dumps({"openapi": "3.0.0", "paths": paths}))
    return path


def test_json(api: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("--json", str(api)) == 1
    (report,) = json.loads(capsys.readouterr().out)
    assert report["version"] == "3.0"
    assert report["operations"] == 6
    assert report["bodiless"] == 1
    assert report["schemas"] == 4
    assert len(report["uncompilable"]) == 1
    assert "GET /e 200" in report["uncompilable"][0]
    assert [said.partition(":")[0] for said in report["unreadable"]] == ["GET /f"]
    assert (report["examples"], len(report["invalid_examples"])) == (2, 1)
    assert report["invalid_examples"][0].startswith("GET /b 200")
    assert (report["sampled"], len(report["unsampled"])) == (3, 1)
    assert report["defects"][0]["action"] == "read as 2"


def test_examples_of_streams_are_read_as_their_items(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    texts = ('data: {"a": 1}\n\n', 'data: {"a": 1}\n\ndata: {"a": "x"}\n\n')
    media = {"schema": schema, "examples": {text: {"value": text} for text in texts}}
    answers = {"200": {"content": {"text/event-stream": media}}}
    path = tmp_path / "api.json"
    api = {"openapi": "3.1.0", "paths": {"/a": {"get": {"responses": answers}}}}
    path.write_text(json.dumps(api))
    assert main("--json", str(path)) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["examples"], report["sampled"]) == (2, 1)
    assert [said.partition(" /1")[2][:7] for said in report["invalid_examples"]] == ["/data/a"]


def test_text(api: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(str(api)) == 1
    text = capsys.readouterr().out
    assert "OpenAPI 3.0" in text
    assert "3 of 4 compile" in text
    assert "GET /e 200" in text
    assert "GET /f: " in text
    assert "is the text '2'" in text


REPEATED = {
    "api.yaml": """\
openapi: 3.0.0
x-base: &base {a: 1, b: 2}
x-merged: {<<: *base, a: 3}
x-twice: [{a: 1, <<: *base, b: 2, b: 3}]
paths:
  /a: {}
  /a: {}
""",
    "api.json": """\
{"openapi": "3.0.0", "x-twice": [{"b": {"c": 1, "c": 1}, "b": 3}], "paths": {"/a": {}, "/a": {}}}
""",
}


@pytest.mark.parametrize("name", REPEATED)
def test_repeated_keys_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_text(REPEATED[name])
    assert main("--json", str(tmp_path / name)) == 0
    (report,) = json.loads(capsys.readouterr().out)
    found = {defect["pointer"]: defect["action"] for defect in report["defects"]}
    assert found == dict.fromkeys(("/paths/~1a", "/x-twice/0/b"), "the last one counts")


def test_what_says_nothing_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schemas = {
        "A": {"$ref": "#/components/schemas/B"},
        "B": {"$ref": "#/components/schemas/A"},
        "C": {"allOf": [{"$ref": "#/components/schemas/C"}, {"type": "object"}]},
        "D": {"$ref": ["#/components/schemas/C"]},
        "E": {"type": "string", "format": "made-up"},
        "F": {"type": "string", "format": "made-up"},
    }
    properties = {name.lower(): {"$ref": f"#/components/schemas/{name}"} for name in schemas}
    paths = {"/a": {"get": {"responses": answer({"properties": properties})}}}
    api = {"openapi": "3.0.0", "paths": paths, "components": {"schemas": schemas}}
    path = tmp_path / "api.json"
    path.write_text(json.dumps(api))
    assert main("--json", str(path)) == 0
    (report,) = json.loads(capsys.readouterr().out)
    found = {d["pointer"].rpartition("schemas/")[2]: d["message"] for d in report["defects"]}
    assert {name for name, message in found.items() if "itself" in message} == {"A", "B", "C"}
    assert found["D/$ref"] == "is not text"
    assert [message for message in found.values() if "made-up" in message] == [
        "'made-up' is a format that no specification names"
    ]


def test_a_path_is_absolute_and_said_once(
    api: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(api.parent)
    (api.parent / "list.json").write_text("[]")
    assert main("api.json", "list.json", "none.json") == 1
    output = capsys.readouterr()
    assert str(api.parent) not in output.out
    assert output.err.splitlines() == [
        f"cannot be used: {api.parent}/list.json: is not an OpenAPI document: it is not an object",
        f"cannot be used: {api.parent}/none.json: cannot be read: No such file or directory",
    ]


def test_a_good_document_is_0(tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    path.write_text(json.dumps({"swagger": "2.0", "paths": {"/a": {"get": {"responses": {}}}}}))
    assert main(str(path)) == 0


def test_a_file_that_cannot_be_used_does_not_hide_the_others(
    api: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(str(tmp_path / "none.json"), str(api)) == 1
    output = capsys.readouterr()
    assert "none.json" in output.err
    assert "OpenAPI 3.0" in output.out
    assert main("--json", str(tmp_path / "none.json")) == 1
    (report,) = json.loads(capsys.readouterr().out)
    assert report["error"]["code"] == "contract-document"
