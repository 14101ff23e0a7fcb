"""``[tool.mock-mcp]`` of a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_mcp.contract.config import load_project_config
from mock_mcp.contract.document import DocumentSource
from mock_mcp.errors import ConfigurationError
from mock_mcp.settings_table import PLUGIN_KEYS


def project(tmp_path: Path, text: str) -> Path:
    (tmp_path / "pyproject.toml").write_text(text)
    return tmp_path


def test_documents_and_mode(tmp_path: Path) -> None:
    text = """
[tool.mock-mcp]
openapi = ["openapi.json", {path = "/abs/b.yaml", server = "https://b.test"}]
contract = "warn"
"""
    config = load_project_config(project(tmp_path, text))
    assert config.documents == (
        DocumentSource(tmp_path / "openapi.json"),
        DocumentSource(Path("/abs/b.yaml"), "https://b.test"),
    )
    assert config.mode == "warn"


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'", "[tool.mock-mcp]"])
def test_defaults(tmp_path: Path, text: str) -> None:
    config = load_project_config(project(tmp_path, text))
    assert (config.documents, config.mode) == ((), "enforce")


def test_the_keys_of_the_pytest_plugin_are_known(tmp_path: Path) -> None:
    text = "\n".join(["[tool.mock-mcp]", *(f"{key} = 1" for key in PLUGIN_KEYS)])
    assert load_project_config(project(tmp_path, text)).mode == "enforce"


def test_no_file(tmp_path: Path) -> None:
    assert load_project_config(tmp_path).mode == "enforce"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tool.mock-mcp", "cannot be read"),
        ("[tool]\nmock-mcp = 1", "must be a table"),
        ("[tool.mock-mcp]\nopenapi = 1", "openapi must be a list"),
        ("[tool.mock-mcp]\nopenapi = [1]", "openapi[0]"),
        ("[tool.mock-mcp]\nopenapi = [{path = 1}]", "openapi[0].path"),
        ("[tool.mock-mcp]\nopenapi = ['a', {path = 'a', serve = 'x'}]", "openapi[1]"),
        ("[tool.mock-mcp]\nopenapi = [{path = 'a', server = 1}]", "openapi[0].server"),
        ("[tool.mock-mcp]\nopenapi = ['https://x.test/a.json']", "local"),
        ("[tool.mock-mcp]\nopenapy = ['a.json']", "unknown key 'openapy'; known are contract,"),
        ("[tool.mock-mcp]\ncontract = 'strict'", "contract must be"),
        ("[tool.mock-mcp]\ncontract = true", "contract must be"),
    ],
)
def test_a_bad_setting_names_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_project_config(project(tmp_path, text))
    assert "pyproject.toml" in str(caught.value)
    assert words in str(caught.value)
