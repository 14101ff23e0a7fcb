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
    }
    path = tmp_path / "api.json"
    path.write_text(json.dumps({"openapi": "3.0.0", "paths": paths}))
    return path


def test_json(api: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("--json", str(api)) == 1
    (report,) = json.loads(capsys.readouterr().out)
    assert report["version"] == "3.0"
    assert report["operations"] == 5
    assert report["bodiless"] == 1
    assert report["schemas"] == 4
    assert len(report["uncompilable"]) == 1
    assert "GET /e 200" in report["uncompilable"][0]
    assert (report["examples"], len(report["invalid_examples"])) == (2, 1)
    assert report["invalid_examples"][0].startswith("GET /b 200")
    assert (report["sampled"], len(report["unsampled"])) == (3, 1)
    assert report["defects"][0]["action"] == "read as 2"


def test_text(api: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(str(api)) == 1
    text = capsys.readouterr().out
    assert "OpenAPI 3.0" in text
    assert "3 of 4 compile" in text
    assert "GET /e 200" in text
    assert "is the text '2'" in text


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
