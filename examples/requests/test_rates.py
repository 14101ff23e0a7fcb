from __future__ import annotations

import pytest

from rates import main

pytestmark = pytest.mark.mock_mcp


@pytest.mark.mock_mcp(instructions="One euro is 1.25 dollars, on 2 March 2026.")
def test_a_conversion(capsys):
    assert main(["10", "EUR", "USD"]) == 0
    assert capsys.readouterr().out == "10.00 EUR = 12.50 USD (2026-03-02)\n"


@pytest.mark.mock_mcp(instructions="There is no such currency.")
def test_a_currency_nobody_has(capsys):
    assert main(["1", "XXX", "EUR"]) == 1
    assert "404 Client Error" in capsys.readouterr().err


def test_no_network(mock_mcp, capsys):
    mock_mcp.add_response("GET", "/v2/rates/*", error="unresolved")
    assert main(["1", "EUR", "USD"]) == 1
    assert "rates: " in capsys.readouterr().err
