"""What is said of a program that starts and is no adapter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mock_mcp.setup.clients import CLIENTS, System, target
from mock_mcp.setup.errors import ProbeFailed
from mock_mcp.setup.launcher import Command
from mock_mcp.setup.probe import probe

SERVER = """
import json, sys

for line in sys.stdin:
    call = json.loads(line)
    if "id" in call:
        print(json.dumps({"id": call["id"], "result": RESULT}), flush=True)
"""


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "result", ["{}", "7", "None", "{'tools': 7}", "{'tools': [{}]}", "{'tools': []}"]
)
async def test_a_server_that_answers_otherwise_is_no_adapter(tmp_path: Path, result: str) -> None:
    place = target(CLIENTS["claude-code"], System(tmp_path, "linux", {}), tmp_path)
    assert place is not None
    server = SERVER.replace("RESULT", result)
    with pytest.raises(ProbeFailed, match="does not speak MCP"):
        await probe(place, Command("python", sys.executable, ("-c", server)), None, tmp_path)
