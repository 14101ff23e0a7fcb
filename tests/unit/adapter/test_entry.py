from __future__ import annotations

import subprocess
import sys

import pytest

from mock_mcp.adapter.entry import run_adapter
from mock_mcp.errors import MissingExtra


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("mock_mcp.adapter.")]:
        if name != "mock_mcp.adapter.entry":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("mock_mcp.adapter.server", raising=False)
    for name in ("mcp", "mcp.server", "mcp_types", "anyio"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"pip install 'mock-mcp\[adapter\]'") as caught:
        run_adapter()
    assert "\n" not in caught.value.message


def test_importing_the_entry_imports_no_sdk():
    code = "import sys, mock_mcp.adapter.entry; sys.exit('mcp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
