from __future__ import annotations

import pytest
from playwright.sync_api import expect


@pytest.fixture(autouse=True)
def _mocked_api(mock_mcp, page):
    mock_mcp.route(page, "**/api/**")


@pytest.mark.mock_mcp(instructions="Three teas: Sencha, Assam and Rooibos. Assam is sold out.")
def test_products_are_listed_with_their_stock(page, shop):
    page.goto(shop)
    items = page.get_by_role("listitem")
    expect(items).to_have_count(3)
    expect(items.filter(has_text="Assam")).to_contain_text("0 left")


@pytest.mark.mock_mcp(instructions="One tea, Sencha; the order is accepted.")
def test_an_order_is_confirmed(page, shop):
    page.goto(shop)
    page.get_by_role("button", name="Buy Sencha").click()
    expect(page.get_by_role("status")).to_contain_text("is accepted.")


@pytest.mark.mock_mcp(instructions="One tea, Sencha, with one left.")
def test_somebody_else_bought_the_last_one(mock_mcp, page, shop):
    mock_mcp.add_response("POST", "/api/orders", {"reason": "sold out"}, status=409)
    page.goto(shop)
    page.get_by_role("button", name="Buy Sencha").click()
    expect(page.get_by_role("status")).to_have_text("Sorry: sold out")
