"""``mock-mcp adapter``: its options reach the adapter."""

from __future__ import annotations

import pytest

from mock_mcp import cli
from mock_mcp.cli import adapter


@pytest.mark.parametrize(("arguments", "budget"), [([], None), (["--contract-budget", "900"], 900)])
def test_the_options_are_passed_on(monkeypatch, arguments, budget):
    calls = []
    monkeypatch.setattr(adapter, "run_adapter", lambda **given: calls.append(given) or 0)
    assert cli.main(["adapter", "--project-root", "/p", *arguments]) == 0
    assert calls == [{"project_root": "/p", "contract_budget": budget}]


def test_a_budget_out_of_range_is_one_line(cache_dir, capsys):
    assert cli.main(["adapter", "--contract-budget", "10"]) == 1
    assert "from 200 to 40000 characters, not 10" in capsys.readouterr().err
